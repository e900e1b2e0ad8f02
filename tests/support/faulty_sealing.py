"""A ledger that is told a history, and kills itself at one line of its sealing, at the n-th time.

    python -m tests.support.faulty_sealing LINE N DATA_DIR

It goes on behind what is booked already. Without a line it comes to the end of the history.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import voicecosts.consumer.store.database
import voicecosts.consumer.store.sealing
from tests.support.faulty_folding import Deadly
from tests.support.faulty_operation import Trap
from tests.support.history import Told, history, often
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.sealing import Sealing

SEED: Final = 3

_sealing: Any = voicecosts.consumer.store.sealing
_database: Any = voicecosts.consumer.store.database


def drafted(trap: Trap) -> None:
    """The file is complete, under the name of a draft."""
    _sealing.hashlib.file_digest = trap.after(_sealing.hashlib.file_digest)


def named(trap: Trap) -> None:
    """The file has its name, and no row records it."""
    Sealing._write = trap.after(Sealing._write)  # type: ignore[method-assign]  # the accident under test


def moving(trap: Trap) -> None:
    """All is written, and the transaction is open."""
    _sealing.name_sealed = trap.after(_sealing.name_sealed)


def moved(trap: Trap) -> None:
    """The rows have left the ledger file."""
    Sealing._move = trap.after(Sealing._move)  # type: ignore[method-assign]  # same


def copied(trap: Trap) -> None:
    """A copy of the ledger without free space is written, and has not taken its place."""
    _database._copy_tables = trap.after(_database._copy_tables)


def replaced(trap: Trap) -> None:
    """The copy has just taken its place."""
    _database._rewrite = trap.after(_database._rewrite)


def said(trap: Trap) -> None:
    """A statement was run for it, or a transaction committed."""
    made = Sealing.__init__

    def init(self: Any, connection: Any, *others: Any) -> None:
        made(self, Deadly(connection, trap.left), *others)  # type: ignore[arg-type]  # same

    Sealing.__init__ = init  # type: ignore[method-assign]  # same


LINES: Final[dict[str, Callable[[Trap], None]]] = {
    it.__name__: it for it in (drafted, named, moving, moved, copied, replaced, said)
}


def go_on(data_dir: Path) -> Told:
    """Tell a ledger the part of the history that it does not have, and return it, still open."""
    told = Told(data_dir)
    works = 0
    for step in history(SEED):
        works += step.work is not None
        is_known = step.work is not None and told.ledger.operation(works) is not None
        if step.messages:
            is_known = step.messages[-1].sequence <= told.ledger.booked_sequence
        told.take(type(step)(step.now) if is_known else step, seals=True)
    return told


def main(line: str, at: int, data_dir: Path) -> None:
    """Be told the history until this dies."""
    often(pytest.MonkeyPatch())
    _database._HOLLOW_BYTES = 0
    sql.FREE_BLOCKS = "SELECT TRUE"  # type: ignore[misc]  # every file is taken for a hollow one
    LINES[line](Trap(at))
    go_on(data_dir).close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
