"""A private nats-server for tests: its own port, its own store, and every accident on demand."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Self

BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"


def free_port() -> int:
    """Return a loopback port that is free, and stays so while its server is away.

    It is below the ports that systems give to clients: one of those could be taken by any client,
    even by the one that tries to reach this server.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Broker:
    """One nats-server process with JetStream on disk. It keeps its port across restarts."""

    def __init__(
        self,
        directory: Path,
        *,
        extra: str = "",
        max_payload: str = "1MB",
        speaks_first: bool = True,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.extra = extra
        self.max_payload = max_payload
        self.speaks_first = speaks_first  # else it waits for the client's TLS handshake
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self, *, deadline_s: float = 60.0) -> Self:
        """Start the server and return when it accepts connections."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f"max_payload: {self.max_payload}\n"
            f"jetstream {{ store_dir: {json.dumps(str(self.directory / 'store'))} }}\n"
            f"{self.extra}\n"
        )
        log = (self.directory / "server.log").open("ab")
        with log:
            self.process = subprocess.Popen([BINARY, "-c", str(config)], stdout=log, stderr=log)
        until = time.monotonic() + deadline_s
        while True:
            if self.process.poll() is not None:
                raise RuntimeError((self.directory / "server.log").read_text()[-2000:])
            try:
                with socket.create_connection(("127.0.0.1", self.port), 0.2) as connection:
                    if not self.speaks_first or connection.recv(4) == b"INFO":
                        return self
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        """Send a signal (SIGSTOP, SIGCONT, SIGHUP) to the server; when it is to stop, it has."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGSTOP:
            # Until each of its threads has stopped, it still answers what is sent to it.
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """End the server in order, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
