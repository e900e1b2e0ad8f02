"""A made-up history of a ledger: some days with calls of every kind, late readings, and operations."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
from msgspec import Struct

from tests.support.events import (
    PROJECT,
    START_US,
    ended,
    final,
    message,
    reading,
    session_id,
    started,
)
from tests.support.price_books import mini
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import Adjust, Rerate, Void, Work
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event

DAYS: Final = 4
CALLS_A_DAY: Final = 4
_DAY_MS: Final = 86_400_000
_START: Final = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US)

OUTCOMES: Final = (
    None,
    {"result": "success", "tags": ["language:es"], "user_turns": 2, "preempted": []},
    {"result": "fail", "tags_cut": 1, "user_turns": 0},
    {"user_turns": 1, "preempted": ["speech_1", "speech_2"]},
)
"""What ends say came of a call; None: an older worker's."""

VIEWS: Final = (
    "sessions", "cost_by_day", "unpriced", "completeness", "unattributed", "losses", "gaps", "operations",
    "closed_months", "corrections", "voided",
)  # fmt: skip
_METER: Final = (
    "project, session_id, day, agent_id, tenant, agent_label, modality, provider, model, estimated, "
    "size_tier, service_tier, operation, price_id, corrects, provider_raw"
)
_LAST: Final = (
    "currency, price_source, price_version, price_model, unpriced_reason, unbilled_reason"
)
_ENDS: Final = (
    "first_place, last_place, number, first_at, last_at, booked_at, first_unpriced_at, last_unpriced_at, "
    "first_sequence"
)
ALL: Final = {
    # in which order an operation books the meters of a session is nobody's promise
    "usage": "SELECT * EXCLUDE (place) FROM usage ORDER BY ALL",
    "dead_letters": "SELECT subject, reason, state FROM dead_letters ORDER BY ALL",
    "session_usage": f"""
        SELECT {_METER},
            arg_max_null(price_source, last_place), arg_max_null(price_version, last_place),
            arg_max_null(price_model, last_place), arg_max(unpriced_reason, last_place),
            arg_max_null(unbilled_reason, last_place), max(number), min(first_at), max(last_at), max(booked_at),
            min(first_unpriced_at), max(last_unpriced_at), min(first_sequence),
            sum(COLUMNS(* EXCLUDE ({_METER}, {_LAST}, {_ENDS})))
        FROM session_usage GROUP BY {_METER} ORDER BY ALL
    """,  # noqa: S608 - our own names
    **{view: f"SELECT * FROM {view} ORDER BY ALL" for view in VIEWS},  # noqa: S608 - same
}


class Step(Struct, frozen=True):
    """What comes at one moment: messages, or an operation."""

    now: datetime
    messages: Sequence[Message] = ()
    work: Work | None = None


def history(seed: int) -> list[Step]:
    """Return what comes in the order in which it comes; the days after the last call are quiet."""
    rng = random.Random(seed)  # noqa: S311 - the same history every time
    late: list[tuple[int, list[Event]]] = []
    steps: list[Step] = []
    sequences = iter(range(1, 1_000_000))

    def deliver(day: float, events: list[Event]) -> None:
        now = _START + timedelta(days=day)
        for at in range(0, len(events), 3):
            steps.append(Step(now, [message(next(sequences), *events[at : at + 3])]))

    for day in range(DAYS + 5):
        if day < DAYS:
            for call in range(day * CALLS_A_DAY, (day + 1) * CALLS_A_DAY):
                events = list(_call(rng, call + 1, day))
                kept = rng.choice([0, 0, 3])  # the last ones come when their day is sealed
                deliver(day, events[: len(events) - kept])
                if kept:
                    late.append((day + 4, events[len(events) - kept :]))
        for due, events in late:
            if due == day:
                deliver(day + 0.1, events)
        steps += [Step(_START + timedelta(days=day + 0.2), work=it) for it in _works(day)]
        bad = Message("costs.v1.x", next(sequences), b"not an event")
        steps.append(Step(_START + timedelta(days=day + 0.3), [bad]))
        steps.append(Step(_START + timedelta(days=day + 0.9)))
    steps.append(Step(_START + timedelta(days=DAYS + 9)))
    return steps


def _call(rng: random.Random, number: int, day: int) -> Iterator[Event]:
    """Yield the events of a call: whole, short, without an end or without a start."""
    kind = rng.choice(["whole", "whole", "short", "abandoned", "startless"])
    own = {"session_id": session_id(number, after_ms=day * _DAY_MS + number * 1000)}
    own["tenant"] = f"tenant-{number % 3}"
    at = START_US + day * _DAY_MS * 1000
    if kind != "startless":
        yield started(**{**own, "started_at": at})
    tokens = audio = 0
    count = rng.randint(3, 8)
    for each in range(1, count + 1):
        moment = {**own, "occurred_at": at + each * 1_000_000}
        if rng.random() < 0.7:
            tokens += rng.randint(1, 9) * 111_111
            yield reading(each, input_tokens=tokens, requests=each, **moment)
        else:
            audio += rng.randint(1, 9) * 1_000_003
            spelled = rng.choice(["homebrew", "Homebrew"])
            stt: dict[str, Any] = {"modality": "stt", "provider": spelled, "model": "ear"}
            yield reading(each, audio_us=audio, **stt, **moment)
    if kind != "abandoned":
        end = {**own, "ended_at": at + 60_000_000, "readings": count + (kind == "short")}
        end["outcome"] = OUTCOMES[number % len(OUTCOMES)]
        yield ended(count + 1, final(input_tokens=tokens + 7, requests=count), **end)


def _works(day: int) -> Iterator[Work]:
    """Yield what is done to the books on a day, after some days were sealed."""
    if day == DAYS:
        yield Void(project=PROJECT, session_id=session_id(2, after_ms=2000))
        yield Adjust(amount=Decimal("1.5"), day=date(2026, 11, 18), project=PROJECT)
    if day == DAYS + 1:
        yield Rerate()


class Told:
    """A ledger that is told a history; `now` is the time of its clock."""

    def __init__(self, data_dir: Path, now: datetime = _START) -> None:
        self.data_dir = data_dir
        self.now = now
        self._ledger = self._open()

    @property
    def ledger(self) -> Ledger:
        """The ledger that is open."""
        return self._ledger

    def _ticks(self) -> float:
        return self.now.timestamp()

    def _open(self) -> Ledger:
        clock = Clock(now=lambda: self.now, ticks=self._ticks)
        return Ledger.open(self.data_dir, mini("2"), clock=clock)

    def take(self, step: Step, *, seals: bool) -> None:
        """Take one step; with `seals` also fold, settle and seal all that may be."""
        self.now = step.now
        if step.messages:
            self._ledger.apply(step.messages)
        if step.work is not None:
            self._ledger._rate = mini("3" if isinstance(step.work, Rerate) else "2")
            self._ledger.operate(step.work, reason="because")
        while self._ledger._operations.pending or seals:
            if not self._ledger.work():
                break

    def open_again(self) -> None:
        """Close it, and open it."""
        self._ledger.close()
        self._ledger = self._open()

    def close(self) -> None:
        """Close it, with everything published."""
        self._ledger.close()


QUIET: Final = 12
"""Steps at the end of a history after which nothing is sealed, folded or settled any more."""


def partly(data_dir: Path, seed: int = 1) -> Path:
    """Make a closed ledger of which most is folded, settled and sealed, and some is not; return where."""
    with pytest.MonkeyPatch.context() as patch:
        often(patch)
        told = Told(data_dir)
        steps = history(seed)
        for at, step in enumerate(steps):
            told.take(step, seals=at < len(steps) - QUIET)
        told.close()
    return data_dir


def figures(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Any]]:
    """Return all rows of all views; rows of `session_usage` are added up where they may be."""
    return {name: connection.execute(query).fetchall() for name, query in ALL.items()}


def often(patch: Any) -> None:
    """Have a ledger fold, settle and seal a few rows at a time, whenever it may."""
    folding, sealing = "voicecosts.consumer.store.folding", "voicecosts.consumer.store.sealing"
    patch.setattr(f"{folding}.FOLD_ROWS", 4)
    patch.setattr(f"{folding}.SLICE_ROWS", 7)
    patch.setattr(f"{folding}.SLICE_SESSIONS", 3)
    patch.setattr(f"{sealing}.SEAL_ROWS", 1)
    patch.setattr(f"{sealing}.LEAST_ROWS", 1)
    patch.setattr(f"{sealing}.SLICE_ROWS", 9)
    patch.setattr(f"{sealing}.LOOK_S", 1.0)
    patch.setattr("voicecosts.consumer.store.retention.LOOK_S", 1.0)
