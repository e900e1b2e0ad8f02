"""New ledgers without making each anew: a copy of an empty one that this code made in the same run.

A hundred and forty milliseconds of processor time for each of a thousand tests is minutes. Processes
that tests start make their own, and so do tests that ask for `made_anew`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from voicecosts.consumer.store import database, sql
from voicecosts.consumer.store.layout import Layout


class NewLedgers:
    """Makes the ledgers of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._make = database._create
        self._made: dict[tuple[tuple[str, str], ...], Path] = {}

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Let the ledger's own code make new ledgers here."""
        patch.setattr(database, "_create", self._copy)

    def make_anew(self, patch: pytest.MonkeyPatch) -> None:
        """Let it make them as it does elsewhere."""
        patch.setattr(database, "_create", self._make)

    def _copy(self, layout: Layout, now_us: int) -> None:
        schema = tuple(sql.migrations().values())
        if schema not in self._made:
            first = Layout(self._folder / str(len(self._made)))
            first.ledger_dir.mkdir(parents=True)
            self._make(first, now_us)
            connection = database._connect(first.ledger)
            database.write_views(connection, first)
            connection.execute("CHECKPOINT")
            database.close(connection)
            self._made[schema] = first.ledger
        shutil.copy(self._made[schema], layout.draft)
        layout.draft.rename(layout.ledger)
