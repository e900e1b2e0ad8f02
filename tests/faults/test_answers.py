"""Everybody asks while everything fails, and every answer is held against what is known.

`VOICECOSTS_TRIAL_MINUTES` makes it longer: `VOICECOSTS_TRIAL_MINUTES=60 pytest -m faults -rP
tests/faults/test_answers.py`.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.answers_trial import outcome, trial
from tests.support.outcome import say

pytestmark = pytest.mark.faults

MINUTES = float(os.environ.get("VOICECOSTS_TRIAL_MINUTES", "0"))


@pytest.mark.timeout(300 + 90 * MINUTES)
async def test_no_answer_claims_to_be_fresher_or_fuller_than_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While broker, stream, disk and ledger fail, `as_of` and `whole` are true in every answer."""
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    seed = random.randrange(10**6)  # noqa: S311 - the order of faults
    rounds = await trial(tmp_path, seconds=60 * MINUTES, seed=seed)
    for line in outcome(rounds):
        say(f"seed {seed}", line)
    assert [lie for each in rounds for lie in each.lies] == []
    assert [why for each in rounds for why in each.refused] == []
    for each in rounds:
        asked = {"query()", "costs query", "costs audit", "notebook"}
        assert set(each.witness.judged) == asked
        assert each.witness.whole["query()"] > 0
