"""Keep detail for as long as the operator says, and sums for ever.

The rule is the newest operation in force that sets one; without it everything is kept. Detail is single rows: those
of sealed days in their files, and those of days that were never sealed, in the ledger file. What they add up to, and what
each session came to, is in tables of its own, which stay: no sum, no count and no state changes.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.booking.operations import Retain
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.files import write_private
from voicecosts.consumer.store.sealing import name_sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    import duckdb

    from voicecosts.consumer.store.folding import Folding
    from voicecosts.consumer.store.layout import Layout
    from voicecosts.consumer.store.operations import Now
    from voicecosts.consumer.store.removal import Removal

_log = logging.getLogger(__name__)

LOOK_S: Final = 600.0
"""How often it is looked for detail that has grown too old."""

JUMP_US: Final = 35 * 86_400 * 1_000_000
"""A clock that is so far ahead of when the ledger was last at work may be wrong, as at a start before it was set."""

PATIENCE_US: Final = 86_400 * 1_000_000
"""How long nothing is removed then, however often the ledger is opened: what goes does not come back."""

SLICE_FILES: Final = 200
"""Files that one transaction forgets, at most."""

SLICE_ROWS: Final = 50_000
"""Rows that one transaction removes from the ledger file, at most."""


class Retention:
    """The detail of one ledger that has grown too old. Each step is a transaction."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        layout: Layout,
        folding: Folding,
        removal: Removal,
        ticks: Callable[[], float],
        *,
        last_us: int,
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._folding = folding
        self._removal = removal
        self._ticks = ticks
        self._next_look = ticks()
        self._last_us = last_us
        self._doubted_us = _noted(layout.clock_doubt)
        self._rule = Retain()

    def __repr__(self) -> str:
        return f"<Retention: {self._rule}>"

    @property
    def is_due(self) -> bool:
        """Whether it is time to look for something."""
        return self._rule != Retain() and self._ticks() >= self._next_look

    def follow(self, rule: Retain) -> None:
        """Keep detail by a rule; it is looked for what is too old at the next step."""
        if rule != self._rule:
            self._rule, self._next_look = rule, self._ticks()

    def step(self, now: Now, snapshot: int) -> bool:
        """Remove some detail that is too old; return whether the ledger has changed.

        `snapshot` is the number of the last one that may name the files: it is published, or under way.
        """
        if wait_us := self._doubt(now.us):
            self._next_look = self._ticks() + wait_us / 1e6
            return False
        before = self._rule.first_kept(now.today)
        if before is not None and (
            self._forget_files(before, now.us, snapshot) or self._remove_rows(before, now.us)
        ):
            return True
        self._next_look = self._ticks() + LOOK_S
        return False

    def _doubt(self, now_us: int) -> int:
        """Return for how long the clock is not to be believed; 0 where it is.

        When it was far ahead is in a file, so that the next opening does not believe what this one doubts. One that
        is behind that moment was corrected.
        """
        ahead_us, self._last_us = now_us - self._last_us, now_us
        if ahead_us > JUMP_US:
            self._doubted_us = now_us
            _log.warning(
                "the clock is %d days ahead of when this ledger was last at work: if it stays so for a day, detail that "
                "grew too old is removed then; if it is wrong, set it",
                ahead_us // (86_400 * 1_000_000),
            )
            try:
                write_private(self._layout.clock_doubt, str(now_us).encode(), synced=True)
            except OSError as error:
                _log.warning("that cannot be noted for the next start: %s", error)
        if self._doubted_us is None:
            return 0
        wait_us = self._doubted_us + PATIENCE_US - now_us
        if 0 < wait_us <= PATIENCE_US:
            return wait_us
        with contextlib.suppress(OSError):
            self._layout.clock_doubt.unlink(missing_ok=True)
            self._doubted_us = None
        return 0

    def _forget_files(self, before: date, now_us: int, snapshot: int) -> bool:
        found = self._connection.execute(
            sql.FIND_OLD_FILES, {"before": before, "most": SLICE_FILES}
        ).fetchall()
        if not found:
            return False
        names = [name for name, *_ in found]
        rows: Counter[date] = Counter()
        size: Counter[date] = Counter()
        for _, day, count, length in found:
            rows[day] += count
            size[day] += length
        # 1. All or nothing: the views do not name the files, and they are to be removed. If we die after this,
        #    the next opening removes them.
        self._connection.begin()
        self._connection.execute(sql.FORGET_FILES, {"files": names})
        self._removal.note(names, snapshot)
        for day, count in rows.items():
            self._connection.execute(
                sql.NOTE_REMOVED_DETAIL,
                {"day": day, "rows": count, "bytes": size[day], "removed_at": now_us},
            )
        name_sealed(self._connection, self._layout, may_be_last=True)
        self._connection.commit()
        self._removal.load()
        _log.info("the detail of %d days before %s is removed", len(rows), before)
        return True

    def _remove_rows(self, before: date, now_us: int) -> bool:
        upto, last = self._connection.execute(
            sql.SPAN_OF_OLD, {"before": before, "most": SLICE_ROWS}
        ).fetchone() or (None, None)
        if upto is None or last is None:
            return False
        # 1. All of them are in sums. If we die, they are in the ledger file as well.
        if upto > self._folding.folded_to:
            self._folding.fold()
            return True
        span = {"before": before, "upto": upto}
        # 2. All or nothing: they are in sums alone, and it is recorded that they were there.
        self._connection.begin()
        self._connection.execute(sql.NOTE_REMOVED_ROWS, {**span, "removed_at": now_us})
        self._connection.execute(sql.REMOVE_OLD_ROWS, span)
        self._connection.commit()
        return True


def _noted(path: Path) -> int | None:
    """Return when the clock was found far ahead, if that is not settled."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
