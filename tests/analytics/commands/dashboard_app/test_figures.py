"""Tests of what the page asks: the answers of the commands, to what was chosen."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.events import (
    AGENT,
    PROJECT,
    ended,
    final,
    message,
    reading,
    session_id,
    started,
)
from tests.support.oracle import rate
from tests.support.sample_ledger import AS_OF, NOW, SAMPLE, VERSION, write_ledger, write_snapshot
from voicecosts import audit, call, calls, query
from voicecosts.analytics.commands.dashboard_app.figures import (
    PER_MINUTE,
    Choice,
    look,
    names,
    receipt,
    state,
    words,
)
from voicecosts.analytics.errors import LedgerNewer, NoLedger
from voicecosts.consumer.booking.operations import Void
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event


def test_the_answers_are_those_of_the_commands(data_dir: Path) -> None:
    """To the same question, whatever was chosen."""
    for choice, where in (
        (Choice(), ()),
        (Choice(tenants=("acme", None)), ("tenant=acme", "tenant=(none)")),
        (Choice(agents=("sales",), tenants=("globex",)), ("agent=sales", "tenant=globex")),
        (Choice(since="7d"), ()),
    ):
        found = look(choice, data_dir, now=NOW)
        asked = {"since": choice.since, "where": where, "data_dir": data_dir, "now": NOW}
        assert found.by_tenant == query(**asked)
        assert found.by_agent == query("agent", metric=PER_MINUTE, **asked)
        assert found.by_day == query("day,modality", sort="day", **asked)
        assert found.calls == calls(top=50, **asked)
        assert found.audit == audit(**asked)


def test_a_minute_costs_what_calls_of_known_length_and_cost_say(tmp_path: Path) -> None:
    """A call that goes on, and one without a price, are in no minute; a voided one is no call."""
    with Ledger.open(tmp_path, rate) as ledger:
        events: list[Event] = []
        for of, seconds, model in (
            (1, 60, "gpt-4.1-mini"), (2, 30, "gpt-4.1-mini"), (3, 0, "gpt-4.1-mini"),
            (4, 60, "unknown"), (5, 60, "gpt-4.1-mini"),
        ):  # fmt: skip
            begin = started(of=of)
            events += [begin, reading(1, of=of, input_tokens=123_457, model=model)]
            if seconds:
                end = final(input_tokens=123_457, model=model)
                events.append(ended(2, end, of=of, ended_at=begin.started_at + seconds * 10**6))
        ledger.apply([message(1, *events)])
        ledger.operate(Void(project=PROJECT, session_id=session_id(5)), reason="a test")
        while ledger.work():
            pass
    costs = {it.group["session"]: it.cost for it in query("session", data_dir=tmp_path).rows}
    both = sum(costs[session_id(of)] or 0 for of in (1, 2))
    [row] = look(Choice(), tmp_path).by_agent.rows
    assert row.group == {"agent": AGENT}
    assert (row.sessions, row.length and row.length.calls) == (4, 3)
    assert row.metric("minutes") == Decimal("2.5")
    assert row.metric("cost_per_minute") == round(Decimal(both) / 90 * 60, 9)


def test_who_can_be_chosen_comes_by_cost(data_dir: Path) -> None:
    """None is without a tenant; who had no call in the period is not offered."""
    offered = names(None, data_dir)
    assert offered.tenants == ("globex", "acme", None, "[red]sh\x1b[31my[/red]")
    assert set(offered.agents) == {"dental", "sales"}
    assert names("2031-01-01", data_dir).tenants == ()


def test_it_differs_when_an_answer_may(tmp_path: Path) -> None:
    """A ledger that appears, another snapshot, and nothing else."""
    home = tmp_path / "home"
    none = state(home)
    write_ledger(home)
    first = state(home)
    assert none != first == state(home)
    write_ledger(home, SAMPLE[:1], number=2, as_of=AS_OF + timedelta(seconds=1))
    assert state(home) != first


def test_what_goes_wrong_is_said_as_the_command_says_it(tmp_path: Path) -> None:
    """With the data directory in what it advises; what nobody foresaw is named as that."""
    with pytest.raises(NoLedger) as missing:
        look(Choice(), tmp_path / "none")
    assert "no ledger at" in words(missing.value, tmp_path / "none")
    write_ledger(tmp_path)
    write_snapshot(tmp_path / "costs-2.duckdb", version=VERSION + 1)
    (tmp_path / "costs.duckdb").unlink()
    (tmp_path / "costs.duckdb").symlink_to("costs-2.duckdb")
    with pytest.raises(LedgerNewer, match="reads up to"):
        look(Choice(), tmp_path)
    assert words(ZeroDivisionError("odd")) == "unexpected ZeroDivisionError: odd"
    assert "`costs audit --data-dir /x`" in words(NoLedger(tmp_path, "`costs audit` says"), "/x")


def test_a_receipt_is_that_of_the_command(data_dir: Path) -> None:
    """By whatever a call is named."""
    assert receipt("last", data_dir).call == call(data_dir=data_dir).call
