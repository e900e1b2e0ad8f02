"""Asking the ledger for an operation: an end before it is done, and a session that was left empty."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.events import message, reading
from tests.support.price_books import no_price
from voicecosts import query
from voicecosts.analytics.commands import books
from voicecosts.analytics.commands.ledger_requests import operate
from voicecosts.analytics.errors import BadQuestion
from voicecosts.consumer.booking.operations import Rerate
from voicecosts.consumer.store import operations
from voicecosts.consumer.store.ledger import Ledger


def test_ctrl_c_ends_the_wait_between_two_slices_and_says_what_becomes_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was begun is in every answer, and the next ledger ends it."""
    monkeypatch.delenv("COSTS_PRICES", raising=False)
    monkeypatch.setenv("COSTS_OUTBOX_DIR", str(tmp_path / "outbox"))
    monkeypatch.setattr(operations, "SLICE_SESSIONS", 1)
    with Ledger.open(tmp_path, no_price()) as ledger:
        ledger.apply([message(n, reading(1, of=n, input_tokens=10**6)) for n in (1, 2, 3)])
    work = Ledger.work

    def interrupted(self: Ledger) -> bool:
        more = work(self)
        if more:
            os.kill(os.getpid(), signal.SIGINT)
        return more

    monkeypatch.setattr(Ledger, "work", interrupted)
    with pytest.raises(KeyboardInterrupt):
        operate(Rerate(), reason="x", source="", data_dir=tmp_path, command="`costs rerate`")
    said = capsys.readouterr().err
    assert "operation 1 is not finished, and the next ledger that runs here goes on with it" in said
    report = query(data_dir=tmp_path)
    assert [it for it in report.warnings if "operation 1" in it]
    assert report.completeness.whole is False
    monkeypatch.setattr(Ledger, "work", work)
    Ledger.open(tmp_path, no_price(), embedded=True).close()
    assert not [it for it in query(data_dir=tmp_path).warnings if "operation 1" in it]


@pytest.mark.parametrize("session", ["", " "])
def test_no_session_is_voided_by_an_id_that_was_left_empty(tmp_path: Path, session: str) -> None:
    """A variable that is not set is the beginning of every id."""
    with Ledger.open(tmp_path, no_price()) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=10**6))])
    words = ["void", session, "--reason", "x", "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(books.app, words)
    assert isinstance(result.exception, BadQuestion)
    assert "is not empty" in str(result.exception)
