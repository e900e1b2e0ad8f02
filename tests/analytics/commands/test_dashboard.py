"""Tests of `costs dashboard` without a browser: who reaches it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from pathlib import Path

import psutil
import pytest
import websockets

from tests.analytics.conftest import Costs
from tests.support.dashboard import Served, dashboard
from tests.support.long_forms import later
from tests.support.processes import CostsProcess
from tests.support.waiting import wait_until
from voicecosts.analytics.commands.connections import MOST


@pytest.fixture(scope="module")
def served(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """A dashboard of the sample ledger."""
    with dashboard(data_dir, tmp_path_factory.mktemp("run")) as served:
        yield served


def connected(served: Served) -> socket.socket:
    """Connect as anybody on the host can."""
    return socket.create_connection(("127.0.0.1", served.port), timeout=30)


def listens(served: Served) -> bool:
    """Return whether anything can connect."""
    try:
        connected(served).close()
    except ConnectionRefusedError:
        return False
    return True


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


@pytest.mark.parametrize(
    "path", ["/", "/?access_token=wrong", "/auth/login", "/health", "/api/status", "{page}"]
)
def test_without_the_token_it_shows_nothing(served: Served, path: str) -> None:
    """Another user of the host is refused everywhere, in words that help whoever has an old address."""
    page, cookie = served.entered()
    answer = served.get(path.format(page=page))
    assert answer.status == 403
    assert answer.text.startswith("Open the address that `costs dashboard` printed.")
    assert served.get(path.format(page=page), {"Cookie": "costs_1=x; session=y"}).status == 403
    assert served.get(page, cookie).status == 200


def test_the_cookie_is_for_the_page_alone(served: Served) -> None:
    """No server on another port of the host is sent it, and two dashboards in one browser have their own."""
    answer = served.get(f"/?access_token={served.token}")
    path = answer.getheader("location") or ""
    name, *attributes = (answer.getheader("set-cookie") or "").split("; ")
    assert len(path.strip("/")) >= 16
    assert name.startswith(f"costs_{served.port}=")
    assert attributes == [f"Path={path}", "HttpOnly", "SameSite=Lax"]
    page = served.get(path, {"Cookie": name})
    assert page.status == 200
    assert page.getheader("set-cookie") is None
    assert served.token not in f"{answer.getheaders()}{page.getheaders()}{page.text}"
    for elsewhere in ("/", "/health", "/auth/login"):
        assert served.get(elsewhere, {"Cookie": name}).status == 403


def test_a_body_that_nobody_asked_for_is_not_read(served: Served) -> None:
    """It is refused by its head, and the connection is closed: memory is none of a stranger's."""
    head = f"POST /auth/login HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: {1 << 30}\r\n\r\n"
    with connected(served) as stranger:
        stranger.sendall(head.encode())
        assert stranger.recv(100).startswith(b"HTTP/1.1 403 ")
        with pytest.raises(ConnectionError):
            stranger.sendall(bytes(1 << 28))


def test_who_holds_connections_holds_up_nobody(served: Served) -> None:
    """The oldest of those that have shown nothing is ended for a new one; who has the address gets in."""
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n".encode()  # without its end
    process = psutil.Process(served.process.pid)
    at_first = process.num_fds()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(served)) for _ in range(MOST + 300)]
        for each in held:
            with contextlib.suppress(ConnectionError):
                each.sendall(head)
        page, cookie = served.entered()
        assert served.get(page, cookie).status == 200
        wait_until(lambda: process.num_fds() <= at_first + MOST + 10)
        # and none of them stays
        wait_until(lambda: process.num_fds() <= at_first + 10)
    assert served.process.log == ""


def test_where_no_file_can_be_open_it_says_so_once(data_dir: Path, tmp_path: Path) -> None:
    """One line, and no traceback for each connection that has to wait; then it answers again."""
    arguments = ["dashboard", "--port", "0", "--data-dir", str(data_dir)]
    with CostsProcess(arguments, tmp_path / "run") as process:
        served = Served(process)
        page, cookie = served.entered()
        assert served.get(page, cookie).status == 200
        its = psutil.Process(process.pid)
        _, hard = its.rlimit(psutil.RLIMIT_NOFILE)
        its.rlimit(psutil.RLIMIT_NOFILE, (its.num_fds() + 5, hard))
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(connected(served))
            wait_until(lambda: process.log != "")
        its.rlimit(psutil.RLIMIT_NOFILE, (1024, hard))
        assert served.get(page, cookie).status == 200
        assert process.stop(signal.SIGINT) == 130
        assert (
            process.log == "no more files can be open (ulimit -n): some connections have to wait\n"
        )


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
    page, cookie = served.entered()
    answer = served.get(page, {**cookie, **sent})
    assert answer.status == 403
    assert answer.getheader("access-control-allow-origin") is None


def test_its_own_page_may_load_nothing_from_elsewhere(served: Served) -> None:
    """The browser is told so, in every answer; the token is told to nobody."""
    answer = served.get(*served.entered())
    policy = answer.getheader("content-security-policy") or ""
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy
    assert answer.getheader("referrer-policy") == "no-referrer"


async def test_a_socket_is_opened_by_its_own_page_alone(served: Served) -> None:
    """What a page does after it was loaded goes through one, so it is guarded alike."""
    page, cookie = served.entered()
    there = f"ws://127.0.0.1:{served.port}{page}ws?session_id=s_abcdef"
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


async def test_a_page_that_is_gone_is_nothing_to_say(served: Served) -> None:
    """It is drawn to its end for nobody, without a line about it: `dashboard` sees what was written in the end."""
    page, cookie = served.entered()

    def shown(session: str) -> websockets.connect:
        return websockets.connect(
            f"ws://127.0.0.1:{served.port}{page}ws?session_id={session}",
            additional_headers=cookie,
            origin=websockets.Origin(f"http://127.0.0.1:{served.port}"),
            max_size=None,
        )

    async def goes_after(parts: int) -> None:
        gone = await shown(f"s_gone{parts:02}")
        for _ in range(parts):
            await gone.recv()
        at_once = struct.pack("ii", 1, 0)
        gone.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, at_once
        )
        gone.transport.abort()

    async with asyncio.timeout(120), shown("s_stays0") as stays:
        await asyncio.gather(*(goes_after(parts) for parts in range(9, 14)))
        while '"completed-run"' not in str(await stays.recv()):
            pass


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
        assert served.get(*served.entered()).status == 200
        assert psutil.Process(process.pid).children() == []
        assert process.stop(number) == 128 + number
        assert process.log == ""
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_second_signal_does_not_end_it_at_once(data_dir: Path, tmp_path: Path) -> None:
    """It has the code of the first one, and ends as in order, while a request is still held."""
    arguments = ["dashboard", "--port", "0", "--data-dir", str(data_dir)]
    with CostsProcess(arguments, tmp_path / "run") as process:
        served = Served(process)
        page, cookie = served.entered()
        held = f"POST {page}api/kernel/instantiate HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: 9\r\n"
        with connected(served) as owner:
            owner.sendall(f"{held}Cookie: {cookie['Cookie']}\r\n\r\n".encode())
            assert served.get(page, cookie).status == 200
            os.kill(process.pid, signal.SIGTERM)
            wait_until(lambda: not listens(served))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                os.kill(process.pid, number)
            assert process.wait() == 128 + signal.SIGTERM
        assert process.log == ""


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
