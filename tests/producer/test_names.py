"""Names and texts: they fit the contract, stay distinct, and hold no telephone number."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voicecosts.producer.names import MAX_NAME, name, text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


@given(TEXTS)
@example("a" * 128)
@example("a" * 129)
def test_a_name_always_fits_the_contract(value: str) -> None:
    """A name has 1 to 128 characters; one that fits is kept as it is, without outer blanks."""
    made = name(value, "none")
    assert 1 <= len(made) <= MAX_NAME
    stripped = value.strip()
    if 1 <= len(stripped) <= MAX_NAME:
        assert made == stripped


def test_long_names_stay_distinct_and_readable() -> None:
    """Two long names that differ only at their end do not become one, and keep their head."""
    made = {name("tenant-" + "x" * 200 + str(number), "none") for number in range(100)}
    assert len(made) == 100
    assert {value[:100] for value in made} == {"tenant-" + "x" * 93}


def test_a_long_name_is_shortened_in_the_same_way_every_time() -> None:
    """The short form of a name is part of the ledger's groups: it may never change."""
    assert name("x" * 129, "none") == "x" * 111 + "~18de14b9d8eea5a3"


@pytest.mark.parametrize("blank", [None, "", " ", "\t\n"])
def test_a_blank_name_takes_its_default(blank: str | None) -> None:
    """A blank or absent name becomes the default."""
    assert name(blank, "unknown") == "unknown"


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        ("call-_+15551234567_x9", "call-_#_x9"),
        ("+4930123456", "#"),
        ("call-_15551234567_x9", "call-_#_x9"),
        ("call-+1-555-123-4567", "call-#"),
        ("call-_0049301234567_x", "call-_#_x"),
        ("standup-2026-11-21", "standup-2026-11-21"),
        ("room-1042", "room-1042"),
        ("from +15551234567 to +4930123456", "from # to #"),
        ("room-1234567", "room-1234567"),
        ("a+b", "a+b"),
        ("n+123456", "n+123456"),
    ],
)
def test_phone_numbers_do_not_leave_the_worker(room: str, expected: str) -> None:
    """A caller's number in a room's name is masked."""
    assert text(room) == expected


@given(TEXTS)
@example("x" * 250 + "+15551234567")
@example("x" * 257)
@example("+15551234567" * 60)
def test_a_text_always_fits_the_contract(value: str) -> None:
    """An identifying text has at most 256 characters, and no number is cut out of sight first."""
    made = text(value)
    assert len(made) <= 256
    assert not re.search(r"\+\d{7}", made)


def test_an_absent_text_is_empty() -> None:
    """An absent text is empty, never the word None."""
    assert text(None) == ""


def test_half_a_surrogate_pair_becomes_text_that_can_be_sent() -> None:
    """Half a surrogate pair from JSON metadata does not make an event that cannot be encoded."""
    assert name("a\ud800", "x").encode() == b"a?"
    assert text("a\ud800").encode() == b"a?"
