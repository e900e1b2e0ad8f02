"""Remove files of sealed days that the ledger does not name any more, when no reader can need them.

That a file is not named, and that it is to be removed, are one transaction; the file goes after it. A death in
between leaves a file that is recorded here, and the next opening goes on.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.store import sql
from voicecosts.consumer.store.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import duckdb

    from voicecosts.consumer.store.layout import Layout

_log = logging.getLogger(__name__)

AGAIN_US: Final = 600 * 1_000_000
"""How long nothing is tried after a file could not be removed."""

GRACE_US: Final = 15 * 1_000_000
"""How long a file stays after a snapshot without it was published: a reader may have opened an older one."""

_UNNAMED: Final = -1
"""Recorded in place of a snapshot: one without the file was published, at the time that is recorded with it."""


class Removal:
    """The files of one ledger that are to be removed."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, layout: Layout, now_us: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._now_us = now_us
        self._waiting: dict[str, tuple[int, int]] = {}
        self._failed_us = 0
        self.load()
        self._finish([name for name in self._waiting if not (layout.data_dir / name).exists()])

    def __repr__(self) -> str:
        return f"<Removal: {len(self._waiting)} files wait>"

    @property
    def waiting(self) -> set[str]:
        """The files that are to be removed, by their paths in the data directory."""
        return set(self._waiting)

    def load(self) -> None:
        """Take in what is recorded, as after a commit."""
        found = self._connection.execute(sql.LOAD_REMOVED_FILES).fetchall()
        self._waiting = {name: (snapshot, since_us) for name, snapshot, since_us in found}

    def note(self, names: Sequence[str], snapshot: int) -> None:
        """Record in the open transaction that files are to be removed, which `snapshot` may still name."""
        self._connection.execute(
            sql.NOTE_REMOVED_FILES,
            {"files": list(names), "snapshot": snapshot, "removed_at": self._now_us()},
        )

    def withdraw(self, names: Sequence[str]) -> None:
        """Record in the open transaction that files are not to be removed."""
        self._connection.execute(sql.CLEAR_REMOVED_FILES, {"files": list(names)})

    def is_due(self, published: int) -> bool:
        """Whether there is something to do, now that `published` is what readers open."""
        return bool(self._waiting) and bool(self._unnamed(published) or self._ready())

    def step(self, published: int) -> None:
        """Remove the files that can go, and record since when readers do not need the others.

        One that cannot be removed is a warning: the ledger books on, and it is tried again later.
        """
        try:
            self._finish(self._ready())
        except OSError as error:
            self._failed_us = self._now_us()
            _log.warning(
                "a file of sealed days that nobody needs stays until it can be removed: %s", error
            )
        names = self._unnamed(published)
        if names:
            now_us = self._now_us()
            self._connection.execute(
                sql.MARK_REMOVED_FILES,
                {"files": names, "snapshot": _UNNAMED, "removed_at": now_us},
            )
            self._waiting |= dict.fromkeys(names, (_UNNAMED, now_us))

    def finish(self) -> None:
        """Remove all files that wait: no snapshot that names them is left.

        Raises:
            OSError: One cannot be removed.
        """
        self._finish(list(self._waiting))

    def _unnamed(self, published: int) -> list[str]:
        """Return the files that the snapshot which readers open is the first to do without."""
        return [name for name, (snapshot, _) in self._waiting.items() if 0 <= snapshot < published]

    def _ready(self) -> list[str]:
        now_us = self._now_us()  # a clock that was set back keeps no file
        if abs(now_us - self._failed_us) < AGAIN_US:
            return []
        return [
            name
            for name, (snapshot, since_us) in self._waiting.items()
            if snapshot == _UNNAMED and abs(now_us - since_us) >= GRACE_US
        ]

    def _finish(self, names: Sequence[str]) -> None:
        if not names:
            return
        recorded = {name for (name,) in self._connection.execute(sql.RECORDED_FILES).fetchall()}
        for name in names:
            if name in recorded:  # it is there again under the same name
                continue
            # 1. Nobody names it. If we die, it is gone already when the next opening looks for it.
            path = self._layout.data_dir / name
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other files are in it
                path.parent.rmdir()
            with contextlib.suppress(FileNotFoundError):
                sync_folder(path.parent if path.parent.exists() else path.parent.parent)
        # 2. Done with. If we die before, it is found gone.
        self._connection.begin()
        self._connection.execute(sql.CLEAR_REMOVED_FILES, {"files": list(names)})
        self._connection.commit()
        for name in names:
            del self._waiting[name]
