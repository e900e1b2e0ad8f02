"""Tests of how answers look as HTML: every figure is there, and every name is text."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from tests.support.hostile_names import NAMES, write_hostile
from tests.support.sample_ledger import (
    ACME,
    NOW,
    Booking,
    day,
    write_ledger,
)
from tests.support.some_calls import NOW as CALLS_NOW
from tests.support.some_calls import write_calls
from voicecosts import call
from voicecosts.analytics.commands.dashboard_app import page
from voicecosts.analytics.commands.dashboard_app.figures import Choice, Figures, look
from voicecosts.analytics.text.names import in_cell


def parts_of(found: Figures) -> dict[str, str]:
    """Return all parts of the page."""
    return {
        "said": page.said(found.by_tenant, NOW),
        "tiles": page.tiles(found),
        "days": page.days(found.by_day),
        "agents": page.agents(found.by_agent),
        "tenants": page.tenants(found.by_tenant),
        "unpriced": page.unpriced(found.by_tenant),
        "unsettled": page.unsettled(found.audit, (), NOW),
        "calls": page.calls(found.calls, ()),
    }


def text_of(html: str) -> str:
    """Return what a browser shows of it, cells with blanks between."""
    return unescape(re.sub(r"<[^>]*>", " ", html))


def rows_of(html: str) -> list[list[str]]:
    """Return the cells of each row of its tables."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html)
    return [[unescape(it) for it in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_every_figure_is_there(data_dir: Path) -> None:
    """What has no price is unpriced and never zero, what nothing bills is unbilled."""
    found = look(Choice(), data_dir, now=NOW)
    parts = parts_of(found)
    head, *tenants, total = rows_of(parts["tenants"])
    assert head == ["tenant", "billed", "cost USD", "margin", "of billed", "calls", "unpriced"]
    assert tenants[0][:4] == ["globex", "unbilled", "2.500000000", "unbilled"]
    assert tenants[3][:3] == [r"[red]sh\x1b[31my[/red]", "unbilled", "unpriced"]
    assert total == ["total", "unbilled", "4.032000003", "unbilled", "", "5", "3 requests"]
    assert rows_of(parts["days"])[:2] == [
        ["day", "llm", "stt", "tts", "unpriced"],
        ["2026-11-21", "0.400000000", "unpriced", "", "llm: 1 request, stt: 1 request"],
    ]
    assert "4.032000003" in parts["tiles"]
    assert found.by_tenant.warnings
    for sentence in ("Something is missing from these numbers.", *found.by_tenant.warnings):
        assert sentence in text_of(parts["said"])
    assert "homebrew" in parts["unpriced"]
    assert rows_of(parts["unsettled"]) == []
    assert "no call is unsettled" in parts["unsettled"]
    assert len(rows_of(parts["calls"])) == 1 + 5


def test_a_margin_is_what_is_billed_less_what_it_cost(tmp_path: Path) -> None:
    """Exactly, below zero too, and none where one of them is not known."""
    amounts = {"wins": ("1.000000001", "3.000000000"), "loses": ("2.000000000", "0.500000000")}
    bookings = [
        Booking(occurred_at=day(20), session_id=ACME, project=name, tenant=name, cost=cost, billed=billed)
        for name, (cost, billed) in amounts.items()
    ]  # fmt: skip
    found = look(Choice(), write_ledger(tmp_path, bookings), now=NOW)
    rows = {row[0]: row for row in rows_of(page.tenants(found.by_tenant))}
    assert rows["wins"][3:5] == ["1.999999999", "66.7 %"]
    assert rows["loses"][3:5] == ["-1.500000", "-300.0 %"]
    assert rows["total"][3] == "0.499999999"
    assert "0.499999999" in page.tiles(found)


def test_what_is_unsettled_is_what_the_ledger_may_not_have_all_of(tmp_path: Path) -> None:
    """By state and call by call; a call that is whole is not among them."""
    found = look(Choice(), write_calls(tmp_path), now=CALLS_NOW)
    states = {str(it.state): str(it.sessions) for it in found.audit.states}
    assert "complete" in states
    assert "open" in states
    _, *table = rows_of(page.unsettled(found.audit, (), CALLS_NOW))
    shown = {row[0]: row[2] for row in table if row[0] in states}
    assert shown == {it: count for it, count in states.items() if it != "complete"}


def test_every_name_is_text(tmp_path: Path) -> None:
    """No part has a tag but its own, whatever somebody is called, and every name can be read in it."""
    found = look(Choice(), write_hostile(tmp_path), now=NOW)
    parts = parts_of(found)
    parts["receipt"] = page.receipt(call(data_dir=tmp_path, now=NOW), NOW)
    own = {"div", "p", "span", "b", "table", "thead", "tbody", "tr", "th", "td"}
    for name, html in parts.items():
        assert set(re.findall(r"<([^/\s>]+)", html)) <= own, name
        assert not re.search(r"<[^>]*\bon\w+=", html), name
    for name in NAMES:
        assert in_cell(name) in unescape(parts["tenants"])
        assert in_cell(name) in unescape(parts["agents"])
        assert in_cell(name) in unescape(parts["calls"])
    assert set(page.options(NAMES).values()) == set(NAMES)
    assert len(page.choices(found.calls)) == len(NAMES)
    assert all(it["modality"] in {*map(in_cell, NAMES), "llm"} for it in page.bars(found.by_day))


def test_many_rows_are_cut_and_the_total_is_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the page says so."""
    monkeypatch.setattr(page, "ROWS", 2)
    found = look(Choice(), write_ledger(tmp_path), now=NOW)
    html = page.tenants(found.by_tenant)
    assert [row[0] for row in rows_of(html)] == ["tenant", "globex", "acme", "total"]
    assert "2 of 4 rows shown, the total is of all" in text_of(html)


def test_an_empty_ledger_has_no_rows(empty_dir: Path) -> None:
    """Every part says so in words."""
    parts = parts_of(look(Choice(), empty_dir, now=NOW))
    for name in ("days", "agents", "tenants", "calls"):
        assert "no rows" in parts[name], name
    assert "everything has a price" in parts["unpriced"]
    assert "0.000000" in parts["tiles"]


def test_a_receipt_has_all_that_the_command_says(data_dir: Path) -> None:
    """Its head, its parts with their total, what is in no turn, and the sentences below."""
    found = call(str(ACME), data_dir=data_dir, now=NOW)
    html = page.receipt(found, NOW)
    rows = rows_of(html)
    assert ["call", str(ACME)] in rows
    assert ["cost", "1.032000002 USD"] in rows
    assert any(row[:2] == ["total", "1.032000002"] for row in rows)
    for sentence in found.warnings:
        assert sentence in text_of(html)
