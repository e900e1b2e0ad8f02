"""What is in no row of the ledger: its amounts, its sentences, and since when it is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random

import duckdb
import pytest

from tests.analytics.conftest import Costs
from tests.support.events import (
    ended,
    final,
    message,
    messages,
    reading,
    report,
    session_id,
    started,
)
from tests.support.oracle import rate
from tests.support.sample_ledger import NOW, write_ledger, write_snapshot, write_status
from voicecosts import audit, query
from voicecosts.analytics.answers.report import Unattributed
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, MeterTotals

DAY_US = 86_400_000_000
FIRST_DAY = 1_795_000_000_000_000  # 2026-11-18


def booked(folder: Path, *events: Event) -> Path:
    """Return the data directory of a ledger that holds these events and a complete call."""
    call = (started(9), reading(1, of=9, input_tokens=1), ended(2, final(input_tokens=1), of=9))
    with Ledger.open(folder, rate, embedded=True) as ledger:
        ledger.apply(messages(1, *call, *events))
    return folder


def told_daily(folder: Path, *days: Sequence[Event]) -> Path:
    """Return the data directory of a ledger that received these events, from `FIRST_DAY` on."""
    moment = datetime.fromtimestamp(FIRST_DAY / 1e6, UTC)
    with Ledger.open(folder, rate, embedded=True, clock=Clock(now=lambda: moment)) as ledger:
        for day, events in enumerate(days, 1):
            ledger.apply(messages(day, *events, number=day))
            moment += timedelta(days=1)
    return folder


def call(of: int, *, unmeasured: int) -> list[Event]:
    """Return a call that began on day `of`, after the reports of the days before."""
    start = started(of, started_at=FIRST_DAY + (of - 1) * DAY_US)
    return [start, ended(1, of=of, unmeasured=unmeasured)]


def used(
    model: str, modality: str = "llm", provider: str = "openai", **amounts: int
) -> MeterTotals:
    """Return what a model used for nobody."""
    return final(
        agent_label="unattributed", modality=modality, provider=provider, model=model, **amounts
    )


def test_amounts_of_all_workers_are_added_up_by_model(tmp_path: Path) -> None:
    """A model is named once, however many processes used it; a second is a second, not a token."""
    folder = booked(
        tmp_path,
        report(1, unattributed=1, unattributed_usage=[used("gpt-4o", requests=9)]),
        report(
            2,
            unattributed=3,
            unattributed_usage=[
                used("gpt-4o", requests=2, input_tokens=1200, cache_read_input_tokens=1000),
                used("nova-3", "stt", "deepgram", audio_us=12_500_001),
            ],
        ),
        report(
            1,
            producer_id="worker-2",
            unattributed=1,
            unattributed_usage=[used("gpt-4o", requests=1, output_tokens=40)],
        ),
    )
    missing = query(data_dir=folder).completeness
    nothing = {"requests": 0, "input_tokens": 0, "output_tokens": 0, "characters": 0}
    seconds = {"audio_seconds": Decimal(0), "session_seconds": Decimal(0)}
    llm = {"requests": 3, "input_tokens": 1200, "output_tokens": 40, "characters": 0, **seconds}
    stt = {**nothing, **seconds, "audio_seconds": Decimal("12.500001")}
    assert missing.unattributed == 4
    assert missing.unattributed_usage == (
        Unattributed(modality="llm", provider="openai", model="gpt-4o", **llm),  # type: ignore[arg-type]  # by their names
        Unattributed(modality="stt", provider="deepgram", model="nova-3", **stt),  # type: ignore[arg-type]  # same
    )
    assert query(data_dir=folder).warnings == (
        (
            "not in these costs: 4 usage events that could not be attributed to a call "
            "(openai/gpt-4o llm: 3 requests, 1,200 input tokens, 40 output tokens; deepgram/nova-3 "
            "stt: 12.5 s of audio); the log of the worker says how to avoid it"
        ),
    )


def test_the_models_that_used_most_are_named(tmp_path: Path) -> None:
    """Of each kind the largest comes first; models that a worker merged are no model and come last."""
    usage = [
        used("(more)", provider="(more)", requests=90),
        used("a-small-one", requests=1, input_tokens=5),
        used("gpt-4o", requests=2, input_tokens=5),
        used("ear-2", "stt", "deepgram", audio_us=1_000_000),
        used("nova-3", "stt", "deepgram", audio_us=9_000_000),
    ]
    folder = booked(tmp_path, report(1, unattributed=99, unattributed_usage=usage))
    found = [used.model for used in query(data_dir=folder).completeness.unattributed_usage]
    assert found == ["gpt-4o", "nova-3", "a-small-one", "ear-2", "(more)"]


def test_an_amount_that_no_sentence_names_is_not_nothing(tmp_path: Path) -> None:
    """Parts of a total may come without the total: the view has them, and the sentence says where."""
    usage = [used("gpt-realtime", "realtime", audio_input_tokens=5)]
    folder = booked(tmp_path, report(1, unattributed=1, unattributed_usage=usage))
    [said] = query(data_dir=folder).warnings
    assert "(openai/gpt-realtime realtime: see the view `unattributed`)" in said


def test_many_models_do_not_fill_the_screen(tmp_path: Path) -> None:
    """Three are named, and where the others are is said."""
    usage = [used(f"model-{number}", requests=1) for number in range(5)]
    [said] = query(
        data_dir=booked(tmp_path, report(1, unattributed=5, unattributed_usage=usage))
    ).warnings
    assert "openai/model-2 llm: 1 request; 2 more models in the view `unattributed`)" in said


def test_what_could_not_be_measured_is_said_without_an_amount(tmp_path: Path) -> None:
    """Nobody knows what it used; a call that says it itself is not told of twice."""
    folder = booked(
        tmp_path,
        started(1),
        ended(1, unmeasured=1),
        report(1, unmeasured=3),
    )
    assert query(data_dir=folder).completeness.unmeasured == 2
    assert query(data_dir=folder).warnings == (
        (
            "the numbers may lack something: 1 call is short (how much is unknown); `costs audit "
            f"--data-dir {folder}` names them"
        ),
        (
            "not in these costs: what 2 usage events used that could not be measured; the log of "
            "the worker says why"
        ),
    )


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of reports, read by several tests."""
    days = [
        [report(number, unattributed=unattributed, unmeasured=unmeasured)]
        for number, (unattributed, unmeasured) in enumerate([(2, 1), (4, 2), (4, 3)], 1)
    ]
    return told_daily(tmp_path_factory.mktemp("reported"), *days)


@pytest.mark.parametrize(
    ("since", "lost"), [(None, 7), ("2026-11-19", 4), ("2026-11-20", 1), ("2026-11-22", 0)]
)
def test_what_was_known_before_a_period_is_not_lost_in_it(
    reported: Path, since: str | None, lost: int
) -> None:
    """Running totals are differences between moments, so a nightly audit fails once for a loss."""
    assert audit(since=since, data_dir=reported).lost == lost


@pytest.fixture(scope="module")
def with_calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of reports and calls, read by several tests."""
    days: list[list[Event]] = [
        [report(1, unattributed=2, unmeasured=3), ended(1, unmeasured=2)],
        [report(2, unattributed=4, unmeasured=7), *call(2, unmeasured=2)],
        [report(3, unattributed=4, unmeasured=8), *call(3, unmeasured=1)],
    ]
    return told_daily(tmp_path_factory.mktemp("with-calls"), *days)


@pytest.mark.parametrize(
    ("since", "until", "lost"),
    [
        ("2026-11-18", "2026-11-19", 3),
        ("2026-11-19", "2026-11-20", 4),
        ("2026-11-20", "2026-11-21", 0),
        ("2026-11-19", "2026-11-21", 4),
        (None, "2026-11-18", 0),
        (None, "2026-11-20", 7),
    ],
)
def test_what_becomes_known_after_a_period_is_not_lost_in_it(
    with_calls: Path, since: str | None, until: str, lost: int
) -> None:
    """An audit of yesterday does not fail for today, and every loss is in one day's audit."""
    assert audit(since=since, until=until, data_dir=with_calls).lost == lost


@pytest.mark.parametrize("behind_us", [-3 * DAY_US, 0, 3 * DAY_US])
def test_a_loss_is_known_since_the_ledger_was_told(tmp_path: Path, behind_us: int) -> None:
    """A worker whose clock is wrong hides no loss of the period, and moves none into it."""
    days: list[list[Event]] = [
        [report(1, unattributed=1, unmeasured=1, reported_at=FIRST_DAY - behind_us)],
        [
            report(2, unattributed=6, unmeasured=4, reported_at=FIRST_DAY + DAY_US - behind_us),
            started(1, started_at=FIRST_DAY + 5 - behind_us),
            ended(1, unmeasured=1, ended_at=FIRST_DAY + DAY_US - behind_us),
        ],
    ]
    folder = told_daily(tmp_path, *days)
    lost = [audit(since=f"2026-11-{day}", data_dir=folder).lost for day in (18, 19, 20)]
    assert lost == [9, 7, 0]


def test_another_project_hides_no_loss(tmp_path: Path) -> None:
    """A worker of it may call itself by the same id and say anything: its own losses are added."""
    folder = booked(tmp_path, report(1, unmeasured=5, dropped=3))
    end = ended(1, of=7, project="staging", unmeasured=2**53 - 1)
    late = report(2**53 - 1, project="staging", dropped=2)
    with Ledger.open(folder, rate, embedded=True) as ledger:
        ledger.apply([message(8, end, project="staging"), message(9, late, project="staging")])
    assert audit(data_dir=folder).lost == 5
    assert query(data_dir=folder).completeness.dropped == 5


@pytest.mark.parametrize("of_none", [0, 1, 2])
def test_a_call_that_ends_in_a_period_hides_no_loss_of_it(tmp_path: Path, of_none: int) -> None:
    """What its session had was known before and is said by its end: not taken off what came later."""
    folder = told_daily(
        tmp_path,
        [started(1, started_at=FIRST_DAY - 5), report(1, unmeasured=3, reported_at=FIRST_DAY)],
        [ended(1, unmeasured=3), report(2, unmeasured=3 + of_none)],
    )
    assert audit(since="2026-11-19", data_dir=folder).lost == of_none
    assert audit(data_dir=folder).lost == of_none


def test_a_loss_from_before_a_call_is_not_moved_into_the_period_of_its_end(tmp_path: Path) -> None:
    """What was counted before a session started is not of it, so it stays known since then."""
    folder = told_daily(
        tmp_path,
        [
            report(1, unmeasured=2, reported_at=FIRST_DAY),
            started(1, started_at=FIRST_DAY + 5),
            report(2, unmeasured=3, reported_at=FIRST_DAY + 9),
        ],
        [ended(1, unmeasured=2), report(3, unmeasured=4, reported_at=FIRST_DAY + DAY_US)],
    )
    assert audit(since="2026-11-19", data_dir=folder).lost == 0
    assert audit(data_dir=folder).lost == 2


@pytest.mark.parametrize(
    "seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))]
)
def test_no_history_hides_a_loss_of_a_period(tmp_path: Path, seed: int) -> None:
    """`lost` is at least what came in the period and is in no call, at most all that is in no call."""
    chance = Random(seed)  # noqa: S311 - no secret
    numbers, at = count(1), count(FIRST_DAY, 1000)
    running: dict[int, int] = {}
    sessions, unmeasured, of_none = count(1), 0, [0, 0]
    days: list[list[Event]] = [[], []]
    for day, events in enumerate(days):
        for _ in range(20):
            what = chance.choice(["start", "heard", "heard", "nowhere", "end"])
            if what == "start":
                running[session := next(sessions)] = 0
                events.append(started(session, started_at=next(at)))
            elif what == "nowhere":
                unmeasured, of_none[day] = unmeasured + 1, of_none[day] + 1
            elif what == "heard" and running:
                running[chance.choice(list(running))] += 1
                unmeasured += 1
            elif running:
                session = chance.choice(list(running))
                heard = running.pop(session)
                events.append(ended(1, of=session, unmeasured=heard, ended_at=next(at)))
            events.append(report(next(numbers), unmeasured=unmeasured, reported_at=next(at)))
    days[1] += [ended(1, of=of, unmeasured=heard) for of, heard in running.items()]
    folder = told_daily(tmp_path, *days)
    found = audit(since="2026-11-19", data_dir=folder).lost
    assert of_none[1] <= found <= sum(of_none)
    assert of_none[0] <= audit(until="2026-11-19", data_dir=folder).lost <= sum(of_none)
    assert audit(data_dir=folder).lost == sum(of_none)


def test_a_call_that_says_it_itself_is_not_lost_as_well(tmp_path: Path) -> None:
    """It is short, which fails a strict audit of the calls that it is among, and of no others."""
    folder = booked(
        tmp_path,
        started(1, tenant="acme"),
        ended(1, unmeasured=2, tenant="acme"),
        started(2, tenant="globex"),
        reading(1, of=2, tenant="globex"),
        ended(2, final(requests=1), of=2, tenant="globex"),
        report(1, unmeasured=2),
    )
    everything, globex = (audit(where=where, data_dir=folder) for where in ((), "tenant=globex"))
    assert (len(everything.sessions), everything.lost) == (1, 0)
    assert str(everything.sessions[0].session) == session_id(1)
    assert (globex.sessions, globex.lost) == ((), 0)


def test_what_could_not_be_booked_fails_a_strict_audit(costs: Costs, tmp_path: Path) -> None:
    """No table says that nothing is missing above a sentence that something is."""
    write_ledger(tmp_path / "d", dead_letters=3)
    write_status(tmp_path / "d", as_of=datetime.now(UTC))
    done = costs("audit", "--strict", "--data-dir", str(tmp_path / "d"))
    said = "the exit code is 1 because of --strict: not in these costs: 3 events that could not"
    assert (done.returncode, done.stderr[: len(said)]) == (1, said)
    assert "3 events that could not be booked" in done.stdout
    assert "no usage is missing" not in done.stdout
    for period in (("--since", "2099-01-01"), ("--until", "2026-01-01")):
        other = costs("audit", "--strict", *period, "--data-dir", str(tmp_path / "d"))
        assert other.returncode == 0


@pytest.mark.parametrize("output", ["table", "csv"])
def test_a_name_in_a_sentence_cannot_control_the_terminal(
    costs: Costs, tmp_path: Path, output: str
) -> None:
    """A model is named by a worker, so its name is shown as text, beside a CSV too."""
    usage = [used("gpt\x1b[31m", requests=1)]
    folder = booked(tmp_path / "d", report(1, unattributed=1, unattributed_usage=usage))
    done = costs("query", "--format", output, "--data-dir", str(folder))
    said = {"table": done.stdout, "csv": done.stderr}[output]
    assert "\\x1b[31m llm" in said
    assert "\x1b" not in done.stdout + done.stderr


def test_a_snapshot_of_an_older_version_says_nothing_of_it(tmp_path: Path) -> None:
    """It is read, with its counts, and what it cannot say is unknown and not zero."""
    path = write_snapshot(tmp_path / "old.duckdb", reports=[("worker-1", 1, 0, 3)], dead_letters=1)
    with duckdb.connect(path) as old:
        old.execute("DROP VIEW unattributed; DROP VIEW losses")
        old.execute("ALTER TABLE producer_reports DROP COLUMN unmeasured")
        old.execute("ALTER TABLE producer_reports DROP COLUMN unattributed_usage")
        old.execute("UPDATE schema_migrations SET version = 2")
    missing = query(data_dir=path, now=NOW).completeness
    assert (missing.unattributed, missing.unattributed_usage, missing.unmeasured) == (3, (), None)
    assert audit(data_dir=path, now=NOW).lost == 4


def test_absurd_counts_of_workers_are_added_up(tmp_path: Path) -> None:
    """The largest counts that a report may carry, of many workers: the views cap, and answer everybody."""
    most = 2**53 - 1
    lost = used("gpt", input_tokens=most, requests=most)
    booked(
        tmp_path,
        report(
            1,
            captured=most,
            coalesced=most,
            dropped=most,
            unattributed=most,
            unmeasured=most,
            unattributed_usage=[lost],
        ),
    )
    with duckdb.connect((tmp_path / "costs.duckdb").resolve()) as ledger:
        ledger.execute(
            "INSERT INTO producer_reports "
            "SELECT reports.* REPLACE (reports.producer_id || many.number AS producer_id) "
            "FROM producer_reports AS reports, range(1499) AS many(number)"
        )
        found = ledger.execute(
            "SELECT producers, captured, coalesced, dropped, unattributed, unmeasured FROM losses"
        ).fetchall()
        assert found == [(1500, *[2**63 - 1] * 5)]
        [(workers, tokens)] = ledger.execute(
            "SELECT count(*), sum(input_tokens) FROM unattributed"
        ).fetchall()
        assert (workers, tokens) == (1500, 1500 * most)
    missing = query(data_dir=tmp_path).completeness
    assert missing.unattributed == 1500 * most
    assert missing.unattributed_usage[0].input_tokens == 1500 * most
    assert audit(data_dir=tmp_path).completeness.whole is False
