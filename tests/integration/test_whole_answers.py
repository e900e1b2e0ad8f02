"""Whoever asks hears the same: the command, Python and the notebook book first, and claim no more."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.analytics.test_notebook import run_cells
from tests.support.broker import Broker
from tests.support.oracle import booked, rate
from tests.support.outboxes import orphan as left_behind
from tests.support.processes import CostsProcess
from tests.support.publishing import adopted, orphan
from tests.support.stream import declare, messages
from tests.support.traffic import bill, calls
from voicecosts import query
from voicecosts.analytics.answers.report import Source
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.outbox.row import EMBEDDED

MADE = calls(7, 4)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with four calls in its outbox and none in its ledger."""
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    packer = Packer("worker")
    events = [event for call in MADE for event in call.events]
    left_behind(tmp_path / "home" / "outbox", "worker", packer.pack(events), destination=EMBEDDED)
    return tmp_path / "home"


def sources(data_dir: Path) -> dict[Source, bool]:
    """Return the sources that an answer has findings of, and whether each is known."""
    found = query(data_dir=data_dir).completeness.findings
    return {finding.source: finding.is_known for finding in found}


def test_python_books_what_waits_before_it_answers(home: Path) -> None:
    """`query()` holds what `costs query` holds."""
    report = query(data_dir=home)
    assert booked(home) == bill(MADE)
    assert report.total.sessions == len(MADE)
    assert Source.OUTBOX not in {it.source for it in report.completeness.findings}


def test_the_notebook_books_what_waits_before_it_shows(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells are SQL on a snapshot that holds what was booked."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(home))
    shown, variables = run_cells()
    assert variables["overall"].total.sessions == len(MADE)
    assert "Nothing is missing" not in "\n".join(shown)  # one model has no price


def test_an_answer_never_needs_the_lock(home: Path) -> None:
    """While another process writes the ledger, what it has not booked is said, by everybody alike."""
    query(data_dir=home)
    packer = Packer("other")
    events = [event for call in calls(8, 2) for event in call.events]
    with Ledger.open(home, rate):
        path = left_behind(home / "outbox", "other", packer.pack(events), destination=EMBEDDED)
        assert path.exists()
        report = query(data_dir=home)
        assert report.completeness.whole is False
        [said] = [it.text for it in report.completeness.findings if it.source is Source.OUTBOX]
        assert said.startswith("not in these numbers: ")
        assert "has the ledger open" in said
    command = CostsProcess(
        ["audit", "--strict", "--data-dir", str(home)], home.parent / "run"
    ).start()
    command.wait()
    assert "not in these numbers" not in command.output  # by now it was booked
    assert booked(home) != bill(MADE)


def test_a_directory_that_cannot_be_written_is_read(home: Path) -> None:
    """A copy on another machine, or a mount that only reads: the answer says what it did not do."""
    query(data_dir=home)
    shutil.rmtree(home / "ledger")
    (home / "ledger").write_text("no folder")
    report = query(data_dir=home)
    assert report.total.sessions == len(MADE)
    assert report.completeness.whole is not True


def test_a_snapshot_by_itself_knows_nothing_of_what_waits(home: Path) -> None:
    """It is read as it is, and its answer does not say that nothing is missing."""
    query(data_dir=home)
    alone = home.parent / "alone.duckdb"
    shutil.copyfile((home / "costs.duckdb").resolve(), alone)
    assert sources(alone)[Source.OUTBOX] is False
    assert sources(alone)[Source.LEDGER] is False
    assert query(data_dir=alone).completeness.whole is not True


def test_what_waits_for_a_server_on_this_host_is_said(home: Path, tmp_path: Path) -> None:
    """Events of a worker whose server is away are in no ledger, and this host knows of them."""
    query(data_dir=home)
    orphan(home / "outbox", "nats://127.0.0.1:1", readings=40)
    [said] = [
        it.text for it in query(data_dir=home).completeness.findings if it.source is Source.OUTBOX
    ]
    assert "that no server has accepted yet; `costs outbox status --data-dir " in said


async def test_what_was_sent_late_is_not_said_to_be_there(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had waited, the server has it now, and these numbers are of a moment before that."""
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    data_dir = tmp_path / "data"
    await declare(broker.url)
    with Ledger.open(data_dir, rate, has_source=True) as ledger:
        _, load = orphan(data_dir / "outbox", broker.url, readings=40)
        ledger.heard(datetime.now(UTC), 0)
        ledger.publish_snapshot()
        await adopted(broker.url, data_dir / "outbox")
        assert sources(data_dir)[Source.OUTBOX] is False
        ledger.apply(await messages(broker.url))
        ledger.heard(datetime.now(UTC), 0)
        ledger.publish_snapshot()
        report = query(data_dir=data_dir)
        assert report.total.sessions == len(load.sessions)
        assert Source.OUTBOX not in sources(data_dir)


def test_a_strict_audit_fails_where_a_source_could_not_be_asked(home: Path) -> None:
    """Unknown is not nothing: the exit code is 1, and the sentence says what was not asked."""
    query(data_dir=home)
    command = CostsProcess(
        ["audit", "--strict", "--data-dir", str(home / "costs.duckdb")], home.parent / "run"
    ).start()
    assert command.wait() == 1
    assert "not known: what waits in the outbox of this host" in command.output
    assert "no usage is missing" not in command.output
    command = CostsProcess(
        ["audit", "--strict", "--format", "json", "--data-dir", str(home)], home.parent / "run"
    ).start()
    assert (command.wait(), json.loads(command.output)["completeness"]["whole"]) == (0, True)
