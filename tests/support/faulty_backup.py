"""A backup that is killed at each thing that it does in its folder, one after the other.

    python -m tests.support.faulty_backup DATA_DIR FOLDER KEEP

Each death leaves what it leaves to the next backup. Ends when one comes to its end, and prints how many died.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Final

from voicecosts.consumer.store.backup import back_up, backups, check

DONE: Final = ("open", "os.", "shutil.")
"""What Python calls the things that it does with files."""


def die_at(number: int, folder: Path) -> None:
    """Die before the n-th thing that is done with a file of a folder."""
    left = number

    def heard(event: str, arguments: Iterable[object]) -> None:
        nonlocal left
        if event.startswith(DONE) and any(
            str(folder) in str(it) for it in arguments if isinstance(it, str | Path)
        ):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)


def main(data_dir: Path, folder: Path, keep: int) -> None:
    """Die until there is nothing left to die at."""
    expected = {
        file.path for each in check(folder) if each.manifest for file in each.manifest.files
    }
    for number in count(1):
        child = os.fork()
        if child == 0:
            die_at(number, folder)
            back_up(data_dir, folder, prices=data_dir / "prices.toml", keep=keep)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        for each in check(folder):  # whatever has the name of a backup
            assert each.is_whole, (number, each)
            assert each.manifest is not None
            assert {file.path for file in each.manifest.files} == expected, number
        assert backups(folder), number
        if status == 0:
            sys.stdout.write(f"{number - 1}\n")
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
