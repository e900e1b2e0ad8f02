"""The bound of a host: what processes learn of each other, and what that costs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.outboxes import NOW, Clock, backlog, messages
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import held_elsewhere

BOUND = 1 << 30


@contextmanager
def neighbours(folder: Path, held_bytes: int, *, count: int = 1) -> Iterator[list[Outbox]]:
    """Living processes of the host, each of which says that it holds so much."""
    found = [Outbox.create(folder / f"elsewhere-{number}.sqlite3") for number in range(count)]
    for outbox in found:
        outbox.lock.write_label(held_bytes, 0)
    yield found
    for outbox in found:
        outbox.close()


def test_a_process_that_holds_next_to_nothing_has_room_whatever_its_neighbours_hold(
    tmp_path: Path,
) -> None:
    """Its server may take what those of its neighbours do not."""
    with neighbours(tmp_path, 2 * BOUND):
        held = backlog(tmp_path, Clock(), max_bytes=BOUND)
        held.keep(messages(1))
        assert held.has_room()
        held.keep(messages(1, first=2, size=BOUND // 4096))
        assert not held.has_room()
        for entry in held.window(8):
            held.done(entry)
        held.forget_done()
        assert held.has_room()
        held.close()


def test_a_process_that_holds_next_to_nothing_does_not_look_what_its_neighbours_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of processes that wait for calls cost each other nothing."""
    looks: list[Path] = []

    def counted(folder: Path, own: set[Path]) -> tuple[int, int]:
        looks.append(folder)
        return held_elsewhere(folder, own)

    monkeypatch.setattr("voicecosts.producer.outbox.bound.held_elsewhere", counted)
    clock = Clock()
    held = backlog(tmp_path, clock, max_bytes=BOUND)
    held.keep(messages(1))
    for _ in range(9):
        clock.at += 10
        assert held.has_room()
    assert not looks
    held.keep(messages(1, first=2, size=BOUND // 4096))
    clock.at += 10
    assert held.has_room(is_needed=False)
    assert not looks
    assert held.has_room()
    assert looks
    held.close()


def test_the_more_neighbours_there_are_the_more_rarely_each_counts(tmp_path: Path) -> None:
    """All processes of a host together read as many labels a second as grow with their number."""
    clock = Clock()
    with neighbours(tmp_path, BOUND, count=40) as found:
        held = backlog(tmp_path, clock, max_bytes=BOUND)
        held.keep(messages(1, size=BOUND // 4000))
        assert not held.has_room()
        for outbox in found:
            outbox.lock.write_label(0, 0)
        clock.at += 3
        assert not held.has_room()
        clock.at += 3
        assert held.has_room()
        held.close()


def test_a_bound_tells_whether_it_is_making_room(tmp_path: Path) -> None:
    """Whoever waits for room learns whether any may come."""
    held = backlog(tmp_path, Clock(), max_bytes=2000)
    held.keep(messages(300, size=10))
    assert not held.has_room()
    assert held.bound.is_at_work
    assert held.is_at_work
    while held.bound.is_at_work:
        held.has_room()
    assert held.has_room()
    held.close()


def test_a_label_that_cannot_be_read_counts_as_nothing(tmp_path: Path) -> None:
    """A neighbour's file may be cut short, or vanish, while it is read."""
    (tmp_path / "elsewhere-1.lock").write_bytes(b"\1\2\3")
    (tmp_path / "elsewhere-2.lock").symlink_to(tmp_path / "gone")
    outbox = Outbox.create(tmp_path / "elsewhere-3.sqlite3")
    outbox.add(messages(1), now_us=NOW)
    assert held_elsewhere(tmp_path, set()) == (outbox.bytes, 3)
    outbox.close()
