"""Tests of the question itself: groups, filters, periods, order, totals."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from msgspec import structs

from tests.support.sample_ledger import (
    ACME,
    ACME_OLD,
    GLOBEX,
    NOW,
    Booking,
    day,
    write_ledger,
    write_snapshot,
)
from voicecosts import call, calls, connect, query, statement
from voicecosts.analytics.answers import costs
from voicecosts.analytics.commands.asking import answering, audit
from voicecosts.analytics.errors import BadTop, UnknownColumn
from voicecosts.analytics.text.audit import as_table as audit_table
from voicecosts.analytics.text.costs import as_csv, as_json, as_table

Costs = dict[str | None, str | None]


def costs_by(data_dir: Path, by: str, **asked: object) -> Costs:
    """Return the cost of each group as text, in the order of the rows."""
    report = query(by, data_dir=data_dir, now=NOW, **asked)  # type: ignore[arg-type]  # cases of one table
    return {
        row.group[by]: None if row.cost is None else format(row.cost, "f") for row in report.rows
    }


def test_cost_comes_by_tenant_largest_first_and_unpriced_last(data_dir: Path) -> None:
    """No tenant is a group of its own, and a tenant without any price has no cost, not zero."""
    costs = costs_by(data_dir, "tenant")
    assert list(costs.items()) == [
        ("globex", "2.500000000"),
        ("acme", "1.132000003"),
        (None, "0.400000000"),
        ("[red]sh\x1b[31my[/red]", None),
    ]


@pytest.mark.parametrize(
    ("by", "first"),
    [
        ("tenant", "globex"),
        ("agent", "sales"),
        ("agent_label", "Greeter"),
        ("project", "prod"),
        ("provider", "openai"),
        ("model", "gpt-4.1-mini"),
        ("modality", "llm"),
        ("service_tier", ""),
        ("session", "01a1fb30-2980-7000-8000-000000000003"),
        ("day", "2026-11-20"),
        ("month", "2026-11"),
    ],
)
def test_every_group_can_be_asked_for(data_dir: Path, by: str, first: str) -> None:
    """Each name on the list works, sums to the same total, and gives its values as text."""
    report = query(by, data_dir=data_dir, now=NOW)
    assert report.rows[0].group[by] == first
    assert sum(row.cost for row in report.rows if row.cost) == Decimal("4.032000003")
    assert report.total.cost == Decimal("4.032000003")


def test_a_hand_off_splits_the_cost_of_a_call(data_dir: Path) -> None:
    """Two agents of one call have their own rows, and the call counts once in the total."""
    report = query(("session", "agent_label"), where=f"session={ACME}", data_dir=data_dir, now=NOW)
    assert [(row.group["agent_label"], str(row.cost)) for row in report.rows] == [
        ("Greeter", "1.000000002"),
        ("Booker", "0.032000000"),
    ]
    assert report.total.sessions == 1


def test_a_session_counts_once_in_the_total_whatever_the_groups(data_dir: Path) -> None:
    """The total counts distinct sessions; it is not the sum of the groups."""
    report = query("modality", data_dir=data_dir, now=NOW)
    assert sum(row.sessions for row in report.rows) == 8
    assert report.total.sessions == 5


def test_quantities_add_up_exactly(data_dir: Path) -> None:
    """Tokens, characters and requests are sums, durations come in seconds without rounding."""
    [row] = query("tenant", where="tenant=acme", data_dir=data_dir, now=NOW).rows
    assert (row.rows, row.requests, row.sessions, row.unpriced_rows) == (5, 5, 2, 0)
    assert (row.input_tokens, row.output_tokens, row.characters) == (3000, 300, 320)
    assert row.audio_seconds == Decimal("12.5")
    assert row.session_seconds == 0


def test_the_estimated_part_is_told_apart(data_dir: Path) -> None:
    """It is part of the cost: zero when nothing is estimated, unknown when the cost is."""
    parts = {
        row.group["tenant"]: row.estimated_cost
        for row in query("tenant", data_dir=data_dir, now=NOW).rows
    }
    assert parts["acme"] == Decimal("0.002")
    assert parts["globex"] == 0
    assert parts["[red]sh\x1b[31my[/red]"] is None


def test_a_price_for_a_part_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    """What a partly priced booking cost is in the cost, and the booking is still told as unpriced."""
    part = Booking(
        occurred_at=day(20), session_id=ACME, cost="0.300000000", unpriced_reason="no_unit"
    )
    report = query(data_dir=write_ledger(tmp_path, [part]), now=NOW)
    assert (report.total.cost, report.total.unpriced_rows) == (Decimal("0.3"), 1)
    assert report.warnings[0].startswith("not in these costs: 1 request to openai/gpt-4.1-mini")


def test_a_period_holds_its_start_and_not_its_end(data_dir: Path) -> None:
    """Two periods that touch give each call, with all of its rows, to the one in which it started."""
    before = query("tenant", until="2026-11-21", data_dir=data_dir, now=NOW)
    after = query("tenant", since="2026-11-21", data_dir=data_dir, now=NOW)
    assert (before.total.rows, after.total.rows) == (7, 3)
    assert costs_by(data_dir, "tenant", since="2026-11-20", until="2026-11-21") == {
        "globex": "2.500000000",
        "acme": "1.032000002",
    }


def test_a_period_with_an_offset_is_that_of_another_place(data_dir: Path) -> None:
    """Midnight in India is half past six in the evening before, UTC."""
    report = query("tenant", since="2026-11-21T05:30+05:30", data_dir=data_dir, now=NOW)
    assert report.since == datetime(2026, 11, 21, tzinfo=UTC)
    assert report.total.rows == 3


def test_days_are_utc_days(data_dir: Path) -> None:
    """A call an hour before midnight belongs to its own day, also what it used after midnight."""
    days = query("day", sort="day", data_dir=data_dir, now=NOW)
    assert [(row.group["day"], row.rows) for row in days.rows] == [
        ("2026-11-18", 1),
        ("2026-11-20", 6),
        ("2026-11-21", 3),
    ]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (["tenant=acme"], 5),
        (["tenant=acme", "tenant=globex"], 7),
        (["tenant=acme", "modality=tts"], 2),
        (["tenant=(none)"], 1),
        (["tenant=", "tenant=acme"], 6),
        (["agent=sales", "model=gpt-4.1-mini"], 2),
        ([f"session={ACME}", f"session={ACME_OLD}"], 5),
        (["day=2026-11-18", "day=2026-11-21"], 4),
        (["month=2026-11"], 10),
        (["month=2026-10"], 0),
        (["tenant!=acme"], 5),
        (["tenant!=acme", "tenant!="], 4),
        (["tenant=*e*"], 9),
        (["tenant=*e*", "tenant!=acm?", "tenant!=*b*"], 7),
        (["model!=gpt-*", "modality!=stt"], 4),
        (["session!=01a1f82f-1e80-7000-8000-000000000002"], 6),
        (["tenant!=*"], 1),
        (["tenant=ACME"], 0),
        (["tenant=acme' OR '1'='1"], 0),
        (["tenant=%"], 0),
        (["tenant=?"], 0),
    ],
)
def test_conditions_choose_rows(data_dir: Path, where: list[str], rows: int) -> None:
    """The same column means either, other columns mean both, and values are only values."""
    assert query("tenant", where=where, data_dir=data_dir, now=NOW).total.rows == rows


def test_top_keeps_the_first_rows_and_the_total_of_all(data_dir: Path) -> None:
    """What is not shown is still counted, and the report knows how much that is."""
    report = query("tenant", top=1, data_dir=data_dir, now=NOW)
    assert [row.group["tenant"] for row in report.rows] == ["globex"]
    assert report.groups == 4
    assert report.total.cost == Decimal("4.032000003")
    with pytest.raises(BadTop):
        query("tenant", top=0, data_dir=data_dir)


def test_rows_of_equal_cost_have_a_fixed_order(tmp_path: Path) -> None:
    """Ties are ordered by their groups, those without a tenant last."""
    tenants = ["delta", None, "alpha", "charlie", "bravo"]
    rows = [
        Booking(occurred_at=day(20), session_id=ACME, tenant=it, cost="1.000000000")
        for it in tenants
    ]
    path = write_snapshot(tmp_path / "ties.duckdb", rows)
    assert list(costs_by(path, "tenant")) == ["alpha", "bravo", "charlie", "delta", None]


def test_another_order_can_be_asked_for(data_dir: Path) -> None:
    """By a group in its own order, by a measure largest first, or the other way round."""
    assert list(costs_by(data_dir, "agent", sort="agent")) == ["dental", "sales"]
    assert list(costs_by(data_dir, "agent", sort="agent:desc")) == ["sales", "dental"]
    assert list(costs_by(data_dir, "tenant", sort="cost:asc"))[:2] == [None, "acme"]


def test_a_total_far_above_one_booking_is_exact(tmp_path: Path) -> None:
    """Sums keep all nine digits above the largest single amount."""
    large = [
        Booking(occurred_at=day(20), session_id=ACME, cost="999999999.999999999") for _ in range(3)
    ]
    report = query(data_dir=write_ledger(tmp_path, large), now=NOW)
    assert report.total.cost == Decimal("2999999999.999999997")


def test_an_empty_ledger_has_a_total_of_nothing(empty_dir: Path) -> None:
    """What used nothing costs nothing, and a sentence that says what to do."""
    report = query(data_dir=empty_dir, now=NOW)
    assert (report.rows, report.groups) == ((), 0)
    assert (report.total.cost, report.total.rows, report.total.sessions) == (0, 0, 0)
    assert "attach a CostObserver" in report.warnings[0]


def test_a_question_that_matches_nothing_says_what_there_is(data_dir: Path) -> None:
    """A mistyped tenant looks different from a ledger without usage, and from a period without any."""
    for where, said in (
        ("tenant=acmee", "nothing has the tenant 'acmee': did you mean 'acme'?"),
        ("tenant=ACME", "nothing has the tenant 'ACME': did you mean 'acme'?"),
        (["tenant=acme", "tenant=xyz", "agent=salse"], "nothing has the tenant 'xyz'"),
        (["tenant!=xyz", "agent=salse"], "nothing has the agent 'salse': did you mean 'sales'?"),
        ("room=nowhere", "nothing has the room 'nowhere'"),
        ("label.x=y", "no call has a label 'x': no call has any label"),
    ):
        report = query(where=where, data_dir=data_dir, now=NOW)
        assert report.warnings[0] == f"no usage matches: {said}"
    assert calls(where="tenant=ACME", data_dir=data_dir).warnings[0].endswith("mean 'acme'?")
    report = query(where="tenant=acme", since="2025-01", until="2025-02", data_dir=data_dir)
    assert report.warnings[0] == (
        "no usage matches: the ledger holds usage from 2026-11-18 12:00:00Z to 2026-11-21 13:00:00Z; "
        "ask for another period, or leave out a condition"
    )


def test_a_wrong_question_never_opens_the_ledger(tmp_path: Path) -> None:
    """The question is checked first, so its own error is the one that is told."""
    with pytest.raises(UnknownColumn):
        query("tenat", data_dir=tmp_path / "nowhere")


def test_records_feed_tables_and_data_frames(data_dir: Path) -> None:
    """A record is flat: the groups by name, then the measures."""
    record = query(("agent", "tenant"), data_dir=data_dir, now=NOW).records()[0]
    assert list(record)[:3] == ["agent", "tenant", "cost"]
    assert record["agent"] == "sales"


def test_the_total_agrees_with_plain_sql(data_dir: Path) -> None:
    """What the report says is what anybody gets from the views."""
    with duckdb.connect(data_dir / "costs.duckdb", read_only=True) as ledger:
        plain = ledger.execute(
            "SELECT tenant, sum(cost) FROM usage GROUP BY tenant ORDER BY tenant NULLS LAST"
        ).fetchall()
    report = query("tenant", sort="tenant", data_dir=data_dir, now=NOW)
    assert [(row.group["tenant"], row.cost) for row in report.rows] == plain


def test_a_tenant_that_is_named_none_can_be_asked_for(tmp_path: Path) -> None:
    """A backslash tells the name from the absence, in the question and in the table."""
    named = [
        Booking(occurred_at=day(20), session_id=ACME, tenant="(none)", cost="1.000000000"),
        Booking(
            occurred_at=day(20), session_id=ACME_OLD, tenant=None, agent_id="", cost="2.000000000"
        ),
        Booking(occurred_at=day(20), session_id=GLOBEX, agent_id="(none)", cost="4.000000000"),
    ]
    folder = write_ledger(tmp_path, named)
    of_agents = as_table(query("agent", data_dir=folder, now=NOW), now=NOW).splitlines()
    assert sorted(line.split()[0] for line in of_agents[2:5]) == ["(none)", r"\(none)", "dental"]
    for where, cost in (("agent=(none)", 2), (r"agent=\(none)", 4), ("agent!=(none)", 5)):
        assert query(where=where, data_dir=folder, now=NOW).total.cost == cost
    assert query(where="tenant=(none)", data_dir=folder, now=NOW).total.cost == 2
    assert query(where=r"tenant=\(none)", data_dir=folder, now=NOW).total.cost == 1
    assert query(where=r"tenant=\\(none)", data_dir=folder, now=NOW).total.rows == 0
    lines = as_table(query(data_dir=folder, now=NOW), now=NOW).splitlines()
    assert {line.split()[0] for line in lines[2:5]} == {"(none)", r"\(none)", "acme"}


@pytest.mark.parametrize("name", ["(none)", r"\(none)"])
def test_whatever_is_named_none_is_in_every_answer(tmp_path: Path, name: str) -> None:
    """A mapping, the receipt of a call and the statement of a project find what the grouping shows."""
    books = {"agent_id": name, "agent_label": name, "project": name, "provider": name}
    one = Booking(
        occurred_at=day(20), session_id=ACME, cost="2.000000000", billed="2.500000000", **books
    )
    folder = write_ledger(tmp_path, [one])
    for column in ("agent", "agent_label", "project", "provider"):
        [row] = query(column, data_dir=folder, now=NOW).rows
        assert (row.group[column], row.cost) == (name, 2)
        assert query(where={column: name}, data_dir=folder, now=NOW).total.cost == 2
        assert query(where={f"{column}!": name}, data_dir=folder, now=NOW).total.rows == 0
    receipt = call("last", data_dir=folder, now=NOW)
    assert (receipt.total.cost, [part.cost for part in receipt.parts]) == (2, [2])
    bill = statement("acme", "2026-11", project=name, data_dir=folder, now=NOW)
    assert (bill.total.billed, [line.used.billed for line in bill.lines]) == (
        Decimal("2.5"),
        [Decimal("2.5")],
    )


def test_the_same_id_in_two_projects_is_two_sessions(tmp_path: Path) -> None:
    """They are counted apart, and shown apart."""
    both = [
        Booking(occurred_at=day(20), session_id=ACME, project=project, cost="1.000000000")
        for project in ("prod", "staging")
    ]
    folder = write_ledger(tmp_path, both)
    report = query("session", data_dir=folder, now=NOW)
    assert (report.total.sessions, [row.cost for row in report.rows]) == (2, [1, 1])
    assert [row.group["project"] for row in report.rows] == ["prod", "staging"]
    lines = as_table(report, now=NOW).splitlines()
    assert lines[0].split()[:2] == ["session", "project"]
    assert [line.split()[1] for line in lines[2:4]] == ["prod", "staging"]
    first = as_table(query("session", top=1, data_dir=folder, now=NOW), now=NOW).splitlines()
    assert first[2].split()[:2] == [str(ACME), "prod"]
    found = audit(data_dir=folder, now=NOW)
    [one] = found.sessions
    found = structs.replace(found, sessions=(one, structs.replace(one, project="staging")))
    audited = audit_table(found, now=NOW).splitlines()
    assert [line.split()[1] for line in audited if str(ACME) in line] == ["prod", "staging"]


def test_a_session_is_told_with_its_project_to_programs(data_dir: Path) -> None:
    """Always, and last in CSV; a table shows it where an id is not enough."""
    report = query("session", data_dir=data_dir, now=NOW)
    assert {row["project"] for row in json.loads(as_json(report))["rows"]} == {"prod"}
    header, first, *_ = as_csv(report).decode().splitlines()
    assert header.startswith("session,cost,")
    assert (header.split(",")[-1], first.split(",")[-1]) == ("project", "prod")
    assert "project" not in as_table(report, now=NOW)
    asked = as_csv(query("session,project", data_dir=data_dir, now=NOW)).decode()
    assert asked.splitlines()[0].count("project") == 1


def test_many_groups_are_added_up_as_few_are(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, an answer is the same to the last digit."""
    asked: list[dict[str, str]] = [
        {"by": "tenant"},
        {"by": "model,day", "sort": "sessions"},
        {"by": "agent", "where": "model=nova-3"},
        {"by": "tenant", "since": "2026-11-20"},
    ]
    few = [query(data_dir=data_dir, now=NOW, **it) for it in asked]  # type: ignore[arg-type]  # cases
    monkeypatch.setattr(costs, "FEW_GROUPS", 0)
    assert [query(data_dir=data_dir, now=NOW, **it) for it in asked] == few  # type: ignore[arg-type]  # same


def test_memory_does_not_grow_with_the_rows_of_an_answer(tmp_path: Path) -> None:
    """Of five times the sessions no more rows are in memory at a time, and none is missing.

    Each is asked once before: Python's own table of names may grow by megabytes at any new path.
    """

    def counted() -> int:
        with answering("session", data_dir=folder, now=NOW, spill=tmp_path / "spill") as found:
            report, left = found
            count = sum(row.sessions for row in left)
        assert count == report.groups == report.total.sessions
        return count

    folder = write_ledger(tmp_path, [Booking(occurred_at=day(20), session_id=ACME, cost="1")])
    rows, peaks = [], []
    for first, sessions in ((100_000, 1_500), (200_000, 6_000)):
        with duckdb.connect((folder / "costs.duckdb").resolve()) as ledger:
            ledger.execute(
                "INSERT INTO bookings SELECT b.* REPLACE "
                "((left(session_id::VARCHAR, 24) || printf('%012x', n))::UUID AS session_id) "
                "FROM (FROM bookings LIMIT 1) AS b, range($1::BIGINT, $2::BIGINT) AS numbers (n)",
                [first, first + sessions],
            )
        counted()
        tracemalloc.start()
        rows.append(counted())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert rows == [1_501, 7_501]
    assert peaks[1] - peaks[0] < 1_000_000


def test_absurd_amounts_are_added_up(tmp_path: Path) -> None:
    """The largest amounts that an event may carry, many times: every view and answer has a sum."""
    most = 2**53 - 1
    one = Booking(
        occurred_at=day(20),
        session_id=ACME,
        requests=most,
        input_tokens=most,
        output_tokens=most,
        characters=most,
        audio_us=most,
        session_us=most,
        cost="999999999.999999999",
        unpriced_reason="no_unit",
    )
    folder = write_ledger(tmp_path, [one])
    with duckdb.connect((folder / "costs.duckdb").resolve()) as ledger:
        ledger.execute("INSERT INTO bookings SELECT bookings.* FROM bookings, range(1499)")
    report = query("session,day", data_dir=folder, now=NOW)
    assert report.total.input_tokens == report.total.unpriced_input_tokens == 1500 * most
    assert as_table(report, now=NOW)
    assert audit(data_dir=folder, now=NOW).states
    with connect(folder) as ledger:
        names = ledger.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        for (name,) in names:
            assert ledger.table(name).fetchall() is not None
        assert ledger.execute("SELECT input_tokens FROM unpriced").fetchall() == [(2**63 - 1,)]


TIERED = [
    Booking(
        occurred_at=day(20),
        session_id=ACME,
        service_tier=tier,
        cost=cost,
        input_tokens=10,
        unpriced_reason=None if cost else f"'openai/gpt-4.1-mini' has no price for {tier!r}",
    )
    for tier, cost in (("", "1.000000000"), ("priority", None), ("flex", None), ("priority", None))
]


def test_costs_come_by_service_tier(tmp_path: Path) -> None:
    """The standard one has no name, and is shown as such; a filter takes both."""
    folder = write_ledger(tmp_path, TIERED)
    report = query("service_tier", data_dir=folder, now=NOW)
    assert [(row.group["service_tier"], row.cost, row.requests) for row in report.rows] == [
        ("", 1, 1),
        ("flex", None, 1),
        ("priority", None, 2),
    ]
    lines = as_table(report, now=NOW).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["(standard)", "flex", "priority"]
    for where, requests in (
        ("service_tier=(standard)", 1),
        ("service_tier=", 1),
        ("service_tier=priority", 2),
        (("service_tier=flex", "service_tier="), 2),
    ):
        assert query(where=where, data_dir=folder, now=NOW).total.requests == requests
    assert audit(where="service_tier=flex", data_dir=folder, now=NOW).states


def test_what_a_service_tier_lacks_is_said_of_each(tmp_path: Path) -> None:
    """Two tiers of one model lack a price for two reasons, and each names its own."""
    found = query(data_dir=write_ledger(tmp_path, TIERED), now=NOW).completeness.unpriced
    assert [(it.service_tier, it.requests, it.reason) for it in found] == [
        ("priority", 2, "'openai/gpt-4.1-mini' has no price for 'priority'"),
        ("flex", 1, "'openai/gpt-4.1-mini' has no price for 'flex'"),
    ]


def test_everything_in_an_older_ledger_is_of_the_standard_service_tier(tmp_path: Path) -> None:
    """It was written before tiers were told apart, and can still be asked by tier."""
    path = write_snapshot(tmp_path / "old.duckdb", TIERED[:1])
    with duckdb.connect(path) as old:
        (view,) = old.execute(
            "SELECT sql FROM duckdb_views() WHERE view_name = 'usage'"
        ).fetchone() or ("",)
        old.execute(
            view.replace("CREATE VIEW", "CREATE OR REPLACE VIEW").replace(" service_tier,", "")
        )
        old.execute("UPDATE schema_migrations SET version = 4")
    for by in ("service_tier", "tenant"):
        report = query(by, where="service_tier=", data_dir=path, now=NOW)
        assert report.total.cost == 1
    assert query("service_tier", data_dir=path, now=NOW).rows[0].group == {"service_tier": ""}
    assert not query(where="service_tier=flex", data_dir=path, now=NOW).rows
