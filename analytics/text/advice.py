"""Commands that a sentence advises, so that they ask the ledger that the sentence is about."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

_COMMAND: Final = re.compile(r"`costs [a-z][^`]*`")
_COMPLETE: Final = (
    "--data-dir",
    "--help",
    "costs demo",
    "costs prices validate ",
    "`costs up`",
    "`costs consume`",
)
"""What needs no data directory, or names one, or is a word for a ledger that runs."""


def at_ledger(sentence: str, data_dir: str | Path | None) -> str:
    """Return a sentence whose commands name the ledger, where it was named."""
    if data_dir is None:
        return sentence
    option = f" --data-dir {shlex.quote(str(data_dir))}"

    def named(found: re.Match[str]) -> str:
        command = found[0]
        if any(each in command for each in _COMPLETE):
            return command
        return f"{command[:-1]}{option}`"

    return _COMMAND.sub(named, sentence)
