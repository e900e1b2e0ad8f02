"""Names and texts: they fit the contract, stay distinct, and hold no telephone number."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import msgpack

from voicecosts.producer.events import SessionStarted
from voicecosts.producer.names import MAX_NAME, MAX_READ, labels, name, plain, text

SESSION = "0190a5c4-5f3b-7a6e-8b1c-0123456789ab"
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


def test_of_a_very_long_name_the_head_and_the_length_are_read() -> None:
    """Names longer than what is read still differ by their length, and in what was read."""
    long = "x" * 1_000_000
    made = {name(it, "none") for it in (long, long[:-1], f"y{long[1:]}", long[:MAX_READ])}
    assert len(made) == 4
    assert all(len(it) == MAX_NAME for it in made)


class Long(str):
    """A text whose whole length nobody may walk through."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> str:
        """Give a slice that is short."""
        assert isinstance(index, slice)
        assert 0 <= (index.stop or len(self)) <= MAX_READ
        return super().__getitem__(index)

    def _whole(self, *_: object) -> Any:
        raise AssertionError("the whole text was read")

    __str__ = __iter__ = __contains__ = __hash__ = strip = encode = isascii = replace = _whole  # type: ignore[assignment]  # all of them


def test_a_long_value_is_cut_before_anything_else_is_done_with_it() -> None:
    """Of a text of megabytes only the beginning is touched: this runs on the voice loop."""
    long = Long("+1555 " * 1_000_000)
    assert len(name(long, "none")) == MAX_NAME
    assert len(plain(long)) == MAX_READ
    assert len(text(long)) <= 256
    assert len(labels({"a": long})["a"]) <= 256


@pytest.mark.parametrize("digits", ["1", "٣", "+1 ", "00"])
@pytest.mark.parametrize("before", range(500, 516))
def test_a_number_at_the_cut_is_never_half_masked(before: int, digits: str) -> None:
    """Where a long text is cut before it is masked, no part of a number is left over."""
    numbers = "+15551234567" * 40
    made = text(f"{numbers}{'x' * (before - len(numbers))}{digits * 1000}")
    assert not re.search(r"\d", made)


@pytest.mark.parametrize("value", [["a"], {"a": 1}, ("a",), {1}, b"a"])
def test_what_has_parts_is_named_by_its_type(value: object) -> None:
    """Writing out a nested value of unknown size would hold up the voice loop."""
    assert text(value) == plain(value) == f"<{type(value).__name__}>"


def test_an_object_that_cannot_be_written_is_named_by_its_type() -> None:
    """Foreign code in `__str__` does not end the metering of a call."""

    class Broken:
        def __str__(self) -> str:
            raise ZeroDivisionError

    assert text(Broken()) == name(Broken(), "x") == "<Broken>"


def test_labels_are_clean_in_keys_and_values() -> None:
    """Half a surrogate pair in a key or a value, a number, and a telephone number in a value."""
    made = labels({"region\ud800": "eu\udfff", 7: 0, "from": "+15551234567", "none": None})
    assert made == {"region?": "eu?", "7": "0", "from": "#", "none": ""}
    SessionStarted(session_id=SESSION, project="p", agent_id="a", started_at=0, labels=made)


def test_labels_are_cut_as_the_contract_has_them() -> None:
    """At most 16 pairs, the first ones; keys of at most 64 characters and values of 256."""
    made = labels({f"{number:02}{'k' * 100}": "v" * 1000 for number in range(40)})
    assert list(made) == [f"{number:02}{'k' * 62}" for number in range(16)]
    assert set(made.values()) == {"v" * 256}


@given(st.dictionaries(st.text(max_size=80), st.text(max_size=300), max_size=20))
@example({"\ud800": "a", "?": "c"})
def test_whatever_labels_are_given_can_be_sent(given: dict[str, str]) -> None:
    """Every label can be encoded within its bounds, and the same labels give the same pairs."""
    made = labels(given)
    assert made == labels(dict(given))
    assert len(made) <= 16
    sent = SessionStarted(session_id=SESSION, project="p", agent_id="a", started_at=0, labels=made)
    assert msgpack.decode(msgpack.encode(sent), type=SessionStarted).labels == made


def test_of_two_labels_that_become_one_the_later_stays() -> None:
    """Keys that only differ in what cannot be sent, or behind the cut, are one key."""
    assert labels({"a\ud800": "first", "a?": "later"}) == {"a?": "later"}
    assert labels({"k" * 64 + "1": "first", "k" * 64 + "2": "later"}) == {"k" * 64: "later"}
