"""Rows on their way into the database: texts of bounded length."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.events import SUBJECT
from voicecosts.consumer.booking.message import DeadLetter, Reason
from voicecosts.consumer.store import write


def test_many_rows_become_several_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the length of one text; a row is never torn or left out."""
    monkeypatch.setattr(write, "MAX_TEXT_BYTES", 1000)
    letters = [
        DeadLetter(SUBJECT, n, 0, Reason.NOT_A_BATCH, "\n", b"x" * (3000 if n == 7 else 100))
        for n in range(20)
    ]
    texts = list(write.texts(letters))
    assert len(texts) > 5
    assert [len(text) > 1000 for text in texts].count(True) == 1
    lines = [line for text in texts for line in text.split("\n")]
    assert [msgspec.json.decode(line)["sequence"] for line in lines] == list(range(20))
