"""A real ledger with a call of every kind, for tests of answers about single calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.support.events import (
    PROJECT,
    START_MS,
    START_US,
    ended,
    final,
    message,
    reading,
    session_id,
    started,
)
from tests.support.price_books import MODEL, Figures
from voicecosts.consumer.booking.operations import Void
from voicecosts.consumer.pricing import rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, RequestDetail

HALF, TWO, EMPTY, OPEN, STARTLESS, SHORT, VOIDED, UNPRICED = range(1, 9)
"""The calls by the order in which they began: one of half a minute, one of two, and so on."""

DEAREST: Final = 14
CUT_OFF: Final = 2
"""Turns of `write_turns`."""

OTHER: Final = "staging"
"""The project that has a call with the id of `HALF` too."""

HOSTILE: Final = "[red]\x1b[31mroom[/red]\n" + "x" * 100
NOW: Final = datetime.fromtimestamp(START_MS / 1000, UTC) + timedelta(minutes=20)

_BOOK: Final = '[[billed]]\ntenant = "acme"\nmarkup = "20 %"\n'
_MINUTE_US: Final = 60_000_000
_MILLION: Final = 1_000_000
_GLOBEX: Final = {"tenant": "globex", "agent_id": "sales"}
_HOME: Final = {"provider": "homebrew", "model": "llama"}


def call_id(number: int) -> UUID:
    """Return the id of a call; each began a minute after the one before it."""
    return UUID(session_id(number, after_ms=number * 60_000))


def write_calls(folder: Path) -> Path:
    """Book the calls, at 0.40 USD for a million tokens, and publish them; return the data directory."""
    rate = rate_by(Figures({MODEL: "0.4"}), read(_BOOK))
    with Ledger.open(folder, rate, clock=Clock(now=lambda: NOW)) as ledger:
        twin, globex = message(2, *_twin(), project=OTHER), message(3, *_of_globex(), agent="sales")
        ledger.apply([message(1, *_calls()), twin, globex])
        ledger.operate(Void(project=PROJECT, session_id=str(call_id(VOIDED))), reason="a test")
    return folder


def write_turns(folder: Path, turns: int) -> Path:
    """Book one call with so many turns, of which the 14th is the dearest; return the data directory.

    Each turn is an answer and its voice, which has no price; what sums it up is in none. The 2nd answer was cut off, and
    what came of its speech is estimated.
    """
    rate = rate_by(Figures({MODEL: "0.4", "summary": "1"}))
    with Ledger.open(folder, rate, clock=Clock(now=lambda: NOW)) as ledger:
        ledger.apply([message(at, it) for at, it in enumerate(_of_turns(turns), start=1)])
    return folder


def _of_turns(turns: int) -> Iterator[Event]:
    summed: dict[str, Any] = {"model": "summary"}
    voice: dict[str, Any] = {"modality": "tts", "provider": "homebrew", "model": "voice"}
    own = {"session_id": str(call_id(HALF))}
    yield _start(HALF, room_name=HOSTILE, job_id="AJ_1")
    tokens, number = 0, 0
    for turn in range(1, turns + 1):
        tokens += _MILLION * (5 if turn == DEAREST else 1)
        at = {**own, "occurred_at": _began(HALF) + turn * 10_000_000}
        speech = RequestDetail(speech_id=f"speech_{turn:04}", cancelled=turn == CUT_OFF)
        yield reading(number + 1, **at, input_tokens=tokens, requests=turn, last=speech)
        spoken = RequestDetail(speech_id=f"speech_{turn:04}")
        yield reading(number + 2, **at, **voice, characters=turn * 10, last=spoken)
        yield reading(number + 3, **at, **summed, input_tokens=turn * 1000)
        number += 3
    at = {**own, "occurred_at": _began(HALF) + 9_000_000}
    yield reading(number + 1, **at, estimated=True, input_tokens=500_000)
    meters = [
        final(input_tokens=tokens, requests=turns),
        final(**voice, characters=turns * 10),
        final(**summed, input_tokens=turns * 1000),
        final(estimated=True, input_tokens=500_000),
    ]
    length = {"ended_at": _began(HALF) + 10 * _MINUTE_US}
    outcome = {"result": "fail", "tags": ["[b]\x1b[1m"], "user_turns": turns}
    yield ended(number + 2, *meters, **own, **length, outcome=outcome)


def _calls() -> Iterator[Event]:
    million: dict[str, Any] = {"input_tokens": _MILLION}
    yield _start(HALF, room_name="front-desk", job_id="AJ_1")
    yield reading(1, **_own(HALF), input_tokens=2 * _MILLION)
    booked = {"result": "success", "tags": ["booked", "language:es"], "user_turns": 2}
    yield _end(HALF, _MINUTE_US // 2, {"input_tokens": 2 * _MILLION}, outcome=booked)
    yield _start(EMPTY, room_name="front-desk", tenant=None)
    yield _end(EMPTY, 0, tenant=None, outcome={"user_turns": 0})
    yield _start(OPEN, room_name="lobby")
    yield reading(1, **_own(OPEN), **million)
    yield reading(1, **_own(STARTLESS), **million)
    yield _end(STARTLESS, _MINUTE_US, million)
    yield _start(SHORT)
    yield reading(1, **_own(SHORT), input_tokens=3 * _MILLION)
    yield _end(SHORT, _MINUTE_US, million, readings=1)
    yield _start(VOIDED)
    yield reading(1, **_own(VOIDED), **million)
    yield _end(VOIDED, _MINUTE_US, million)
    yield _start(UNPRICED)
    yield reading(1, **_own(UNPRICED), requests=2, **_HOME)
    yield _end(UNPRICED, _MINUTE_US, {"requests": 2, **_HOME})


def _of_globex() -> Iterator[Event]:
    yield _start(TWO, room_name=HOSTILE, job_id="AJ_2", **_GLOBEX)
    yield reading(1, **_own(TWO), input_tokens=_MILLION, **_GLOBEX)
    yield reading(2, **_own(TWO), requests=3, **_HOME, **_GLOBEX)
    yield _end(TWO, 2 * _MINUTE_US, {"input_tokens": _MILLION}, {"requests": 3, **_HOME}, **_GLOBEX)


def _twin() -> Iterator[Event]:
    """Yield a call of another project that has the id of one here."""
    yield _start(HALF, room_name="front-desk", project=OTHER)
    yield reading(1, **_own(HALF), input_tokens=4 * _MILLION, project=OTHER)
    yield _end(HALF, _MINUTE_US, {"input_tokens": 4 * _MILLION}, project=OTHER)


def _own(number: int) -> dict[str, Any]:
    return {"session_id": str(call_id(number)), "occurred_at": _began(number) + 1_000_000}


def _start(number: int, **more: object) -> Event:
    own = {"session_id": str(call_id(number)), "started_at": _began(number)}
    return started(**own, **more)


def _end(number: int, length_us: int, *meters: dict[str, Any], **more: object) -> Event:
    own = {"session_id": str(call_id(number)), "ended_at": _began(number) + length_us}
    return ended(len(meters) + 1, *(final(**dict(it)) for it in meters), **own, **more)


def _began(number: int) -> int:
    return START_US + number * _MINUTE_US


def nowhere(sentences: Iterable[str], folder: Path) -> tuple[str, ...]:
    """Return sentences whose commands name no folder, for an answer that is compared with a file."""
    return tuple(it.replace(f" --data-dir {folder}`", "`") for it in sentences)
