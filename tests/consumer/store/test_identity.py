"""Whose a session is and on which day: its first event says it, and nothing that comes later changes it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pytest

from tests.support.events import (
    AGENT,
    PRODUCER,
    PROJECT,
    START_MS,
    ended,
    final,
    message,
    reading,
    report,
    session_id,
    started,
)
from tests.support.long_forms import later
from tests.support.oracle import Priced, rate
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, Meter, Quantities

DAY_MS: Final = 86_400_000
MIDNIGHT_MS: Final = (START_MS // DAY_MS + 1) * DAY_MS
LATE: Final = session_id(1, after_ms=MIDNIGHT_MS - START_MS - 600_000)
"""A session that started ten minutes before midnight, on 2026-11-18."""

PROD: Final[list[Event]] = [
    started(),
    reading(1, input_tokens=1000),
    reading(2, input_tokens=3000),
    ended(3, final(input_tokens=3000)),
]
COST: Final = Decimal("0.000370200")


def ask(folder: Path, query: str) -> list[Any]:
    """Return what a reader of the newest snapshot gets."""
    with duckdb.connect(
        folder / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as connection:
        return connection.execute(query).fetchall()


def book(folder: Path, *messages: Message, cached: int = 10) -> None:
    """Apply each message by itself."""
    with Ledger.open(folder, rate, cached_sessions=cached, cached_bytes=0) as ledger:
        for each in messages:
            ledger.apply([each])


def said(events: list[Event], **more: object) -> list[Event]:
    """Return the events as somebody else says them."""
    return [msgspec.structs.replace(event, **more) for event in events]


STAGING: Final = said(
    [
        started(),
        reading(9, input_tokens=50_000),
        ended(10, final(input_tokens=50_000)),
    ],
    project="staging",
    tenant="evil",
    agent_id="other",
)


def ours(place: int, *events: Event) -> Message:
    """Return a message of the session's own worker."""
    return message(place, *events, number=place)


def theirs(place: int, *events: Event) -> Message:
    """Return a message with credentials for the project `staging`."""
    return message(
        place, *events, number=place, project="staging", agent="other", producer="worker-9"
    )


class TestProjects:
    @pytest.mark.parametrize("cached", [0, *later(10)])
    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_another_project_cannot_touch_a_session(
        self, tmp_path: Path, order: tuple[int, ...], cached: int
    ) -> None:
        """Under the id of a session of prod it has a session of its own: before, between and after."""
        sent = [ours(1, *PROD[:2]), ours(2, *PROD[2:]), theirs(3, *STAGING)]
        book(tmp_path, *(sent[place] for place in order), cached=cached)
        found = ask(
            tmp_path,
            "SELECT project, tenant, agent_id, sum(input_tokens), sum(cost) FROM usage "
            "GROUP BY ALL ORDER BY project",
        )
        assert found[0] == (PROJECT, "acme", AGENT, 3000, COST)
        assert found[1][:4] == ("staging", "evil", "other", 50_000)
        states = ask(tmp_path, "SELECT project, state, cost FROM completeness ORDER BY project")
        assert states[0] == (PROJECT, "complete", COST)
        assert [row[0] for row in states] == [PROJECT, "staging"]
        query = "SELECT project, tenant, ended_at IS NULL FROM sessions ORDER BY project"
        assert ask(tmp_path, query) == [(PROJECT, "acme", False), ("staging", "evil", False)]

    def test_another_project_cannot_end_or_open_a_session(self, tmp_path: Path) -> None:
        """A running call stays open, whatever another project says about its id."""
        book(tmp_path, ours(1, *PROD[:2]), theirs(2, STAGING[2]))
        query = "SELECT project, ended_at IS NULL FROM completeness ORDER BY project"
        assert ask(tmp_path, query) == [(PROJECT, True), ("staging", False)]

    def test_another_project_cannot_take_the_place_of_a_report(self, tmp_path: Path) -> None:
        """A report is known by its project as well, or one could hide what a worker of prod lost."""
        fake = report(1, project="staging")
        book(
            tmp_path,
            message(1, fake, project="staging"),
            message(2, report(1, dropped=7)),
        )
        query = "SELECT project, dropped FROM producer_reports ORDER BY project"
        assert ask(tmp_path, query) == [(PROJECT, 7), ("staging", 0)]


def from_another(place: int, *events: Event) -> Message:
    """Return a message of another worker process of the same project."""
    return message(place, *events, number=place, producer="worker-2")


class TestProducers:
    def test_what_a_second_producer_counts_is_a_dead_letter(self, tmp_path: Path) -> None:
        """It is another count: mixed in, neither could be told from the other; and it is not hidden."""
        book(
            tmp_path,
            ours(1, *PROD[:2]),
            from_another(2, reading(1, input_tokens=400), reading(2, input_tokens=700)),
            ours(3, *PROD[2:]),
        )
        assert ask(tmp_path, "SELECT sum(input_tokens), sum(cost) FROM usage") == [(3000, COST)]
        letters = ask(tmp_path, "SELECT reason, detail FROM dead_letters")
        assert [reason for reason, _ in letters] == ["other_producer"] * 2
        assert PRODUCER in letters[0][1]
        assert "'worker-2'" in letters[0][1]
        worst = Decimal(
            "0.000086380"
        )  # 700 tokens: running totals, so the first 400 are among them
        query = "SELECT state, cause, missing_at_most FROM completeness"
        assert ask(tmp_path, query) == [("short", "other_producer", worst)]

    def test_a_second_producer_cannot_end_a_session(self, tmp_path: Path) -> None:
        """Its start and its end are refused too; the session's own end counts."""
        last = ended(9, final(input_tokens=10), final(model="priced", input_tokens=20))
        book(tmp_path, ours(1, *PROD[:2]), from_another(2, started(room_name="x"), last))
        assert ask(tmp_path, "SELECT count(*) FROM session_ends") == [(0,)]
        assert ask(tmp_path, "SELECT room_name FROM session_starts") == [("",)]
        [(cause, worst)] = ask(
            tmp_path, "SELECT reason, max(at_most) FROM session_notes GROUP BY 1"
        )
        assert (cause, worst) == ("other_producer", Decimal("0.000003702"))

    def test_what_it_may_be_worth_is_unknown_without_a_price(self, tmp_path: Path) -> None:
        """Nobody can say at most how much is missing."""
        book(
            tmp_path,
            ours(1, *PROD),
            from_another(2, reading(1, model="unknown", characters=1)),
        )
        query = "SELECT state, missing_at_most FROM completeness"
        assert ask(tmp_path, query) == [("short", None)]

    def test_it_comes_again_and_is_said_once(self, tmp_path: Path) -> None:
        """A repeated message adds neither a dead letter nor a note, also after a restart."""
        sent = [ours(1, *PROD), from_another(2, reading(1, input_tokens=400))]
        for _ in range(2):
            book(tmp_path, *sent, sent[1])
        assert ask(tmp_path, "SELECT count(*) FROM dead_letters") == [(1,)]
        query = "SELECT state, missing_at_most FROM completeness"
        assert ask(tmp_path, query) == [("short", Decimal("0.000049360"))]


class TestTenantAndAgent:
    @pytest.mark.parametrize("cached", [0, 10])
    def test_the_first_tenant_and_agent_hold(self, tmp_path: Path, cached: int) -> None:
        """Money of one call is in one tenant and one agent; a difference is noted, and nothing is lost."""
        other = {"tenant": "beta", "agent_id": "sales"}
        under_sales = message(2, *said(PROD[2:], **other), number=2, agent="sales")
        book(tmp_path, ours(1, *PROD[:2]), under_sales, cached=cached)
        whose = [(PROJECT, "acme", AGENT)]
        for view in ("usage", "sessions", "cost_by_day", "completeness"):
            query = f"SELECT DISTINCT project, tenant, agent_id FROM {view}"  # noqa: S608 - constants
            assert ask(tmp_path, query) == whose
        for table in ("session_starts", "session_ends"):
            query = f"SELECT DISTINCT project, tenant, agent_id FROM {table}"  # noqa: S608 - same
            assert ask(tmp_path, query) == whose
        assert ask(tmp_path, "SELECT sum(input_tokens), sum(cost) FROM usage") == [(3000, COST)]
        query = "SELECT state, cause, missing_at_most FROM completeness"
        assert ask(tmp_path, query) == [("short", "other_agent, other_tenant", Decimal(0))]

    def test_an_end_under_another_agent_books_nothing_twice(self, tmp_path: Path) -> None:
        """The agent is the session's, and does not tell one meter from another."""
        end = msgspec.structs.replace(PROD[3], agent_id="sales")
        book(tmp_path, ours(1, *PROD[:3]), message(2, end, number=2, agent="sales"))
        assert ask(tmp_path, "SELECT count(*), sum(input_tokens) FROM usage") == [(2, 3000)]

    def test_no_tenant_is_a_tenant_of_its_own(self, tmp_path: Path) -> None:
        """A call that named no tenant at first is nobody's for good."""
        first = msgspec.structs.replace(PROD[0], tenant=None)
        book(tmp_path, ours(1, first), ours(2, *PROD[1:]))
        assert ask(tmp_path, "SELECT DISTINCT tenant FROM usage") == [(None,)]
        assert ask(tmp_path, "SELECT cause FROM completeness") == [("other_tenant",)]

    def test_the_agent_of_the_subject_is_compared(self, tmp_path: Path) -> None:
        """Credentials for one agent cannot report a call of another: its events are dead letters."""
        book(tmp_path, ours(1, *PROD[:2]), message(2, *PROD[2:], number=2, agent="sales"))
        assert ask(tmp_path, "SELECT DISTINCT reason FROM dead_letters") == [("agent_mismatch",)]
        assert ask(tmp_path, "SELECT sum(input_tokens) FROM usage") == [(1000,)]
        assert ask(tmp_path, "SELECT cause, ended_at FROM completeness") == [(None, None)]


class TestDay:
    @pytest.mark.parametrize("order", list(permutations(range(3))))
    @pytest.mark.parametrize(
        "lost",
        [
            (),
            (0, 1),
            pytest.param((0,), marks=pytest.mark.slow),
            pytest.param((1,), marks=pytest.mark.slow),
        ],
    )
    def test_a_call_over_midnight_is_on_the_day_when_it_started(
        self, tmp_path: Path, order: tuple[int, ...], lost: tuple[int, ...]
    ) -> None:
        """Whatever comes in which order, and whatever is lost but the last, its day is the same."""
        before, after = (MIDNIGHT_MS - 1000) * 1000, (MIDNIGHT_MS + 1000) * 1000
        sent = [
            reading(1, session_id=LATE, input_tokens=1000, occurred_at=before),
            reading(2, session_id=LATE, input_tokens=2000, occurred_at=after),
            ended(3, final(input_tokens=3000), session_id=LATE, ended_at=after),
        ]
        came = [sent[place] for place in order if place not in lost]
        book(tmp_path, *(ours(place, event) for place, event in enumerate(came, 1)))
        query = "SELECT day::VARCHAR, sum(cost) FROM cost_by_day GROUP BY day"
        assert ask(tmp_path, query) == [("2026-11-18", COST)]
        assert ask(tmp_path, "SELECT day::VARCHAR, cost FROM sessions") == [("2026-11-18", COST)]
        query = "SELECT DISTINCT day::VARCHAR, session_started_at::VARCHAR FROM usage"
        assert ask(tmp_path, query) == [("2026-11-18", "2026-11-18 23:50:00")]
        moments = {occurred for (occurred,) in ask(tmp_path, "SELECT occurred_at FROM usage")}
        assert moments <= {datetime(2026, 11, 18, 23, 59, 59), datetime(2026, 11, 19, 0, 0, 1)}  # noqa: DTZ001 - UTC


def dearer(meter: Meter, totals: Quantities, at: datetime, **_asked: object) -> Priced:
    """Price totals as `rate`, and also what has no price there."""
    return Priced(Decimal(totals.characters) / 1000, version="2")


class TestPrices:
    def test_a_correction_is_on_the_day_of_what_it_corrects(self, tmp_path: Path) -> None:
        """A price list that changes during a call over midnight leaves no day below zero."""
        first = reading(1, session_id=LATE, input_tokens=9000, characters=1)
        later = reading(
            2, session_id=LATE, input_tokens=9000, characters=2, occurred_at=MIDNIGHT_MS * 1000 + 1
        )
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([message(1, first)])
        with Ledger.open(tmp_path, dearer) as ledger:
            ledger.apply([message(2, later)])
        query = "SELECT day::VARCHAR, sum(cost) FROM cost_by_day GROUP BY day"
        assert ask(tmp_path, query) == [("2026-11-18", Decimal("0.002"))]

    def test_a_model_that_gains_a_price_is_not_unpriced_any_more(self, tmp_path: Path) -> None:
        """What has no price is what a meter's last state says, not what its rows said once."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([message(1, reading(1, model="unknown", requests=1, characters=10))])
            ledger.apply([message(2, reading(1, of=2, model="unknown", characters=3))])
        query = (
            "SELECT sum(unpriced_requests), sum(unpriced_characters), "
            "(SELECT list((sessions, requests, characters)) FROM unpriced) FROM usage"
        )
        assert ask(tmp_path, query) == [(1, 13, [(2, 1, 13)])]
        with Ledger.open(tmp_path, dearer) as ledger:
            ledger.apply([message(3, reading(2, model="unknown", requests=2, characters=15))])
        assert ask(tmp_path, query) == [(0, 3, [(1, 0, 3)])]
