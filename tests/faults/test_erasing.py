"""A ledger is killed after every kind of statement of an erasure, again and again."""

from __future__ import annotations

import os
import shutil
import signal
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.support.erasures import erase, left, prepared, small, traces
from tests.support.processes import program
from voicecosts.consumer.store.layout import Layout

pytestmark = pytest.mark.faults

STATEMENTS: Final = (1, 3, 4, 7, 9, 12, 14, 17, 21, 23, 26, 31, 37, 44)
"""After which statement of what is left it dies, one time after the other."""

EVERY: Final = int(os.environ.get("COSTS_EVERY_STATEMENT") or 0)
"""From which statement on it is killed at each in turn, each time from the beginning, which takes some minutes; 0: at
some."""


def test_an_erasure_that_is_killed_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file names the tenant, no file is left that nobody names, and the others are as they were."""
    small(monkeypatch)
    source, plain, killed = (tmp_path / name for name in ("source", "plain", "killed"))
    made, ids = prepared(source)
    made.close()
    assert traces(source, ids)
    shutil.copytree(source, plain, symlinks=True)
    erase(plain)
    expected = left(plain)
    assert traces(plain, ids) == []
    shutil.copytree(source, killed, symlinks=True)
    deaths = 0
    for at in count(EVERY) if EVERY else STATEMENTS:
        if EVERY:
            shutil.rmtree(killed)
            shutil.copytree(source, killed, symlinks=True)
        if program("erasures", at, killed).wait(600) != -signal.SIGKILL:
            break
        deaths += 1
        if EVERY:
            erase(killed)
            assert traces(killed, ids) == []
            assert left(killed) == expected
    assert deaths > len(STATEMENTS) // 2
    erase(killed)
    assert traces(killed, ids) == []
    assert left(killed) == expected
    assert not Layout(killed).leftovers()
