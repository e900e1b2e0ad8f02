"""`costs dashboard` as a process, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.processes import CostsProcess
from tests.support.waiting import wait_until

_ADDRESS = re.compile(r"http://\S+")


class Answer:
    """What was answered, read to its end."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.getheader = answer.getheader
        self.getheaders = answer.getheaders
        self.text = answer.read().decode(errors="replace")


class Served:
    """A dashboard that runs."""

    def __init__(self, process: CostsProcess) -> None:
        self.process = process
        wait_until(lambda: "\n" in process.output or process.ended())
        assert not process.ended(), process.log
        found = _ADDRESS.search(process.output)
        assert found is not None
        self.address = found[0]

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def token(self) -> str:
        """What its address holds."""
        return self.address.partition("access_token=")[2]

    def entered(self) -> tuple[str, dict[str, str]]:
        """Return the path of the page, and what a browser sends there that was given the address."""
        answer = self.get(f"/?access_token={self.token}")
        assert answer.status == 303
        cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        return answer.getheader("location") or "", {"Cookie": cookie}

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask it, as it listens on loopback."""
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        ) as connection:
            connection.request("GET", path, headers=dict(headers or {}))
            return Answer(connection.getresponse())


@contextlib.contextmanager
def dashboard(data_dir: Path | None, run_dir: Path, *more: str, **environ: str) -> Iterator[Served]:
    """Run `costs dashboard` on any free port, end it by Ctrl-C, and see that it ended in order.

    Without a data directory it reads that of its environment.
    """
    named = [] if data_dir is None else ["--data-dir", str(data_dir)]
    arguments = ["dashboard", "--port", "0", *named, *more]
    with CostsProcess(arguments, run_dir, environ) as process:
        yield Served(process)
        code = process.stop(signal.SIGINT)
        assert (code, process.log) == (130, ""), (code, process.log)
