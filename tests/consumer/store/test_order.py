"""The order of arrival changes nothing: no day, month, tenant, agent, model, project or modality."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.calls import ADDED, pieces
from tests.support.events import START_MS, final, session_id
from tests.support.oracle import rate
from tests.support.traffic import METERS, Call
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event
from voicecosts.producer.outbox.packing import Packer

DAY_MS: Final = 86_400_000
MONTH_MS: Final = 1_796_083_200_000  # 2026-12-01
STARTS: Final = tuple(
    midnight - START_MS - before
    for midnight in (START_MS // DAY_MS * DAY_MS + DAY_MS, MONTH_MS)
    for before in (1, 300_000, -1)
)
"""When calls begin: around the end of a day, and of a month."""

KINDS: Final = (
    *METERS,
    final(model="priced", size_tier=32_000),
    final(model="unknown", size_tier=272_000, service_tier="flex"),
)
WHOSE: Final = st.fixed_dictionaries(
    {
        "project": st.sampled_from(("prod", "staging")),
        "tenant": st.sampled_from(("acme", "beta", None)),
        "agent_id": st.sampled_from(("dental", "sales")),
    }
)
SIZES: Final = st.lists(st.integers(1, 6), min_size=1, max_size=3)

SUMS: Final = """
SELECT
    day, date_trunc('month', day), project, tenant, agent_id, agent_label, modality, provider, model,
    size_tier, service_tier, session_id, sum(cost), sum(reported_cost), sum(requests),
    sum(input_tokens), sum(output_tokens), sum(characters), sum(audio_us), sum(unpriced_requests),
    sum(unpriced_output_tokens), sum(unpriced_characters)
FROM usage
GROUP BY ALL
ORDER BY ALL
"""
"""The finest groups: what these sums agree in, all sums by fewer columns agree in."""

STATES: Final = """
SELECT project, session_id, state, cause, tenant, agent_id, day FROM completeness ORDER BY ALL
"""


@st.composite
def some_calls(draw: st.DrawFn) -> list[list[Event]]:
    """Return the events of up to four calls, of anybody, around midnight; ids may be in two projects."""
    made = []
    seen = set()
    for _ in range(draw(st.integers(1, 4))):
        whose, number = draw(WHOSE), draw(st.integers(0, 5))
        if (whose["project"], number) in seen:
            continue
        seen.add((whose["project"], number))
        after_ms = STARTS[number]
        meters = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
        call = Call(session_id(number + 1, after_ms=after_ms), meters, tenant=whose["tenant"])
        call.start()
        for place, added, minutes in draw(
            st.lists(
                st.tuples(st.integers(0, len(meters) - 1), ADDED, st.integers(0, 40)), max_size=8
            )
        ):
            call.use(place, added, 7)
            moment = (START_MS + after_ms + minutes * 60_000) * 1000
            call.events[-1] = replace(call.events[-1], occurred_at=moment)  # type: ignore[arg-type]  # a reading
        if draw(st.booleans()):
            call.end()
        made.append(call)
        call.events = [replace(event, **whose) for event in call.events]
    return [list(call.events) for call in made]


@st.composite
def arrivals(draw: st.DrawFn, made: list[list[Event]]) -> tuple[list[Event], set[tuple[str, str]]]:
    """Return what arrives, in any order and number, and the sessions of which something was lost."""
    sent: list[Event] = []
    hurt = set()
    for events in made:
        needed = _needed(events)
        for place, event in enumerate(events):
            copies = draw(st.sampled_from([1, 1, 1, 2, 0]))
            copies = max(copies, 1) if place in needed else copies
            sent += [event] * copies
            if not copies:
                hurt.add((event.project, event.session_id))  # type: ignore[union-attr]  # no report
    return draw(st.permutations(sent)), hurt


def _needed(events: Sequence[Event]) -> set[int]:
    call = Call("", [])
    call.events = list(events)
    return call.needed()


@settings(max_examples=2)
@given(st.data())
def test_the_order_of_arrival_changes_no_sum(data: st.DataObject) -> None:
    """Repeated, mixed, lost but for each meter's last, late, and over restarts: all sums are the same.

    What is known of a session differs only where something of it was really lost.
    """
    check_order(data)


@pytest.mark.faults
@pytest.mark.timeout(900)
@settings(max_examples=20)
@given(st.data())
def test_the_order_of_arrival_changes_no_sum_at_length(data: st.DataObject) -> None:
    """The same, with many more examples."""
    check_order(data)


def check_order(data: st.DataObject) -> None:
    """Book calls as they were made and as they arrive, and compare all that readers see."""
    made = data.draw(some_calls())
    came, hurt = data.draw(arrivals(made))
    in_order = _packed([event for events in made for event in events], [4])
    sent = _packed(came, data.draw(SIZES))
    groups = pieces(data.draw(SIZES), sent)
    reopened = data.draw(st.sets(st.integers(0, max(0, len(groups) - 1)), max_size=2))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        expected = _seen(Path(one), [in_order], set())
        found = _seen(Path(two), groups, reopened)
    assert found["sums"] == expected["sums"]
    whole = [row for row in found["states"] if (row[0], str(row[1])) not in hurt]
    assert whole == [row for row in expected["states"] if (row[0], str(row[1])) not in hurt]
    assert found["letters"] == expected["letters"] == [(0,)]


def _packed(events: list[Event], sizes: list[int]) -> list[Message]:
    packer = Packer("worker-1")
    packed = [message for piece in pieces(sizes, events) for message in packer.pack(piece)]
    return [Message(it.subject, place, it.data) for place, it in enumerate(packed, 1)]


def _seen(folder: Path, groups: list[list[Message]], reopened: set[int]) -> dict[str, Any]:
    """Return the sums, the states and the dead letters of a ledger that booked these groups."""
    ledger = Ledger.open(folder, rate, cached_sessions=1, cached_bytes=0, piece_weight=5)
    for place, group in enumerate(groups):
        if place in reopened:
            ledger.close()
            ledger = Ledger.open(folder, rate, cached_sessions=1, cached_bytes=0, piece_weight=5)
        ledger.apply(group)
    ledger.close()
    with duckdb.connect(
        folder / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as connection:
        return {
            "sums": connection.execute(SUMS).fetchall(),
            "states": connection.execute(STATES).fetchall(),
            "letters": connection.execute("SELECT count(*) FROM dead_letters").fetchall(),
        }
