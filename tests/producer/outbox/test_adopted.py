"""Adoption: every orphan by one living process, for its own destination, whole or rescued."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.outboxes import DESTINATION, NOW, Clock, backlog, execute, messages, orphan
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import OutboxUnavailable
from voicecosts.producer.outbox.adopted import absorb, adopt, orphans
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.late import NAME
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.rescue import DAMAGED
from voicecosts.producer.outbox.row import destination_id, file_of


class Spy:
    """Counts the calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        self.calls += 1
        return self.function(*arguments)


def adopted_from(folder: Path) -> Outbox:
    """Adopt the one orphan that there is."""
    adopted = adopted_or_none(folder)
    assert adopted is not None
    return adopted


def adopted_or_none(folder: Path) -> Outbox | None:
    """Adopt the first orphan with messages, if there is one."""
    found, _ = orphans(folder, DESTINATION)
    each = (adopt(path, now_us=NOW) for path in found)
    return next((adopted for adopted in each if adopted is not None), None)


def test_an_orphan_is_adopted_with_its_messages_as_they_were(tmp_path: Path) -> None:
    """The messages keep their ids, so that JetStream knows what it has already."""
    orphan(tmp_path, "dead", messages(3))
    adopted = adopted_from(tmp_path)
    assert adopted.oldest(9) == (messages(3), [])
    assert adopted_or_none(tmp_path) is None
    adopted.close()


def test_the_outbox_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """Its lock is held, even by this same process."""
    living = Outbox.create(file_of(tmp_path, DESTINATION, "alive"))
    living.add(messages(1), now_us=NOW)
    assert adopted_or_none(tmp_path) is None
    living.close()


def test_what_was_meant_for_another_server_is_never_taken(tmp_path: Path) -> None:
    """A worker of the test system does not send what production left on the same host."""
    other = destination_id(ProducerConfig(project="tests", servers=("nats://other:1",)))
    path = orphan(tmp_path, "dead", messages(1), destination=other)
    assert adopted_or_none(tmp_path) is None
    assert path.exists()


@pytest.mark.parametrize(
    ("one", "two", "is_same"),
    [
        (("nats://a:1", "nats://b:1"), ("nats://b:1", "nats://a:1"), True),
        (("nats://user:old@a:1",), ("nats://user:new@a:1",), True),
        (("nats://old-token@a:1",), ("nats://new-token@a:1",), True),
        (("nats://user:x@a:1",), ("nats://other:x@a:1",), False),
        (("nats://a:1",), ("nats://a:2",), False),
    ],
)
def test_a_destination_is_its_servers_and_its_user(
    one: tuple[str, ...], two: tuple[str, ...], *, is_same: bool
) -> None:
    """A new password does not strand what waits; another user may not be allowed to send it."""
    places = [
        destination_id(ProducerConfig(project="p", servers=servers)) for servers in (one, two)
    ]
    assert (places[0] == places[1]) is is_same


def test_an_empty_outbox_and_a_lock_without_one_are_cleared_away(tmp_path: Path) -> None:
    """What a process left that died while it ended is not looked at for ever."""
    path = orphan(tmp_path, "dead", messages(1))
    execute(path, "DELETE FROM messages")
    (tmp_path / f"{DESTINATION}-gone.lock").touch()
    assert adopted_or_none(tmp_path) is None
    assert {path.name for path in tmp_path.iterdir()} <= {NAME}


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_short_is_set_aside_and_its_front_is_kept(
    tmp_path: Path, cut: float, caplog: pytest.LogCaptureFixture
) -> None:
    """What could be read goes on; the rest stays for a person to look at."""
    path = orphan(tmp_path, "dead", messages(100, size=3000))
    os.truncate(path, int(path.stat().st_size * cut))
    adopted = adopted_from(tmp_path)
    found, damaged = adopted.oldest(200)
    assert damaged == []
    assert 0 < len(found) < 100
    assert all(message in messages(100, size=3000) for message in found)
    assert not path.exists()
    assert path.with_name(path.name + DAMAGED).exists()
    assert "damaged" in caplog.text
    adopted.close()
    again = adopted_from(tmp_path)
    assert again.rows == len(found)
    again.close()


def test_what_is_behind_the_damage_is_read_too(tmp_path: Path) -> None:
    """A lost page in the middle costs what lies on it, and nothing else."""
    path = orphan(tmp_path, "dead", messages(100, size=3000))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\x00" * 4096 * 8)
    adopted = adopted_from(tmp_path)
    numbers = [message.batch_number for message in adopted.oldest(200)[0]]
    assert 1 in numbers
    assert 100 in numbers
    assert 50 < len(numbers) < 100
    adopted.close()


def test_garbage_in_place_of_an_outbox_blocks_nothing(tmp_path: Path) -> None:
    """It is set aside, and the next orphan is taken."""
    file_of(tmp_path, DESTINATION, "a-dead").write_bytes(os.urandom(20_000))
    orphan(tmp_path, "b-dead", messages(2))
    adopted = adopted_from(tmp_path)
    assert adopted.oldest(9) == (messages(2), [])
    adopted.close()


def test_many_small_orphans_become_one_file(tmp_path: Path) -> None:
    """A host with one process per call does not keep one file per call through an outage."""
    for number in range(40):
        ours = [
            Packed(
                subject="costs.v1.tests.a.00",
                message_id=f"id-{number}-{place}",
                data=b"x",
                events=1,
                batch_number=place,
            )
            for place in (1, 2)
        ]
        orphan(tmp_path, f"dead-{number}", ours)
    clock = Clock()
    held = backlog(tmp_path, clock)
    for _ in range(4):
        held.tend()
    assert len(list(tmp_path.glob("*.sqlite3"))) == 1
    assert (held.rows, held.bytes) == (80, 80 * 201)
    ids = set()
    while window := held.window(8):
        ids |= {entry.message.message_id for entry in window}
        for entry in window:
            held.done(entry)
        held.forget_done()
    assert ids == {f"id-{number}-{place}" for number in range(40) for place in (1, 2)}
    held.tend()
    held.close()
    assert {path.name for path in tmp_path.iterdir()} <= {NAME}


def test_orphans_that_come_later_are_found(tmp_path: Path) -> None:
    """A process looks again about every half minute: after 42 s at the latest, as looks are spread."""
    clock = Clock()
    held = backlog(tmp_path, clock)
    held.tend()
    orphan(tmp_path, "dead", messages(2))
    held.tend()
    assert held.rows == 0
    clock.at += 43
    held.tend()
    assert held.rows == 2
    held.close()
    assert len(list(tmp_path.glob("*.sqlite3"))) == 1


def test_an_outbox_that_breaks_in_use_is_replaced(tmp_path: Path) -> None:
    """A process whose own file is damaged goes on with a new one and keeps what can be read."""
    clock = Clock()
    held = backlog(tmp_path, clock)
    held.keep(messages(200, size=3000))
    assert held.own.outbox is not None
    held.own.outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with held.own.outbox.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 60))
    held.own.outbox._db.execute("PRAGMA shrink_memory")
    held.window(200)
    held.keep(messages(1, first=1000))
    assert held.own.state == "on disk"
    assert 1000 in [entry.message.batch_number for entry in held.window(500)]
    assert list(tmp_path.glob(f"*{DAMAGED}"))
    held.close()


def test_many_orphans_are_found_by_a_few_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look lists the folder once, however many there are: a second one finds that it is all."""
    for number in range(60):
        orphan(tmp_path, f"dead-{number:02}", messages(1))
    looks = Spy(os.scandir)
    monkeypatch.setattr(os, "scandir", looks)
    held = backlog(tmp_path, Clock())
    for _ in range(10):
        held.tend()
    assert held.rows == 60
    assert looks.calls == 2
    held.close()


def test_the_more_neighbours_live_the_more_rarely_each_looks(tmp_path: Path) -> None:
    """A host pays for one look every few seconds, not for one of each process twice a minute."""
    neighbours = [
        Outbox.create(file_of(tmp_path, DESTINATION, f"alive-{number}")) for number in range(40)
    ]
    clock = Clock()
    held = backlog(tmp_path, clock)
    held.tend()
    orphan(tmp_path, "dead", messages(2))
    clock.at += 60
    held.tend()
    assert held.rows == 0
    clock.at += 300
    held.tend()
    assert held.rows == 2
    held.close()
    for neighbour in neighbours:
        neighbour.close()


def test_an_orphan_stays_whole_until_its_messages_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up while messages are moved leaves all of them in the first file."""
    target = adopted_from(orphan(tmp_path, "a", messages(1)).parent)
    path = orphan(tmp_path, "b", messages(100, first=2))

    def full(*_: object, **__: object) -> None:
        raise OutboxUnavailable(target.path, "the disk is full")

    moved = adopt(path, now_us=NOW)
    assert moved is not None
    monkeypatch.setattr(target, "add", full)
    with pytest.raises(OutboxUnavailable):
        absorb(target, moved)
    monkeypatch.undo()
    again = adopt(path, now_us=NOW)
    assert again is not None
    assert again.rows == 100
    absorb(target, again)
    assert target.rows == 101
    assert not list(tmp_path.glob(f"{path.stem}*"))
    target.close()
