"""Commands in sentences ask the ledger that the sentence is about."""

from __future__ import annotations

import pytest

from voicecosts.analytics.text.advice import at_ledger


@pytest.mark.parametrize(
    ("sentence", "named"),
    [
        ("`costs audit` names them", "`costs audit --data-dir '/my costs'` names them"),
        (
            "`costs operations revert 3 --reason …`, or `costs query`",
            "`costs operations revert 3 --reason … --data-dir '/my costs'`, or `costs query --data-dir '/my costs'`",
        ),
        ("start it with `costs up --data-dir /x`", "start it with `costs up --data-dir /x`"),
        ("`costs erase --help` shows what there is", "`costs erase --help` shows what there is"),
        ("what `costs up` runs", "what `costs up` runs"),
        ("the view `usage` lacks them", "the view `usage` lacks them"),
    ],
)
def test_a_command_names_the_ledger_once(sentence: str, named: str) -> None:
    """As a shell reads it; without a ledger that was named, a sentence stays as it is."""
    assert at_ledger(sentence, "/my costs") == named
    assert at_ledger(sentence, None) == sentence
