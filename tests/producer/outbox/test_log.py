"""The outboxes of a host as a log: everything is read until it is booked, and nothing before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.events import reading
from tests.support.outboxes import NOW, execute, messages, orphan
from tests.support.publishing import publishing
from tests.support.waiting import wait_until
from voicecosts.producer.errors import OutboxHeld, OutboxUnavailable
from voicecosts.producer.events import MeterReading, ProducerReport, decode
from voicecosts.producer.outbox.adopted import adopt
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.log import GROUP, LocalLog, files, has_news
from voicecosts.producer.outbox.row import EMBEDDED
from voicecosts.producer.publishing.reports import ConnectionState


@contextmanager
def reader(folder: Path, data_dir: Path | None = None) -> Iterator[LocalLog]:
    """The log, opened for the ledger of a data directory."""
    log = LocalLog(folder, data_dir or folder.parent, now_us=lambda: NOW)
    try:
        yield log
    finally:
        log.close()


def read_all(log: LocalLog, *, booked: bool = True) -> list[tuple[str, bytes]]:
    """Return everything that waits, and say that it is booked."""
    found: list[tuple[str, bytes]] = []
    while group := log.next_group():
        found += group
        if booked:
            assert log.own()
            log.booked()
    return found


def numbers(found: list[tuple[str, bytes]]) -> list[int]:
    """Return the numbers of the readings in messages."""
    events = [event for _, data in found for event in decode(data).events]
    return sorted(event.number for event in events if isinstance(event, MeterReading))


def stored(found: list[tuple[str, bytes]]) -> list[bytes]:
    """Return the bytes of messages."""
    return [data for _, data in found]


def test_a_flush_without_a_server_is_done_when_it_is_on_disk(tmp_path: Path) -> None:
    """The outbox is the log: what is in it is safe."""
    folder = tmp_path / "outbox"
    with publishing(None, folder, close_s=5) as publisher:
        for number in range(1, 501):
            publisher.put(reading(number))
        publisher.flush().result(30)
        assert publisher.stats().connection is ConnectionState.NO_SERVER
        with reader(folder) as log:
            assert numbers(read_all(log, booked=False)) == list(range(1, 501))


def test_a_living_worker_forgets_what_is_booked_and_only_that(tmp_path: Path) -> None:
    """Its file is never written by the reader: the worker sees on its label how far a ledger is."""
    folder = tmp_path / "outbox"
    with publishing(None, folder, close_s=5) as publisher:
        publisher.put(reading(1))
        publisher.flush().result(30)
        with reader(folder) as log:
            assert numbers(read_all(log, booked=False)) == [1]
        with reader(folder) as log:
            assert numbers(read_all(log)) == [1]
        publisher.put(reading(2))
        publisher.flush().result(30)
        wait_until(lambda: publisher.stats().published == 1)  # counted when its row is gone
        assert publisher.stats().outbox_rows == publisher.stats().waiting == 1
        with reader(folder) as log:
            assert numbers(read_all(log)) == [2]
        wait_until(lambda: publisher.stats().waiting == 0)
    assert files(folder) == []


def test_what_a_dead_worker_left_is_taken_out_as_it_is_booked(tmp_path: Path) -> None:
    """Booked messages are gone, others wait for the next reader, and an empty file is removed."""
    folder = tmp_path / "outbox"
    path = orphan(folder, "dead", messages(2 * GROUP + 1), destination=EMBEDDED)
    with reader(folder) as log:
        assert stored(log.next_group()) == [m.data for m in messages(GROUP)]
        log.booked()
        assert len(log.next_group()) == GROUP
    with reader(folder) as log:
        left = messages(GROUP + 1, first=GROUP + 1)
        assert stored(read_all(log)) == [m.data for m in left]
    assert not path.exists()


def test_one_pass_ends_although_workers_go_on(tmp_path: Path) -> None:
    """What came after a file was opened is for the next pass, so a reader comes to an end."""
    folder = tmp_path / "outbox"
    living = Outbox.create(folder / f"{EMBEDDED}-alive.sqlite3")
    living.add(messages(GROUP), now_us=NOW)
    with reader(folder) as log:
        assert len(log.next_group()) == GROUP
        living.add(messages(5, first=GROUP + 1), now_us=NOW)
        log.booked()
        assert log.next_group() == []
        assert len(log.next_group()) == 5
    living.close(keep=True)


def test_files_for_a_server_are_not_read(tmp_path: Path) -> None:
    """What was meant for a server is in its stream one day, and must not be in two ledgers."""
    folder = tmp_path / "outbox"
    orphan(folder, "dead", messages(3))
    assert files(folder) == []
    with reader(folder) as log:
        assert read_all(log) == []


def test_a_host_without_an_outbox_has_nothing_waiting(tmp_path: Path) -> None:
    """No folder is not an error: nobody has written anything yet."""
    assert files(tmp_path / "nowhere") == []


def test_there_is_one_reader_at_a_time(tmp_path: Path) -> None:
    """A second one gets an error, and can read when the first is done."""
    folder = tmp_path / "outbox"
    orphan(folder, "dead", messages(1), destination=EMBEDDED)
    with reader(folder), pytest.raises(OutboxHeld), reader(folder):
        pass
    with reader(folder) as log:
        assert len(read_all(log)) == 1


def test_an_outbox_belongs_to_the_ledger_that_read_it_first(tmp_path: Path) -> None:
    """A session whose readings went to two ledgers would be counted in both."""
    folder = tmp_path / "spool"
    orphan(folder, "dead", messages(1), destination=EMBEDDED)
    with reader(folder, tmp_path / "one") as log:
        assert len(read_all(log, booked=False)) == 1
    with reader(folder, tmp_path / "two") as log:
        read_all(log)
    with (
        pytest.raises(OutboxUnavailable, match=r"belongs to the ledger in .*two"),
        reader(folder, tmp_path / "one"),
    ):
        pass
    (folder / "ledger").unlink()
    with reader(folder, tmp_path / "one"):
        pass


def test_a_ledger_that_dies_after_its_first_commit_still_owns_the_outbox(tmp_path: Path) -> None:
    """The owner was noted before, so no other ledger books the same messages."""
    folder = tmp_path / "spool"
    orphan(folder, "dead", messages(1), destination=EMBEDDED)
    with reader(folder, tmp_path / "one") as log:
        assert log.next_group()
        assert log.own()  # and then the commit, and the end
    with pytest.raises(OutboxUnavailable, match="one"), reader(folder, tmp_path / "two"):
        pass
    with reader(folder, tmp_path / "one") as log:
        assert len(read_all(log)) == 1


def test_an_outbox_that_cannot_be_owned_is_not_booked(tmp_path: Path) -> None:
    """No ledger books what another one might book as well; the reason is in `problems`."""
    folder = tmp_path / "spool"
    orphan(folder, "dead", messages(1), destination=EMBEDDED)
    (folder / "ledger.tmp").mkdir()
    with reader(folder, tmp_path / "one") as log:
        assert log.next_group()
        assert not log.own()
        assert len(log.problems) == 1


def test_a_look_at_another_ledger_owns_no_outbox(tmp_path: Path) -> None:
    """Without an owner it waits until a ledger is named."""
    folder = tmp_path / "spool"
    orphan(folder, "dead", messages(1), destination=EMBEDDED)
    with pytest.raises(OutboxUnavailable, match="no ledger owns this outbox yet"):
        LocalLog(folder, tmp_path / "one", now_us=lambda: NOW, may_own=False)
    own = LocalLog(folder, tmp_path, now_us=lambda: NOW, may_own=False)
    assert len(read_all(own)) == 1
    own.close()


def test_a_damaged_message_of_a_living_worker_is_counted_by_it(tmp_path: Path) -> None:
    """It is not booked, the others are, and the worker reports it as dropped."""
    folder = tmp_path / "outbox"
    with publishing(None, folder, close_s=5) as publisher:
        for agent in ("a", "b", "c"):
            publisher.put(reading(1, agent_id=agent))
        publisher.flush().result(30)
        (path,) = files(folder)
        execute(path, "UPDATE messages SET data = zeroblob(20) WHERE number = 2")
        with reader(folder) as log:
            assert len(read_all(log)) == 2
        wait_until(lambda: publisher.stats().dropped == 1)
        publisher.flush().result(30)
        with reader(folder) as log:
            events = [event for _, data in read_all(log) for event in decode(data).events]
    (report,) = events
    assert isinstance(report, ProducerReport)
    assert report.dropped == 1


def test_damaged_rows_of_a_dead_worker_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong checksum could be a wrong sum; the others are booked, and the log says so."""
    folder = tmp_path / "outbox"
    path = orphan(folder, "dead", messages(3), destination=EMBEDDED)
    execute(path, "UPDATE messages SET data = zeroblob(9) WHERE number = 2")
    with reader(folder) as log:
        assert stored(read_all(log)) == [messages(3)[0].data, messages(3)[2].data]
    assert "damaged" in caplog.text
    assert files(folder) == []


def test_a_damaged_file_is_rescued_and_named(tmp_path: Path) -> None:
    """What can be read of it is booked; the rest is kept beside it."""
    folder = tmp_path / "outbox"
    path = orphan(folder, "dead", messages(400, size=2000), destination=EMBEDDED)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with reader(folder) as log:
        found = read_all(log)
    assert 0 < len(found) < 400
    assert set(stored(found)) <= {m.data for m in messages(400, size=2000)}
    assert files(folder) == []
    assert list(folder.glob("*.damaged"))


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    """Its problem is named, and everything else is booked."""
    folder = tmp_path / "outbox"
    orphan(folder, "b", messages(2), destination=EMBEDDED)
    living = Outbox.create(folder / f"{EMBEDDED}-a.sqlite3")
    living.close(keep=True)
    living.lock = type(living.lock)(living.path)  # held, and no database any more
    living.path.write_bytes(b"no database at all, and long enough to be looked at" * 40)
    with reader(folder) as log:
        assert len(read_all(log)) == 2
        assert len(log.problems) == 1
        assert log.problems[0].startswith(f"{EMBEDDED}-a.sqlite3")
    living.lock.release(remove=True)


@pytest.mark.slow
def test_workers_adopt_each_other_and_nothing_is_booked_unread(tmp_path: Path) -> None:
    """Messages that move to another file get numbers that no ledger has passed there."""
    folder = tmp_path / "outbox"
    orphan(folder, "dead-1", messages(3), destination=EMBEDDED)
    orphan(folder, "dead-2", [*messages(2, first=50)], destination=EMBEDDED)
    with publishing(None, folder, close_s=5) as publisher:
        wait_until(lambda: publisher.stats().outbox_rows == 5)
        with reader(folder) as log:
            found = stored(read_all(log))
        assert sorted(found) == sorted(m.data for m in [*messages(3), *messages(2, first=50)])
        wait_until(lambda: publisher.stats().outbox_rows == 0)
    assert files(folder) == []


def test_who_has_ended_is_named_when_nothing_of_theirs_waits(tmp_path: Path) -> None:
    """The lock of a dead worker's outbox is free, also where it had sent everything; a living one's is not."""
    folder = tmp_path / "outbox"
    orphan(folder, "dead", messages(GROUP + 1), destination=EMBEDDED)
    execute(orphan(folder, "idle", messages(1), destination=EMBEDDED), "DELETE FROM messages")
    living = Outbox.create(folder / f"{EMBEDDED}-alive.sqlite3")
    living.add(messages(1), now_us=NOW)
    with reader(folder) as log:
        assert log.next_group()
        assert log.ended == []
        read_all(log)
        assert log.ended == ["dead", "idle"]
        log.noted()
        read_all(log)
        assert log.ended == []
    living.close(keep=True)


def test_who_was_adopted_by_a_neighbour_is_named_until_it_is_noted(tmp_path: Path) -> None:
    """The file has gone into another one by then; a reader that dies in between loses no name."""
    folder = tmp_path / "outbox"
    for path in (
        orphan(folder, "dead", messages(1), destination=EMBEDDED),
        orphan(folder, "remote", messages(1)),
    ):
        adopted = adopt(path, now_us=NOW)
        assert adopted is not None
        adopted.delete()
    assert files(folder) == []
    assert has_news(folder)
    for _ in range(2):
        with reader(folder) as log:
            assert read_all(log) == []
            assert log.ended == ["dead"]
    with reader(folder) as log:
        read_all(log)
        log.noted()
    assert not has_news(folder)
