"""Questions that sums of months answer: the same as single calls do, for every period and at every state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.events import START_MS, final, message, reading, session_id
from tests.support.events import ended as end_of
from tests.support.long_forms import later
from tests.support.oracle import rate
from voicecosts import connect, query
from voicecosts.analytics.answers import costs, layers, prices
from voicecosts.analytics.answers.report import Report
from voicecosts.analytics.question import months as asked
from voicecosts.analytics.question.columns import Group
from voicecosts.analytics.question.filters import select
from voicecosts.analytics.question.times import Period
from voicecosts.consumer.booking.operations import Adjust, Close, Void
from voicecosts.consumer.store import folding, months
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

NOW: Final = datetime(2027, 3, 4, 5, 6, tzinfo=UTC)
START: Final = datetime.fromtimestamp(START_MS / 1000, UTC)  # 18 November 2026
SPAN: Final = NOW - START
CALLS: Final = 60
_OF_CALLS: Final = """
SELECT tenant, agent_id, project, strftime(day, '%Y-%m') AS month, sum(cost), sum(rows), sum(input_tokens), sum(output_tokens), count(DISTINCT session_id)
    FILTER (session_id IS NOT NULL AND operation IS NULL AND session_id NOT IN (SELECT session_id FROM voided))
FROM session_usage
WHERE coalesce(make_timestamp(epoch_us(uuid_extract_timestamp(session_id))), day) >= ?
    AND coalesce(make_timestamp(epoch_us(uuid_extract_timestamp(session_id))), day) < ? {tenants}
GROUP BY tenant, agent_id, project, month
"""


def calls(chance: random.Random) -> Iterator[list[Any]]:
    """Yield the events of calls of three tenants and two agents, over nearly four months, some at a month's edge."""
    edges = [datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)]
    for of in range(CALLS):
        at = START + SPAN * (of / CALLS)
        if of < len(edges) * 2:
            at = edges[of // 2] - timedelta(milliseconds=of % 2)
        who = {
            "session_id": session_id(of, after_ms=(at - START) // timedelta(milliseconds=1)),
            "tenant": chance.choice(("acme", "beta", None)),
            "agent_id": chance.choice(("dental", "sales")),
        }
        model = chance.choice(("priced", "priced", "house-llm"))
        used = {"input_tokens": chance.randint(1, 10**6), "output_tokens": 1000, "model": model}
        yield [
            reading(1, of=of, **who, input_tokens=1, output_tokens=10, model=model),
            reading(2, of=of, **who, **used),
            end_of(3, final(**used), of=of, **who, readings=2),
        ]


@pytest.fixture(scope="module", params=[*later("not folded", "folded"), "folded and added up"])
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of four months, one of its calls voided, with two adjustments, in three states."""
    folder = tmp_path_factory.mktemp("months")
    chance = random.Random(7)  # noqa: S311 - the same in every run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "SETTLE_AFTER_US", 0)
        patch.setattr(
            months, "LOOSE_ROWS", 1 if request.param == "folded and added up" else 1_000_000
        )
        with Ledger.open(folder, rate, clock=Clock(now=lambda: NOW)) as books:
            for place, events in enumerate(calls(chance), 1):
                books.apply([message(place, *events, agent=events[0].agent_id)])
                if request.param != "not folded" and place % 7 == 0:
                    books._folding.fold()
                    books.work()
            voided = session_id(
                9, after_ms=(START + SPAN * (9 / CALLS) - START) // timedelta(milliseconds=1)
            )
            books.operate(Void(project="prod", session_id=voided), reason="a test call")
            for day in (date(2026, 12, 1), date(2027, 1, 31)):
                adjusted = Adjust(project="prod", tenant="acme", amount=Decimal(5), day=day)
                books.operate(adjusted, reason="a credit")
            books.publish_snapshot()
    return folder


def periods() -> list[tuple[datetime | None, datetime | None]]:
    """Return periods with and without whole months, and some at their very edges."""
    chance = random.Random(3)  # noqa: S311 - the same in every run
    edge = datetime(2026, 12, 1, tzinfo=UTC)
    moments = [START + SPAN * chance.random() for _ in range(6)]
    pairs = [(min(pair), max(pair)) for pair in zip(moments[::2], moments[1::2], strict=True)]
    tick = timedelta(milliseconds=1)
    return [
        (None, None),
        (edge, datetime(2027, 2, 1, tzinfo=UTC)),
        (edge - tick, datetime(2027, 2, 1, tzinfo=UTC) + tick),
        (edge + tick, datetime(2027, 2, 1, tzinfo=UTC) - tick),
        (None, edge),
        (edge, None),
        (datetime(2026, 12, 30, 12, tzinfo=UTC), None),
        (None, datetime(2027, 1, 31, 12, tzinfo=UTC)),
        *pairs,
    ]


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_months_say_what_calls_say(ledger: Path, tenant: str | None) -> None:
    """In every period: cost, rows, tokens and calls of every group."""
    for since, until in periods():
        report = query(
            ("tenant", "agent", "project", "month"),
            data_dir=ledger,
            since=since,
            until=until,
            where=[] if tenant is None else f"tenant={tenant}",
            now=NOW,
        )
        found = sorted(
            (
                *((value or "") for value in row.group.values()),
                *(row.cost, row.rows),
                *(row.input_tokens, row.output_tokens, row.sessions),
            )
            for row in report.rows
        )
        with connect(ledger) as connection:
            ends = [since or START - SPAN, until or NOW + SPAN]
            given = [end.replace(tzinfo=None) for end in ends]
            expected = connection.execute(
                _OF_CALLS.format(tenants="" if tenant is None else "AND tenant = 'acme'"),
                given,
            ).fetchall()
        assert found == sorted(((row[0] or "", *row[1:])) for row in expected), (since, until)


@pytest.mark.parametrize(
    "where", [["agent=sales"], ["model=house-llm"], *later([], ["tenant=beta"])]
)
def test_nothing_else_is_said_of_months_than_of_calls(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, where: list[str]
) -> None:
    """Every figure, note and warning of an answer is the same where all rows of calls are read."""
    spans = periods()

    def answers() -> list[Report]:
        return [
            query("tenant,month", data_dir=ledger, since=since, until=until, where=where, now=NOW)
            for since, until in spans
        ]

    of_months = answers()
    for module in (costs, prices, layers):
        monkeypatch.setattr(module, "may_answer", lambda *_, **__: False)
    for span, one, other in zip(spans, of_months, answers(), strict=True):
        assert one == other, span
    assert any(report.completeness.unpriced for report in of_months)


def test_months_are_asked_for_what_they_have() -> None:
    """Whole months of a period without sessions and days; the rest of it is asked of calls."""
    whole = Period(since=datetime(2026, 11, 30, tzinfo=UTC))
    few = Period(since=START, until=START + SPAN / 100)
    last = Period(since=datetime(9999, 12, 2, tzinfo=UTC))
    for span, months_have_it in ((Period(), True), (whole, True), (few, False), (last, False)):
        selection = select(span, "tenant=acme")
        assert asked.may_answer(
            selection, (Group.AGENT,), schema=15, corrects=False, counts=True
        ) is (months_have_it)
    every = select(Period(), ())
    assert asked.may_answer(every, (Group.MODEL,), schema=15, corrects=False)
    for named, also in (
        ((Group.MODEL,), {"counts": True}),
        ((Group.DAY,), {}),
        ((Group.SESSION,), {}),
    ):
        assert not asked.may_answer(every, named, schema=15, corrects=False, **also)
    assert not asked.may_answer(every, (Group.MONTH,), schema=15, corrects=True)
    assert [(it.since, it.until) for it in asked._rest(whole)] == [
        (whole.since, datetime(2026, 12, 1, tzinfo=UTC))
    ]


def test_a_correction_of_a_closed_month_is_in_every_total(tmp_path: Path) -> None:
    """By month, where its rows are apart from those of its call, and by tenant."""
    with Ledger.open(tmp_path, rate, clock=Clock(now=lambda: NOW)) as books:
        events = list(calls(random.Random(7)))  # noqa: S311 - the same in every run
        for place, found in enumerate(events, 1):
            books.apply([message(place, *found, agent=found[0].agent_id)])
        books.operate(Close(month=date(2026, 11, 1)), reason="it is over")
        late = reading(
            9,
            of=4,
            session_id=events[4][0].session_id,
            tenant=events[4][0].tenant,
            agent_id=events[4][0].agent_id,
            input_tokens=10**7,
            output_tokens=2000,
            model="priced",
        )
        books.apply([message(900, late, agent=late.agent_id)])
        books.publish_snapshot()
    reports = [query(by, data_dir=tmp_path, now=NOW) for by in ("month", "tenant")]
    with connect(tmp_path) as connection:
        (total,) = connection.execute("SELECT sum(cost) FROM usage").fetchone() or (None,)
        assert connection.execute(
            "SELECT count(*) > 0 FROM usage WHERE corrects IS NOT NULL"
        ).fetchone() == (True,)
    assert {report.total.cost for report in reports} == {total}
    assert {report.total.sessions for report in reports} == {CALLS}
