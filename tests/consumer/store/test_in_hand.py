"""After a death fewer messages are taken at a time, and a deadly one is set aside: no endless loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store.in_hand import (
    DOUBT_S,
    GROUPS_UNTIL_MORE,
    LAST_CHANCES,
    InHand,
)

FULL = 500


def messages(first: int, count: int) -> list[Message]:
    """Return messages that follow each other in the stream."""
    return [Message("costs.v1.p.a.00", first + place, b"") for place in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file is."""
    return tmp_path / "in_hand.json"


def died_with(path: Path, taken: list[Message]) -> InHand:
    """Start, take messages, die; return what the next start has."""
    InHand(path, full=FULL).begin(taken)
    return InHand(path, full=FULL)


def test_after_a_death_half_as_many_are_taken(path: Path) -> None:
    """What was in hand counts, not what might have been: eight large messages become four."""
    assert InHand(path, full=FULL).at_most == FULL
    after = died_with(path, messages(1, 8))
    assert (after.died_with, after.at_most) == (8, 4)


def test_each_death_halves_down_to_one(path: Path) -> None:
    """A loop of deaths comes to a single message within nine steps."""
    sizes = []
    at_most = FULL
    for _ in range(10):
        at_most = died_with(path, messages(1, at_most)).at_most
        sizes.append(at_most)
    assert sizes == [250, 125, 62, 31, 15, 7, 3, 1, 1, 1]


def test_an_end_in_order_is_no_death(path: Path) -> None:
    """A full disk, a stop or a restart says nothing about the messages."""
    in_hand = InHand(path, full=FULL)
    in_hand.begin(messages(1, 8))
    in_hand.put_down()
    assert InHand(path, full=FULL).died_with == 0
    assert InHand(path, full=FULL).at_most == FULL


def test_a_message_that_is_deadly_alone_is_set_aside(path: Path) -> None:
    """It is known by its place in the stream; others are read as before."""
    (deadly,) = messages(7, 1)
    for _ in range(LAST_CHANCES):
        assert not InHand(path, full=FULL).is_deadly([deadly])
        after = died_with(path, [deadly])
    assert after.is_deadly([deadly])
    assert not after.is_deadly(messages(8, 1))
    after.went_well([deadly])
    assert not InHand(path, full=FULL).is_deadly([deadly])


def test_deaths_with_other_messages_do_not_add_up(path: Path) -> None:
    """Somebody who kills the ledger now and then makes no message deadly."""
    for place in range(1, 2 * LAST_CHANCES):
        after = died_with(path, messages(place, 1))
    assert not after.is_deadly(messages(place, 1))


def test_groups_grow_again_when_all_goes_well(path: Path) -> None:
    """A death in the past does not make the ledger slow for ever, and not fast at once."""
    after = died_with(path, messages(1, 8))
    for place in range(GROUPS_UNTIL_MORE):
        assert after.at_most == 4
        after.went_well(messages(1 + 4 * place, 4))
    assert after.at_most == 8
    assert InHand(path, full=FULL).at_most == 8  # also after a restart in order


def test_groups_do_not_grow_before_the_messages_of_the_death_came(path: Path) -> None:
    """A broker may offer them a minute later: until then the next group may hold them."""
    died_with(path, messages(1, 8))
    now = 0.0
    after = InHand(path, full=FULL, clock=lambda: now)
    for place in range(100, 100 + 3 * GROUPS_UNTIL_MORE):
        after.went_well(messages(place, 4))
    assert after.at_most == 4
    now = DOUBT_S  # they will not come any more
    after.went_well(messages(1000, 4))
    assert after.at_most == 8


@pytest.mark.parametrize("content", [b"", b"\x00" * 256, b"null", b'{"in_hand": "x"}', b"\xff"])
def test_a_file_that_cannot_be_read_is_no_death(path: Path, content: bytes) -> None:
    """It is only advice."""
    path.write_bytes(content)
    assert InHand(path, full=FULL).at_most == FULL


def test_a_disk_that_takes_no_file_stops_nothing(tmp_path: Path) -> None:
    """Booking itself says what is wrong with the disk."""
    in_hand = InHand(tmp_path / "no" / "folder", full=FULL)
    in_hand.begin(messages(1, 8))
    in_hand.went_well(messages(1, 8))
    assert in_hand.at_most == FULL
