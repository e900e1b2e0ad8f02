"""Tests of `--compare`: two periods side by side are the two answers, and every change is exact."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from msgspec import structs

from tests.support.asked import CALLS, EVERY_MS, FIRST
from tests.support.asked import NOW as ASKED_AT
from tests.support.hostile_names import NAMES
from tests.support.long_forms import later
from tests.support.monthly import by_chance
from tests.support.sample_ledger import ACME, Booking, day, write_ledger
from voicecosts import query
from voicecosts.analytics.answers import compared
from voicecosts.analytics.answers.compared import Comparison, Pair
from voicecosts.analytics.answers.report import Report, Row
from voicecosts.analytics.errors import BadQuestion, BadTime, BadTop, UnknownColumn

NOW: Final = datetime(2027, 4, 20, 12, tzinfo=UTC)
BERLIN: Final = "Europe/Berlin"

PERIODS: Final[dict[str, tuple[dict[str, str], str, str, str, str]]] = {
    # what is asked, and the moments in UTC: of the period, and of the one before
    "a week": (
        {"since": "2026-11-09", "until": "2026-11-16", "compare": "previous"},
        *("2026-11-09T00:00", "2026-11-16T00:00", "2026-11-02T00:00", "2026-11-09T00:00"),
    ),
    "hours": (
        {"since": "2026-11-09T13:00", "until": "2026-11-10T01:30", "compare": "previous"},
        *("2026-11-09T13:00", "2026-11-10T01:30", "2026-11-09T00:30", "2026-11-09T13:00"),
    ),
    "the day of 25 hours": (
        {"since": "2026-10-25", "until": "2026-10-26", "compare": "previous", "timezone": BERLIN},
        *("2026-10-24T22:00", "2026-10-25T23:00", "2026-10-23T22:00", "2026-10-24T22:00"),
    ),
    "the week behind it": (
        {"since": "2026-10-26", "until": "2026-11-02", "compare": "last-week", "timezone": BERLIN},
        *("2026-10-25T23:00", "2026-11-01T23:00", "2026-10-18T22:00", "2026-10-25T23:00"),
    ),
    "the day of 23 hours": (
        {"since": "2027-03-28", "until": "2027-03-29", "compare": "last-week", "timezone": BERLIN},
        *("2027-03-27T23:00", "2027-03-28T22:00", "2027-03-20T23:00", "2027-03-21T23:00"),
    ),
    "the month of it": (
        {"since": "2027-04", "until": "2027-05", "compare": "last-month", "timezone": BERLIN},
        *("2027-03-31T22:00", "2027-04-30T22:00", "2027-02-28T23:00", "2027-03-31T22:00"),
    ),
    "days that February lacks": (
        {"since": "2027-03-01", "until": "2027-03-31", "compare": "last-month"},
        *("2027-03-01T00:00", "2027-03-31T00:00", "2027-02-01T00:00", "2027-03-01T00:00"),
    ),
    "a month by its name": (
        {"since": "2026-11", "until": "2026-12", "compare": "2026-10"},
        *("2026-11-01T00:00", "2026-12-01T00:00", "2026-10-01T00:00", "2026-11-01T00:00"),
    ),
    "a week by its name": (
        {"since": "2026-11", "until": "2026-12", "compare": "2026-W44", "timezone": BERLIN},
        *("2026-10-31T23:00", "2026-11-30T23:00", "2026-10-25T23:00", "2026-11-01T23:00"),
    ),
    "moments, and an open end": (
        {"since": "2027-04-19", "compare": "2027-03-28..2027-03-29T06:00", "timezone": BERLIN},
        *("2027-04-18T22:00", "2027-04-20T12:00", "2027-03-27T23:00", "2027-03-29T04:00"),
    ),
    "a word": (
        {"since": "today", "compare": "yesterday", "timezone": BERLIN},
        *("2027-04-19T22:00", "2027-04-20T12:00", "2027-04-18T22:00", "2027-04-19T22:00"),
    ),
    "a later period": (
        {"since": "2026-10-25", "until": "2026-10-26", "compare": "2026-11-01"},
        *("2026-10-25T00:00", "2026-10-26T00:00", "2026-11-01T00:00", "2026-11-02T00:00"),
    ),
}


def utc(text: str) -> datetime:
    """Return a moment of the table."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def edges() -> list[datetime]:
    """Return every moment at which a period of the table begins or ends."""
    return [utc(it) for _, *ends in PERIODS.values() for it in ends]


class Used:
    """One booking as the oracle knows it."""

    def __init__(self, chance: random.Random, number: int) -> None:
        at = chance.choice(edges()) + timedelta(milliseconds=chance.choice((-1, 0, 1, 40_000_000)))
        self.started = at if chance.random() < 0.7 else edges()[0] + timedelta(hours=number)
        ms = (self.started - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        self.session = UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | number)
        self.tenant = chance.choice(("acme", "globex", None, "(none)", NAMES[0], NAMES[6]))
        self.model = chance.choice(("mini", "large", NAMES[9]))
        self.cost = None if chance.random() < 0.3 else Fraction(chance.randint(-9, 10**12), 10**9)
        self.tokens = chance.randint(0, 2)

    def booking(self) -> Booking:
        """Return it as the ledger has it."""
        cost = None if self.cost is None else f"{Decimal(int(self.cost * 10**9)).scaleb(-9):f}"
        return Booking(
            occurred_at=self.started.replace(tzinfo=None),
            session_id=self.session,
            tenant=self.tenant,
            model=self.model,
            input_tokens=self.tokens,
            cost=cost,
            unpriced_reason="x" if cost is None else None,
        )


Side = tuple[Fraction | None, int, int, bool]
"""What a group used in a period: its cost, calls and tokens, and whether something has no price."""


def side(of: list[Used]) -> Side | None:
    """Return what some bookings add up to; nothing of none."""
    if not of:
        return None
    priced = [it.cost for it in of if it.cost is not None]
    return (
        sum(priced, Fraction()) if priced else None,
        len({it.session for it in of}),
        sum(it.tokens for it in of),
        len(priced) < len(of),
    )


def nano(exact: Fraction) -> Decimal:
    """Return a figure rounded half to even to nine digits."""
    return Decimal(round(exact * 10**9)).scaleb(-9)


def expected(now: Side | None, before: Side | None) -> dict[str, object]:
    """Return what a pair says of these sides."""
    found: dict[str, object] = {}
    found["presence"] = (("neither", "gone"), ("new", "both"))[now is not None][before is not None]
    for at, name in enumerate(("cost", "calls", "tokens")):
        values = [None if it is None else it[at] for it in (now, before)]
        money = [nano(Fraction(it)) if at == 0 and it is not None else it for it in values]
        found[name], found[f"{name}_before"] = money
        known = values[0] is not None and values[1] is not None
        change = Fraction(values[0] or 0) - Fraction(values[1] or 0)
        found[f"{name}_change"] = (nano(change) if at == 0 else int(change)) if known else None
        base = Fraction(values[1] or 0)
        found[f"{name}_change_percent"] = nano(100 * change / base) if known and base > 0 else None
        found[f"{name}_is_part"] = at == 0 and any(
            it is not None and it[3] and it[0] is not None for it in (now, before)
        )
    return found


@pytest.fixture(scope="module", params=[0, *later(1, 2)])
def used(request: pytest.FixtureRequest) -> list[Used]:
    """Bookings by chance, many of them at the very edge of a period."""
    chance = random.Random(request.param)  # noqa: S311 - the same every time
    return [Used(chance, number) for number in range(1, 260)]


@pytest.fixture(scope="module")
def ledger(used: list[Used], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that has them."""
    return write_ledger(tmp_path_factory.mktemp("compared"), [it.booking() for it in used])


def within(used: Iterable[Used], since: str, until: str) -> list[Used]:
    """Return the bookings of calls that started in a period."""
    return [it for it in used if utc(since) <= it.started < utc(until)]


@pytest.mark.parametrize("case", PERIODS)
@pytest.mark.parametrize("by", [("tenant",), ("model", "tenant")])
def test_every_pair_is_what_its_bookings_add_up_to(
    ledger: Path, used: list[Used], case: str, by: tuple[str, ...]
) -> None:
    """Both sides, the change and its percentage to the last digit, of each group, the rest of a top and the total."""
    asked, since, until, since_before, until_before = PERIODS[case]
    found = compare(ledger, by, metric="cost,calls,tokens", **asked)
    moments = (found.since, found.until, found.since_before, found.until_before)
    assert moments == tuple(map(utc, (since, until, since_before, until_before)))
    sides = within(used, since, until), within(used, since_before, until_before)

    def of(has: Callable[[Used], bool]) -> dict[str, object]:
        return expected(*(side([it for it in each if has(it)]) for each in sides))

    def key(it: Used) -> tuple[str | None, ...]:
        return tuple(getattr(it, name) for name in by)

    groups = {key(it) for each in sides for it in each}
    rows = {tuple(pair.group.values()): record(pair) for pair in found.rows}
    assert rows == {group: of(lambda it, group=group: key(it) == group) for group in groups}  # type: ignore[misc]  # a default of a lambda
    assert record(found.total) == of(lambda _: True)
    top = compare(ledger, by, metric="cost,calls,tokens", top=2, **asked)
    assert (top.rows, top.total, top.groups) == (found.rows[:2], found.total, found.groups)
    shown = [tuple(pair.group.values()) for pair in top.rows]
    if len(groups) > 2:
        assert top.other is not None
        assert record(top.other) == of(lambda it: key(it) not in shown)
    else:
        assert top.other is None


def compare(folder: Path, by: Any, *, now: datetime = NOW, **asked: Any) -> Comparison:
    """Return a comparison as of the moment of the table."""
    found = query(by, data_dir=folder, now=now, **asked)
    assert isinstance(found, Comparison)
    return found


def record(pair: Pair) -> dict[str, object]:
    """Return what a pair says of its metrics, without its names."""
    found = pair.record(("cost", "calls", "tokens"))
    return {name: it for name, it in found.items() if name not in pair.group}


BY: Final = (
    *("tenant", "agent", "model", "modality,provider", "room", "job", "deployment", "outcome"),
    *("label.region", "corrects", "service_tier,agent_label,project"),
)


def sides_of(folder: Path, by: str, found: Comparison, **asked: Any) -> tuple[Report, Report]:
    """Return the two answers of which a comparison is made."""
    spans = ((found.since, found.until), (found.since_before, found.until_before))
    answers = [query(by, since=a, until=b, data_dir=folder, **asked) for a, b in spans]
    return answers[0], answers[1]


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("compared_with", ["previous", *later("last-week", "2026-11")])
def test_a_comparison_is_the_two_answers(asked: Path, by: str, compared_with: str) -> None:
    """Also of voided calls, credits and corrections of closed months, with lengths, conditions and labels."""
    since = FIRST + timedelta(milliseconds=EVERY_MS * CALLS // 2)
    words: dict[str, Any] = {"metric": "minutes,cost,cost_per_minute,billed", "where": "agent!=x"}
    found = compare(
        asked,
        by,
        now=ASKED_AT,
        since=since,
        until=since + timedelta(days=2),
        compare=compared_with,
        timezone=BERLIN,
        **words,
    )
    reports = sides_of(asked, by, found, now=ASKED_AT, timezone=BERLIN, **words)
    for at, report in enumerate(reports):
        rows = [(pair.now, pair.before)[at] for pair in found.rows]
        assert by_name(filter(None, rows)) == by_name(report.rows)
        total = (found.total.now, found.total.before)[at]
        assert total == (report.total if report.total.rows else None)
        prefix = "before: " * at
        for it in (*report.completeness.findings, *report.notes):
            text = it if isinstance(it, str) else it.text
            assert {text, f"{prefix}{text}"} & {*found.warnings, *found.notes}
    assert found.completeness == reports[0].completeness
    assert found.completeness_before == reports[1].completeness
    changes = [found.total.now, found.total.before]
    if all(it is not None and it.cost is not None for it in changes):
        parts = [
            [row.cost or 0 for row in (getattr(it, name) for it in found.rows) if row]
            for name in ("now", "before")
        ]
        assert found.total.change("cost") == sum(parts[0]) - sum(parts[1])


def by_name(rows: Iterable[Row]) -> dict[tuple[str | None, ...], Row]:
    """Return rows by their groups."""
    return {tuple(row.group.values()): row for row in rows}


@pytest.mark.parametrize("seed", [0, *later(1, 2)])
def test_months_that_were_closed_and_corrected_are_compared_as_they_stand(
    tmp_path: Path, seed: int
) -> None:
    """Ledgers by chance, with operations of every kind: each side is what a query of that month says."""
    folder = by_chance(tmp_path, seed)
    for by in ("tenant", "model,agent"):
        found = compare(folder, by, since="2026-11", until="2026-12", compare="last-month")
        for report, name in zip(
            sides_of(folder, by, found, now=NOW), ("now", "before"), strict=True
        ):
            assert by_name(filter(None, (getattr(it, name) for it in found.rows))) == by_name(
                report.rows
            )


def test_rows_come_by_what_changed_most(ledger: Path) -> None:
    """Up or down, what is new or gone by all of it, and last what is not known; or in any other order."""
    asked, *_ = PERIODS["a week"]

    def values(sort: str | None, of: Callable[[Pair], Any]) -> list[Any]:
        found = compare(ledger, "model,tenant", sort=sort, metric="cost,minutes", **asked)
        return [of(pair) for pair in found.rows]

    def moved(pair: Pair) -> Decimal | None:
        sides = [Decimal(0) if it is None else it.cost for it in (pair.now, pair.before)]
        return None if sides[0] is None or sides[1] is None else sides[0] - sides[1]

    found = values(None, moved)
    known = [abs(it) for it in found if it is not None]
    assert known == sorted(known, reverse=True)
    assert found[len(known) :] == [None] * (len(found) - len(known))
    assert values("change", moved) == found
    signed = [it for it in values("change:desc", moved) if it is not None]
    assert signed == sorted(signed, reverse=True)
    assert signed[::-1] == [it for it in values("change:asc", moved) if it is not None]
    for sort, rising in (("calls", False), ("calls:asc", True)):
        calls = [it for it in values(sort, lambda it: it.now and it.now.sessions) if it is not None]
        assert calls == sorted(calls, reverse=not rising)
    tenants = values("tenant:desc", lambda it: it.group["tenant"])
    names = [it for it in tenants if it is not None]
    assert names == sorted(names, reverse=True)
    assert tenants[len(names) :] == [None] * (len(tenants) - len(names))
    assert len(values("minutes", moved)) == len(found)


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ({"since": None}, BadQuestion, "add --since, such as --since this-week"),
        ({"by": "day"}, BadQuestion, "nothing to compare by day: each day is in one of the two"),
        ({"by": "tenant,session"}, BadQuestion, "Group by what may be in both, such as tenant"),
        ({"compare": "last-year"}, BadTime, "'last-year' is no period: use previous, last-week"),
        ({"compare": "2026-13"}, BadTime, "'2026-13' is no period"),
        ({"compare": "2026-11-31"}, BadTime, "'2026-11-31' is no period"),
        ({"compare": "2026-10-01.."}, BadTime, "is no period"),
        ({"compare": "2026-11-01..2026-10-01"}, BadTime, "is not after the start"),
        ({"compare": "soon..today"}, BadTime, "'soon' cannot be read as a time"),
        ({"compare": ("2026-10-01", None)}, BadQuestion, "name both moments"),
        ({"since": "0001-01-03", "until": "2026-01-01"}, BadTime, "is before all time"),
        (
            {"since": "2027-03-30", "until": "2027-03-31", "compare": "last-month"},
            BadTime,
            "'last-month' has none of these days: name the period",
        ),
        ({"sort": "change:up"}, BadQuestion, "sort 'change:up' must end in :asc or :desc"),
        ({"sort": "chagne"}, UnknownColumn, "did you mean 'change'?"),
        ({"metric": "profit"}, UnknownColumn, "unknown metric 'profit'"),
        ({"top": 0}, BadTop, "top 0 shows nothing"),
    ],
)
def test_what_cannot_be_compared_is_said_before_a_ledger_is_opened(
    tmp_path: Path, asked: dict[str, Any], kind: type[BadQuestion], said: str
) -> None:
    """One sentence says what to do."""
    words = {"by": "tenant", "since": "2026-11-02", "compare": "previous", **asked}
    with pytest.raises(kind) as raised:
        query(data_dir=tmp_path / "nowhere", now=NOW, **words)
    assert said in str(raised.value)


def test_more_rows_than_memory_is_for_are_refused(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of both periods are in memory, so there is a bound, and the answer says what to do."""
    monkeypatch.setattr(compared, "MOST_GROUPS", 6)
    with pytest.raises(BadQuestion, match=r"rows are too many to compare, more than 3: group by"):
        compare(ledger, "model,tenant", since="2026-10", until="2027-05", compare="last-month")


def test_nothing_is_not_zero(tmp_path: Path) -> None:
    """A period without a call has no total, a cost of zero has no percentage, and neither has a credit."""
    folder = write_ledger(tmp_path, [Booking(occurred_at=day(20), session_id=ACME, cost="0")])
    start = datetime(2026, 11, 20, tzinfo=UTC)
    found = compare(folder, "tenant", since=start, until=start + timedelta(1), compare="previous")
    assert (found.total.presence, found.total.before, found.total.change("cost")) == (
        "new",
        None,
        None,
    )
    assert found.total.now is not None
    again = compare(folder, "tenant", since=start, until=start + timedelta(1), compare=(start, NOW))
    assert (again.total.change("cost"), again.total.change_percent("cost")) == (0, None)
    credit = structs.replace(found.total.now, cost=Decimal(-1))
    pair = Pair(now=found.total.now, before=credit)
    assert (pair.change("cost"), pair.change_percent("cost")) == (1, None)
    nobody = compare(folder, "tenant", since="2025-01", until="2025-02", compare="previous")
    assert (nobody.rows, nobody.total.presence, nobody.groups) == ((), "neither", 0)
    assert nobody.warnings[0].startswith("no usage matches")


def test_both_periods_have_to_be_whole(ledger: Path, data_dir: Path) -> None:
    """What is missing from either is a reason; what is of the whole ledger is one once."""
    found = compare(ledger, "tenant", since="2026-10-25", until="2026-11", compare="2027-03")
    assert found.whole is False
    sides = (found.completeness, found.completeness_before)
    prices = [it.text for it in found.findings if it.source == "prices"]
    assert prices == [
        f"{'before: ' * at}{it.text}"
        for at, each in enumerate(sides)
        for it in each.findings
        if it.source == "prices"
    ]
    assert len({it.text for it in found.findings}) == len(found.findings)
    now = datetime(2026, 11, 21, 14, 3, 14, tzinfo=UTC)
    one = compare(
        data_dir,
        "tenant",
        now=now,
        since="2026-11-20T12:00",
        until="2026-11-20T13:00",
        compare="2026-11-18",
    )
    assert one.records() == [it.record(("cost",)) for it in one.rows]
    assert one.completeness_before.whole is not False
