"""The outbox: on disk before it is sent, gone when acknowledged, whole after every accident."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.events import ended, reading, started
from tests.support.outboxes import NOW, Clock, backlog, execute, messages
from voicecosts.producer.errors import OutboxDamaged, OutboxUnavailable
from voicecosts.producer.events import Event
from voicecosts.producer.outbox.bound import Bound
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import Lock, held_elsewhere
from voicecosts.producer.outbox.own import MOST_IN_MEMORY
from voicecosts.producer.outbox.packing import Packer, halves
from voicecosts.producer.outbox.quarantine import NAME, Quarantine
from voicecosts.producer.outbox.row import ROW_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where an outbox may be."""
    return tmp_path / "host" / "place-producer.sqlite3"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    """An outbox of this test."""
    made = Outbox.create(path)
    yield made
    made.close()


def test_messages_come_out_as_they_went_in(outbox: Outbox) -> None:
    """Id, subject and bytes are kept to the last bit, in the order of their numbers."""
    stored = messages(5)
    outbox.add(stored, now_us=NOW)
    assert outbox.oldest(10) == (stored, [])
    assert outbox.oldest(2) == (stored[:2], [])
    assert outbox.oldest(9, after=3) == (stored[3:], [])
    assert outbox.newest(2, below=5) == ([stored[3], stored[2]], [])


def test_the_numbers_of_an_outbox_follow_every_change(outbox: Outbox) -> None:
    """Rows, events, bytes and age are known at any time without reading the file."""
    assert (outbox.rows, outbox.events, outbox.bytes, outbox.oldest_at) == (0, 0, 0, None)
    outbox.add(messages(4), now_us=NOW)
    outbox.add(messages(2, first=5), now_us=NOW + 1)
    cost = 50 + ROW_BYTES
    assert (outbox.rows, outbox.events, outbox.bytes, outbox.oldest_at) == (6, 12, 6 * cost, NOW)
    outbox.remove(messages(4))
    assert (outbox.rows, outbox.events, outbox.bytes) == (2, 4, 2 * cost)
    assert outbox.oldest_at == NOW + 1
    assert outbox.lowest(set()) == 5
    assert outbox.lowest({5}) == 6
    assert outbox.lowest({5, 6}) is None
    assert repr(outbox) == f"<Outbox place-producer.sqlite3: 2 messages, {2 * cost} bytes>"


def test_storing_or_removing_twice_changes_nothing(outbox: Outbox) -> None:
    """What is stored again, or removed again, after an accident is counted once."""
    outbox.add(messages(3), now_us=NOW)
    outbox.add(messages(3), now_us=NOW + 1)
    assert (outbox.rows, outbox.events) == (3, 6)
    outbox.remove(messages(1))
    outbox.remove(messages(2))
    assert (outbox.rows, outbox.events, outbox.oldest_at) == (1, 2, NOW)


def test_a_message_can_become_smaller_and_keeps_its_id(outbox: Outbox) -> None:
    """What is taken out at the bound changes the counts, and nothing about what is left."""
    first, second, third = messages(3)
    outbox.add([first, second, third], now_us=NOW)
    smaller = replace(second, data=b"x" * 20, events=1)
    outbox.rewrite([(first, None), (second, smaller)])
    assert outbox.oldest(9) == ([smaller, third], [])
    counted = (outbox.rows, outbox.events, outbox.bytes)
    assert counted == (2, 3, 70 + 2 * ROW_BYTES)
    outbox._measure()
    assert (outbox.rows, outbox.events, outbox.bytes) == counted


def test_subjects_can_be_passed_over(outbox: Outbox) -> None:
    """One subject that is refused does not hide what is behind it."""
    outbox.add(messages(6), now_us=NOW)
    found, _ = outbox.oldest(9, without={"costs.v1.tests.agent-1.00"})
    assert [message.batch_number for message in found] == [2, 4, 6]


def test_an_empty_outbox_leaves_no_file_and_a_filled_one_stays(path: Path) -> None:
    """An orderly end with everything acknowledged leaves nothing behind."""
    first = Outbox.create(path)
    first.add(messages(1), now_us=NOW)
    first.remove(messages(1))
    first.close()
    assert list(path.parent.iterdir()) == []
    second = Outbox.create(path)
    second.add(messages(1), now_us=NOW)
    second.close()
    assert path.exists()
    third = Outbox.adopt(path)
    assert third.oldest(9) == (messages(1), [])
    third.close()


def test_only_the_user_may_read_an_outbox(outbox: Outbox, path: Path) -> None:
    """Who called whom, and for how long, is private."""
    outbox.add(messages(1), now_us=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_outbox_has_one_holder(outbox: Outbox, path: Path) -> None:
    """Nobody adopts the file of a process that lives."""
    with pytest.raises(OutboxUnavailable, match="another process holds it"):
        Outbox.adopt(path)
    assert outbox.rows == 0


def test_what_is_not_there_cannot_be_adopted(path: Path) -> None:
    """An outbox that its process removed meanwhile is not made again."""
    path.parent.mkdir()
    with pytest.raises(OutboxUnavailable, match="emptied"):
        Outbox.adopt(path)
    assert list(path.parent.iterdir()) == []


def test_the_lock_ends_with_its_process_and_not_with_its_children(path: Path) -> None:
    """A forked child does not keep the outbox of its dead parent from being adopted."""
    ready, hold = os.pipe(), os.pipe()
    parent = os.fork()
    if parent == 0:
        Outbox.create(path).add(messages(1), now_us=NOW)
        if os.fork() == 0:
            os.write(ready[1], b"x")
            os.close(hold[1])
            os.read(hold[0], 1)  # lives until the test is over
        os._exit(0)
    os.waitpid(parent, 0)
    assert os.read(ready[0], 1) == b"x"
    adopted = Outbox.adopt(path)
    assert adopted.rows == 1
    adopted.close()
    for end in (*ready, *hold):
        os.close(end)


def test_a_message_that_changed_on_disk_is_not_sent(outbox: Outbox, path: Path) -> None:
    """A flipped bit could be somebody's money, so a wrong checksum is damage."""
    outbox.add(messages(3), now_us=NOW)
    execute(path, "UPDATE messages SET data = zeroblob(50) WHERE number = 2")
    found, damaged = outbox.oldest(9)
    assert [message.batch_number for message in found] == [1, 3]
    assert damaged == [2]


@pytest.mark.parametrize(
    "data", [b"this is no database" * 500, b"SQLite format 3\x00" + b"\x07" * 9000]
)
def test_what_is_no_outbox_is_damage(path: Path, data: bytes) -> None:
    """A file that SQLite cannot read is told apart from a disk that is full or read-only."""
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(OutboxDamaged):
        Outbox.adopt(path)


def test_a_folder_that_cannot_be_made_makes_the_outbox_unavailable(tmp_path: Path) -> None:
    """The error names the path and the reason."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutboxUnavailable, match="file") as caught:
        Outbox.create(tmp_path / "file" / "place-x.sqlite3")
    assert caught.value.path.name == "place-x.sqlite3"


def test_processes_of_a_host_know_what_the_others_hold(tmp_path: Path) -> None:
    """They share one bound, so each writes down how much it holds."""
    first, second = (Outbox.create(tmp_path / f"place-{n}.sqlite3") for n in (1, 2))
    first.add(messages(3), now_us=NOW)
    second.add(messages(5), now_us=NOW)
    assert held_elsewhere(tmp_path, {first.lock.path}) == (second.bytes, 1)
    assert held_elsewhere(tmp_path, {second.lock.path}) == (first.bytes, 1)
    second.remove(messages(5))
    assert held_elsewhere(tmp_path, {first.lock.path}) == (0, 1)
    first.close()
    second.close()
    assert held_elsewhere(tmp_path, set()) == (3 * (50 + ROW_BYTES), 1)


def test_a_lock_whose_file_was_removed_can_be_taken_again(tmp_path: Path) -> None:
    """A lock protects an outbox only while its file has a name."""
    database = tmp_path / "place-1.sqlite3"
    first = Lock(database)
    first.release(remove=True)
    second = Lock(database)
    with pytest.raises(OutboxUnavailable):
        Lock(database)
    second.release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_a_backlog_gives_a_message_until_it_is_done(tmp_path: Path) -> None:
    """What was not acknowledged is offered again, as it was."""
    held = backlog(tmp_path, Clock())
    held.keep(messages(3))
    first = held.window(2)
    assert [entry.message for entry in first] == messages(2)
    held.forget_done()
    assert held.window(2) == first
    held.done(first[1])
    held.forget_done()
    assert [entry.message.batch_number for entry in held.window(9)] == [1, 3]
    assert held.lowest() == 1
    held.done(first[0])
    assert held.lowest() == 3
    held.close()


def test_without_a_folder_a_backlog_is_in_memory_and_small(tmp_path: Path) -> None:
    """Then events are left in the buffer, which coalesces them."""
    held = backlog(None, Clock())
    held.keep(messages(MOST_IN_MEMORY - 1))
    assert held.has_room()
    held.keep(messages(1, first=MOST_IN_MEMORY))
    assert not held.has_room()
    assert (held.rows, held.own.events, held.own.events_in_memory) == (0, 16, 16)
    for entry in held.window(3):
        held.done(entry)
    held.forget_done()
    assert held.lowest() == 4
    assert held.has_room()
    held.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages wait in memory and go to disk by themselves; each is logged once."""
    caplog.set_level("INFO")
    clock = Clock()
    folder = tmp_path / "later"
    folder.write_text("a file is in the way")
    held = backlog(folder, clock)
    for number in range(1, 4):
        held.keep(messages(1, first=number))
        clock.at += 10
    assert (held.own.state, held.own.events_in_memory) == ("in memory", 6)
    folder.unlink()
    held.tend()
    assert (held.own.state, held.rows, held.own.events_in_memory) == ("on disk", 3, 0)
    said = [record.levelname for record in caplog.records]
    assert said == ["WARNING", "INFO"]
    assert [entry.message for entry in held.window(9)] == messages(3)
    for entry in held.window(9):
        held.done(entry)
    held.close()


def test_reaching_the_bound_is_logged_once_and_so_is_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator learns that detail is lost, and when that ends, not event by event."""
    caplog.set_level("INFO", logger="voicecosts.producer.outbox.bound")
    clock = Clock()
    held = backlog(tmp_path, clock, max_bytes=20_000)
    packer = Packer("p")
    for number in range(1, 400):
        held.keep(packer.pack([reading(number)]))
        held.has_room()
        clock.at += 1
    assert held.bound.coalesced > 100
    for entry in held.window(1000):
        held.done(entry)
    held.forget_done()
    assert held.has_room()
    said = [
        it.getMessage() for it in caplog.records if it.name == "voicecosts.producer.outbox.bound"
    ]
    assert ["at its bound of 20000 bytes" in it for it in said] == [True, False]
    held.close()


def test_what_can_never_be_sent_is_kept_apart_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It no longer blocks the others, and a person can look at it."""
    held = backlog(tmp_path, Clock())
    held.quarantine.add(messages(1)[0], "too large")
    held.quarantine.add(messages(1)[0], "too large")
    rows = execute(tmp_path / NAME, "SELECT id, events, reason, data FROM messages")
    assert rows == [("id-1", 2, "too large", messages(1)[0].data)]
    assert (held.quarantine.refused, held.quarantine.quarantined) == (4, 4)
    assert "refused for good (too large)" in caplog.text


def test_the_quarantine_is_bounded(tmp_path: Path) -> None:
    """The oldest are deleted, so that a wrong setting cannot fill a disk."""
    quarantine = Quarantine(tmp_path, count(NOW).__next__)
    for message in messages(5, size=6_000_000):
        quarantine.add(message, "too large")
    assert execute(tmp_path / NAME, "SELECT id FROM messages ORDER BY id") == [("id-4",), ("id-5",)]


def test_a_message_is_halved_down_to_its_events() -> None:
    """Halves keep the events in order and have ids that follow from the whole's."""
    events: list[Event] = [started(), *(reading(number) for number in range(1, 4)), ended(4)]
    (whole,) = Packer("producer").pack(events)
    first, second = halves(whole)
    assert (first.events, second.events) == (2, 3)
    assert [part.message_id for part in (first, second)] == [
        f"{whole.message_id}.0",
        f"{whole.message_id}.1",
    ]
    assert halves(whole) == [first, second]
    (single,) = Packer("producer").pack([started()])
    assert halves(single) == []
    assert halves(replace(single, data=b"\xc1")) == []


def test_a_pass_over_a_large_file_is_done_in_pieces(tmp_path: Path) -> None:
    """The publisher must return to the network, so the work of one step is bounded."""
    clock = Clock()
    outbox = Outbox.create(tmp_path / "place-1.sqlite3")
    packer = Packer("producer")
    for number in range(1, 201):
        outbox.add(packer.pack([reading(number)]), now_us=NOW)
    bound = Bound(1000, clock)
    steps = 0
    while outbox.rows > 3:
        bound.keep([outbox], set())
        steps += 1
        assert steps < 100
    assert steps > 1
    assert bound.coalesced >= 197
    assert bound.dropped == 0
    outbox.remove(outbox.oldest(9)[0])
    outbox.close()


def test_a_small_process_drops_nothing_for_what_its_neighbours_hold(tmp_path: Path) -> None:
    """Its events wait in memory instead, where they are coalesced."""
    clock = Clock()
    large, small = (Outbox.create(tmp_path / f"place-{n}.sqlite3") for n in (1, 2))
    large.add(messages(390), now_us=NOW)
    small.add(Packer("p").pack([reading(1)]), now_us=NOW)
    bound = Bound(100_000, clock)
    assert bound.keep([small], set()) is True
    large.add(messages(20, first=1000), now_us=NOW)
    clock.at += 10
    assert bound.keep([small], set()) is False
    assert (small.rows, bound.dropped) == (1, 0)
    for outbox in (large, small):
        outbox.close()


def test_nothing_of_a_killed_writer_is_torn(path: Path) -> None:
    """A process that dies inside of a transaction leaves all that was committed before."""
    child = os.fork()
    if child == 0:
        made = Outbox.create(path)
        made.add(messages(3), now_us=NOW)
        with made._transaction():
            made._db.execute("DELETE FROM messages")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    adopted = Outbox.adopt(path)
    assert adopted.oldest(9) == (messages(3), [])
    adopted.close()


def test_after_an_outage_the_disk_gets_back_what_it_gave(outbox: Outbox, path: Path) -> None:
    """A file that was large for an hour shrinks again."""
    many = messages(400, size=20_000)
    outbox.add(many, now_us=NOW)
    outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size > 8_000_000
    outbox.remove(many)
    outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < 100_000


def test_messages_that_vanished_from_the_end_are_damage(path: Path) -> None:
    """SQLite silently ends a damaged log at the damage; the label knows what was there."""
    outbox = Outbox.create(path)
    outbox.add(messages(5), now_us=NOW)
    outbox.remove(messages(5))
    outbox.add(messages(1, first=6), now_us=NOW)
    outbox.close()
    execute(path, "DELETE FROM messages", "UPDATE sqlite_sequence SET seq = 5")
    with pytest.raises(OutboxDamaged, match="up to number 6, and ends at 5"):
        Outbox.adopt(path)


def test_a_number_is_never_used_twice_in_a_file(outbox: Outbox) -> None:
    """A mark of what is booked must not cover what comes later, however empty the file was."""
    outbox.add(messages(7), now_us=NOW)
    outbox.remove(messages(7))
    assert [m.batch_number for m in outbox.renumbered(messages(2))] == [8, 9]


def test_a_damaged_row_counts_for_the_events_it_held(outbox: Outbox, path: Path) -> None:
    """Its own count is used where it is possible; a row holds at least one event."""
    outbox.add(messages(4), now_us=NOW)
    execute(
        path,
        "UPDATE messages SET data = x'00'",
        "UPDATE messages SET events = 'many' WHERE number = 1",
        "UPDATE messages SET events = 1000000 WHERE number = 2",
        "UPDATE messages SET number = -3 WHERE number = 4",
    )
    found, damaged = outbox.oldest(9)
    assert (found, damaged) == ([], [-3, 1, 2, 3])
    assert outbox.discard(damaged) == 1 + 1 + 2 + 2
    assert (outbox.rows, outbox.events) == (0, 0)
