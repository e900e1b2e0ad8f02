"""Tests of `costs dashboard` without a browser: who reaches it, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import psutil
import pytest
import websockets

from tests.analytics.conftest import Costs
from tests.support.dashboard import Served, dashboard
from tests.support.long_forms import later
from tests.support.processes import CostsProcess
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def served(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """A dashboard of the sample ledger."""
    with dashboard(data_dir, tmp_path_factory.mktemp("run")) as served:
        yield served


def with_cookie(served: Served) -> dict[str, str]:
    """Return what a browser sends that was given the address."""
    answer = served.get(f"/?access_token={served.token}")
    assert answer.status == 303
    assert "access_token" not in (answer.getheader("location") or "")
    return {"Cookie": (answer.getheader("set-cookie") or "").partition(";")[0]}


def test_it_says_where_it_is_in_one_line(served: Served) -> None:
    """With the token, and how to end it."""
    assert served.process.output == f"the dashboard is at {served.address} (Ctrl-C ends it)\n"
    assert len(served.token) >= 32


def test_it_listens_on_loopback_alone(served: Served) -> None:
    """On one port of one address."""
    listening = [
        it.laddr
        for it in psutil.Process(served.process.pid).net_connections()
        if it.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", served.port)]


@pytest.mark.parametrize("path", ["/", "/?access_token=wrong", "/api/status", "/@file/1-a.txt"])
def test_without_the_token_it_shows_nothing(served: Served, path: str) -> None:
    """Another user of the host is sent to a page that asks for it, or is refused."""
    answer = served.get(path)
    where = answer.getheader("location") or ""
    assert answer.status in (401, 403) or "/auth/login" in where, (answer.status, where)
    assert served.get("/", with_cookie(served)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "rebound.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:{port}", "Origin": "http://elsewhere.example"},
        {"Host": "127.0.0.1:{port}", "Origin": "http://127.0.0.1:1"},
        {"Host": "127.0.0.1:{port}", "Origin": "null"},
    ],
)
def test_another_page_gets_nothing(served: Served, headers: dict[str, str]) -> None:
    """Neither by a name that was made to point here, nor from elsewhere, whatever the browser sends along."""
    sent = {name: value.format(port=served.port) for name, value in headers.items()}
    answer = served.get("/", {**with_cookie(served), **sent})
    assert answer.status == 403
    assert answer.getheader("access-control-allow-origin") is None


def test_its_own_page_may_load_nothing_from_elsewhere(served: Served) -> None:
    """The browser is told so, in every answer; the token is told to nobody."""
    answer = served.get("/", with_cookie(served))
    policy = answer.getheader("content-security-policy") or ""
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy
    assert answer.getheader("referrer-policy") == "no-referrer"


async def test_a_socket_is_opened_by_its_own_page_alone(served: Served) -> None:
    """What a page does after it was loaded goes through one, so it is guarded alike."""
    cookie = with_cookie(served)
    there = f"ws://127.0.0.1:{served.port}/ws?session_id=s_abcdef"
    own = f"http://127.0.0.1:{served.port}"

    async def opens(headers: dict[str, str], origin: str) -> bool:
        try:
            async with asyncio.timeout(30):
                async with websockets.connect(
                    there, additional_headers=headers, origin=websockets.Origin(origin)
                ) as connection:
                    await connection.recv()
        except (websockets.InvalidStatus, websockets.ConnectionClosed):
            return False
        return True

    assert not await opens(cookie, "http://elsewhere.example")
    assert not await opens({}, own)
    assert await opens(cookie, own)


@pytest.mark.parametrize("number", [signal.SIGTERM, *later(signal.SIGHUP)])
def test_a_signal_ends_it_with_nothing_left(
    data_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """No process, no temporary file, and the code of the signal."""
    (tmp_path / "tmp").mkdir()
    arguments = ["dashboard", "--port", "0", "--data-dir", str(data_dir)]
    where = {"TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path / "home")}
    with CostsProcess(arguments, tmp_path / "run", where) as process:
        served = Served(process)
        assert served.get("/", with_cookie(served)).status == 200
        assert psutil.Process(process.pid).children() == []
        assert process.stop(number) == 128 + number
        assert process.log == ""
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_browser_is_told_no_token_on_its_command_line(data_dir: Path, tmp_path: Path) -> None:
    """Every user of a host can read that: it gets a file that leads there, which nobody else can read."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}.part\nmv {seen}.part {seen}\n')
    browser.chmod(0o755)
    with dashboard(data_dir, tmp_path / "run", "--open", BROWSER=f"{browser} %s") as served:
        wait_until(seen.exists)
        told = seen.read_text().strip()
        assert served.token not in told
        page = Path(told.removeprefix("file://"))
        assert served.address in page.read_text()
        assert page.parent.stat().st_mode & 0o077 == 0
    assert not page.exists()


def test_a_port_that_is_taken_is_one_line(costs: Costs, tmp_path: Path) -> None:
    """With what to do, and the code of what is in use."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = costs("dashboard", "--port", str(port), "--data-dir", str(tmp_path))
    assert ran.returncode == 7
    assert ran.stderr == (
        f"error: port {port} cannot be used (Address already in use): choose another with --port, "
        "or any free one with --port 0\n"
    )


def test_without_its_extra_it_says_what_to_install(costs: Costs) -> None:
    """One line, and the code of a missing extra."""
    ran = costs(
        "dashboard",
        code="import sys; sys.modules['marimo'] = None; import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'marimo' else found(name, *more)",
    )
    assert ran.returncode == 6
    assert "pip install 'voicecosts[notebooks]'" in ran.stderr
