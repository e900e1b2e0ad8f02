"""Tests of what can be asked of a row beside its cost: margins, minutes, and money by the call and by the minute."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from msgspec import structs

from tests.support.asked import CALLS, NOW, call_id
from tests.support.events import message, reading, started
from tests.support.long_forms import later
from tests.support.oracle import rate
from tests.support.sample_ledger import (
    ACME,
    GLOBEX,
    NOBODY,
    Booking,
    day,
    write_ledger,
    write_snapshot,
)
from tests.support.some_calls import write_calls
from voicecosts import calls, query
from voicecosts.analytics.answers.report import Outcomes, Report, Row
from voicecosts.analytics.errors import NotALedger, UnknownColumn
from voicecosts.analytics.question.columns import METRICS, OF_CALLS, OF_OUTCOMES
from voicecosts.analytics.text.costs import as_csv, as_json, as_table
from voicecosts.consumer.store.ledger import Ledger

MINUTES = {call_id(it): Fraction(it * 3, 2) for it in range(1, CALLS)}
"""The calls of which start and end are known, the voided one too."""


def ask(folder: Path, by: str, metric: str, **asked: object) -> Report:
    """Return an answer as of the moment of this ledger."""
    return query(by, metric=metric, data_dir=folder, now=NOW, **asked)  # type: ignore[arg-type]  # cases


@pytest.mark.parametrize("by", ["session", "tenant", "model", "room,modality", "day", "agent,turn"])
def test_a_call_counts_with_its_whole_length_once_in_each_row(asked: Path, by: str) -> None:
    """Also where the row is of a model that was connected for no time; a voided call has no length."""
    parts = query(f"session,{by}", data_dir=asked, now=NOW).rows
    for row in (*ask(asked, by, "minutes,cost_per_minute,billed_per_minute").rows, total_of(asked)):
        mine = [
            it
            for it in (query("session", data_dir=asked, now=NOW).rows if not row.group else parts)
            if it.sessions and row.group.items() <= it.group.items()
        ]
        timed = [it for it in mine if it.group["session"] in MINUTES]
        lengths = {it.group["session"]: MINUTES[it.group["session"] or ""] for it in timed}
        assert row.sessions == len(mine)
        assert row.length is not None
        assert (row.length.calls, row.length.us) == (
            len(lengths),
            sum(lengths.values()) * 60_000_000,
        )
        for name in ("cost", "billed"):
            known = [it for it in timed if getattr(it, name) is not None]
            money = sum((Fraction(getattr(it, name)) for it in known), Fraction(0))
            minutes = sum(MINUTES[it.group["session"] or ""] for it in known)
            expected = rounded(money / minutes) if known else None
            assert row.metric(f"{name}_per_minute") == expected, (row.group, name)
        assert row.metric("cost_per_minute") is None or (
            row.is_part("cost_per_minute") == (len(timed) < len(mine) or row.lacks_prices)
        )


def test_a_minute_of_a_call_is_that_of_the_list_of_calls(asked: Path) -> None:
    """Its length and what a minute of it costs; of one without a start neither."""
    rows = {
        it.group["session"]: (it.metric("minutes"), it.metric("cost_per_minute"))
        for it in ask(asked, "session", "minutes,cost_per_minute").rows
        if it.sessions
    }
    listed = calls(data_dir=asked, now=NOW).calls
    assert {str(it.session) for it in listed if it.state != "voided"} == rows.keys()
    for it in listed:
        if it.state != "voided":
            length = it.length_seconds
            minutes = None if length is None else (length / 60).quantize(Decimal("0.000001"))
            assert rows[str(it.session)] == (minutes, it.cost_per_minute)
    assert list(rows.values()).count((None, None)) == 1


def total_of(folder: Path) -> Row:
    """Return the total with its length."""
    return ask(folder, "project", "minutes,cost_per_minute").total


def rounded(exact: Fraction) -> Decimal:
    """Return a figure rounded half to even to nine digits."""
    return Decimal(round(exact * 10**9)).scaleb(-9)


@pytest.mark.parametrize("by", ["session", "tenant", "model", "room,modality", "outcome", "agent"])
def test_a_successful_call_bears_what_the_others_cost(asked: Path, by: str) -> None:
    """All of the cost of a row, by those of its calls that said so, each once; a voided one is none of them."""
    names = by.split(",")
    own = query(
        f"session,outcome,{by}".replace(",outcome,outcome", ",outcome"), data_dir=asked, now=NOW
    )
    metric = "successful_calls,cost_per_successful_call"
    report = ask(asked, by, metric, top=2)
    assert report.other is not None or report.groups <= 2
    whole = ask(asked, by, metric)
    for row in (*whole.rows, whole.total):
        said = {
            it.group["session"]: it.group["outcome"]
            for it in own.rows
            if it.sessions and all(it.group[name] == row.group[name] for name in names if row.group)
        }
        successful = list(said.values()).count("success")
        assert row.metric("successful_calls") == successful
        bears = successful and row.cost is not None
        expected = rounded(Fraction(row.cost or 0) / successful) if bears else None
        assert row.metric("cost_per_successful_call") == expected
        assert row.outcomes == Outcomes(successful, sum(it is not None for it in said.values()))
    assert whole.total.metric("successful_calls") == 2
    assert any(it.startswith("what came of them is known of 4 of 8 calls") for it in whole.notes)
    if report.other is not None and by in ("session", "tenant", "outcome", "agent"):
        counts = [row.metric("successful_calls") for row in (*report.rows, report.other)]
        assert sum(it for it in counts if it is not None) == 2
    ordered = ask(asked, by, (), sort="cost_per_successful_call")
    known = [row.metric("cost_per_successful_call") for row in ordered.rows]
    assert known[0] == max((it for it in known if it is not None), default=None)


def test_no_success_is_no_figure(asked: Path) -> None:
    """Nor zero: the table says so, JSON has null, and a ledger that noted no outcomes cannot be asked."""
    report = ask(
        asked, "outcome", "calls,successful_calls,cost_per_successful_call", sort="outcome"
    )
    table = as_table(report, now=NOW, digits=4).splitlines()
    assert table[0].split() == ["outcome", *report.metrics]
    [failed] = [it for it in table if it.startswith("fail")]
    assert failed.split()[1:] == ["2", "0", "no", "success"]
    [won] = [it for it in table if it.startswith("success")]
    assert won.split()[1:3] == ["2", "2"]
    rows = {row["outcome"]: row for row in json.loads(as_json(report))["rows"]}
    assert rows["fail"]["cost_per_successful_call"] is None
    assert isinstance(rows["success"]["cost_per_successful_call"], str)
    compared = query(
        "agent",
        metric="cost_per_successful_call",
        since="2026-10-25",
        compare="previous",
        data_dir=asked,
        now=NOW,
    )
    assert compared.total.before is not None


def test_what_is_not_known_is_no_figure(asked: Path) -> None:
    """No margin without a rule; a minute costs what the calls of known length do: and the answer says so."""
    report = ask(asked, "tenant", "margin,cost-per-call,minutes,cost_per_minute,tokens,calls")
    acme, globex = (
        {row.group["tenant"]: row for row in report.rows}[it] for it in ("acme", "globex")
    )
    assert acme.billed is not None
    assert acme.cost is not None
    assert acme.metric("margin") == acme.billed - acme.cost
    assert acme.metric("cost_per_call") == rounded(Fraction(acme.cost) / 3)
    timed = (
        Fraction(acme.cost) + Fraction(1, 2) - Fraction("5.503042")
    )  # but a credit, and a call without a start
    assert acme.metric("cost_per_minute") == rounded(timed / Fraction("13.5"))
    assert (acme.metric("calls"), acme.metric("tokens")) == (3, acme.input_tokens)
    assert (globex.metric("margin"), globex.metric("billed_per_minute")) == (None, None)
    assert (globex.metric("minutes"), globex.is_part("minutes")) == (18, False)
    assert (acme.is_part("minutes"), acme.is_part("cost_per_minute")) == (True, True)
    said = "minutes, and what one costs, are those of 7 of 8 calls: the others have not ended, or"
    assert any(it.startswith(said) for it in report.notes)
    table = as_table(report, now=NOW, digits=2).splitlines()
    assert table[0].split() == ["tenant", *report.metrics]
    [line] = [it for it in table if it.startswith("globex")]
    assert line.split()[1:] == ["unbilled", "3.00", "18.0", "0.50", "18,004,116", "3"]
    credit = ask(asked, "session", "cost_per_call,billed_per_minute", where="model=").rows[0]
    assert [credit.metric(it) for it in ("cost_per_call", "billed_per_minute")] == [None, None]
    table = as_table(ask(asked, "model", "cost_per_call,cost_per_minute,margin"), now=NOW)
    [line] = [it for it in table.splitlines() if it.startswith("(none)")]
    assert line.split() == ["(none)", "no", "calls", "no", "calls", "unbilled"]


def test_programs_get_metrics_beside_what_they_always_get(asked: Path) -> None:
    """Money as exact text, minutes as numbers, what is not known as null: last in CSV and in each object."""
    names = ("cost", "cost_per_minute", "minutes", "margin")
    report = ask(asked, "tenant", ",".join(names), sort="tenant")
    document = json.loads(as_json(report))
    for found in (*document["rows"], document["total"]):
        assert list(found)[-3:] == ["cost_per_minute", "minutes", "margin"]
    costs = [row["cost_per_minute"] for row in document["rows"]]
    assert costs == ["0.481706815", "0.500225333", "0.466892000"]
    assert [row["margin"] for row in document["rows"]][1:] == [None, None]
    assert [row["minutes"] for row in document["rows"]] == [13.5, 18.0, 15.0]
    header, first, *_ = csv.reader(io.StringIO(as_csv(report).decode()))
    assert header[-3:] == ["cost_per_minute", "minutes", "margin"]
    assert first[-3:] == ["0.481706815", "13.5", "2.901216800"]
    assert report.records()[0]["margin"] == Decimal("2.9012168")


OF_EACH_KIND = (
    "cost",
    "margin",
    "sessions",
    "audio_seconds",
    "billed_per_call",
    "cost_per_minute",
    *OF_OUTCOMES,
)


@pytest.mark.parametrize(
    "sort", [*OF_EACH_KIND, *later(*(it for it in METRICS if it not in OF_EACH_KIND))]
)
def test_rows_come_in_the_order_of_any_metric(
    asked: Path, sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest first, what is not known last, whether few groups are added up or many."""
    for many in (False, True):
        if many:
            monkeypatch.setattr("voicecosts.analytics.answers.costs.FEW_GROUPS", 0)
        metric = sort if sort in OF_CALLS else ()
        report = query("tenant,model", sort=sort, metric=metric, data_dir=asked, now=NOW)
        values = [row.metric(sort) for row in report.rows]
        known = [it for it in values if it is not None]
        assert values == [*sorted(known, reverse=True), *[None] * (len(values) - len(known))]
    rising = query("tenant,model", sort=f"{sort}:asc", top=3, data_dir=asked, now=NOW)
    assert [row.metric(sort) for row in rising.rows] == sorted(known)[:3] or len(known) < 3


def test_names_are_those_of_the_columns(tmp_path: Path) -> None:
    """A dash is an underscore, and a name that nothing has is refused before a ledger is opened."""
    for asked in ({"metric": "profit"}, {"sort": "cost_per_hour"}):
        with pytest.raises(UnknownColumn, match="Choose from"):
            query(data_dir=tmp_path, **asked)  # type: ignore[arg-type]  # cases
    one = write_ledger(
        tmp_path / "one", [Booking(occurred_at=day(20), session_id=ACME, cost="1", billed="2")]
    )
    [row] = query(metric=["margin", "cost-per-call"], data_dir=one).rows
    assert (row.metric("margin"), row.metric("cost_per_call")) == (1, 1)
    old = write_snapshot(tmp_path / "old.duckdb", version=10)
    with pytest.raises(NotALedger, match="`costs up` brings it up to date"):
        query(metric="minutes", data_dir=old)


@pytest.mark.parametrize("by", ["tenant", "model,tenant", "session", "room", "hour", "turn"])
def test_what_is_beyond_the_top_is_one_row(asked: Path, by: str) -> None:
    """Shown rows and the other one add up to the total; a call is counted once in it."""
    whole = query(by, metric="minutes", data_dir=asked, now=NOW)
    top = query(by, metric="minutes", top=2, data_dir=asked, now=NOW)
    assert (top.rows, top.total, top.groups) == (whole.rows[:2], whole.total, whole.groups)
    assert whole.other is None
    assert top.other is not None
    for name in ("cost", "rows", "input_tokens", "characters", "unpriced_characters", "list_cost"):
        parts = [getattr(row, name) for row in (*top.rows, top.other)]
        assert sum(it for it in parts if it is not None) == getattr(top.total, name), name
    if by in ("tenant", "session", "room"):
        assert top.other.sessions == sum(row.sessions for row in whole.rows[2:])
        assert sum(row.length.us for row in (*top.rows, top.other) if row.length) == (
            top.total.length and top.total.length.us
        )
    document = json.loads(as_json(top))
    assert document["other"]["rows"] == top.other.rows
    assert json.loads(as_json(whole))["other"] is None
    lines = as_table(top, now=NOW).splitlines()
    assert lines[4] == lines[1]
    assert (lines[5].split()[0], lines[6].split()[0]) == ("(other)", "total")
    assert query(by, top=whole.groups, data_dir=asked, now=NOW).other is None


def test_nothing_of_the_rest_has_a_price(tmp_path: Path) -> None:
    """Then the other row is unpriced, and not zero."""
    rows = [
        Booking(occurred_at=day(20), session_id=of, tenant=name, cost=cost, unpriced_reason=why)
        for of, name, cost, why in (
            (ACME, "a", "1", None),
            (GLOBEX, "b", None, "x"),
            (NOBODY, None, None, "x"),
        )
    ]
    report = query(top=1, data_dir=write_ledger(tmp_path, rows))
    assert report.other is not None
    assert (report.other.cost, report.other.requests, report.other.sessions) == (None, 2, 2)
    assert report.total.cost == 1


def test_calls_that_used_nothing_are_told_where_calls_are_counted(tmp_path: Path) -> None:
    """They are in the list of calls, and in no figure by calls: so the question says how many, with its conditions."""
    folder = write_calls(tmp_path)
    every = calls(data_dir=folder, now=NOW, top=100)
    unused = [it for it in every.calls if it.used.rows == 0 and it.state != "voided"]
    assert unused
    for where in ((), "tenant=acme", "tenant=(none)", "agent=nobody"):
        listed = calls(data_dir=folder, now=NOW, top=100, where=where)
        count = sum(it in unused for it in listed.calls)
        report = query(metric=("calls", "minutes"), where=where, data_dir=folder, now=NOW)
        said = [it for it in report.notes if "used nothing" in it]
        assert bool(said) == bool(count)
        assert all(it.startswith(f"{count} call") for it in said)
        assert report.total.sessions + count == len(
            [it for it in listed.calls if it.state != "voided"]
        )
    for quiet in (
        query(data_dir=folder),
        query(metric="calls", where="model=llama", data_dir=folder),
    ):
        assert not [it for it in quiet.notes if "used nothing" in it]


def test_a_label_that_no_call_has_is_told(tmp_path: Path) -> None:
    """A group by it looks like calls without that label; what was meant is said, or what there is."""
    with Ledger.open(tmp_path, rate) as ledger:
        begin = structs.replace(started(), labels={"campaign": "winter"})
        ledger.apply([message(1, begin, reading(1, input_tokens=10))])
    for by, said in (
        ("label.campain", "no call has a label 'campain': did you mean label.campaign?"),
        ("label.x", "no call has a label 'x': there is label.campaign"),
    ):
        assert query(by, data_dir=tmp_path).warnings[0] == said
        assert (
            query(where=f"{by}=winter", data_dir=tmp_path).warnings[0]
            == f"no usage matches: {said}"
        )
    known = query("label.campaign", data_dir=tmp_path)
    assert not [it for it in known.warnings if "no call has" in it]
