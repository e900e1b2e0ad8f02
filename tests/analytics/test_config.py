"""Tests of where the ledger is looked for."""

from __future__ import annotations

from voicecosts.analytics.config import from_env
from voicecosts.consumer.config import from_env as ledger_of


def test_the_data_directory_is_that_of_the_ledger() -> None:
    """A query without arguments reads what the ledger writes: one rule names the folder of both."""
    for environ in ({}, {"COSTS_DATA_DIR": "~/costs"}, {"XDG_DATA_HOME": "/data"}):
        assert from_env(environ).data_dir == ledger_of(own_broker=True, environ=environ).data_dir


def test_debug_is_off_unless_asked_for() -> None:
    """Empty and 0 mean no."""
    assert not from_env({}).debug
    assert not from_env({"COSTS_DEBUG": "0"}).debug
    assert from_env({"COSTS_DEBUG": "1"}).debug
