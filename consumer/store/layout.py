"""Where everything lies in the data directory.

<data_dir>/ledger/ledger.duckdb   the ledger: one writer, no readers
<data_dir>/ledger/lock            held by that writer, its pid inside
<data_dir>/costs-<n>.duckdb       published snapshots, never changed afterwards
<data_dir>/costs.duckdb           a link to the newest snapshot: what readers open
<data_dir>/ledger.json            the writer's heartbeat
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from msgspec import Struct

_SNAPSHOT: Final = re.compile(r"costs-([0-9]+)\.duckdb")


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
    def draft(self) -> Path:
        """A ledger that is being created; it is renamed to `ledger` when it is complete."""
        return self.ledger_dir / "unborn.tmp"

    @property
    def lock(self) -> Path:
        """The lock of the one writer."""
        return self.ledger_dir / "lock"

    @property
    def current(self) -> Path:
        """The link to the newest snapshot."""
        return self.data_dir / "costs.duckdb"

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

    def leftovers(self) -> list[Path]:
        """Return what a killed writer may have left unfinished. Only the lock's holder may ask."""
        return [
            *self.data_dir.glob("*.tmp"),
            *self.ledger_dir.glob("unborn.tmp*"),
            *self.ledger_dir.glob("ledger.duckdb.tmp"),  # DuckDB's own spill folder
        ]
