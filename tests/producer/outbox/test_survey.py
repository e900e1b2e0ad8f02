"""Looking at the outboxes of a host: what waits, for whom, and what is set aside."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.outboxes import NOW, messages, orphan
from voicecosts.producer.config import LOCAL_LEDGER
from voicecosts.producer.outbox import survey
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import mark_booked
from voicecosts.producer.outbox.quarantine import Quarantine
from voicecosts.producer.outbox.row import EMBEDDED, ROW_BYTES


def test_nothing_waits_where_there_is_no_folder(tmp_path: Path) -> None:
    """A host on which no worker ever ran is not an error."""
    folder = tmp_path / "nowhere"
    assert survey.outboxes(folder) == []
    assert survey.quarantine(folder) is None
    assert survey.damaged(folder) == []


def test_each_outbox_tells_what_waits_and_for_whom(tmp_path: Path) -> None:
    """Living and dead processes are told apart, and nothing is changed by looking."""
    orphan(tmp_path, "dead", messages(3))
    living = Outbox.create(tmp_path / f"{EMBEDDED}-alive.sqlite3", destination=LOCAL_LEDGER)
    living.add(messages(2), now_us=NOW + 5)
    dead, alive = survey.outboxes(tmp_path)
    assert (dead.messages, dead.events, dead.bytes) == (3, 6, 3 * (50 + ROW_BYTES))
    assert (dead.is_held, dead.is_embedded, dead.oldest_at) == (False, False, NOW)
    assert (alive.destination, alive.pid, alive.is_held) == (LOCAL_LEDGER, os.getpid(), True)
    assert (alive.messages, alive.is_embedded, alive.oldest_at) == (2, True, NOW + 5)
    assert survey.outboxes(tmp_path) == [dead, alive]
    living.close()


def test_what_is_booked_does_not_wait(tmp_path: Path) -> None:
    """Between the ledger's mark and the worker's next round a message is still in the file."""
    living = Outbox.create(tmp_path / f"{EMBEDDED}-alive.sqlite3")
    living.add(messages(5), now_us=NOW)
    mark_booked(living.path, 4)
    (found,) = survey.outboxes(tmp_path)
    assert (found.messages, found.events) == (1, 2)
    living.close()


def test_a_file_that_cannot_be_read_is_named_with_its_problem(tmp_path: Path) -> None:
    """It hides no other file."""
    orphan(tmp_path, "a", messages(1))
    broken = orphan(tmp_path, "b", messages(1))
    broken.write_bytes(b"no database at all" * 100)
    first, second = survey.outboxes(tmp_path)
    assert (first.messages, first.problem) == (1, None)
    assert second.messages == 0
    assert second.problem == "file is not a database"


def test_what_is_quarantined_is_told_with_its_reasons(tmp_path: Path) -> None:
    """The most frequent reason comes first."""
    for number, reason in ((1, "too large"), (2, "no subject"), (3, "too large")):
        Quarantine(tmp_path, lambda: NOW).add(messages(1, first=number)[0], reason)
    found = survey.quarantine(tmp_path)
    assert found is not None
    assert (found.messages, found.events, found.reasons) == (3, 6, ("too large", "no subject"))
    (tmp_path / "x-y.sqlite3.damaged").touch()
    assert [path.name for path in survey.damaged(tmp_path)] == ["x-y.sqlite3.damaged"]
