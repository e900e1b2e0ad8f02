"""What answers say of an operation that has done a part of its work."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.events import message, reading, started
from tests.support.price_books import mini
from voicecosts import audit, query
from voicecosts.analytics.answers.report import Source, Unfinished
from voicecosts.analytics.commands import operations
from voicecosts.consumer.booking.operations import Rerate
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

NOW = datetime(2026, 11, 20, tzinfo=UTC)
SAID = (
    "operation 1 (rerate) is not finished: these figures are partly those before it and partly those "
    "after it; a ledger that runs goes on with it (`costs operations --data-dir {}`)"
)


@pytest.fixture
def half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory whose ledger ended when one of two calls was re-rated."""
    monkeypatch.setattr("voicecosts.consumer.store.operations.SLICE_SESSIONS", 1)
    with Ledger.open(tmp_path, mini("2"), clock=Clock(now=lambda: NOW)) as ledger:
        for number in (1, 2):
            used = reading(1, of=number, input_tokens=1_000_000)
            ledger.apply([message(number, started(of=number), used)])
        ledger._rate = mini("5")
        ledger.operate(Rerate(), reason="the contract came late")
        assert ledger.work()
    return tmp_path


def test_an_operation_that_is_not_finished_is_said_by_every_answer(half_done: Path) -> None:
    """Figures that are neither those before it nor those after it are not given silently."""
    report = query(data_dir=half_done, now=NOW)
    assert report.total.cost == 7
    assert report.completeness.unfinished == (Unfinished(operation=1, kind="rerate"),)
    assert SAID.format(half_done) in report.warnings
    assert report.completeness.whole is not True
    audited = audit(data_dir=half_done, now=NOW)
    assert SAID.format(half_done) in audited.warnings


def test_what_was_recorded_after_the_snapshot_is_said(half_done: Path) -> None:
    """As where a command was killed that had recorded it: no snapshot has it, and nobody sees its number."""
    status = half_done / "ledger.json"
    told = json.loads(status.read_text())
    status.write_text(json.dumps({**told, "operations": 3}))
    said = (
        "operations 2 to 3 were recorded after this snapshot, and are not in it: `costs operations resume 3` goes "
        "on, and publishes"
    )
    named = said.replace("resume 3", f"resume 3 --data-dir {half_done}")
    assert named in query(data_dir=half_done, now=NOW).warnings
    listed = CliRunner().invoke(operations.app, ["list", "--data-dir", str(half_done)])
    assert named in listed.output
    shown = CliRunner().invoke(operations.app, ["show", "3", "--data-dir", str(half_done)])
    assert said in str(shown.exception)


def test_an_operation_that_has_ended_is_not_mentioned(half_done: Path) -> None:
    """The next ledger goes on with it, and then there is nothing to say."""
    with Ledger.open(half_done, mini("5"), clock=Clock(now=lambda: NOW)) as ledger:
        while ledger.work():
            pass
    report = query(data_dir=half_done, now=NOW)
    assert report.total.cost == 10
    assert Source.OPERATIONS not in {it.source for it in report.completeness.findings}
