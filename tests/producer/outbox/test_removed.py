"""Files of an outbox that are removed while a process uses it: nothing that waits is lost."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from tests.support.outboxes import DESTINATION, Clock, backlog, messages
from voicecosts.producer.outbox.adopted import adopt, orphans

REMOVED = ("database", "log", "lock", "all files", "folder")


def remove(folder: Path, what: str) -> None:
    """Do what a cleaner of old files does."""
    if what == "folder":
        shutil.rmtree(folder)
        return
    endings = {"database": (".sqlite3",), "log": ("-wal",), "lock": (".lock",)}
    for path in list(folder.iterdir()):
        if path.name.endswith(endings.get(what, ("",))):
            path.unlink()


@pytest.mark.parametrize("what", REMOVED)
@pytest.mark.parametrize("more", [2, 0], ids=["with more to come", "at rest"])
def test_what_waits_in_a_removed_file_survives_the_process(
    what: str, more: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that rests for hours has old files; another process finds all of it all the same."""
    folder, clock = tmp_path / "outbox", Clock()
    held = backlog(folder, clock)
    held.keep(messages(100))
    remove(folder, what)
    with caplog.at_level(logging.WARNING):
        held.keep(messages(more, first=101))
        held.tend()
    assert "was removed while it was in use" in caplog.text
    offered = {f"id-{number}" for number in range(1, 101 + more)}
    assert {entry.message.message_id for entry in held.window(200)} == offered
    assert held.own.outbox is not None
    survivor = held.own.outbox.path
    held.close()
    found, _ = orphans(folder, DESTINATION)
    assert survivor in found
    adopted = adopt(survivor, now_us=1)
    assert adopted is not None
    assert {message.message_id for message in adopted.oldest(200)[0]} == offered
    adopted.close(keep=True)


def test_where_no_new_file_can_be_made_it_goes_on_and_says_so(tmp_path: Path) -> None:
    """The messages are still sent, and the state does not claim that they are on disk."""
    folder, clock = tmp_path / "outbox", Clock()
    held = backlog(folder, clock)
    held.keep(messages(3))
    shutil.rmtree(folder)
    folder.touch()
    held.keep(messages(1, first=4))
    assert held.own.state == "in memory"
    assert len(held.window(9)) == 4
    folder.unlink()
    clock.at += 2
    held.tend()
    assert held.own.state == "on disk"
    assert len(held.window(9)) == 4
    held.close()
