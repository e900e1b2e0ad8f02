"""Detail is removed by age, and sums stay."""

from __future__ import annotations

import math
import os
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.history import Told, figures, history, often
from tests.support.long_forms import later
from voicecosts import query
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import Retain, Revert
from voicecosts.consumer.store import removal, retention
from voicecosts.consumer.store.layout import Layout

COUNT = "SELECT count(*) FROM usage WHERE day < ?"


def told(data_dir: Path, *, seals: bool, until: int | None = None) -> Told:
    """Return a ledger that was told a history, which is sealed or not."""
    made = Told(data_dir)
    for step in list(history(2))[:until]:
        made.take(step, seals=seals)
    return made


def tidied(made: Told, later: timedelta) -> None:
    """Have all of it done, some time later, and the snapshots that named removed files replaced."""
    made.now += later
    while made.ledger.work():
        pass
    made.ledger.publish_snapshot()
    for seconds in (0, removal.GRACE_US / 1e6):
        made.now += timedelta(seconds=seconds)
        while made.ledger.work():
            pass


def ask(made: Told, statement: str, *values: object) -> Any:
    """Return the first value."""
    return made.ledger._connection.execute(statement, values).fetchall()[0][0]


class TestRule:
    @pytest.mark.parametrize(
        ("rule", "today", "first"),
        [
            (Retain(), date(2026, 11, 26), None),
            (Retain(days=400), date(2026, 11, 26), date(2025, 10, 22)),
            (Retain(months=13), date(2026, 11, 26), date(2025, 10, 26)),
            (Retain(months=1), date(2026, 3, 31), date(2026, 2, 28)),
            (Retain(months=12), date(2028, 2, 29), date(2027, 2, 28)),
            (Retain(days=99_999), date(2026, 1, 1), date(1752, 3, 19)),
        ],
    )
    def test_it_says_which_day_is_the_first_that_is_kept(
        self, rule: Retain, today: date, first: date | None
    ) -> None:
        """A month goes back to the same day, or to the last one of a shorter month."""
        assert rule.first_kept(today) == first


@pytest.mark.parametrize("seals", [False, *later(True)])  # noqa: FBT003 - an example
def test_no_sum_and_no_state_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, seals: bool
) -> None:
    """Of sealed days files go, of others rows; the report says so, and what came late goes as well."""
    often(monkeypatch)
    made = told(tmp_path, seals=seals)
    layout = Layout(tmp_path)
    before = figures(made.ledger._connection)
    cut = date(2026, 11, 19)
    old = ask(made, COUNT, cut)
    assert old
    files = layout.sealed_files()
    if not seals:
        monkeypatch.setattr("voicecosts.consumer.store.sealing.SEAL_ROWS", 10**9)
    number = made.ledger.operate(Retain(days=(made.now.date() - cut).days), reason="the law")
    tidied(made, timedelta(hours=1))
    assert ask(made, COUNT, cut) == 0
    assert ask(made, "SELECT sum(removed_rows) FROM detail") == old
    left = layout.sealed_files()
    assert (len(left) < len(files)) is seals
    assert sorted(left) == sorted(
        name
        for (name,) in made.ledger._connection.execute("SELECT file FROM sealed_files").fetchall()
    )
    assert not [it for it in (tmp_path / "sealed").rglob("day=*") if not list(it.iterdir())]
    after = figures(made.ledger._connection)
    for name, found in before.items():
        if name not in ("usage", "operations"):
            assert after[name] == found, name
    assert any("removed by age" in it for it in query(data_dir=tmp_path).notes)
    assert not any(
        "removed by age" in it for it in query(data_dir=tmp_path, since="2026-11-20").notes
    )
    made.ledger.operate(Revert(operation=number), reason="it came too early")
    assert made.ledger._operations.retain == Retain()
    made.close()


def test_a_clock_that_is_far_ahead_is_not_believed_by_the_next_opening_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is started again and again, as by a crash or by each question without a server, for a day."""
    often(monkeypatch)
    made = told(tmp_path, seals=True, until=6)
    made.ledger.operate(Retain(days=400), reason="the law")
    there = 0
    for passed, is_there in (
        (timedelta(), True),
        (timedelta(days=730), True),
        (timedelta(minutes=1), True),
        (timedelta(hours=23), True),
        (timedelta(hours=1), False),
    ):
        made.now += passed
        while made.ledger.work():
            pass
        rows = int(ask(made, "SELECT count(*) FROM usage"))
        there = there or rows
        assert (rows == there) == is_there
        assert Layout(tmp_path).clock_doubt.exists() == (is_there and passed > timedelta())
        made.close()
        os.utime(Layout(tmp_path).heartbeat, (made.now.timestamp(), made.now.timestamp()))
        made = Told(tmp_path, made.now)
    made.close()


@pytest.mark.slow
def test_a_clock_that_is_far_ahead_is_not_believed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As at a start before it was set; one that stays so for a day is."""
    seconds = [0.0]
    often(monkeypatch)
    monkeypatch.setattr(Told, "_ticks", lambda _: seconds[0])
    made = told(tmp_path, seals=True)

    def work(later: timedelta, *, wait_s: float) -> int:
        made.now += later
        seconds[0] += wait_s
        while made.ledger.work():
            pass
        return int(ask(made, "SELECT count(*) FROM usage"))

    made.ledger.operate(Retain(days=400), reason="the law")
    there = work(timedelta(), wait_s=700)
    assert work(timedelta(days=730), wait_s=700) == there
    assert "730 days ahead" in caplog.text
    assert work(timedelta(days=-730), wait_s=90_000) == there
    assert work(timedelta(days=730), wait_s=700) == there
    assert work(timedelta(hours=1), wait_s=3_600) == there
    assert work(timedelta(days=1), wait_s=90_000) == 0
    made.close()


@pytest.mark.slow
def test_a_file_that_cannot_be_removed_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a warning, and is tried again later; as where the folder was restored by somebody else."""
    often(monkeypatch)
    made = told(tmp_path, seals=True)
    layout = Layout(tmp_path)
    made.ledger.operate(Retain(days=1), reason="the law")
    unlink = Path.unlink

    def refused(path: Path, **options: bool) -> None:
        if path.suffix == ".parquet":
            raise PermissionError("Operation not permitted")
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        tidied(made, timedelta(days=3))
        made.now += timedelta(minutes=1)
        assert not made.ledger.work()
        made.ledger.apply([Message("costs.v1.x", 90_001, b"not an event")])
    assert layout.sealed_files()
    assert caplog.text.count("Operation not permitted") == 1
    tidied(made, timedelta(hours=1))
    assert not layout.sealed_files()
    made.close()


@pytest.mark.parametrize("under_way", [True, *later(False)])  # noqa: FBT003 - an example
def test_a_reader_of_the_newest_snapshot_finds_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, under_way: bool
) -> None:
    """A file goes some time after one without it was published: a copy that was under way has it.

    However long that took, over openings, and where the clock was set back.
    """
    often(monkeypatch)
    monkeypatch.setattr(retention, "SLICE_FILES", 1)
    made = told(tmp_path, seals=True)
    layout = Layout(tmp_path)

    def work(later: timedelta) -> None:
        made.now += later
        while made.ledger.work():
            pass

    there = set(layout.sealed_files())
    made.ledger.operate(Retain(days=1), reason="the law")
    made.ledger.publish_snapshot()
    if under_way:
        made.ledger._snapshots.begin(0)
    work(timedelta(days=3))
    assert ask(made, "SELECT count(*) FROM sealed_files") == 0
    if under_way:
        assert made.ledger._snapshots.go_on(math.inf)
    work(timedelta(hours=1))
    with duckdb.connect((tmp_path / "costs.duckdb").resolve(), read_only=True) as snapshot:
        assert snapshot.execute("SELECT count(*) > 0 FROM usage").fetchone() == (True,)
    made.ledger.publish_snapshot()
    work(timedelta(seconds=1))
    assert set(layout.sealed_files()) == there  # a reader may have opened the one before
    made.open_again()
    work(timedelta(days=-1))
    assert not layout.sealed_files()
    assert ask(made, "SELECT count(*) FROM removed_files") == 0
    made.close()
