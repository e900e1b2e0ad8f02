"""Tests of what a report leaves out, and of the sentences that say so."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from tests.support.sample_ledger import (
    ACME,
    AS_OF,
    NOW,
    SAMPLE,
    Booking,
    day,
    write_ledger,
    write_status,
)
from voicecosts import query
from voicecosts.analytics.answers.completeness import notes
from voicecosts.analytics.answers.costs import answer, ask
from voicecosts.analytics.answers.report import Completeness, NotBooked, Outbox, Source, Unpriced
from voicecosts.analytics.numbers import age
from voicecosts.analytics.snapshot.files import DEMO_MARK
from voicecosts.analytics.text.costs import as_json


def test_a_complete_report_warns_of_nothing(tmp_path: Path) -> None:
    """Without anything missing there is no sentence to read."""
    write_ledger(tmp_path, SAMPLE[:3], reports=[("worker-1", 1, 0, 0)])
    write_status(tmp_path, waiting=0)
    assert query(data_dir=tmp_path, now=NOW).warnings == ()


def test_unpriced_rows_are_named_with_model_and_reason(data_dir: Path) -> None:
    """The sentence says how many, which models, and why; the report has them for programs."""
    report = query(data_dir=data_dir, now=NOW)
    assert report.completeness.unpriced == (
        Unpriced(
            modality="llm",
            provider="homebrew",
            model="llama",
            reason="unknown_model",
            rows=2,
            requests=2,
            input_tokens=70,
        ),
        Unpriced(
            modality="stt",
            provider="deepgram",
            model="nova-3",
            reason="no_unit",
            rows=1,
            requests=1,
        ),
    )
    [warning] = report.warnings
    assert warning == (
        "not in these costs: 2 requests to homebrew/llama (llm), which has no price: unknown_model; "
        "1 request to deepgram/nova-3 (stt), which has no price: no_unit; `costs prices check --data-dir "
        f"{data_dir}` shows what to write"
    )


def test_unpriced_rows_are_those_of_the_question(data_dir: Path) -> None:
    """A filter that leaves only priced rows leaves nothing unpriced to warn of."""
    assert query(where="tenant=acme", data_dir=data_dir, now=NOW).warnings == ()
    globex = query(where="tenant=globex", data_dir=data_dir, now=NOW)
    assert [(it.model, it.rows) for it in globex.completeness.unpriced] == [("llama", 1)]
    assert globex.warnings[0].startswith("not in these costs: 1 request to homebrew/llama")


def test_many_unpriced_models_do_not_fill_the_screen(tmp_path: Path) -> None:
    """Three are named, the rest is counted."""
    models = [
        Booking(
            occurred_at=day(20),
            session_id=ACME,
            model=f"model-{number}",
            unpriced_reason="unknown_model",
        )
        for number in range(8)
    ]
    write_status(write_ledger(tmp_path, models))
    [warning] = query(data_dir=tmp_path, now=NOW).warnings
    assert warning.endswith(
        f"no price: unknown_model; 5 more models; `costs prices check --data-dir {tmp_path}` shows what to write"
    )


def test_losses_are_told_whatever_the_filter(tmp_path: Path) -> None:
    """Dead letters and what producers lost belong to no tenant, so every report tells of them."""
    write_ledger(
        tmp_path,
        SAMPLE[:2],
        dead_letters=2,
        reports=[("worker-1", 1, 3, 0), ("worker-1", 2, 5, 1), ("worker-2", 1, 2, 0)],
    )
    write_status(tmp_path)
    report = query(where="tenant=acme", data_dir=tmp_path, now=NOW)
    lost = report.completeness
    assert (lost.dead_letters, lost.dropped, lost.unattributed) == (2, 7, 1)
    assert report.warnings == (
        (
            "not in these costs: 2 events that could not be booked; `costs dead-letters list --data-dir "
            f"{tmp_path}` says why"
        ),
        (
            "not in these costs: 1 usage event that could not be attributed to a call; the log of "
            "the worker says how to avoid it"
        ),
        (
            "workers lost 7 events (no room, damage, or accepted by no server): only a later reading "
            "of the same meter, or the session's end, makes up for a lost reading"
        ),
    )


def test_a_producers_reports_are_running_totals(tmp_path: Path) -> None:
    """The largest report of each producer counts, in whatever order they came."""
    write_ledger(tmp_path, reports=[("worker-1", 9, 4, 4), ("worker-1", 8, 1, 1)])
    lost = query(data_dir=tmp_path, now=NOW).completeness
    assert (lost.dropped, lost.unattributed) == (4, 4)


def test_what_waits_is_told(tmp_path: Path) -> None:
    """Messages that are not booked yet are in no row, and their number is said."""
    write_ledger(tmp_path, SAMPLE[:1])
    write_status(tmp_path, waiting=41)
    assert query(data_dir=tmp_path, now=NOW).warnings == (
        "not booked yet: 41 messages in the stream",
    )


def test_what_waits_in_the_outbox_is_counted_with_what_waits_in_the_stream(tmp_path: Path) -> None:
    """Two counts, one sentence each, and their sum for programs; where neither is known, None."""
    write_ledger(tmp_path, SAMPLE[:1])
    question = ask(["tenant"], since=None, until=None, where=(), top=None, sort=None, now=NOW)
    left = NotBooked(messages=3, why="the disk is full")
    report = answer(question, tmp_path, now=NOW, outbox=Outbox(not_booked=left))
    said = ("not in these numbers: 3 messages in the outbox of this host (the disk is full)",)
    assert (report.completeness.waiting, report.warnings[:1]) == (3, said)
    write_status(tmp_path, waiting=41)
    report = answer(question, tmp_path, now=NOW, outbox=Outbox(not_booked=left))
    assert (report.completeness.waiting_in_stream, report.completeness.waiting) == (41, 44)
    assert report.warnings == (*said, "not booked yet: 41 messages in the stream")
    assert json.loads(as_json(report))["completeness"]["waiting"] == 44
    for unknown in (
        Outbox(not_booked=NotBooked(messages=None, why="it is locked"), unsent=3),
        Outbox(not_booked=left, unsent=None),
    ):
        report = answer(question, tmp_path, now=NOW, outbox=unknown)
        assert report.completeness.waiting_in_outbox is None


def test_silence_is_measured_from_the_last_word_of_the_ledger(tmp_path: Path) -> None:
    """A ledger reports every second: a minute without is worth a look, a long copy is not."""
    write_ledger(tmp_path, SAMPLE[:1])
    write_status(tmp_path)
    assert query(data_dir=tmp_path, now=AS_OF + timedelta(minutes=1)).warnings == ()
    silent = query(data_dir=tmp_path, now=AS_OF + timedelta(minutes=3)).warnings
    assert silent == ("the ledger has not reported for 3 min: check whether it still runs",)
    write_status(tmp_path, as_of=datetime.now(UTC))
    assert query(data_dir=tmp_path).warnings == ()


def told(folder: Path, **of_status: object) -> tuple[list[str], bool | None]:
    """Return what an answer says of the stream and of gaps, and whether it says that it is whole."""
    write_status(folder, waiting=0)
    path = folder / "ledger.json"
    heard_at = path.stat().st_mtime
    path.write_text(json.dumps({**json.loads(path.read_text()), **of_status}))
    os.utime(path, (heard_at, heard_at))
    report = query(data_dir=folder, now=NOW)
    asked = (Source.STREAM, Source.GAPS)
    found = [it.text for it in report.completeness.findings if it.source in asked]
    assert set(found) <= set(report.warnings)
    return found, report.completeness.whole


def test_a_broker_that_does_not_answer_is_told_with_how_long(tmp_path: Path) -> None:
    """Half a minute is a slow answer; above it nobody knows what waits, and nothing is called whole."""
    write_ledger(tmp_path, SAMPLE[:3])
    for silent_s, is_told in ((30, False), (75, True)):
        answered_at = AS_OF.astimezone(UTC) - timedelta(seconds=silent_s)
        found, whole = told(tmp_path, answered_at=answered_at.isoformat())
        assert whole is (None if is_told else True)
        silence = age(NOW - answered_at)
        text = f"not known: what waits in the stream (the broker has not answered for {silence})"
        assert found == ([text] if is_told else [])


def test_a_stream_that_is_nearly_full_is_told(tmp_path: Path) -> None:
    """From 70 % on the sentence says what happens when it is full, and which command shows more."""
    write_ledger(tmp_path, SAMPLE[:3])
    assert told(tmp_path, stream_bytes=699, stream_max_bytes=1000) == ([], True)
    found, whole = told(tmp_path, stream_bytes=700, stream_max_bytes=1000)
    assert whole is None
    [text] = found
    assert text == (
        "the stream is 70% full; when it is full, workers keep what they cannot send: see "
        f"`costs stream --data-dir {tmp_path}`"
    )


def test_gaps_are_told_with_their_numbers(tmp_path: Path) -> None:
    """Three are named and the rest is counted; one that was filled is none."""
    write_ledger(tmp_path, SAMPLE[:3])
    with duckdb.connect((tmp_path / "costs.duckdb").resolve()) as ledger:
        for first, last, why, filled in (
            (5, 5, "left_the_stream", None),
            (7, 1_000, "left_the_stream", None),
            (1, 4, "left_the_stream", AS_OF),
            (2_001, None, "stream_gone", None),
            (5, 9, "restored", None),
        ):
            ledger.execute(
                "INSERT INTO stream_gaps VALUES (?, ?, ?, ?, ?, ?)",
                [AS_OF, first, last, AS_OF, why, filled],
            )
    found, whole = told(tmp_path)
    assert whole is False
    text, restored = sorted(found)
    assert restored == (
        "not in these numbers: what was booked from outboxes of this host after snapshot 4, up to "
        "snapshot 9; an older copy of the ledger was put in its place"
    )
    assert text.startswith("never reached this ledger: ")
    assert set(text.removeprefix("never reached this ledger: ").split("; ")) == {
        "message 5 of the stream",
        "messages 7 to 1,000 of the stream (994 of them)",
        "whatever came after message 2,000 of a stream that is gone",
    }


def test_the_ledger_of_a_demo_is_not_one_that_should_run(tmp_path: Path) -> None:
    """Who asks it later is not sent to start something that has ended as it should."""
    folder = write_ledger(tmp_path)
    write_status(folder, running=False)
    assert "the ledger is not running" in query(data_dir=folder, now=NOW).warnings[-1]
    (folder / DEMO_MARK).touch()
    report = query(data_dir=folder, now=NOW)
    assert report.warnings[-1] == (
        "this ledger belongs to a demo that has ended: nothing new is booked here"
    )
    assert report.completeness.whole is not True


def test_calls_that_run_are_told_only_where_nothing_worse_is() -> None:
    """One sentence on the calls is enough: of those that are short, or of those that were abandoned."""
    for short, abandoned, said in ((0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 0)):
        missing = Completeness(
            unpriced=(),
            dead_letters=0,
            dropped=0,
            unattributed=0,
            unattributed_usage=(),
            unmeasured=0,
            waiting_in_stream=0,
            waiting_in_outbox=0,
            running=True,
            answered_at=None,
            gaps=(),
            open_sessions=2,
            abandoned_sessions=abandoned,
            short_sessions=short,
            short_at_most=None,
        )
        assert len(notes(missing)) == said
