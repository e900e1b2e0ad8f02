"""What came of a call is kept with its end, and the views of waste claim what is known of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from tests.consumer.store.test_folding import at_once, fold
from tests.support.events import (
    PROJECT,
    START_US,
    ended,
    final,
    message,
    reading,
    session_id,
    started,
)
from tests.support.oracle import rate
from tests.support.price_books import MODEL, Figures, mini
from voicecosts.consumer.booking.operations import Close, Void
from voicecosts.consumer.pricing import rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store import sealing
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event

__all__ = ["at_once"]  # sessions are settled as soon as they have ended

SOLD: Final = {"result": "success", "tags": ["language:es"], "user_turns": 2, "preempted": ["s1"]}
LOST: Final = {"result": "fail", "tags_cut": 3, "user_turns": 0, "preempted": []}
THOUSAND: Final = Decimal("0.0001234")
"""What a thousand input tokens cost."""

FACTS: Final = """
SELECT outcome, tags, tags_cut, user_turns, preempted FROM sessions ORDER BY session_id
"""


def call(of: int, outcome: dict[str, object] | None, *readings: dict[str, Any]) -> list[Event]:
    """Return the events of a call whose model was asked so often; its end says the last totals."""
    asked = [reading(number, of=of, **it) for number, it in enumerate(readings, 1)]
    last = {(it.model, it.estimated): it for it in asked}
    meters = [
        final(model=it.model, estimated=it.estimated, totals=it.totals) for it in last.values()
    ]
    return [
        started(of=of),
        *asked,
        ended(len(asked) + 1, *meters, of=of, readings=len(asked), outcome=outcome),
    ]


def request(number: int, speech: str = "", **more: Any) -> dict[str, Any]:
    """Return the running totals after so many requests, each of a thousand tokens."""
    last = {"speech_id": speech, "cancelled": more.pop("cancelled", False)}
    return {"requests": number, "input_tokens": number * 1000, "last": last, **more}


def estimate(**more: Any) -> dict[str, Any]:
    """Return what was estimated of a request that was cut off."""
    return {"estimated": True, "input_tokens": 1000, **more}


def open_ledger(path: Path, at: list[datetime] | None = None) -> Ledger:
    """Return a ledger whose clock stands."""
    moment = at or [datetime.fromtimestamp(START_US / 1e6, UTC)]
    return Ledger.open(path, rate, clock=Clock(now=lambda: moment[0]))


def ask(ledger: Ledger, text: str) -> list[tuple[Any, ...]]:
    """Return what a statement says to whoever reads the newest snapshot."""
    ledger.publish_snapshot()
    with duckdb.connect(str(ledger._layout.current), read_only=True) as reader:
        return reader.execute(text).fetchall()


def test_an_outcome_is_kept_with_the_end_of_its_session(tmp_path: Path) -> None:
    """The end with the highest number says it, in whatever order they come, settled or not."""
    later = ended(9, of=1, readings=1, outcome=LOST)
    newest = ended(10, final(requests=1, input_tokens=1000), of=1, readings=1, outcome=SOLD)
    with open_ledger(tmp_path) as ledger:
        ledger.apply([message(1, *call(1, None, request(1)))])
        assert ask(ledger, FACTS) == [(None, None, None, None, None)]
        fold(ledger)
        assert ask(ledger, FACTS) == [(None, None, None, None, None)]
        for number, event in enumerate((newest, later), 2):
            ledger.apply([message(number, event)])
        for _ in range(2):
            [(outcome, tags, cut, turns, preempted)] = ask(ledger, FACTS)
            assert (outcome, json.loads(tags), cut, turns) == ("success", ["language:es"], 0, 2)
            assert json.loads(preempted) == ["s1"]
            assert ask(ledger, "SELECT state, cost FROM completeness") == [("complete", THOUSAND)]
            fold(ledger)
        assert ask(ledger, "SELECT count(*) FROM settled_sessions") == [(1,)]


def test_nothing_said_is_no_outcome(tmp_path: Path) -> None:
    """That a worker asked and nobody had said anything is told from a worker that does not ask."""
    with open_ledger(tmp_path) as ledger:
        ledger.apply([message(1, *call(1, {}, request(1)))])
        assert ask(ledger, FACTS) == [(None, "[]", 0, None, None)]


PAGE: Final = (Path(__file__).parents[3] / "docs" / "views.md").read_text(encoding="utf-8")
[COST_PER_SUCCESS] = re.findall(r"```sql\n(SELECT\n    agent_id,.*?)```", PAGE, re.DOTALL)

WASTE: Final = """
SELECT failed_cost, silent_cost, interrupted_cost FROM waste ORDER BY session_id
"""
OF_REQUESTS: Final = """
SELECT cancelled_requests, cancelled_cost, preempted_requests, preempted_cost
FROM waste_of_requests
ORDER BY session_id
"""


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "settled and sealed"])
def test_waste_is_what_is_known_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_old: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Zero where it is known that there was none, NULL where nobody knows; folding changes nothing."""
    calls = {
        1: call(1, SOLD, request(1, "s1", cancelled=True), request(2, "s2"), estimate()),
        2: call(2, LOST, request(1, "s1"), request(2, "s2", cancelled=True), request(3)),
        3: call(3, None, request(1, "s1")),  # an older worker's
        4: call(4, SOLD, request(2, "s1", cancelled=True)),  # two requests in one reading
        5: call(5, LOST, estimate(model="unknown")),
        6: call(6, {"user_turns": 1, "preempted": []}, {"requests": 1, "input_tokens": 1000}),
    }
    monkeypatch.setattr(sealing, "SEAL_ROWS", 1)
    monkeypatch.setattr(sealing, "LEAST_ROWS", 1)
    at = [datetime.fromtimestamp(START_US / 1e6, UTC)]
    with open_ledger(tmp_path, at) as ledger:
        for number, events in calls.items():
            ledger.apply([message(number, *events)])
        if is_old:
            at[0] += timedelta(days=3)
            fold(ledger)
            while ledger.work():
                pass
            assert ask(ledger, "SELECT count(*) FROM bookings") == [(0,)]
            assert ask(ledger, "SELECT count(*) FROM settled_sessions") == [(6,)]
        assert ask(ledger, WASTE) == [
            (0, 0, THOUSAND),
            (3 * THOUSAND, 3 * THOUSAND, 0),
            (None, None, 0),
            (0, 0, 0),
            (None, None, None),
            (None, 0, 0),
        ]
        # all that was spent in the month, by the two calls that came to something
        assert ask(ledger, COST_PER_SUCCESS) == [("dental", 2, 2, 2, 10 * THOUSAND, 5 * THOUSAND)]
        assert ask(ledger, OF_REQUESTS) == [
            (1, THOUSAND, 1, THOUSAND),
            (1, THOUSAND, 0, 0),
            (0, 0, None, None),
            (None, None, None, None),
            (0, 0, 0, 0),
            (None, None, None, None),  # its row came of the end, or of what a worker recorded
        ]


def test_what_an_operation_changed_is_not_told_by_requests(tmp_path: Path) -> None:
    """A call that was voided wasted nothing, and what its requests cost is not known any more."""
    with Ledger.open(tmp_path, mini("0.1")) as ledger:
        ledger.apply([message(1, *call(1, LOST, request(1, "s1", cancelled=True)))])
        ledger.operate(Void(project=PROJECT, session_id=session_id(1)), reason="a test call")
        while ledger.work():
            pass
        assert ask(ledger, WASTE) == [(0, 0, 0)]
        assert ask(ledger, OF_REQUESTS) == [(None, None, None, None)]


@pytest.mark.parametrize(
    ("is_closed", "known"),
    [
        (False, [(6, 6, 6, 4), (0, 0, 0, 0), (4, 4, 4, 0)]),
        (True, [(None, None, None, None), (0, 0, 0, 0), (2, 2, 2, 0)]),
    ],
    ids=["open", "closed"],
)
def test_waste_is_of_the_own_month_of_a_call(
    tmp_path: Path,
    is_closed: bool,  # noqa: FBT001 - a parameter of the test
    known: list[tuple[int | None, ...]],
) -> None:
    """What was cut off is unknown, and not zero, where nothing of the call is in its own month."""
    million = {"input_tokens": 1_000_000}
    late = call(1, LOST, {**million, "requests": 1}, {"input_tokens": 2_000_000, "estimated": True})
    silent, early = call(2, LOST), call(3, LOST, million, {"input_tokens": 2_000_000})
    at = [datetime(2026, 11, 25, tzinfo=UTC)]
    with Ledger.open(tmp_path, mini("2"), clock=Clock(now=lambda: at[0])) as ledger:
        ledger.apply([message(1, *silent, *early[:2])])
        at[0] = datetime(2026, 12, 2, tzinfo=UTC)
        if is_closed:
            ledger.operate(Close(month=date(2026, 11, 1)), reason="month end")
        ledger.apply([message(2, *late, *early[2:])])
        for _ in range(2):
            assert ask(ledger, WASTE.replace("failed_cost", "cost, failed_cost")) == known
            fold(ledger)


@pytest.mark.parametrize(
    ("cut", "speech", "known"),
    [
        (True, "s1", (2, None, 2, None)),
        (False, "s1", (1, 2, 2, None)),
        (True, "s2", (2, None, 1, 2)),
        (False, "s2", (1, 2, 1, 2)),
    ],
)
def test_a_part_without_a_price_makes_no_sum_of_the_rest(
    tmp_path: Path,
    cut: bool,  # noqa: FBT001 - a parameter of the test
    speech: str,
    known: tuple[int | None, ...],
) -> None:
    """What requests cost is unknown where one of them lacks a price; what calls cost says how much lacks one."""
    answer = {"input_tokens": 1_000_000, "last": {"speech_id": "s1", "cancelled": True}}
    voice = {"modality": "tts", "provider": "homebrew", "model": "voice", "characters": 500}
    spoken = {"speech_id": speech, "cancelled": cut}
    events = call(1, LOST | {"preempted": ["s1"]}, {"requests": 1, **answer})
    events.insert(-1, reading(2, of=1, requests=1, last=spoken, **voice))
    with Ledger.open(tmp_path, mini("2")) as ledger:
        ledger.apply([message(1, *events)])
        for _ in range(2):
            assert ask(ledger, OF_REQUESTS) == [known]
            whole = "SELECT cost, failed_cost, silent_cost, unpriced_rows FROM waste"
            assert ask(ledger, whole) == [(2, 2, 2, 1)]
            fold(ledger)


WHOLE_CALL: Final = '[[billed]]\nunit = "minute"\nprice = "0.12"\n'
MARKUP: Final = '[[billed]]\nlabel = { tier = "gold" }\nmarkup = "20 %"\n'
DISCOUNT: Final = '[[cost]]\nlabel = { tier = "gold" }\ndiscount = "50 %"\n'


@pytest.mark.parametrize("is_late", [False, True], ids=["start first", "start last"])
@pytest.mark.parametrize(
    ("prices", "known", "known_late"),
    [
        ("", (1, 2, 1, 2), (1, 2, 1, 2)),
        (WHOLE_CALL, (1, 2, 1, 2), (1, 2, 1, 2)),
        (MARKUP, (1, 2, 1, 2), (1, 2, 1, 2)),
        (DISCOUNT, (1, 1, 1, 1), (None, None, None, None)),  # what it costs now is in another row
    ],
    ids=["no price of one's own", "whole call", "markup for a label", "cost for a label"],
)
def test_a_meter_that_is_rated_anew_has_no_more_requests(
    tmp_path: Path,
    prices: str,
    known: tuple[int, ...],
    known_late: tuple[int | None, ...],
    is_late: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A row of no usage is of no request: what requests cost is known as long as it does not change that."""
    outcome = {"user_turns": 1, "preempted": ["s1"]}
    first, last = (
        {"requests": number, "input_tokens": tokens, "last": {"speech_id": it, "cancelled": cut}}
        for number, tokens, it, cut in ((1, 1_000_000, "s1", True), (2, 3_000_000, "s2", False))
    )
    events = call(1, outcome, first, last)
    time = {"modality": "agent_session", "provider": "livekit", "model": "cloud"}
    events.insert(-1, reading(3, of=1, **time, session_us=90_000_000))
    events[0] = started(of=1, labels={"tier": "gold"})
    if is_late:
        events.insert(-1, events.pop(0))
    with Ledger.open(tmp_path, rate_by(Figures({MODEL: "2"}), read(prices))) as ledger:
        for number, event in enumerate(events, 1):
            ledger.apply([message(number, event)])
        for _ in range(2):
            assert ask(ledger, OF_REQUESTS) == [known_late if is_late else known]
            fold(ledger)
