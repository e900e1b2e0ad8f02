"""Tests of groups and conditions: whatever is asked, parts add up to what all of it is."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tests.support.asked import CALLS, HOSTILE, NOW, VOIDED, call_id, write_asked
from tests.support.events import message, reading
from tests.support.long_forms import later
from tests.support.price_books import mini
from tests.support.sample_ledger import Booking, write_ledger, write_snapshot
from voicecosts import query
from voicecosts.analytics.answers.report import Report, Row, measure_names
from voicecosts.analytics.commands.asking import audit, calls
from voicecosts.analytics.errors import (
    BadFilter,
    NotALedger,
    SealedDamaged,
    SealedMissing,
    UnknownColumn,
)
from voicecosts.analytics.question.columns import Group
from voicecosts.analytics.text.costs import as_csv, as_json, as_table
from voicecosts.consumer.booking.operations import Adjust
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

COLUMNS = (*Group, "label.region", 'label.a.b"]=')
ADDED_UP = tuple(it for it in measure_names() if it not in ("sessions", "estimated_cost"))


@pytest.fixture(scope="module")
def removed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of `asked` without the single rows that were too old."""
    return write_asked(tmp_path_factory.mktemp("removed"), removed=True)


def ask(folder: Path, by: object, **asked: object) -> Report:
    """Return an answer as of the moment of these ledgers."""
    return query(by, data_dir=folder, now=NOW, **asked)  # type: ignore[arg-type]  # cases of tables


def figures(*rows: Row) -> dict[str, Decimal]:
    """Return what rows add up to; what is not known of one adds nothing."""
    return {
        name: sum((Decimal(getattr(row, name) or 0) for row in rows), Decimal(0))
        for name in ADDED_UP
    }


PAIRS = list(combinations(COLUMNS, 2))


def assert_adds_up(folder: Path, by: object, where: object, total: Row) -> None:
    """The rows of an answer add up to its total, which is this one."""
    report = ask(folder, by, where=where)
    assert report.total == total, by
    assert figures(*report.rows) == figures(total), by
    assert len(report.rows) == len({tuple(row.group.items()) for row in report.rows}), by


@pytest.mark.parametrize(
    ("where", "by"),
    [
        ((), (*COLUMNS, *PAIRS[3::29])),
        (["room=*d*", "model!=summary"], PAIRS[5::29]),
        *later(((), PAIRS[::2]), ("tenant!=globex", PAIRS[1::2])),
    ],
)
def test_any_grouping_of_any_filter_adds_up_to_the_same(
    asked: Path, where: object, by: list[object]
) -> None:
    """By each column, and by two of them: the rows add up to the total, which is one, voids and corrections too."""
    total = ask(asked, "project", where=where).total
    assert total.cost
    for each in by:
        assert_adds_up(asked, each, where, total)


def assert_divides(folder: Path, column: str, rows: Sequence[Row]) -> None:
    """A condition has what its row shows, and the opposite has the rest."""
    whole = ask(folder, "project").total
    for row in rows:
        total = ask(folder, "project", where={column: row.group[column]}).total
        rest = ask(folder, "project", where={f"{column}!": row.group[column]}).total
        assert figures(total, rest) == figures(whole), row.group
        if column != Group.TURN:  # which is one of its session
            assert (figures(total), total.sessions) == (figures(row), row.sessions), row.group


@pytest.mark.parametrize("every", [16, *later(4)])
def test_a_condition_and_its_opposite_are_everything(asked: Path, every: int) -> None:
    """What a group shows is what the condition on its name has, and `!=` has the rest."""
    for column in COLUMNS[:: 2 if every > 4 else 1]:
        rows = [row for row in ask(asked, column).rows if row.group[column] or column != "session"]
        assert_divides(asked, column, rows[-1::-every])


def test_what_a_session_says_of_itself_is_a_column(asked: Path) -> None:
    """Rooms, jobs, deployments and labels, whatever their names are; what has none is told from a name."""
    rooms = {row.group["room"]: row.sessions for row in ask(asked, "room").rows}
    assert rooms == {"front-desk": 2, HOSTILE: 2, "(none)": 2, None: 2}
    assert ask(asked, "room", where="room=(none)").rows[0].group == {"room": None}
    assert ask(asked, "room", where=r"room=\(none)").rows[0].group == {"room": "(none)"}
    [row] = ask(asked, 'label.a.b"]=', where="label.region=u*").rows
    assert (row.group, row.sessions) == ({'label.a.b"]=': HOSTILE}, 2)
    outcomes = {row.group["outcome"]: row.sessions for row in ask(asked, "outcome").rows}
    assert outcomes == {"success": 2, "fail": 2, None: 4}
    report = ask(asked, ("label.region", "room"), sort="label.region:desc")
    assert [row.group["label.region"] for row in report.rows][:2] == ["us", "eu"]
    for text in (as_table(report, now=NOW), as_csv(report).decode(), as_json(report).decode()):
        assert "\x1b" not in text
    assert as_csv(report).startswith(b"label.region,room,cost,")


def test_calls_are_chosen_by_the_same_names(asked: Path) -> None:
    """A list of calls and an audit take the conditions that a query takes."""
    for where, numbers in (
        ("room=front-desk", [8, 4]),
        ("label.region=eu", [VOIDED, 1]),
        (["job=AJ_*", "deployment!=blue"], [7, VOIDED, 1]),
        ("turn=speech_3", [2]),
        ("hour=2026-10-25T01:00Z", [4]),
        ("hour=2026-10-25T02:00+01:00", [4]),
        ("week=2026-W42", []),
        ("room=", [9, VOIDED, 1]),
        ("outcome=fail", [6, 2]),
        (["outcome!=fail", "outcome!="], [9, VOIDED, 1]),
    ):
        found = calls(where=where, data_dir=asked, now=NOW)
        assert [str(it.session) for it in found.calls] == [call_id(it) for it in numbers], where
        stated = audit(where=where, data_dir=asked, now=NOW).states
        voided = numbers.count(VOIDED)
        assert sum(it.sessions for it in stated) == len(numbers) - voided, where


def test_a_turn_is_one_of_its_session(asked: Path) -> None:
    """Two sessions may name a turn alike; what is in none of a session is one row of it."""
    report = ask(asked, "turn,model")
    assert report.by == ("session", "turn", "model")
    first = [row for row in report.rows if row.group["turn"] == "speech_1" and row.cost]
    assert len(first) == CALLS
    assert ask(asked, "tenant", where="turn=speech_3").total.cost == Decimal("0.8")


def test_turns_that_are_gone_leave_the_sums_as_they_are(removed: Path, asked: Path) -> None:
    """What was used on days without single rows is in no turn, and the answer says so."""
    whole, report = ask(asked, "turn"), ask(removed, "turn")
    assert report.total == whole.total
    assert figures(*report.rows) == figures(report.total)
    assert {row.group["turn"] for row in report.rows} == {None}
    said = "what was used on those days is in the turn (none)"
    assert [it for it in report.notes if it.endswith(said)]
    assert [it for it in ask(removed, "tenant", where="turn=speech_1").notes if it.endswith(said)]
    assert not [it for it in ask(removed, "tenant").notes if it.endswith(said)]


def test_turns_whose_files_are_missing_are_said_to_be(asked: Path, tmp_path: Path) -> None:
    """Sums need none of the files, hours and rooms neither; a turn cannot be told without them."""
    copy = shutil.copy((asked / "costs.duckdb").resolve(), tmp_path / "costs.duckdb")
    (tmp_path / "sealed").mkdir()
    assert ask(copy, "hour,room").total == ask(asked, "tenant").total
    with pytest.raises(SealedMissing, match="put the folder `sealed`"):
        ask(copy, "turn")


def test_turns_of_a_file_that_has_rotted_are_not_told(asked: Path, tmp_path: Path) -> None:
    """One bit may be another amount, and DuckDB would not notice; sums need no file."""
    folder = Path(shutil.copytree(asked, tmp_path / "copy", symlinks=True))
    whole = ask(folder, "turn")
    file = min(folder.glob("sealed/usage/*/*.parquet"))
    good = file.read_bytes()
    for place in range(4, len(good), len(good) // 40):
        bad = bytearray(good)
        bad[place] ^= 1
        file.write_bytes(bad)
        with pytest.raises(SealedDamaged, match=f"{file.name} has changed since .* from a backup"):
            ask(folder, "turn")
        with pytest.raises(SealedDamaged):
            ask(folder, "tenant", where="turn=speech_1", since="2026-01-01")
    assert ask(folder, "hour,room").total == ask(asked, "tenant").total
    later = date.fromisoformat(file.parent.name.removeprefix("day=")) + timedelta(days=2)
    with pytest.raises(SealedDamaged):  # DuckDB would open it for this too
        ask(folder, "turn", since=str(later))
    for other in (calls, audit):
        with pytest.raises(SealedDamaged):
            other(where="turn=speech_1", data_dir=folder, now=NOW)
        assert other(data_dir=folder, now=NOW)
    file.unlink()
    file.mkdir()
    with pytest.raises(SealedDamaged):
        ask(folder, "turn")
    file.rmdir()
    file.write_bytes(good)
    assert ask(folder, "turn").rows == whole.rows


def test_turns_are_read_from_beside_a_data_directory_that_was_moved(
    asked: Path, tmp_path: Path
) -> None:
    """All of them, as from where it was written."""
    written = write_asked(tmp_path / "here")
    there = written.rename(tmp_path / "there")
    assert ask(there, "turn").rows == ask(asked, "turn").rows


def test_an_older_ledger_says_what_to_do(tmp_path: Path) -> None:
    """One that noted too little of sessions is not read halfway."""
    path = write_snapshot(tmp_path / "old.duckdb", version=10)
    for by, where in (("room", ()), ("turn", ()), ("outcome", ()), ("tenant", "label.x=y")):
        with pytest.raises(NotALedger, match="`costs up` brings it up to date"):
            ask(path, by, where=where)
    path = write_snapshot(tmp_path / "newer.duckdb", version=15)
    for answer in (audit, calls):
        with pytest.raises(NotALedger, match="`costs up` brings it up to date"):
            answer(where="outcome=fail", data_dir=path, now=NOW)


def test_names_that_nothing_can_have_are_refused(tmp_path: Path) -> None:
    """Before a ledger is opened, and with the form that is wanted."""
    for name in ("label.", "label", "label.\x1b", "label.\udcff", "outcome_"):
        with pytest.raises(UnknownColumn, match=r"label\.NAME"):
            ask(tmp_path, name)
    for where in ("hour=2026-10-25", "hour=2026-10-25T01:30Z", "week=2026-10", "month=2026-W43"):
        with pytest.raises(BadFilter, match=r"needs an? (hour|week|month) such as"):
            ask(tmp_path, "tenant", where=where)


CLOCKS = [
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    *later(
        ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2026, 12, 31, 18, 15, tzinfo=UTC)),
    ),
]


@pytest.mark.parametrize(("zone", "change"), CLOCKS)
def test_a_call_is_in_the_hour_day_week_and_month_in_which_it_started_there(
    tmp_path: Path, zone: str, change: datetime
) -> None:
    """Every 20 minutes for a day and a half around a change of the clocks; an hour that is there twice is two."""
    starts = [change + timedelta(minutes=20 * it - 10) for it in range(-54, 54)]
    rows = [
        Booking(occurred_at=it.replace(tzinfo=None), session_id=_started_at(it, number), cost="1")
        for number, it in enumerate(starts)
    ]
    folder = write_ledger(tmp_path, rows)
    there = [it.astimezone(ZoneInfo(zone)) for it in starts]
    shown = {
        "hour": [
            it.replace(minute=0).strftime("%Y-%m-%dT%H:00") + it.isoformat()[-6:] for it in there
        ],
        "day": [f"{it:%Y-%m-%d}" for it in there],
        "week": [f"{it:%G-W%V}" for it in there],
        "month": [f"{it:%Y-%m}" for it in there],
    }
    for by, names in shown.items():
        found = query(by, sort=by, timezone=zone, data_dir=folder)
        expected = list(Counter(names).items())  # in the order of time
        assert [(row.group[by], row.sessions) for row in found.rows] == expected
        for name, sessions in expected[:: max(1, len(expected) // 4)]:
            where = query(where=f"{by}={name}", timezone=zone, data_dir=folder)
            assert where.total.sessions == sessions
    for day, sessions in Counter(shown["day"]).items():
        end = str(date.fromisoformat(day) + timedelta(days=1))
        in_day = query(since=day, until=end, timezone=zone, data_dir=folder)
        assert in_day.total.sessions == sessions
        assert f"period: from {day} 00:00:00" in as_table(in_day, now=NOW)


@pytest.mark.parametrize(
    ("zone", "change", "hours"),
    [
        (
            "Australia/Lord_Howe",  # by half an hour: from 02:00 to 02:30
            datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
            ["2026-10-04T01:00+10:30", "2026-10-04T02:00+11:00", "2026-10-04T03:00+11:00"],
        ),
        (
            "Australia/Lord_Howe",  # from 02:00 to 01:30
            datetime(2026, 4, 4, 15, tzinfo=UTC),
            ["2026-04-05T01:00+11:00", "2026-04-05T01:00+10:30", "2026-04-05T02:00+10:30"],
        ),
        (
            "Asia/Kathmandu",
            datetime(2026, 10, 3, 15, 15, tzinfo=UTC),
            ["2026-10-03T20:00+05:45", "2026-10-03T21:00+05:45", "2026-10-03T22:00+05:45"],
        ),
    ],
)
def test_every_hour_that_is_shown_can_be_asked_for(
    tmp_path: Path, zone: str, change: datetime, hours: list[str]
) -> None:
    """Also one whose beginning the clocks skip, and one of which they repeat a part."""
    starts = [change + timedelta(minutes=15 * it) for it in range(-4, 10)]
    rows = [
        Booking(occurred_at=it.replace(tzinfo=None), session_id=_started_at(it, number), cost="1")
        for number, it in enumerate(starts)
    ]
    folder = write_ledger(tmp_path, rows)
    report = query("hour", sort="hour", timezone=zone, data_dir=folder)
    shown = {str(row.group["hour"]): row.cost for row in report.rows}
    assert list(shown)[:3] == hours
    for hour, cost in shown.items():
        where = query(where=f"hour={hour}", timezone=zone, data_dir=folder)
        others = query(where=f"hour!={hour}", timezone=zone, data_dir=folder)
        assert (where.total.cost, others.total.cost) == (cost, len(starts) - (cost or 0))
    skipped = query(where="hour=2026-10-04T02:00", timezone=zone, data_dir=folder)
    assert skipped.total.cost == shown.get("2026-10-04T02:00+11:00", 0)  # without an offset


@pytest.mark.parametrize(
    ("zone", "day", "first"),
    [
        ("Australia/Sydney", date(2026, 10, 4), "2026-10-04T00:00+10:00"),
        ("Australia/Sydney", date(2026, 4, 5), "2026-04-05T00:00+11:00"),
        ("Pacific/Auckland", date(2026, 9, 27), "2026-09-27T00:00+12:00"),
        ("America/Havana", date(2026, 11, 1), "2026-11-01T00:00-04:00"),
        ("Asia/Beirut", date(2026, 3, 29), "2026-03-29T01:00+03:00"),  # there is no midnight
    ],
)
def test_what_has_no_call_is_at_the_first_moment_of_its_day_there(
    tmp_path: Path, zone: str, day: date, first: str
) -> None:
    """With a call of that hour it is one row, which can be asked for, also where the clocks change later that day."""
    began = datetime.fromisoformat(first).astimezone(UTC) + timedelta(minutes=10)
    used = reading(1, session_id=str(_started_at(began, 1)), input_tokens=1_000_000)
    now = began + timedelta(days=40)
    with Ledger.open(tmp_path, mini("2"), clock=Clock(now=lambda: now)) as ledger:
        ledger.apply([message(1, used)])
        adjusted = Adjust(amount=Decimal("1.5"), day=day, project="prod", tenant="acme")
        ledger.operate(adjusted, reason="x")
        while ledger.work():
            pass
    report = query("hour", timezone=zone, data_dir=tmp_path, now=now)
    assert [(row.group["hour"], row.cost) for row in report.rows] == [(first, Decimal("3.5"))]
    where = query(where=f"hour={first}", timezone=zone, data_dir=tmp_path, now=now)
    assert where.total.cost == Decimal("3.5")


def _started_at(moment: datetime, number: int) -> UUID:
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | number)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles"])
def test_any_grouping_in_another_zone_adds_up_to_the_same(asked: Path, zone: str) -> None:
    """What has no call, or corrects a closed month, is on the day on which it is dated, wherever that is."""
    total = ask(asked, "project").total
    for by in ("hour", "day", "week,model", "month,corrects", "turn,hour"):
        report = ask(asked, by, timezone=zone)
        assert report.total == total
        assert figures(*report.rows) == figures(total)
    for since, until in (("2026-10-24", "2026-10-25"), ("2026-10-25", "2026-11-10")):
        for by in ("day", "tenant"):
            report = ask(asked, by, since=since, until=until, timezone=zone)
            assert figures(*report.rows) == figures(report.total)
        days = [
            row.group["day"]
            for row in ask(asked, "day", since=since, until=until, timezone=zone).rows
        ]
        assert all(since <= (it or "") < until for it in days)
    later = ask(asked, "day", since="2026-11-10", timezone=zone)
    assert [row.group["day"] for row in later.rows] == ["2026-11-10"]
