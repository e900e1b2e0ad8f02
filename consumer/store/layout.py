"""Where everything lies in the data directory.

<data_dir>/ledger/ledger.duckdb   the ledger: one writer, no readers
<data_dir>/ledger/lock            held by that writer, its pid inside
<data_dir>/ledger/in_hand.json    what it is booking, so that it does not die of it again and again
<data_dir>/ledger/clock_doubt     when its host's clock was found far ahead, for a day
<data_dir>/ledger/prices.toml     a copy of the operator's last good prices
<data_dir>/ledger/prices-<digest>.toml  what they were before edits, for calls that began under them
<data_dir>/ledger/requests/       what `costs dead-letters` asks of a ledger that runs
<data_dir>/sealed/usage/day=<d>/  the rows of days that are over, never changed afterwards
<data_dir>/dead-letters/          the bytes of what could not be booked
<data_dir>/costs-<n>.duckdb       published snapshots, never changed afterwards
<data_dir>/costs.duckdb           a link to the newest snapshot: what readers open
<data_dir>/verified.duckdb        a snapshot of about a day ago, kept apart: for a restore
<data_dir>/ledger.json            the writer's heartbeat
"""

from __future__ import annotations

import re
from datetime import date
from itertools import chain, count
from pathlib import Path
from typing import Final

from msgspec import Struct

_SNAPSHOT: Final = re.compile(r"costs-([0-9]+)\.duckdb")
_DRAFT: Final = re.compile(
    r"(costs-[0-9]+\.duckdb|costs\.duckdb|verified\.duckdb|ledger\.json)\.tmp"
)
_SEALED: Final = re.compile(r"[0-9]+-[0-9]+(_[0-9]+)?\.parquet")
_DAY: Final = re.compile(r"day=[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WRITER_DRAFTS: Final = (
    *("new.tmp", "new.tmp.wal", "rebuilt.tmp", "rebuilt.tmp.wal", "swap.tmp", "prices.toml.tmp"),
)
_SPILLED: Final = re.compile(r"duckdb_temp_(storage_[A-Za-z0-9]+-[0-9]+\.tmp|block-[0-9]+\.block)")


class Layout(Struct, frozen=True):
    """The paths of one data directory."""

    data_dir: Path

    @property
    def ledger_dir(self) -> Path:
        """The folder of the writer."""
        return self.data_dir / "ledger"

    @property
    def ledger(self) -> Path:
        """The ledger file."""
        return self.ledger_dir / "ledger.duckdb"

    @property
    def log(self) -> Path:
        """What was committed since the last checkpoint: DuckDB's write-ahead log."""
        return self.ledger_dir / "ledger.duckdb.wal"

    @property
    def draft(self) -> Path:
        """A ledger that is being created; it is renamed to `ledger` when it is complete."""
        return self.ledger_dir / "new.tmp"

    @property
    def rebuilt(self) -> Path:
        """A ledger that is being made anew; it is renamed to `ledger` when it is proven."""
        return self.ledger_dir / "rebuilt.tmp"

    @property
    def rebuilt_log(self) -> Path:
        """The write-ahead log of `rebuilt`."""
        return self.log_of(self.rebuilt)

    @staticmethod
    def log_of(path: Path) -> Path:
        """Return where DuckDB keeps the write-ahead log of a file."""
        return path.with_name(path.name + ".wal")

    @property
    def swap(self) -> Path:
        """A file that is there while `rebuilt` takes the place of `ledger`."""
        return self.ledger_dir / "swap"

    def before(self, name: str) -> Path:
        """Return where the ledger is kept that one that was made anew took the place of."""
        return self.ledger_dir / f"ledger-{name}.duckdb"

    def kept(self) -> list[Path]:
        """Return the ledgers, and logs of them, that others took the place of."""
        return sorted(self.ledger_dir.glob("ledger-*"))

    @property
    def lock(self) -> Path:
        """The lock of the one writer."""
        return self.ledger_dir / "lock"

    @property
    def in_hand(self) -> Path:
        """What the writer is booking, for its successor."""
        return self.ledger_dir / "in_hand.json"

    @property
    def clock_doubt(self) -> Path:
        """When the clock was found far ahead of when the ledger was last at work, while that is not settled."""
        return self.ledger_dir / "clock_doubt"

    @property
    def prices(self) -> Path:
        """A copy of the operator's last good prices."""
        return self.ledger_dir / "prices.toml"

    @property
    def requests(self) -> Path:
        """The folder of what is asked of a ledger that runs."""
        return self.ledger_dir / "requests"

    @property
    def sealed(self) -> Path:
        """The folder of what has left the ledger file for good, in files for other programs too."""
        return self.data_dir / "sealed"

    @property
    def dead_letters(self) -> Path:
        """The folder of the bytes of what could not be booked."""
        return self.data_dir / "dead-letters"

    @property
    def current(self) -> Path:
        """The link to the newest snapshot."""
        return self.data_dir / "costs.duckdb"

    @property
    def verified(self) -> Path:
        """A snapshot that was read to its end, in blocks of its own, outside of the rotation."""
        return self.data_dir / "verified.duckdb"

    @property
    def heartbeat(self) -> Path:
        """The heartbeat of the writer."""
        return self.data_dir / "ledger.json"

    def snapshot(self, number: int) -> Path:
        """Return the path of a snapshot."""
        return self.data_dir / f"costs-{number}.duckdb"

    def snapshots(self) -> dict[int, Path]:
        """Return the paths of all snapshots by number, oldest first."""
        found = ((_SNAPSHOT.fullmatch(path.name), path) for path in self.data_dir.iterdir())
        return dict(sorted((int(match[1]), path) for match, path in found if match))

    def sealed_name(self, day: date, first: int, last: int, again: int | None = None) -> str:
        """Return the path in the data directory of a new file of a day, from its first place to its last.

        A name that is taken, in a directory where an older ledger was restored, is not used again. With `again`,
        a number that only grows, the name differs from those of earlier files that had these rows and are gone.
        """
        stem = f"sealed/usage/day={day:%Y-%m-%d}/{first}-{last}"
        first_choice = stem if again is None else f"{stem}_{again}"
        names = chain([first_choice], (f"{stem}_{number}" for number in count((again or 1) + 1)))
        return next(
            f"{name}.parquet" for name in names if not (self.data_dir / f"{name}.parquet").exists()
        )

    @staticmethod
    def sealed_span(name: str) -> tuple[date, int, int]:
        """Return the day of a sealed file, and its first and last place, as its path says."""
        folder, file = name.split("/")[-2:]
        first, last = file.removesuffix(".parquet").partition("_")[0].split("-")
        return date.fromisoformat(folder.removeprefix("day=")), int(first), int(last)

    def sealed_files(self) -> dict[str, Path]:
        """Return the files of sealed days that are there, by their paths in the data directory."""
        found = (
            path
            for folder in self._days()
            for path in folder.iterdir()
            if _SEALED.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        )
        return {path.relative_to(self.data_dir).as_posix(): path for path in found}

    def damaged(self) -> list[Path]:
        """Return the files of sealed days that `costs rebuild` could not read and laid aside."""
        found = (path for folder in self._days() for path in folder.glob("*.damaged"))
        return [path for path in found if _SEALED.fullmatch(path.stem) and path.is_file()]

    def _days(self) -> list[Path]:
        usage = self.sealed / "usage"
        found = usage.iterdir() if usage.is_dir() else ()
        return [path for path in found if _DAY.fullmatch(path.name) and path.is_dir()]

    def leftovers(self) -> list[Path]:
        """Return the files that a killed writer may have left unfinished, by their exact names.

        Only the lock's holder may ask. A folder is never among them: what has one of our names and
        is a folder is somebody else's.
        """
        drafts = [path for path in self.data_dir.iterdir() if _DRAFT.fullmatch(path.name)]
        drafts += [self.ledger_dir / name for name in _WRITER_DRAFTS]
        drafts += self.ledger_dir.glob("prices-*.toml.tmp")
        for spill in self.spill_dirs():
            drafts += [path for path in spill.iterdir() if _SPILLED.fullmatch(path.name)]
        drafts += [path for path in self.kept() if self._is_ledger(path)]
        for folder in self._days():
            drafts += [path for path in folder.glob("*.tmp") if _SEALED.fullmatch(path.stem)]
        return [path for path in drafts if path.is_symlink() or path.is_file()]

    def _is_ledger(self, path: Path) -> bool:
        """Return whether a file is the ledger, or its log, by another name: it was to be kept, and stays."""
        return any(it.exists() and path.samefile(it) for it in (self.ledger, self.log))

    def spill_dirs(self) -> list[Path]:
        """Return the folders where DuckDB puts what does not fit its memory, if they are there."""
        names = (self.ledger.name, self.draft.name, self.rebuilt.name, "proof")
        found = [self.ledger_dir / f"{name}.tmp" for name in names]
        return [path for path in found if path.is_dir() and not path.is_symlink()]

    def private(self) -> list[Path]:
        """Return everything here that only its owner should read, the data directory not included."""
        return [
            self.ledger_dir,
            *(path for path in self.ledger_dir.iterdir() if path.is_file()),
            *self.snapshots().values(),
            self.verified,
            self.heartbeat,
            self.sealed,
        ]
