"""`costs outbox`: a person sees what waits, and moves it where it belongs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.support import stream
from tests.support.broker import Broker
from tests.support.certificates import Authority, server
from tests.support.events import reading
from tests.support.outboxes import messages
from voicecosts.analytics.commands.outbox import app
from voicecosts.producer.config import LOCAL_LEDGER, ProducerConfig
from voicecosts.producer.errors import ConfigError, DrainIncomplete
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.late import NAME
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.outbox.row import destination_id, file_of
from voicecosts.producer.tls import context as tls_context

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a command on the outbox of this test."""
    for name in ("COSTS_SERVERS", "COSTS_CREDENTIALS", "COSTS_PROJECT", "COSTS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)

    def ran(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--outbox-dir", str(tmp_path / "box")])

    return ran


def left_behind(folder: Path, *servers: str) -> None:
    """Leave readings for these servers, or for none, as a process that was killed does."""
    config = ProducerConfig(project="tests", servers=servers)
    packed = Packer("dead").pack([reading(number) for number in (1, 2, 3)])
    outbox = Outbox.create(
        file_of(folder, destination_id(config), "dead"), destination=config.destination
    )
    outbox.add(packed, now_us=(time.time_ns() - 7200 * 10**9) // 1000)
    outbox.close()


class TestStatus:
    def test_an_empty_outbox_is_said_to_be_empty(self, run: Run, tmp_path: Path) -> None:
        """One line, also when there is no folder yet."""
        found = run("status")
        assert found.exit_code == 0
        assert found.output == f"nothing waits in {tmp_path / 'box'}\n"

    def test_each_outbox_is_a_line_with_what_to_do(self, run: Run, tmp_path: Path) -> None:
        """For whom it waits, whether somebody cares for it, how much, and since when."""
        left_behind(tmp_path / "box", "nats://user:secret@bus:4222")
        left_behind(tmp_path / "box")
        lines = run("status").output.splitlines()
        assert lines[0].startswith("2 messages with 6 events in ")
        assert lines[2].split() == ["for", "held", "by", "messages", "events", "size", "oldest"]
        (bus,) = [line for line in lines[3:] if line.startswith("nats://***@bus:4222 ")]
        assert " nobody " in bus
        assert bus.endswith("2 h ago")
        assert any(line.startswith(LOCAL_LEDGER) for line in lines)
        said = "! 1 message of ended processes for nats://***@bus:4222: its next worker publishes them, and so "
        assert lines[-1].startswith(
            f"{said}does `costs up` where that runs this very server. To do it now, "
        )
        assert "secret" not in "".join(lines)

    def test_json_says_the_same_to_programs(self, run: Run, tmp_path: Path) -> None:
        """Names and units are those of the table; what is absent is null or empty."""
        left_behind(tmp_path / "box")
        found = json.loads(run("status", "--json").output)
        (outbox,) = found["outboxes"]
        assert (outbox["messages"], outbox["events"], outbox["embedded"]) == (1, 3, True)
        assert (outbox["held"], outbox["target"]) == (False, LOCAL_LEDGER)
        assert outbox["oldest_at"].endswith("Z")
        assert (found["quarantine"], found["damaged"]) == (None, [])

    def test_what_was_set_aside_is_told(self, run: Run, tmp_path: Path) -> None:
        """A damaged file is mentioned as long as it is there."""
        (tmp_path / "box").mkdir()
        (tmp_path / "box" / "a-b.sqlite3.damaged").touch()
        said = " ".join(run("status").output.split())
        assert "! 1 damaged file kept for inspection: a-b.sqlite3.damaged. Check the disk" in said


class TestDrain:
    async def test_what_dead_workers_left_is_published(
        self, run: Run, broker: Broker, tmp_path: Path
    ) -> None:
        """When no worker comes any more, a person can send it on; ids and bytes are kept."""
        await stream.declare(broker.url)
        left_behind(tmp_path / "box", broker.url)
        ran = run("drain", "--servers", broker.url)
        assert ran.exit_code == 0, ran.output
        assert ran.output.startswith("published 3 events to nats://")
        assert await stream.events(broker.url) == [reading(number) for number in (1, 2, 3)]
        assert [path.name for path in (tmp_path / "box").iterdir()] == [NAME]

    async def test_it_is_published_over_tls_with_a_client_certificate(
        self, run: Run, tmp_path: Path
    ) -> None:
        """`--tls-ca`, `--tls-cert` and `--tls-key` are as for a worker."""
        authority = Authority(tmp_path / "ca")
        client = authority.issue("client.internal")
        with Broker(tmp_path / "tls", extra=server(authority.issue(), asks=True)) as broker:
            context = tls_context(client)
            await stream.declare(broker.url, tls=context)
            url = broker.url.replace("nats://", "tls://")
            left_behind(tmp_path / "box", url)
            paths = [str(path) for path in (client.ca, client.cert, client.key)]
            options = zip(("--tls-ca", "--tls-cert", "--tls-key"), paths, strict=True)
            given = [word for option in options for word in option]
            ran = run("drain", "--servers", url, *given)
            assert ran.exit_code == 0, ran.output
            assert ran.output.startswith("published 3 events to tls://")

    async def test_what_was_meant_for_another_server_waits_unless_all_is_asked_for(
        self, run: Run, broker: Broker, tmp_path: Path
    ) -> None:
        """A server that is gone for good must not keep what waits for it, once a person says so."""
        await stream.declare(broker.url)
        left_behind(tmp_path / "box", "nats://gone:4222")
        ran = run("drain", "--servers", broker.url)
        assert "found nothing to publish to nats://" in ran.output
        assert "! 1 message of ended processes for nats://gone:4222" in ran.output
        ran = run("drain", "--servers", broker.url, "--all")
        assert "published 3 events" in ran.output
        assert len(await stream.events(broker.url)) == 3

    def test_what_cannot_be_published_is_an_error_and_stays(self, run: Run, tmp_path: Path) -> None:
        """Nothing is lost, and the exit code says that it is not done."""
        left_behind(tmp_path / "box", "nats://127.0.0.1:1")
        ran = run("drain", "--servers", "nats://127.0.0.1:1", "--timeout", "0.5")
        assert isinstance(ran.exception, DrainIncomplete)
        assert "1 message could not be published in time" in str(ran.exception)
        (waiting,) = json.loads(run("status", "--json").output)["outboxes"]
        assert (waiting["messages"], waiting["held"]) == (1, False)

    def test_all_needs_a_server(self, run: Run, tmp_path: Path) -> None:
        """There is nowhere to publish to."""
        ran = run("drain", "--all")
        assert isinstance(ran.exception, ConfigError)
        assert "--servers" in str(ran.exception)

    def test_the_outbox_of_a_living_worker_is_left_to_it(self, run: Run, tmp_path: Path) -> None:
        """It publishes by itself; two that send one message would only waste work."""
        config = ProducerConfig(project="tests", servers=("nats://127.0.0.1:1",))
        living = Outbox.create(file_of(tmp_path / "box", destination_id(config), "alive"))
        living.add(messages(1), now_us=0)
        ran = run("drain", "--servers", "nats://127.0.0.1:1", "--timeout", "5")
        assert ran.exit_code == 0
        assert living.rows == 1
        living.close()
