"""A ledger that is made anew by a process that kills itself after the n-th thing that it does with files.

python -m tests.support.faulty_rebuilding N DATA_DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import voicecosts.consumer.store.rebuilding
from tests.support.faulty_operation import Trap
from tests.support.history import history
from voicecosts.consumer.store.clock import micros
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.rebuilding import Rebuilding, find_source

_rebuilding: Any = voicecosts.consumer.store.rebuilding


def main(at: int, data_dir: Path) -> None:
    """Make it anew until this dies."""
    layout, now_us = Layout(data_dir), micros(history(1)[-1].now)
    found = find_source(layout, now_us)
    trap = Trap(at)
    for name in ("make_draft", "finish_draft", "sync_folder", "write_private"):
        setattr(_rebuilding, name, trap.after(getattr(_rebuilding, name)))
    _rebuilding.os.link = trap.after(_rebuilding.os.link)
    paths: Any = Path
    for name in ("rename", "unlink"):
        setattr(paths, name, trap.after(getattr(paths, name)))
    work = Rebuilding(layout, found, now_us)
    work.make()
    work.swap("then")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
