"""`costs up` and `costs consume` as a person or a container runs them: processes and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it has no stubs
import pytest
from typer.testing import CliRunner

from tests.support.broker import Broker
from tests.support.oracle import booked
from tests.support.processes import ROOT, CostsProcess
from tests.support.stream import publish, settled
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until, wait_until
from voicecosts.analytics.commands import ledger as cli
from voicecosts.analytics.errors import MissingExtra


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
        """One command, and what it prints is all one needs; the token is printed, never logged."""
        made = calls(21, 3)
        with up(tmp_path) as process:
            process.wait_ready()
            await until(lambda: "COSTS_SERVERS=" in process.output)
            servers = re.search(r"export COSTS_SERVERS=(nats://\S+)", process.output)
            assert servers is not None
            assert servers[1] == address(tmp_path)
            assert f"costs query --by tenant --data-dir {tmp_path / 'd'}" in process.output
            assert servers[1].partition("@")[0].removeprefix("nats://") not in process.log
            await publish(servers[1], batches(made, seed=21))
            await until(lambda: booked(tmp_path / "d") == bill(made))

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
        more = ["--stream-max-bytes", str(2**20 * 10)]
        with CostsProcess([*arguments, *more], tmp_path / "run") as process:
            assert process.wait() == 8
        assert "max_bytes" in process.log
        assert len(process.log.splitlines()) == 1

    def test_wrong_settings_are_named_all_at_once(self, tmp_path: Path) -> None:
        """Three mistakes, one run, one line, no traceback."""
        arguments = ["consume", "--servers", "http://x", "--replicas", "2"]
        more = ["--snapshot-interval", "-1"]
        with CostsProcess([*arguments, *more], tmp_path) as process:
            assert process.wait() == 2
        for word in ("http://x", "replicas", "interval"):
            assert word in process.log
        assert len(process.log.splitlines()) == 1


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
        """The help page is the reference: nothing is listed without a word about it."""
        for command in ("up", "consume"):
            text = CliRunner().invoke(cli.app, [command, "--help"], env=dict(os.environ)).output
            options = re.findall(r"^  (--[a-z-]+)(.*(?:\n {20,}.*)*)", text, re.MULTILINE)
            assert len(options) >= 4
            for name, rest in options:
                assert len(rest.split()) >= 4, name
