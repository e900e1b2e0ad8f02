"""Subjects: whatever a project or an agent is called, its events travel on a legal subject of ours.

Tokens and slots are part of the contract: credentials pin the one, partitions own the other. The
golden values here may never change.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voicecosts.producer.subjects import (
    PREFIX,
    SLOTS,
    STREAM_SUBJECTS,
    owner_tokens,
    slot,
    subject,
    token,
)

FORM = re.compile(r"_h[a-z2-7]{24}|(?!_h)[A-Za-z0-9_-]{1,48}")
ANYTHING = st.text(max_size=200) | st.text("ab._-*> h\n\x00é", max_size=60)


@pytest.mark.parametrize("value", ["a", "prod", "Dental-2", "_producer", "0", "-", "x" * 48, "h_h"])
def test_a_safe_name_is_its_own_token(value: str) -> None:
    """Names of up to 48 letters, digits, hyphens and underscores stay readable in subjects."""
    assert token(value) == value


@pytest.mark.parametrize(
    "value",
    ["", " ", "a b", "a.b", "*", ">", "a*", "x" * 49, "Zahnärzte", "a\n", "a\x00", "_h", "\ud800"],
)
def test_any_other_name_is_hashed(value: str) -> None:
    """What a subject cannot carry, or what looks like a hash already, becomes a hash."""
    assert re.fullmatch(r"_h[a-z2-7]{24}", token(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "_hw7nyoglmja2alzapqqa7uh6j"),
        ("a b", "_hkkg5rybrqg3au3nye72utw7d"),
        ("a.b", "_hxdei4awmnfskcbjzrng4k3fc"),
        ("Zahnärzte Süd", "_h2jtvo3f6lwkbqciyvqfecayd"),
        ("x" * 49, "_hncl73we7hqfdmjmpd7ux3ecp"),
    ],
)
def test_hashes_never_change(value: str, expected: str) -> None:
    """A hash is part of subjects in streams and of permissions: it is the same for ever."""
    assert token(value) == expected


@given(ANYTHING)
@example("\ud800")
@example("_h" + "a" * 24)
def test_a_token_is_always_legal_and_always_the_same(value: str) -> None:
    """No name can add a level to a subject, be a wildcard of it, or end it."""
    made = token(value)
    assert FORM.fullmatch(made)
    assert not set(".*> \t\r\n") & set(made)
    assert token(value) == made


@given(st.lists(ANYTHING, unique=True, min_size=2, max_size=20))
def test_distinct_names_have_distinct_tokens(names: list[str]) -> None:
    """Two projects never share a subject, and so never a permission."""
    assert len({token(name) for name in names}) == len(names)


@given(ANYTHING)
def test_a_name_cannot_pose_as_the_hash_of_another(value: str) -> None:
    """The hash of one name, used as a name, is hashed again."""
    made = token(value)
    if made != value:
        assert token(made) != made


@given(ANYTHING, ANYTHING, st.text("0123456789abcdef", min_size=16, max_size=16))
def test_a_subject_has_five_short_tokens_in_our_stream(
    project: str, agent_id: str, producer_id: str
) -> None:
    """Every subject is in the stream's space, is far below a kilobyte, and tells its project."""
    made = subject(project, agent_id, producer_id)
    assert made.startswith(STREAM_SUBJECTS.removesuffix(">"))
    assert len(made.encode()) < 1024
    assert made.split(".") == [
        *PREFIX.split("."),
        token(project),
        token(agent_id),
        slot(producer_id),
    ]
    assert owner_tokens(made) == (token(project), token(agent_id))


def test_a_subject_reads_as_it_is_meant() -> None:
    """The form of a subject is fixed: permissions and partitions are written against it."""
    assert subject("prod", "dental", "0123456789abcdef") == "costs.v1.prod.dental.39"


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "costs",
        "costs.v1.prod.dental",
        "costs.v1.prod.dental.07.more",
        "costs.v2.prod.dental.07",
        "other.v1.prod.dental.07",
        "$JS.API.STREAM.INFO.COSTS",
    ],
)
def test_a_foreign_subject_has_no_project(foreign: str) -> None:
    """A subject of another form or another version is not taken for one of ours."""
    assert owner_tokens(foreign) is None


@given(st.text("0123456789abcdef", min_size=16, max_size=16))
def test_a_slot_is_two_digits_below_sixty_four(producer_id: str) -> None:
    """Every producer has one of the 64 slots, written with two digits."""
    made = slot(producer_id)
    assert re.fullmatch(r"[0-9]{2}", made)
    assert int(made) < SLOTS == 64


@pytest.mark.parametrize(
    ("producer_id", "expected"), [("0123456789abcdef", "39"), ("p1", "17"), ("p2", "04")]
)
def test_slots_never_change(producer_id: str, expected: str) -> None:
    """A producer's slot is the same in every version: its partition owns its sessions."""
    assert slot(producer_id) == expected


def test_producers_spread_over_all_slots() -> None:
    """A few thousand producers leave no slot empty and none with more than its share doubled."""
    counts = [0] * SLOTS
    for producer in range(64 * 100):
        counts[int(slot(f"{producer:016x}"))] += 1
    assert min(counts) > 0
    assert max(counts) < 2 * 100
