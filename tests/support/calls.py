"""Hypothesis strategies: calls of any shape, and deliveries that lose, repeat and mix their events."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from tests.support.events import final, session_id
from tests.support.traffic import METERS, Call
from voicecosts.producer.events import Event

Piece = TypeVar("Piece")

_METERS = st.sampled_from([*METERS, final(model="priced", agent_label="Booker")])
ADDED = st.dictionaries(
    st.sampled_from(["requests", "input_tokens", "output_tokens", "characters", "audio_us"]),
    st.one_of(st.just(0), st.just(1), st.integers(0, 10**7)),
    max_size=3,
)


@st.composite
def calls(draw: st.DrawFn) -> list[Call]:
    """Return up to three calls, some minutes and some days apart, some of which never end."""
    made = []
    for number in range(draw(st.integers(1, 3))):
        after_ms = draw(st.sampled_from([0, 60_000, 90_000_000]))
        call = Call(
            session_id(number + 1, after_ms=after_ms),
            draw(st.lists(_METERS, min_size=1, max_size=3, unique=True)),
        )
        if draw(st.booleans()):
            call.start()
        for place, added, reported in draw(
            st.lists(
                st.tuples(st.integers(0, len(call.meters) - 1), ADDED, st.integers(0, 10**6)),
                max_size=8,
            )
        ):
            call.use(place, added, reported)
        if draw(st.booleans()):
            call.end()
        made.append(call)
    return made


@st.composite
def deliveries(draw: st.DrawFn, made: list[Call]) -> list[Event]:
    """Return what arrives of some calls: any order, any repetition, any loss but of a last word."""
    sent: list[Event] = []
    for call in made:
        needed = call.needed()
        for place, event in enumerate(call.events):
            copies = draw(st.sampled_from([1, 1, 2, 3, 0]))
            sent += [event] * max(copies, 1 if place in needed else 0)
    order = draw(st.sampled_from(["kept", "reversed", "mixed"]))
    if order == "mixed":
        return draw(st.permutations(sent))
    return sent if order == "kept" else sent[::-1]


def pieces(sizes: list[int], whole: list[Piece]) -> list[list[Piece]]:
    """Cut a list into pieces of the given sizes, over and over."""
    cut: list[list[Piece]] = []
    rest = list(whole)
    while rest:
        size = sizes[len(cut) % len(sizes)]
        cut.append(rest[:size])
        rest = rest[size:]
    return cut
