"""What is added up and settled: no answer changes by it, whenever it is done."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
from msgspec.structs import replace

from tests.support.events import ended, final, message, reading, report, session_id, started
from tests.support.history import OUTCOMES
from tests.support.long_forms import later
from tests.support.oracle import rate
from tests.support.traffic import METERS, Call
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import Adjust, Close, Revert, Void
from voicecosts.consumer.booking.sessions import SessionKey, SessionState
from voicecosts.consumer.store import folding, months
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.load import load_sessions, load_settled
from voicecosts.consumer.store.overlap import Beside
from voicecosts.producer.events import Quantities, now_us

VIEWS: Final = {
    # The number of an operation's row is of a reading that may have left no row: then it is not known for long.
    "usage": "SELECT * EXCLUDE (place, number) FROM usage ORDER BY ALL",
    "session_usage": """
        SELECT project, session_id, day, tenant, agent_label, modality, provider, provider_raw, model,
            estimated, operation, price_id, corrects, sum(sessions), sum(rows), sum(unpriced_rows),
            sum(meters), sum(priced_meters), sum(cost), sum(reported_cost), sum(requests), sum(output_tokens),
            sum(unpriced_output_tokens), min(first_at), max(last_at)
        FROM session_usage GROUP BY ALL ORDER BY ALL
    """,
    "monthly_usage": """
        SELECT month, project, tenant, agent_label, modality, provider, model, estimated, operation, corrects,
            sum(sessions), sum(rows), sum(unpriced_rows), sum(meters), sum(priced_meters), sum(cost),
            sum(reported_cost), sum(requests), sum(output_tokens), sum(unpriced_output_tokens)
        FROM monthly_usage GROUP BY ALL ORDER BY ALL
    """,
    **{
        name: f"SELECT * FROM {name} ORDER BY ALL"  # noqa: S608 - names of views
        for name in (
            "sessions",
            "completeness",
            "unpriced",
            "losses",
            "cost_by_day",
            "corrections",
            "operations",
            "voided",
        )
    },
}


class At:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 22, tzinfo=UTC)

    def clock(self) -> Clock:
        """Return the ledger's clock."""
        return Clock(now=lambda: self.moment)


def answers(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Return what every view of the ledger has, as of now."""
    ledger.publish_snapshot()
    return {name: ledger._connection.execute(text).fetchall() for name, text in VIEWS.items()}


def fold(ledger: Ledger) -> None:
    """Fold and settle whatever can be, as when it is due."""
    ledger._folding.fold()
    ledger._folding._is_settling = True
    while ledger._folding.is_due:
        ledger.work()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settle a session as soon as it has ended, and add up a month anew as soon as it has more rows."""
    monkeypatch.setattr(folding, "SETTLE_AFTER_US", 0)
    monkeypatch.setattr(months, "LOOSE_ROWS", 1)


def some_events(chance: random.Random) -> list[Any]:
    """Return the events of some calls: in some disorder, some twice, some after the end, some lost."""
    found: list[Any] = []
    for number in range(chance.randint(2, 6)):
        call = Call(session_id(number), METERS, tenant=chance.choice(("acme", "beta", None)))
        call.start()
        for _ in range(chance.randint(0, 8)):
            added = {"requests": 1, "output_tokens": chance.randint(0, 900_000)}
            call.use(chance.randrange(len(METERS)), added, chance.randint(0, 10**9))
        if chance.random() < 0.8:
            call.end(outcome=OUTCOMES[number % len(OUTCOMES)])
        if chance.random() < 0.3:
            call.use(0, {"output_tokens": 1000})
        events = [each for each in call.events if chance.random() < 0.95]
        if chance.random() < 0.5:
            chance.shuffle(events)
        found += events + chance.choices(events, k=min(2, len(events)))
    return found


def operate(ledger: Ledger, chance: random.Random) -> None:
    """Do something to the books that is possible at any time."""
    what = chance.randrange(4)
    if what == 0:
        work: Any = Adjust(
            project="prod",
            amount=Decimal(chance.randint(1, 9)),
            day=datetime(2026, 11, 21, tzinfo=UTC).date(),
        )
    elif what == 1:
        work = Void(project="prod", session_id=session_id(chance.randrange(6)))
    elif what == 2:
        work = Close(month=datetime(2026, 11, 1, tzinfo=UTC).date())
    else:
        work = Revert(operation=chance.randint(1, 4))
    if ledger._operations.problem(work, ledger._now().today) is None:
        ledger.operate(work, reason="because")


def known_of(sessions: dict[SessionKey, SessionState]) -> dict[SessionKey, object]:
    """Return what decides what is booked next. A reading that added nothing leaves no row of its own."""
    return {
        key: (
            it.identity and replace(it.identity, day=None),
            {
                meter: replace(state, number=0)
                for meter, state in it.meters.items()
                if state.totals != Quantities()
            },
            (it.started, it.ended, dict(it.labels), it.voided, it.counted),
        )
        for key, it in sessions.items()
    }


@pytest.mark.parametrize("seed", [0, *later(1, 2, 3, 4, 5)])
def test_no_answer_depends_on_what_is_folded_and_settled(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes between: late readings, repetitions, second ends, operations, a new month, a restart.

    One of the two also divides what it is given, and settles what it can between two pieces, when the
    next one is worked out already.
    """
    monkeypatch.setattr(Beside, "is_awaited", False)  # it always waits for that
    chance, at = random.Random(seed), At()  # noqa: S311 - the same in every run
    events = some_events(chance)
    plain = Ledger.open(tmp_path / "plain", rate, clock=at.clock())
    small = {"cached_sessions": 3, "cached_bytes": 0, "piece_weight": 3}
    folded = Ledger.open(tmp_path / "folded", rate, clock=at.clock(), **small)
    place = 0
    while events:
        size = chance.randint(1, 5)
        group, events = events[:size], events[size:]
        place += 1
        folded._folding._is_settling = True
        for ledger in (plain, folded):
            ledger.apply([message(place * 5 + nth, event) for nth, event in enumerate(group)])
        choice = chance.getstate()
        for ledger in (plain, folded):
            chance.setstate(choice)
            if chance.random() < 0.3:
                operate(ledger, chance)
        if chance.random() < 0.6:
            fold(folded)
        if chance.random() < 0.1:
            at.moment += timedelta(days=20)
        if chance.random() < 0.2:
            folded.close()
            folded = Ledger.open(tmp_path / "folded", rate, clock=at.clock(), **small)
    fold(folded)
    assert folded._connection.execute("SELECT count(*) FROM folded_usage").fetchone() != (0,)
    keys = [SessionKey("prod", session_id(of)) for of in range(6)]
    known = known_of(plain._sessions_of(keys))
    found = folded._found(keys, folded._connection)
    assert known_of(found) == known  # as they were kept, where they are settled
    assert known_of(load_sessions(folded._connection, keys, folded._prices)) == known
    one, other = answers(plain), answers(folded)
    plain.close()
    folded.close()
    for name, rows in one.items():
        assert other[name] == rows, name


def whole(of: int = 1) -> list[Any]:
    """Return a short call that has all that its end says."""
    used = {"output_tokens": 1_000_000, "model": "priced"}
    return [
        started(of=of),
        reading(1, of=of, **used),
        ended(2, of=of, readings=1, meters=(final(**used),)),
    ]


def test_what_comes_again_does_not_hide_what_comes_late() -> None:
    """A settled session that nothing new came for is still settled; the next thing unsettles it."""
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder), rate) as ledger:
        ledger.apply([message(1, *whole())])
        fold(ledger)
        assert ledger._connection.execute("FROM pending_sessions").fetchall() == []
        keys = [SessionKey("prod", session_id(1))]
        at = {"began_before_us": now_us()}
        assert list(load_settled(ledger._connection, keys, ledger._prices, **at)) == keys
        ledger.apply([message(1, *whole())])
        assert list(load_settled(ledger._connection, keys, ledger._prices, **at)) == keys
        ledger.apply([message(2, reading(3, output_tokens=3_000_000, model="priced"))])
        assert load_settled(ledger._connection, keys, ledger._prices, **at) == {}
        both = "SELECT (SELECT sum(cost) FROM sessions), (SELECT sum(cost) FROM usage)"
        [(of_sessions, of_rows)] = ledger._connection.execute(both).fetchall()
        assert of_sessions == of_rows
        assert ledger._connection.execute("SELECT rows FROM sessions").fetchall() == [(2,)]


def test_a_report_of_a_loss_reaches_a_session_that_was_settled_without_an_end(
    tmp_path: Path,
) -> None:
    """It may be the one that lost something."""
    at = At()
    with Ledger.open(tmp_path, rate, clock=at.clock()) as ledger:
        ledger.apply([message(1, started(), reading(1, output_tokens=1))])
        at.moment += timedelta(days=40)
        fold(ledger)
        states = "SELECT state, cause FROM completeness"
        assert ledger._connection.execute(states).fetchall() == [("abandoned", None)]
        ledger.apply([message(2, report(1, dropped=3))])
        assert ledger._connection.execute(states).fetchall() == [("short", "producer_dropped")]


def test_a_call_that_goes_on_keeps_no_other_from_being_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id may be the oldest of all."""
    monkeypatch.setattr(folding, "SLICE_SESSIONS", 2)
    at = At()
    at.moment += timedelta(days=40)
    with Ledger.open(tmp_path, rate, clock=at.clock()) as ledger:
        ledger.apply([message(1, started(of=1), reading(1, of=1, output_tokens=1))])
        ledger.apply([message(2, *(each for of in range(2, 7) for each in whole(of)))])
        at.moment += timedelta(minutes=1)
        fold(ledger)
        while ledger.work():
            pass
        left = ledger._connection.execute("SELECT session_id::VARCHAR FROM pending_sessions")
        assert left.fetchall() == [(session_id(1),)]


def test_calls_with_many_meters_are_settled_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of a call is as long as its meters are many."""
    monkeypatch.setattr(folding, "SLICE_ROWS", 4)
    at = At()
    with Ledger.open(tmp_path, rate, clock=at.clock()) as ledger:
        for of, models in enumerate((1, 6, 2, 1, 1), start=1):
            meters = [reading(1, of=of, model=f"m{n}", requests=1) for n in range(models)]
            ledger.apply([message(of, started(of=of), *meters, ended(2, of=of))])
        at.moment += timedelta(minutes=1)
        for _ in range(5):
            ledger._folding.fold()
        slices = [ledger._folding.settle(now_us() + 10**9) for _ in range(3)]
        assert [sorted(key.session_id for key in each) for each in slices] == [
            [session_id(1), session_id(2)],
            [session_id(3), session_id(4), session_id(5)],
            [],
        ]


def test_slices_are_folded_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is far behind folds a bounded number of rows at a time, to the last one."""
    monkeypatch.setattr(folding, "SLICE_ROWS", 3)
    monkeypatch.setattr(folding, "FOLD_ROWS", 1)
    with Ledger.open(tmp_path, rate) as ledger:
        messages: list[Message] = [
            message(n, reading(n, output_tokens=1000 * n, model="priced")) for n in range(1, 11)
        ]
        ledger.apply(messages)
        while ledger.work():
            pass
        counted = "SELECT count(*), sum(rows), sum(output_tokens) FROM folded_usage"
        assert ledger._connection.execute(counted).fetchone() == (4, 10, 10_000)
        assert ledger._connection.execute("FROM fold_state").fetchone() == (10,)
    with duckdb.connect(tmp_path / "costs.duckdb", read_only=True) as reader:
        runs = reader.execute("SELECT first_number, last_number FROM session_readings ORDER BY ALL")
        assert runs.fetchall() == [(1, 3), (4, 6), (7, 9), (10, 10)]


def test_too_little_memory_to_add_up_keeps_nothing_from_being_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does less at a time, then rests; answers have it all the same."""
    monkeypatch.setattr(folding, "FOLD_ROWS", 1)
    with Ledger.open(tmp_path, rate) as ledger:
        calls = [reading(1, of=of, output_tokens=1000, model="priced") for of in range(1, 3001)]
        ledger.apply([message(1, *calls)])
        ledger.publish_snapshot()
        ledger._connection.execute("SET memory_limit = '1MB'")
        while ledger._folding.is_due:
            assert not ledger.work()
        assert ledger._connection.execute("FROM fold_state").fetchone() == (0,)
        ledger._connection.execute("SET memory_limit = '400MB'")
        ledger.apply([message(2, reading(2, of=1, output_tokens=2000, model="priced"))])
        counted = "SELECT sum(rows), sum(output_tokens) FROM session_usage"
        assert ledger._connection.execute(counted).fetchone() == (3001, 3_001_000)


def test_too_little_memory_after_rows_are_added_up_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was added up is kept, and booking goes on."""

    def lacking(_connection: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate a block")

    monkeypatch.setattr(folding, "FOLD_ROWS", 1)
    monkeypatch.setattr(months, "to_add_up", lacking)
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1, output_tokens=1000, model="priced"))])
        assert not ledger.work()
        ledger.apply([message(2, reading(2, output_tokens=2000, model="priced"))])
        for view in ("session_usage", "monthly_usage"):
            counted = f"SELECT sum(rows), sum(output_tokens) FROM {view}"  # noqa: S608 - names of views
            assert ledger._connection.execute(counted).fetchone() == (2, 2000)
