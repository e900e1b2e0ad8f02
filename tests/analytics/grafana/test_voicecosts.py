"""Tests of the Grafana dashboard: its SQL runs on a snapshot, and says what the commands say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.grafana import DASHBOARD, PANELS, VARIABLES, filled
from tests.support.sample_ledger import ACME, GLOBEX, NOBODY, SHY, Booking, day, write_ledger
from voicecosts import calls, query
from voicecosts.analytics.question.filters import shown

Ask = Callable[..., list[dict[str, Any]]]
JOKE = "O'Neil'); DROP VIEW usage; --"


@pytest.fixture(scope="module")
def asked(data_dir: Path) -> Iterator[Ask]:
    """Run a panel on the sample ledger, with all that its variables offer unless told otherwise."""
    with duckdb.connect(data_dir / "costs.duckdb", read_only=True) as ledger:
        yield asking(ledger)


def asking(ledger: duckdb.DuckDBPyConnection) -> Ask:
    """Return a function that runs a panel."""
    offered = {
        name: [row[0] for row in ledger.sql(sql).fetchall()] for name, sql in VARIABLES.items()
    }

    def ask(panel: str, **chosen: Any) -> list[dict[str, Any]]:
        given = {"tenants": offered["tenant"], "agents": offered["agent"], **chosen}
        found = ledger.sql(filled(PANELS[panel], **given))
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    return ask


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_runs(asked: Ask, panel: str) -> None:
    """Of types that the data source can show. The sample has no unsettled call, and none with a length."""
    assert asked(panel) or panel in ("Unsettled calls", "Cost per minute by agent")
    kinds = {type(it) for row in asked(panel) for it in row.values()}
    assert not kinds - {str, int, Decimal, float, type(None), type(day(1))}


def test_a_panel_says_what_a_query_says(asked: Ask, data_dir: Path) -> None:
    """Cost, calls, what has no price, and each tenant."""
    total = query(data_dir=data_dir).total
    assert asked("Cost") == [{"cost": total.cost}]
    assert asked("Calls") == [{"calls": total.sessions}]
    assert asked("Unpriced requests") == [{"unpriced_requests": total.unpriced_requests}]
    rows = query(data_dir=data_dir).rows
    assert {it["tenant"]: it["cost"] for it in asked("Margin by tenant")} == {
        row.group["tenant"] or "(none)": row.cost for row in rows
    }
    days = query("day", data_dir=data_dir).rows
    parts = ("stt", "llm", "tts", "realtime", "other")
    assert {it["day"]: sum(it[part] or 0 for part in parts) for it in asked("Money by day")} == {
        row.group["day"]: row.cost or 0 for row in days
    }


def test_the_list_of_calls_is_that_of_the_command(asked: Ask, data_dir: Path) -> None:
    """The newest first, with their cost."""
    listed = asked("Newest calls")
    found = calls(data_dir=data_dir).calls
    assert [it["call"] for it in listed] == [str(each.session) for each in found]
    assert [it["cost"] for it in listed] == [each.used.cost for each in found]


def test_what_is_chosen_chooses(asked: Ask, data_dir: Path) -> None:
    """A tenant, an agent, and days from the first to the last one."""
    only = asked("Cost", tenants=["acme"])
    assert only == [{"cost": query(where=["tenant=acme"], data_dir=data_dir).total.cost}]
    [sales] = asked("Cost", agents=["sales"])
    assert sales["cost"] == query(where=["agent=sales"], data_dir=data_dir).total.cost
    [some] = asked("Cost", since="2026-11-20T00:00:00Z", until="2026-11-20T23:59:59.999Z")
    asked_of = query(since="2026-11-20", until="2026-11-21", data_dir=data_dir)
    assert some["cost"] == asked_of.total.cost


def test_an_empty_ledger_and_a_hostile_name(empty_dir: Path, tmp_path: Path) -> None:
    """No panel fails on the first day, and a name is a value and never SQL."""
    with duckdb.connect(empty_dir / "costs.duckdb", read_only=True) as ledger:
        ask = asking(ledger)
        for panel in PANELS:
            ask(panel, tenants=[""], agents=[""])
    joke = Booking(occurred_at=day(20), session_id=SHY, tenant=JOKE, cost="1.000000000")
    directory = write_ledger(tmp_path, [joke])
    with duckdb.connect(directory / "costs.duckdb", read_only=True) as ledger:
        [row] = asking(ledger)("Margin by tenant")
        assert (row["tenant"], row["cost"]) == (JOKE, 1)


def test_a_tenant_that_is_called_none_is_not_without_one(tmp_path: Path) -> None:
    """It is written as the commands write it, in the tables and in the choice, which chooses it alone."""
    names = {None: "(none)", "(none)": r"\(none)", r"\(none)": r"\\(none)", "acme": "acme"}
    written = write_ledger(
        tmp_path,
        [
            Booking(
                occurred_at=day(20), session_id=it, tenant=name, cost=f"{it.int % 7 + 1}.000000000"
            )
            for it, name in zip((ACME, GLOBEX, NOBODY, SHY), names, strict=True)
        ],
    )
    with duckdb.connect(written / "costs.duckdb", read_only=True) as ledger:
        ask = asking(ledger)
        rows = {row["tenant"]: row["cost"] for row in ask("Margin by tenant")}
        assert set(rows) == set(names.values())
        assert [shown(name) for name in names] == list(names.values())
        for name in names.values():
            assert ask("Cost", tenants=[name]) == [{"cost": rows[name]}]


def test_it_names_no_data_source_of_ours() -> None:
    """Whoever imports it chooses the data source, of this kind; each panel asks that one."""
    assert all(it["datasource"]["uid"] == "${datasource}" for it in DASHBOARD["panels"])
    assert {it["datasource"]["type"] for it in DASHBOARD["panels"]} == {
        "motherduck-duckdb-datasource"
    }
