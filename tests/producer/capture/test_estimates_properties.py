"""An estimate is a lower bound: with what was measured it never exceeds what a provider received.

Real sessions on LiveKit's own adapters, with providers that count what was sent to them. A call is
interrupted, closed or handed over at any moment that it passes.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.interrupted_call import SENTENCES, VOICES, Call, run

TEXTS = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=6).map(" ".join)
ACTS = st.lists(
    st.tuples(
        st.sampled_from(("say", "pieces", "audio", "reply", "reply", "side", "speak", "hand")),
        TEXTS,
    ),
    min_size=1,
    max_size=4,
).map(tuple)
CALLS = st.builds(
    Call,
    voice=st.sampled_from(VOICES),
    model=st.sampled_from(("plain", "plain", "fallback")),
    acts=ACTS,
    at=st.integers(1, 90),
    what=st.sampled_from(("interrupt", "interrupt", "interrupt", "close", "hand over")),
    attach=st.sampled_from(("before", "before", "started", "late")),
    plays=st.sampled_from((True, True, True, False)),
    greets=st.booleans(),
)


def check_bound(call: Call) -> None:
    """The bound holds in a call."""
    outcome = asyncio.run(run(call))
    assert not outcome.exceeding(), outcome.exceeding()


@settings(max_examples=20)
@given(call=CALLS)
def test_measured_and_estimated_never_exceed_what_was_received(call: Call) -> None:
    """Whatever is interrupted at whatever moment: the sum is at most what the provider received."""
    check_bound(call)


@pytest.mark.slow
@settings(max_examples=300)
@given(call=CALLS)
def test_the_bound_holds_in_hundreds_of_calls(call: Call) -> None:
    """The same, for longer."""
    check_bound(call)
