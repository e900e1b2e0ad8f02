"""`costs up` and `costs consume` as a person or a container runs them: processes and signals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it has no stubs
import pytest
from typer.testing import CliRunner

from tests.support.broker import Broker
from tests.support.long_forms import later
from tests.support.oracle import booked
from tests.support.processes import ROOT, CostsProcess
from tests.support.stream import publish, settled
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until, wait_until
from voicecosts.analytics.commands import ledger as cli
from voicecosts.analytics.commands.demo import _own_folder
from voicecosts.analytics.commands.local_outbox import book, opener
from voicecosts.analytics.errors import MissingExtra
from voicecosts.consumer.broker import hosts
from voicecosts.consumer.errors import BrokerUnreachable, InvalidConfig


def up(folder: Path, *more: str) -> CostsProcess:
    """`costs up` on a folder of its own."""
    arguments = ["up", "--data-dir", str(folder / "d"), "--snapshot-interval", "0.1", *more]
    return CostsProcess(arguments, folder / "run")


def address(folder: Path) -> str:
    """Return where the running `costs up` says it is."""
    found: str = json.loads((folder / "d" / "up.json").read_text())["servers"]
    return found


def family(process: CostsProcess) -> list[psutil.Process]:
    """Return the process and the nats-server it started."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    """Tell whether none of them lives any more."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


class TestUp:
    async def test_it_prints_where_workers_connect_and_books_what_they_send(
        self, tmp_path: Path
    ) -> None:
        """One command, and what it prints is all one needs; the token is in a private file only."""
        made = calls(21, 3)
        with up(tmp_path) as process:
            process.wait_ready()
            await until(lambda: "COSTS_SERVERS=" in process.output)
            line = re.search(r"export COSTS_SERVERS=.+", process.output)
            assert line is not None
            shell = ["sh", "-c", f"{line[0]}; echo $COSTS_SERVERS"]
            done = await asyncio.create_subprocess_exec(*shell, stdout=subprocess.PIPE)
            servers = (await done.communicate())[0].decode().strip()
            assert servers == address(tmp_path)
            assert f"costs query --by tenant --data-dir {tmp_path / 'd'}" in process.output
            token = servers.partition("@")[0].removeprefix("nats://")
            assert token not in process.log + process.output
            assert (tmp_path / "d" / "nats" / "servers").stat().st_mode & 0o777 == 0o600
            await publish(servers, batches(made, seed=21))
            await until(lambda: booked(tmp_path / "d") == bill(made))

    @pytest.mark.parametrize("output", ["/dev/full", *later("closed")])
    def test_it_runs_also_when_nobody_can_read_what_it_prints(
        self, tmp_path: Path, output: str
    ) -> None:
        """A full disk or a closed standard output costs the announcement, and nothing else."""
        redirect = ">&-" if output == "closed" else f">{output}"
        process = up(tmp_path)
        process.within = ["sh", "-c", f'exec "$@" {redirect}', "sh"]
        with process:
            process.wait_ready()
            wait_until(lambda: "workers connect to the address in" in process.log)
            assert process.stop() == 0
        assert json.loads((tmp_path / "d" / "ledger.json").read_text())["running"] is False

    def test_a_port_that_is_taken_is_one_line(self, tmp_path: Path) -> None:
        """It says which port, how to find who has it, and what to do; no server's log."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with up(tmp_path, "--port", str(port)) as process:
                assert process.wait() == 7
        assert process.log == (
            f"error: Another program listens on port {port} (`ss -ltnp 'sport = :{port}'` shows "
            "which). Give another --port, or none to get a free one.\n"
        )
        assert not (tmp_path / "d" / "up.json").exists()

    async def test_ctrl_c_ends_ledger_and_broker_and_keeps_everything(self, tmp_path: Path) -> None:
        """Stopping books what is in hand, publishes it, and leaves no process behind."""
        made = calls(22, 10)
        parts = list(batches(made, seed=22))
        with up(tmp_path) as process:
            process.wait_ready()
            processes = family(process)
            assert len(processes) == 2
            await publish(address(tmp_path), iter(parts[:20]))
            assert process.stop(signal.SIGINT) == 0, process.log
        assert gone(processes)
        assert not (tmp_path / "d" / "up.json").exists()
        with up(tmp_path) as process:
            process.wait_ready()
            await publish(address(tmp_path), iter(parts[20:]))
            await until(lambda: booked(tmp_path / "d") == bill(made))
            assert process.stop() == 0

    def test_a_closed_terminal_ends_it_in_order(self, tmp_path: Path) -> None:
        """SIGHUP is what SIGTERM is: the last snapshot is there, and readers know that it stopped."""
        with up(tmp_path) as process:
            process.wait_ready()
            processes = family(process)
            assert process.stop(signal.SIGHUP) == 0, process.log
        assert gone(processes)
        assert json.loads((tmp_path / "d" / "ledger.json").read_text())["running"] is False
        assert not (tmp_path / "d" / "up.json").exists()

    @pytest.mark.slow
    async def test_nohup_keeps_it_running(self, tmp_path: Path) -> None:
        """Who lets the command ignore SIGHUP means it: it goes on booking."""
        made = calls(24, 3)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is inherited, as from nohup
        with up(tmp_path) as process:
            signal.signal(signal.SIGHUP, before)
            process.wait_ready()
            os.kill(process.pid, signal.SIGHUP)
            await publish(address(tmp_path), batches(made, seed=24))
            await until(lambda: booked(tmp_path / "d") == bill(made))
            assert process.stop() == 0, process.log

    def test_a_killed_one_leaves_no_server_behind(self, tmp_path: Path) -> None:
        """SIGKILL of `costs up` ends its broker too, and the folder is free for the next one."""
        if sys.platform != "linux":
            pytest.skip("no parent-death signal here; the next start ends the server")
        with up(tmp_path) as process:
            process.wait_ready()
            processes = family(process)
            process.kill()
        wait_until(lambda: gone(processes))
        with up(tmp_path) as process:
            process.wait_ready()

    def test_a_second_one_is_refused_in_one_line(self, tmp_path: Path) -> None:
        """One folder, one broker, one ledger: the second one names the first and changes nothing."""
        with up(tmp_path) as first:
            first.wait_ready()
            second = CostsProcess(first.arguments, tmp_path / "second")
            with second:
                assert second.wait() == 7
            assert f"process {first.pid}" in second.log
            assert len(second.log.splitlines()) == 1
            assert address(tmp_path)
            assert not first.ended()

    def test_a_dead_broker_is_reported_with_the_end_of_its_log(self, tmp_path: Path) -> None:
        """When nats-server dies the command ends, says why, and has published the last snapshot."""
        with up(tmp_path) as process:
            process.wait_ready()
            (server,) = psutil.Process(process.pid).children()
            server.kill()
            assert process.wait() == 1
        assert "it ended by itself" in process.log
        assert "server.log ends with" in process.log
        assert json.loads((tmp_path / "d" / "ledger.json").read_text())["running"] is False


class TestConsume:
    async def test_sigterm_ends_it_in_order(self, broker: Broker, tmp_path: Path) -> None:
        """A container that is stopped ends with code 0 and everything in hand booked."""
        made = calls(23, 3)
        data = tmp_path / "d"
        arguments = ["consume", "--servers", broker.url, "--data-dir", str(data)]
        with CostsProcess(arguments, tmp_path / "run") as process:
            process.wait_ready()
            await publish(broker.url, batches(made, seed=23))
            await settled(broker.url)
            assert process.stop() == 0
        assert booked(data) == bill(made)

    def test_a_closed_terminal_ends_it_in_order(self, broker: Broker, tmp_path: Path) -> None:
        """SIGHUP as SIGTERM: readers are told that the ledger stopped."""
        arguments = ["consume", "--servers", broker.url, "--data-dir", str(tmp_path / "d")]
        with CostsProcess(arguments, tmp_path / "run") as process:
            process.wait_ready()
            assert process.stop(signal.SIGHUP) == 0, process.log
        assert json.loads((tmp_path / "d" / "ledger.json").read_text())["running"] is False

    def test_drift_ends_it_with_its_own_code(self, broker: Broker, tmp_path: Path) -> None:
        """A stream declared otherwise stops the ledger before it reads, with the fields named."""
        arguments = ["consume", "--servers", broker.url, "--data-dir", str(tmp_path / "d")]
        with CostsProcess(arguments, tmp_path / "run") as process:
            process.wait_ready()
            assert process.stop() == 0
        more = ["--replicas", "3"]
        with CostsProcess([*arguments, *more], tmp_path / "run") as process:
            assert process.wait() == 8
        assert "num_replicas" in process.log
        assert len(process.log.splitlines()) == 1

    def test_a_host_that_does_not_exist_is_one_line_within_seconds(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A typing error is no outage: nothing is retried for half a minute, or for ever."""

        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        monkeypatch.setattr(hosts, "PATIENCE_S", 0.0)
        arguments = [
            "consume",
            "--servers",
            "foo,nats://me:secret@bar",
            "--data-dir",
            str(tmp_path),
        ]
        error = CliRunner().invoke(cli.app, arguments).exception
        assert isinstance(error, BrokerUnreachable)
        assert "nats://foo, nats://***@bar: no host is called 'foo' or 'bar'. Check --s" in str(
            error
        )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("port", ["abc", "0", "99999", "-1"])
    def test_a_port_that_is_none_is_refused(self, tmp_path: Path, port: str) -> None:
        """Before anything is tried."""
        arguments = ["consume", "--servers", f"bus:{port}", "--data-dir", str(tmp_path)]
        error = CliRunner().invoke(cli.app, arguments).exception
        assert isinstance(error, InvalidConfig)
        assert "port" in str(error)

    def test_wrong_settings_are_named_all_at_once(self, tmp_path: Path) -> None:
        """Three mistakes, one run, one line, no traceback."""
        arguments = ["consume", "--servers", "http://x", "--replicas", "2"]
        more = ["--snapshot-interval", "-1"]
        with CostsProcess([*arguments, *more], tmp_path) as process:
            assert process.wait() == 2
        for word in ("http://x", "replicas", "interval"):
            assert word in process.log
        assert len(process.log.splitlines()) == 1


def test_a_ledger_that_is_named_needs_no_home_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a container with a user of its own: `--data-dir` says all, also for the demo's ledger."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for variable in ("HOME", "XDG_DATA_HOME", "COSTS_DATA_DIR", "COSTS_OUTBOX_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert opener(tmp_path)() is None
    assert book(tmp_path).left is None
    assert not _own_folder().exists()
    assert _own_folder().parent == Path(tempfile.gettempdir())


class TestInstallation:
    @pytest.mark.parametrize("module", ["duckdb", "nats", "voice_prices"])
    @pytest.mark.parametrize("command", ["up", "consume"])
    def test_a_missing_part_names_its_extra(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, command: str
    ) -> None:
        """A base installation has the commands; using them says what to install."""
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setenv("COSTS_SERVERS", "nats://127.0.0.1:1")
        result = CliRunner().invoke(cli.app, [command, "--data-dir", str(tmp_path)])
        assert isinstance(result.exception, MissingExtra)
        assert "voicecosts[consumer]" in str(result.exception)

    def test_up_names_all_that_it_lacks_at_once(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """One line, one installation: not the server after the database."""
        monkeypatch.setitem(sys.modules, "duckdb", None)
        monkeypatch.setattr("importlib.metadata.files", lambda _: None)
        result = CliRunner().invoke(cli.app, ["up", "--data-dir", str(tmp_path)])
        assert isinstance(result.exception, MissingExtra)
        assert "voicecosts[consumer,local]" in str(result.exception)

    def test_help_needs_none_of_the_heavy_parts(self) -> None:
        """`costs --help` starts fast: no database, no broker client, no price list is loaded."""
        code = (
            "import sys, voicecosts.analytics.commands.ledger\n"
            "heavy = {'duckdb', 'nats', 'voice_prices', 'asyncio.events'}\n"
            "print(sorted(heavy & set(sys.modules) - {'asyncio.events'}))"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_every_option_says_what_it_is(self) -> None:
        """The help page is the reference: nothing is listed without a description."""
        for command in ("up", "consume"):
            text = CliRunner().invoke(cli.app, [command, "--help"], env=dict(os.environ)).output
            options = re.findall(r"^  (--[a-z-]+)(.*(?:\n {20,}.*)*)", text, re.MULTILINE)
            assert len(options) >= 4
            for name, rest in options:
                assert len(rest.split()) >= 4, name
