"""A tenant is erased: from every file, and no number of anybody else changes."""

from __future__ import annotations

import hashlib
import re
import resource
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.erasures import GONE, OTHER, ids_of, left, newer, prepared, small, traces
from tests.support.events import PROJECT, ended, message, reading, started
from tests.support.history import figures
from tests.support.oracle import rate
from voicecosts import audit, query
from voicecosts.consumer.booking.operations import Adjust, Close, Erase, Revert, Void
from voicecosts.consumer.errors import OperationRefused
from voicecosts.consumer.store import database, erasing
from voicecosts.consumer.store.erasing import Erasing
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.proof import prove
from voicecosts.consumer.store.requests import Action, Operate, Request, remember
from voicecosts.producer.events import VERSION, now_us

NOT_ITS_OWN = ("usage", "session_usage", "sessions", "completeness")


def work(ledger: Ledger) -> None:
    """Have all of it done."""
    while ledger.work():
        pass


def erased(ledger: Ledger, **of: str) -> int:
    """Erase a tenant, and return the operation."""
    number = ledger.operate(Erase(**of), reason="they asked for it")  # type: ignore[arg-type]
    work(ledger)
    return number


def test_no_file_has_its_name_or_an_id_of_its_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed, folded and hot rows, letters, words of operations, snapshots; the others stay as they were."""
    small(monkeypatch)
    made, ids = prepared(tmp_path)
    ledger, connection = made.ledger, made.ledger._connection
    asked = Adjust(amount=Decimal(1), day=made.now.date(), project=PROJECT, tenant=GONE)
    others = Adjust(amount=Decimal(1), day=made.now.date(), project=PROJECT, tenant=OTHER)
    for work_asked, why in ((asked, "unanswered"), (others, f"{GONE}_2026-11.pdf")):
        remember(tmp_path / "ledger" / "requests", Operate(work=work_asked, reason=why))
    shutil.copy(tmp_path / "ledger" / "ledger.duckdb", Layout(tmp_path).before("a-rebuild"))
    kept = '[[billed]]\ntenant = "{}"\nmarkup = "5 %"\n'
    for name, tenant in (("prices-1.toml", GONE), ("prices-2.toml", OTHER)):
        (tmp_path / "ledger" / name).write_text(kept.format(tenant))
    before = figures(connection)
    holding = traces(tmp_path, ids)
    for part in (
        "ledger/ledger.duckdb",
        "ledger/ledger-a-rebuild",
        "sealed/",
        "dead-letters/",
        "verified",
        "requests/",
        "ledger/prices-1",
    ):
        assert any(part in name for name in holding), part
    number = erased(ledger, tenant=GONE)
    done = ledger.operation(number)
    assert done is not None
    assert done.ended_us is not None
    assert traces(tmp_path, ids) == []  # also while the ledger is open
    assert (tmp_path / "ledger" / "prices-2.toml").exists()
    made.close()
    assert traces(tmp_path, ids) == []
    after = left(tmp_path)
    for name in NOT_ITS_OWN:
        expected = [
            row for row in before[name] if GONE not in row and not set(map(str, row)) & set(ids)
        ]
        assert after[name] == expected, name
    assert after["sealed files that nobody names"] == []
    assert after["letters"] == [(4,)]
    open_letters = [reason for _, reason, state in after["dead_letters"] if state == "open"]
    assert {"invalid_event", "newer_version", "foreign_subject"} <= set(open_letters)
    records = {row[0]: row for row in after["operations"]}
    assert records[number][1] == "erase"
    assert records[number][9] == len(ids) - 1  # sessions
    assert [records[at][4] for at in (4, 6, 7, 8)] == [
        '{"kind":"redacted","was":"adjust","by":9}',
        '{"kind":"redacted","was":"rerate","by":9}',
        '{"kind":"rerate","where":{"tenant":["tenant-2"]}}',
        '{"kind":"redacted","was":"void","by":9}',
    ]
    assert records[5][5] == "(erased by operation 9)"
    made.open_again()
    with pytest.raises(OperationRefused, match="was of a tenant that operation 9 erased"):
        made.ledger.operate(Revert(operation=4), reason="no")
    letters = made.ledger.do(Request(action=Action.REQUEUE, reasons=("newer_version",)))
    assert letters.letters == 1
    assert letters.left == 1  # its bytes are where its row says, and still of a newer version
    made.close()


def test_of_a_batch_that_cannot_be_read_yet_the_events_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted as not booked, and booked by a version that reads them; it is the same letter."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1, tenant=GONE)), message(2, reading(1, of=2), number=2)])
        ids = ids_of(ledger._connection)
        shared = newer(3, reading(2, tenant=GONE), reading(2, of=2), reading(3, of=2))
        ledger.apply([shared, newer(4, reading(3, tenant=GONE))])
        erased(ledger, tenant=GONE)
        assert traces(tmp_path, ids) == []
        ledger.apply([shared])
        [(events, size, digest, file, place)] = ledger._connection.execute(
            "SELECT events, bytes, sha256, file, place FROM dead_letters"
        ).fetchall()
        data = (tmp_path / "dead-letters" / file).read_bytes()[place:]
        assert (events, size, digest) == (2, len(data), hashlib.sha256(data).hexdigest())
        monkeypatch.setattr("voicecosts.consumer.booking.decode.VERSION", VERSION + 1)
        again = ledger.do(Request(action=Action.REQUEUE, reasons=("newer_version",)))
        assert (again.letters, again.left) == (1, 0)
        booked = ledger._connection.execute("SELECT tenant, sum(requests) FROM usage GROUP BY ALL")
        assert booked.fetchall() == [("acme", 3)]


@pytest.mark.slow
def test_what_fails_is_done_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that nobody can read stops it and not the ledger, one that is gone does not; none is left out.

    Neither are files that no row names, as after the restore of an older copy.
    """
    small(monkeypatch)
    made, ids = prepared(tmp_path)
    ledger = made.ledger
    sealed = [path for path in tmp_path.rglob("*.parquet") if GONE.encode() in path.read_bytes()]
    (lost, broken, changed, strange, *_) = sorted(sealed)
    strange.with_name("9001-9002.parquet").write_bytes(strange.read_bytes())
    strange.with_name("1-2.parquet.damaged").write_bytes(strange.read_bytes()[:-9])
    lost.unlink()
    good = {path: path.read_bytes() for path in (broken, changed)}
    broken.write_bytes(good[broken][:-9])
    changed.write_bytes(b"PAR1\xff" + good[changed][5:])

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    number = erased(ledger, tenant=GONE)
    said: list[str] = []
    for path, method in (
        (broken, ""),
        (changed, "_write"),
        (changed, "_rewrite_letters"),
        (changed, ""),
    ):
        operation = ledger.operation(number)
        assert operation is not None
        assert operation.stopped_us is not None
        said.append(operation.left_why)
        assert ledger.apply([message(9100, reading(len(said), of=910), number=len(said))]).events
        path.write_bytes(good[path])
        ledger.halt(number, goes_on=True)
        with monkeypatch.context() as patch:
            if method:
                patch.setattr(Erasing, method, full)
            work(ledger)
    assert re.search(r"cannot be read \(.*\): put a good copy in its place", said[0])
    assert re.search(r"is not what was written to it: put a good copy", said[1])
    assert said[2:] == ["No space left on device"] * 2
    made.close()
    assert traces(tmp_path, ids) == []
    names = {path.name for path in tmp_path.rglob("*.parquet")}
    made.open_again()
    erased(made.ledger, tenant=OTHER)
    made.close()
    again = {path.name for path in tmp_path.rglob("*.parquet")} - names
    assert again
    assert not again & {path.name for path in (lost, *sealed)}  # an open snapshot may name those


class TestLate:
    """What comes of a tenant that was erased."""

    def test_it_is_refused_until_that_is_reverted(self, tmp_path: Path) -> None:
        """It is a dead letter with a reason of its own, which says nothing of the session, and can be purged."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([message(1, started(tenant=GONE), reading(1, tenant=GONE))])
            ledger.apply(
                [message(2, started(2, tenant=OTHER), reading(1, of=2, tenant=OTHER), number=2)]
            )
            number = erased(ledger, tenant=GONE)
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply(
                [
                    message(3, reading(2, tenant=GONE), reading(2, of=2, tenant=OTHER), number=3),
                    message(4, ended(3, tenant=GONE), reading(1, of=3, tenant=GONE), number=4),
                ]
            )
            found = ledger._connection.execute(
                "SELECT reason, detail FROM dead_letters GROUP BY ALL"
            ).fetchall()
            assert found == [("erased", f"its tenant was erased by operation {number}")]
            assert ids_of(ledger._connection) == []
            assert ledger._connection.execute("SELECT count(*) FROM session_notes").fetchone() == (
                0,
            )
            [two] = ids_of(ledger._connection, OTHER)
            again = ledger.do(Request(action=Action.REQUEUE, reasons=("erased",)))
            assert (again.letters, again.left) == (3, 3)
            with pytest.raises(OperationRefused, match=f"was erased by operation {number}"):
                ledger.operate(
                    Adjust(
                        amount=Decimal(1), day=ledger._now().today, project=PROJECT, tenant=GONE
                    ),
                    reason="no",
                )
            revert = ledger.operate(Revert(operation=number), reason="a customer again")
            with pytest.raises(OperationRefused, match="costs erase"):
                ledger.operate(Revert(operation=revert), reason="no")
            again = ledger.do(Request(action=Action.REQUEUE, reasons=("erased",)))
            assert (again.letters, again.left) == (3, 0)
            assert len(ids_of(ledger._connection)) == 2
            assert two

    def test_what_was_refused_can_be_purged(self, tmp_path: Path) -> None:
        """No file names the tenant then."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([message(1, reading(1, tenant=GONE))])
            ids = ids_of(ledger._connection)
            erased(ledger, tenant=GONE)
            ledger.apply([message(2, reading(2, tenant=GONE), number=2)])
            assert traces(tmp_path, ids) == ["dead-letters/erased-1.bin"]
            ledger.do(Request(action=Action.PURGE, reasons=("erased",)))
        assert traces(tmp_path, ids) == []


class TestScope:
    def test_of_one_project_the_others_stay(self, tmp_path: Path) -> None:
        """Rows, and what comes later."""
        with Ledger.open(tmp_path, rate) as ledger:
            mine: dict[str, Any] = {"tenant": GONE}
            ledger.apply(
                [
                    message(1, reading(1, **mine)),
                    message(2, reading(1, of=2, project="test", **mine), project="test"),
                ]
            )
            erased(ledger, tenant=GONE, project="test")
            ledger.apply(
                [
                    message(3, reading(2, **mine), number=2),
                    message(4, reading(2, of=2, project="test", **mine), number=2, project="test"),
                ]
            )
            assert len(ids_of(ledger._connection)) == 1
            assert query(data_dir=tmp_path).total.sessions == 1
            found = ledger._connection.execute("SELECT reason FROM dead_letters").fetchall()
            assert found == [("erased",)]

    def test_other_work_waits_while_it_is_under_way(self, tmp_path: Path) -> None:
        """It has looked through what they would write; and it cannot be stopped by hand."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([message(1, reading(1, tenant=GONE))])
            [one] = ids_of(ledger._connection)
            number = ledger.operate(Erase(tenant=GONE), reason="they asked for it")
            with pytest.raises(OperationRefused, match="is under way"):
                ledger.operate(Void(project=PROJECT, session_id=one), reason="no")
            with pytest.raises(OperationRefused, match="is not stopped"):
                ledger.halt(number)
            work(ledger)
            with pytest.raises(OperationRefused, match="brings nothing back"):
                ledger.halt(number, goes_on=True)

    def test_a_closed_month_lacks_it_and_every_answer_of_that_time_says_so(
        self, tmp_path: Path
    ) -> None:
        """Answers of other times do not."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply(
                [message(1, reading(1, tenant=GONE)), message(2, reading(1, of=2), number=2)]
            )
            month = ledger._now().today.replace(day=1)
            ledger._operations.closed |= {month}
            ledger._connection.execute("INSERT INTO month_closings VALUES ('2026-11-01', 1)")
            assert isinstance(Close(month=month), Close)
            erased(ledger, tenant=GONE)
        said = [it for it in query(data_dir=tmp_path).notes if "erased" in it]
        assert len(said) == 1
        assert "1 call with 1 row" in said[0]
        assert "2026-11, which is closed, lacks them" in said[0]
        assert audit(data_dir=tmp_path).notes == tuple(said)
        assert not any("erased" in it for it in query(data_dir=tmp_path, since="2026-12-01").notes)
        with Ledger.open(tmp_path, rate) as ledger:  # as after many: an answer does not list them
            statement = "INSERT INTO erased_days SELECT range, day, sessions, rows FROM erased_days, range(11, 17)"
            ledger._connection.execute(statement)
            ledger._snapshots.changed = True
        [many] = [it for it in query(data_dir=tmp_path).notes if "erased" in it]
        assert "7 calls with 7 rows" in many
        assert f"erased by 7 operations (`costs operations --data-dir {tmp_path}`)" in many


def test_months_have_what_is_left_while_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row of who was erased, and nothing that a comparison would call wrong: it may be stopped for long."""
    monkeypatch.setattr(erasing, "SLICE_SESSIONS", 1)
    keys = "SELECT DISTINCT project, tenant, agent_id, model, sum(rows) FROM {} GROUP BY ALL"
    with Ledger.open(tmp_path, rate) as ledger:
        connection = ledger._connection
        calls = [("sales", "house-llm"), ("dental", "house-llm"), ("dental", "unknown")]
        for place, (agent, model) in enumerate(calls, 1):
            own = reading(1, of=place, tenant=GONE, agent_id=agent, model=model, input_tokens=9)
            ledger.apply([message(place, own, agent=agent)])
        connection.execute(
            "UPDATE bookings SET model = 'house-llm'"
        )  # one call had no price for it
        ledger.apply([message(9, reading(1, of=9))])
        ledger._folding.fold()
        ledger.operate(Erase(tenant=GONE), reason="they asked for it")
        left = []
        while ledger._operations.pending:
            of_calls, of_months = (
                sorted(connection.execute(keys.format(view)).fetchall())
                for view in ("session_usage", "monthly_usage")
            )
            assert of_months == of_calls
            proof = prove(connection, Layout(tmp_path), now_us())
            assert [it for it in proof.differences if it.what == "months"] == []
            left.append(len(of_months))
            ledger.work()
        assert sorted(set(left)) == [1, 2, 3]


def test_where_there_is_no_room_it_stops_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is whole and books on, and what is left is said: DuckDB closes a file without a word."""
    copy = database._copy_tables
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(*given: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
        copy(*given)

    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1, tenant=GONE)), message(2, reading(1, of=2), number=2)])
        ids = ids_of(ledger._connection)
        with monkeypatch.context() as patch:
            patch.setattr(database, "_copy_tables", full)
            try:
                number = erased(ledger, tenant=GONE)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        stopped = ledger.operation(number)
        assert stopped is not None
        assert not stopped.is_under_way
        assert "File too large" in stopped.left_why
        assert len(ids_of(ledger._connection, "acme")) == 1
        ledger.apply([message(3, reading(2, of=2), number=3)])
        ledger.halt(number, goes_on=True)
        work(ledger)
        assert traces(tmp_path, ids) == []
    with duckdb.connect((tmp_path / "costs.duckdb").resolve(), read_only=True) as snapshot:
        assert snapshot.execute("SELECT sum(rows) FROM session_usage").fetchone() == (2,)
