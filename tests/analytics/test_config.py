"""Tests of where the ledger is looked for."""

from __future__ import annotations

from pathlib import Path

from voicecosts.analytics.config import data_dir, is_debug
from voicecosts.consumer.config import from_env as ledger_of


def test_the_data_directory_is_that_of_the_ledger() -> None:
    """A query reads what the ledger writes: one rule names the folder of both."""
    for environ in ({}, {"COSTS_DATA_DIR": "~/costs"}, {"XDG_DATA_HOME": "/data"}):
        for given in (None, Path("~/other")):
            ledger = ledger_of(own_broker=True, data_dir=given, environ=environ)
            assert data_dir(given, environ) == ledger.data_dir
    assert data_dir("~/other", {}) == Path.home() / "other"


def test_debug_is_off_unless_asked_for() -> None:
    """Blank and 0 mean no."""
    for text in ("", " ", "0"):
        assert not is_debug({"COSTS_DEBUG": text})
    assert not is_debug({})
    assert is_debug({"COSTS_DEBUG": "1"})
