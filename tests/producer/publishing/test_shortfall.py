"""What is in no session's totals: every event once, every amount, and never at a call's expense."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicecosts.producer.counts import Usage
from voicecosts.producer.events import (
    MAX_BYTES,
    QUANTITIES,
    MeterTotals,
    ProducerReport,
    Quantities,
    decode_event,
    encode_event,
)
from voicecosts.producer.publishing.shortfall import (
    MAX_METERS,
    MAX_WAITING,
    UNATTRIBUTED,
    Shortfall,
)


def used(amount: int = 1, *, model: Any = "gpt-4o", **more: Any) -> Usage:
    """Return the usage of one request."""
    given = {
        "modality": "llm",
        "provider_raw": "api.openai.com",
        "quantities": {"requests": amount},
    }
    return Usage(model=model, occurred_at=7, **{**given, **more})


def meter(model: str = "gpt-4o", *, modality: str = "llm", **totals: int) -> MeterTotals:
    """Return the totals of a meter that no session has."""
    return MeterTotals(
        agent_label=UNATTRIBUTED,
        modality=modality,
        provider="openai",
        provider_raw="api.openai.com",
        model=model,
        totals=Quantities(**totals),
    )


def test_amounts_are_running_totals_by_model() -> None:
    """Every event adds to the meter of its modality, provider and model, and stays counted."""
    shortfall = Shortfall()
    for amount in (1, 2, 3):
        shortfall.add_unattributed(used(quantities={"requests": 1, "input_tokens": amount}))
    assert shortfall.so_far().usage == (meter(requests=3, input_tokens=6),)
    shortfall.add_unattributed(used(model="gpt-4.1"))
    shortfall.add_unattributed(used(4, provider_raw="OpenAI"))
    so_far = shortfall.so_far()
    assert so_far.usage == (meter(requests=7, input_tokens=6), meter("gpt-4.1", requests=1))
    assert (so_far.unattributed, so_far.unmeasured) == (5, 0)
    assert shortfall.so_far() == so_far


def test_seconds_are_rounded_once() -> None:
    """A thousand thirds of a second are 333.333333 s, as they are for a session."""
    shortfall = Shortfall()
    for _ in range(1000):
        shortfall.add_unattributed(used(modality="stt", quantities={}, audio_s=1 / 3))
        shortfall.so_far()
    assert shortfall.so_far().usage == (meter(modality="stt", audio_us=333_333_333),)


def test_an_event_that_could_not_be_measured_is_counted_without_an_amount() -> None:
    """So is one whose amounts could be read in part: what was read has its amount as well."""
    shortfall = Shortfall()
    shortfall.add_unmeasured()
    shortfall.add_unattributed(used(unread=("prompt_tokens",)))
    so_far = shortfall.so_far()
    assert (so_far.unattributed, so_far.unmeasured) == (1, 2)
    assert so_far.usage == (meter(requests=1),)


@pytest.mark.parametrize(
    "usage",
    [
        used(model=["no", "name"]),
        used(quantities={"input_tokens": 2**53}),
        used(quantities={}, audio_s=1e300),
        used(quantities={"made_up": None}),
    ],
)
def test_what_a_report_cannot_carry_is_not_measured_and_spoils_nothing(usage: Usage) -> None:
    """One absurd amount would make every later report of the process unreadable."""
    shortfall = Shortfall()
    shortfall.add_unattributed(used())
    shortfall.add_unattributed(usage)
    so_far = shortfall.so_far()
    assert (so_far.unattributed, so_far.unmeasured) == (1, 1)
    report = ProducerReport(
        producer_id="p", number=1, project="p", reported_at=1, unattributed_usage=list(so_far.usage)
    )
    assert decode_event(encode_event(report)) == report
    assert sum(it.totals.requests for it in so_far.usage) == 1


def test_a_report_stays_small_however_many_models_there_are() -> None:
    """Beyond a hundred meters further ones are merged; their amounts are not lost."""
    shortfall = Shortfall()
    events = 3 * MAX_METERS
    for number in range(events):
        name = f"{number:04}" + "m" * 200
        shortfall.add_unattributed(used(model=name, provider_raw=name))
    usage = shortfall.so_far().usage
    assert len(usage) == MAX_METERS + 1
    assert sum(it.totals.requests for it in usage) == events
    report = ProducerReport(
        producer_id="p", number=1, project="p", reported_at=1, unattributed_usage=list(usage)
    )
    assert len(encode_event(report)) < MAX_BYTES


def test_what_waits_is_bounded_and_still_counted() -> None:
    """While nobody reads, memory does not grow without end: the rest has no amount."""
    shortfall = Shortfall()
    for _ in range(MAX_WAITING + 5):
        shortfall.add_unattributed(used())
    so_far = shortfall.so_far()
    assert (so_far.unattributed, so_far.unmeasured) == (MAX_WAITING, 5)
    assert so_far.usage[0].totals.requests == MAX_WAITING


@pytest.mark.parametrize(
    ("amount", "events", "why"),
    [(2**53, 2, "more than a report can carry"), (1, MAX_WAITING + 2, "more than 10,000 events")],
)
def test_the_log_says_once_why_usage_is_given_up(
    caplog: pytest.LogCaptureFixture, amount: int, events: int, why: str
) -> None:
    """Answers send their reader to the log of the worker, so it has the reason."""
    shortfall = Shortfall()
    for _ in range(2):
        for _ in range(events):
            shortfall.add_unattributed(used(amount))
        shortfall.so_far()
    [said] = caplog.messages
    assert why in said


def test_adding_waits_for_nobody_who_reads() -> None:
    """A voice loop adds while another thread holds what readers hold."""
    shortfall = Shortfall()
    with shortfall._reading:  # a second `acquire` here would never return
        shortfall.add_unattributed(used())
        shortfall.add_unmeasured()
    so_far = shortfall.so_far()
    assert (so_far.unattributed, so_far.unmeasured) == (1, 1)


def test_threads_that_add_and_read_at_once_lose_nothing() -> None:
    """Every event of every voice loop is counted once, whoever reads in between."""
    shortfall, each = Shortfall(), MAX_WAITING // 10  # together below what may wait
    seen: list[int] = []

    def add() -> None:
        for _ in range(each):
            shortfall.add_unattributed(used())
            shortfall.add_unmeasured()

    def read() -> None:
        while any(thread.is_alive() for thread in adding):
            so_far = shortfall.so_far()
            assert sum(it.totals.requests for it in so_far.usage) == so_far.unattributed
            seen.append(so_far.unattributed)

    adding = [threading.Thread(target=add) for _ in range(4)]
    reading = [threading.Thread(target=read) for _ in range(2)]
    for thread in (*adding, *reading):
        thread.start()
    for thread in (*adding, *reading):
        thread.join()
    so_far = shortfall.so_far()
    assert (so_far.unattributed, so_far.unmeasured) == (4 * each, 4 * each)
    assert max(seen, default=0) <= so_far.unattributed


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["llm", "stt"]),
            st.sampled_from(["a", "b"]),
            st.dictionaries(
                st.sampled_from([q for q in QUANTITIES if not q.endswith("_us")]),
                st.integers(1, 10**6),
            ),
        ),
        max_size=30,
    ),
    st.integers(1, 7),
)
def test_every_amount_is_in_the_totals(
    events: list[tuple[str, str, dict[str, int]]], every: int
) -> None:
    """Whatever comes in whatever pieces, each quantity of each modality adds up."""
    shortfall = Shortfall()
    for place, (modality, model, quantities) in enumerate(events):
        shortfall.add_unattributed(used(modality=modality, model=model, quantities=quantities))
        if place % every == 0:
            shortfall.so_far()
    so_far = shortfall.so_far()
    assert so_far.unattributed == len(events)
    for modality in ("llm", "stt"):
        for quantity in QUANTITIES:
            total = sum(
                getattr(it.totals, quantity) for it in so_far.usage if it.modality == modality
            )
            assert total == sum(q.get(quantity, 0) for m, _, q in events if m == modality)
