"""Tests of `costs audit`, and of the one line in `costs query` that sends a reader there."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from msgspec import structs
from rich.cells import cell_len

from tests.analytics.conftest import Costs
from tests.support.events import ended, final, message, reading, session_id, started
from tests.support.oracle import rate
from tests.support.sample_ledger import (
    ACME,
    ACME_OLD,
    AS_OF,
    GLOBEX,
    NOBODY,
    NOW,
    SAMPLE,
    SHY,
    Booking,
    write_ledger,
    write_snapshot,
    write_status,
)
from voicecosts import audit, query
from voicecosts.analytics.answers.audit import Audit
from voicecosts.analytics.errors import BadQuestion, NotALedger
from voicecosts.analytics.question.columns import State
from voicecosts.analytics.text.audit import CAUSES, as_csv, as_json, as_table
from voicecosts.consumer.booking.message import Reason
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

GOLDEN = Path(__file__).parents[1] / "golden"


def counts(found: Audit) -> dict[str, int]:
    """Return how many sessions are in each state."""
    return {str(it.state): it.sessions for it in found.states}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ledger with a call in every state; all of it came at once, two hours ago."""
    folder = tmp_path_factory.mktemp("real")
    whole, repaired, short, abandoned, lone = range(1, 6)
    now = [NOW]
    with Ledger.open(folder, rate, clock=Clock(now=lambda: now[0])) as ledger:
        ledger.apply(
            [
                message(
                    1,
                    reading(1, of=whole, input_tokens=1000),
                    reading(2, of=whole, input_tokens=2000),
                    ended(3, final(input_tokens=2000), of=whole, tenant="acme"),
                    reading(2, of=repaired, input_tokens=2000),
                    ended(4, final(input_tokens=3000), of=repaired, tenant="acme"),
                    reading(1, of=short, input_tokens=9000),
                    ended(2, final(input_tokens=1000), of=short, tenant="acme"),
                    reading(1, of=abandoned, input_tokens=500),
                    started(lone, tenant="globex"),
                )
            ]
        )
        now[0] += timedelta(hours=2)
    return folder


def test_every_call_has_its_state_and_its_money(real: Path) -> None:
    """States come worst first, each with its calls, what they cost, and what they may lack."""
    found = audit(data_dir=real, open_for="1m")
    assert [(it.state, it.sessions, it.cost, it.missing_at_most) for it in found.states] == [
        (State.SHORT, 1, Decimal("0.001110600"), Decimal("0.000123400")),
        (State.ABANDONED, 2, Decimal("0.000061700"), None),
        (State.REPAIRED, 1, Decimal("0.000370200"), Decimal(0)),
        (State.COMPLETE, 1, Decimal("0.000246800"), Decimal(0)),
    ]


def test_what_is_not_whole_is_listed(real: Path) -> None:
    """The worst come first, each with the reason and how many of its readings arrived."""
    found = audit(data_dir=real, open_for="1m")
    assert [
        (it.session.int & 0xFF, it.state, it.cause, it.readings_made, it.readings_arrived)
        for it in found.sessions
    ] == [
        (3, "short", "backwards", 1, 1),
        (4, "abandoned", None, None, 1),
        (5, "abandoned", None, None, 0),
    ]
    assert found.listed == 3


def test_a_call_that_was_seen_lately_is_open(real: Path) -> None:
    """How long a call may be silent is a parameter; the clock is that of the ledger."""
    found = audit(data_dir=real, open_for=timedelta(days=31))
    assert counts(found) == {"short": 1, "open": 2, "repaired": 1, "complete": 1}


def test_states_choose_what_is_listed_and_not_what_is_counted(real: Path) -> None:
    """The totals stay whole, whichever calls are asked for."""
    found = audit(state="repaired, complete", top=1, data_dir=real, open_for="1m")
    assert [it.state for it in found.sessions] == ["repaired"]
    assert found.listed == 2
    assert sum(counts(found).values()) == 5


@pytest.mark.parametrize(
    ("where", "since", "expected"),
    [
        ("tenant=globex", None, {"abandoned": 1}),
        ("agent=dental", None, {"short": 1, "abandoned": 2, "repaired": 1, "complete": 1}),
        ("modality=llm", None, {"short": 1, "abandoned": 1, "repaired": 1, "complete": 1}),
        ("tenant=nobody", None, {}),
        ((), "2026-11-18", {"short": 1, "abandoned": 2, "repaired": 1, "complete": 1}),
        ((), "2026-11-19", {}),
    ],
)
def test_a_call_counts_where_anything_of_it_happened(
    real: Path, where: str, since: str | None, expected: dict[str, int]
) -> None:
    """Also a start without any booking; of that no model is known, so a model leaves it out."""
    assert counts(audit(where=where, since=since, data_dir=real, open_for="1m")) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"state": "lost"}, "unknown state 'lost'"),
        ({"open_for": "soon"}, "'soon' cannot be read as a span of time: use 90m, 1h or 2d"),
        ({"top": 0}, "top 0 shows nothing"),
    ],
)
def test_what_cannot_be_asked_is_said(asked: dict[str, str], message: str) -> None:
    """No ledger is opened for a question that makes no sense."""
    with pytest.raises(BadQuestion, match=message):
        audit(**asked, data_dir="/nowhere")  # type: ignore[arg-type]  # the values are wrong on purpose


def test_the_table_fits_and_explains(real: Path) -> None:
    """People read words, unknown money is said to be unknown, and no line is too wide."""
    found = structs.replace(audit(data_dir=real, open_for="1m"), as_of=AS_OF)
    text = as_table(found, now=NOW)
    assert "it has no end" in text
    assert "a total ran backwards" in text
    assert "unknown" in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_why_a_call_is_listed_is_said_at_every_width(real: Path, width: int) -> None:
    """Where no column fits, it stands under its call, with what may be missing; ids stay whole."""
    found = structs.replace(audit(data_dir=real, open_for="1m"), as_of=AS_OF)
    narrow = as_table(found, now=NOW, width=width)
    assert max(map(cell_len, narrow.splitlines())) <= width
    assert "columns that do not fit: " in narrow
    assert narrow.count("  it has no end") == 2
    (line,) = [line for line in narrow.splitlines() if "a total ran backwards" in line]
    assert line.startswith("  ")
    assert "missing: unknown" in narrow or "missing at most" in narrow
    if width > 60:
        assert all(str(session.session) in narrow for session in found.sessions)


def test_the_table_is_what_it_was(tmp_path: Path) -> None:
    """The sample's calls as a table: states, then the calls that are not whole."""
    directory = write_ledger(tmp_path, endless=[ACME_OLD, SHY])
    write_status(directory)
    found = audit(data_dir=directory, open_for="90m", now=NOW)
    assert as_table(found, now=NOW) == (GOLDEN / "audit.txt").read_text()


def test_json_and_csv_hold_all_of_it(real: Path) -> None:
    """Money is text, unknown is null or empty, and the columns are the same."""
    found = audit(data_dir=real, open_for="1m")
    document = json.loads(as_json(found))
    assert list(document) == [
        *("states", "sessions", "listed", "currency", "since", "until", "open_for_s", "as_of"),
        *("lost", "completeness", "warnings", "notes"),
    ]
    assert document["states"][0] == {
        "state": "short",
        "sessions": 1,
        "cost": "0.001110600",
        "missing_at_most": "0.000123400",
    }
    first = document["sessions"][0]
    assert (first["session"], first["cause"]) == (session_id(3), "backwards")
    assert first["last_seen_at"] == "2026-11-18T11:06:40.000002Z"
    assert document["sessions"][1]["missing_at_most"] is None
    rows = list(csv.DictReader(io.StringIO(as_csv(found).decode())))
    assert list(rows[0]) == list(first)
    assert rows[1]["missing_at_most"] == ""


def test_calls_without_a_tenant_are_not_those_with_a_note(tmp_path: Path) -> None:
    """The calls of all tenants, and those of none, are together all calls: each is in one."""
    events = (
        started(1),
        reading(1, input_tokens=1),
        reading(2, input_tokens=0),
        started(2, tenant=None),
    )
    with Ledger.open(tmp_path, rate, embedded=True) as ledger:
        ledger.apply([message(1, *events)])
    of_acme, of_none, of_all = (
        sum(counts(audit(where=where, data_dir=tmp_path)).values())
        for where in ("tenant=acme", "tenant=(none)", ())
    )
    assert (of_acme, of_none, of_all) == (1, 1, 2)


def test_every_cause_has_words() -> None:
    """A dead letter of a session has one of these reasons, and a reader should not look them up."""
    of_sessions = {
        Reason.BACKWARDS,
        Reason.OUT_OF_RANGE,
        Reason.ABOVE_CEILING,
        Reason.INVALID_EVENT,
    }
    ours = {"producer_dropped", "gap_after_end", "contradicts_end", "unmeasured"}
    assert set(CAUSES) == {str(reason) for reason in of_sessions} | ours


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], 1)])
def test_strict_fails_when_something_is_missing(
    costs: Costs, real: Path, arguments: list[str], code: int
) -> None:
    """A question that was answered is no failure, unless a script wants to stop at it."""
    done = costs("audit", *arguments, "--data-dir", str(real))
    assert (done.returncode, "because of --strict" in done.stderr) == (code, bool(code))
    assert "abandoned" in done.stdout or "open" in done.stdout


def test_strict_is_content_with_what_is_whole(costs: Costs, tmp_path: Path) -> None:
    """Complete, repaired and open calls are as they should be."""
    directory = write_ledger(tmp_path / "d")
    write_status(directory, as_of=datetime.now(UTC))
    done = costs("audit", "--strict", "--format", "json", "--data-dir", str(directory))
    assert done.returncode == 0
    assert json.loads(done.stdout)["states"][0]["state"] == "complete"
    assert json.loads(done.stdout)["completeness"]["whole"] is True
    done = costs("audit", "--strict", "--data-dir", str(directory))
    assert (done.returncode, "no usage is missing: every source" in done.stdout) == (0, True)


def test_a_snapshot_that_says_too_little_is_not_audited(tmp_path: Path) -> None:
    """An older ledger can be queried, where nothing is said of its sessions, and not be audited."""
    path = write_snapshot(tmp_path / "old.duckdb")
    with duckdb.connect(path) as old:
        old.execute("DROP MACRO TABLE unsettled_sessions; DROP MACRO TABLE completeness_at")
        old.execute("UPDATE schema_migrations SET version = 1")
    with pytest.raises(NotALedger, match="noted too little"):
        audit(data_dir=path)
    missing = query(data_dir=path, now=NOW).completeness
    assert (missing.open_sessions, missing.short_sessions) == (None, None)


class TestTheLineOfAQuery:
    def test_whole_calls_are_not_mentioned(self, data_dir: Path) -> None:
        """Complete calls are the rule and need no words."""
        report = query(data_dir=data_dir, now=NOW)
        assert report.notes == ()
        assert (report.completeness.open_sessions, report.completeness.short_sessions) == (0, 0)

    def test_open_calls_are_a_note_and_no_warning(self, tmp_path: Path) -> None:
        """A call that runs is as it should be; its costs are still growing."""
        directory = write_ledger(tmp_path, late(SAMPLE[:3]), endless=[ACME])
        write_status(directory)
        report = query(data_dir=directory, now=NOW)
        assert report.notes == ("1 call is still running",)
        assert report.warnings == ()

    def test_abandoned_calls_are_a_warning(self, tmp_path: Path) -> None:
        """The costs of a call that nobody ended may lack its last seconds."""
        directory = write_ledger(tmp_path, SAMPLE[:7], endless=[ACME_OLD, ACME, GLOBEX])
        report = query(data_dir=directory, now=NOW)
        assert report.warnings[0] == (
            "the numbers may lack something: 3 calls were abandoned without an end; "
            f"`costs audit --data-dir {directory}` names them"
        )
        assert report.completeness.abandoned_sessions == 3

    def test_short_calls_come_with_their_worst_case(self, real: Path) -> None:
        """What is known to be missing is bounded when it can be, in the same one line."""
        report = query(data_dir=real)
        [line, *_] = report.warnings
        assert line.startswith(
            "the numbers may lack something: 1 call is short (at most 0.0001234 USD"
        )
        assert report.completeness.short_at_most == Decimal("0.000123400")

    def test_it_is_of_the_calls_that_are_shown(self, tmp_path: Path) -> None:
        """A period without the call, or another tenant, is not worried by it."""
        directory = write_ledger(tmp_path, endless=[ACME_OLD, NOBODY])
        globex = query(where="tenant=globex", data_dir=directory, now=NOW)
        assert globex.completeness.abandoned_sessions == 0
        between = query(since="2026-11-19", until="2026-11-21", data_dir=directory, now=NOW)
        assert between.completeness.abandoned_sessions == 0
        assert (
            query(since="2026-11-21", data_dir=directory, now=NOW).completeness.open_sessions == 0
        )
        assert query("session", data_dir=directory, now=NOW).completeness.abandoned_sessions == 2


def late(bookings: tuple[Booking, ...]) -> list[Booking]:
    """Return bookings as if they had happened minutes before the moment of the sample."""
    soon = (AS_OF - timedelta(minutes=5)).replace(tzinfo=None)
    return [structs.replace(booking, occurred_at=soon) for booking in bookings]
