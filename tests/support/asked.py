"""A ledger for questions of every kind: rooms, jobs, labels and turns; a void, a credit, a corrected month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.events import PROJECT, ended, final, message, reading, started
from tests.support.history import often
from tests.support.price_books import MODEL, Figures
from voicecosts.consumer.booking.operations import Adjust, Close, Rerate, Retain, Void
from voicecosts.consumer.pricing import Rate, rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, RequestDetail

FIRST: Final = datetime(2026, 10, 24, 21, 50, tzinfo=UTC)
"""The first call begins then, and each other one 70 minutes after the one before: two hours of one name are
among them in Berlin, where summer time ends on 2026-10-25 at 01:00Z."""

CALLS: Final = 9
VOIDED: Final = 5
HOSTILE: Final = "=[red]\x1b[31m\n"
EVERY_MS: Final = 70 * 60_000
NOW: Final = datetime(2026, 11, 20, tzinfo=UTC)

_BOOK: Final = '[[billed]]\ntenant = "acme"\nmarkup = "20 %"\n'
_MILLION: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US: Final = (FIRST - _EPOCH) // timedelta(microseconds=1)


def call_id(number: int) -> str:
    """Return the id of a call."""
    at_ms = _FIRST_US // 1000 + (number - 1) * EVERY_MS
    text = f"{at_ms:012x}"
    return f"{text[:8]}-{text[8:]}-7abc-8abc-{number:012x}"


def write_asked(folder: Path, *, removed: bool = False) -> Path:
    """Book the calls and what was done to the books; with `removed` single rows are gone where they may be."""
    now = [FIRST + timedelta(days=1)]
    with pytest.MonkeyPatch.context() as patch:
        often(patch)
        with Ledger.open(folder, _rate("0.4"), clock=Clock(now=lambda: now[0])) as ledger:
            for number in range(1, CALLS + 1):
                ledger.apply([message(number, *_call(number), agent=_agent(number))])
            ledger.operate(Void(project=PROJECT, session_id=call_id(VOIDED)), reason="a test call")
            credit = Adjust(
                amount=Decimal("-0.5"), day=date(2026, 10, 25), project=PROJECT, tenant="acme"
            )
            ledger.operate(credit, reason="a credit")
            now[0] = datetime(2026, 11, 10, tzinfo=UTC)
            ledger.operate(Close(month=date(2026, 10, 1)), reason="month end")
            ledger._rate = _rate("0.5")
            ledger.operate(Rerate(), reason="another price")
            while ledger.work():
                pass
            if removed:
                ledger.operate(Retain(days=5), reason="the law")
            now[0] = NOW
            while ledger.work():
                pass
    return folder


def _rate(figure: str) -> Rate:
    return rate_by(Figures({MODEL: figure, "summary": "1"}), read(_BOOK))


def _agent(number: int) -> str:
    return "dental" if number % 2 else "sales"


def _call(number: int) -> Iterator[Event]:
    """Yield the events of a call: two turns, what is in none, what has no price, and its connected time."""
    began = _FIRST_US + (number - 1) * EVERY_MS * 1000
    own: dict[str, Any] = {
        "session_id": call_id(number),
        "agent_id": _agent(number),
        "tenant": ("acme", "globex", None)[number % 3],
    }
    outcome = (None, {"result": "success"}, {"result": "fail"}, {})[number % 4]
    labels = [{}, {"region": "eu"}, {"region": "us", 'a.b"]=': HOSTILE}, {"region": ""}]
    if number != CALLS:  # of one the start never came
        yield started(
            **own,
            started_at=began,
            room_name=("front-desk", "", HOSTILE, "(none)")[number % 4],
            job_id=f"AJ_{number}" if number % 2 else "",
            deployment=("blue", "green", "")[number % 3],
            labels=labels[number % 4],
        )
    at = {**own, "occurred_at": began + 1_000_000}
    answer, voice = (
        {"input_tokens": number * _MILLION},
        {"modality": "tts", "provider": "homebrew", "model": "voice"},
    )
    connected = {"modality": "agent_session", "provider": "livekit", "model": "cloud"}
    yield reading(1, **at, **answer, last=RequestDetail(speech_id="speech_1"))
    yield reading(2, **at, **voice, characters=100, last=RequestDetail(speech_id="speech_1"))
    answer = {"input_tokens": (number + 2) * _MILLION}
    yield reading(
        3, **at, **answer, requests=1, last=RequestDetail(speech_id=f"speech_{number + 1}")
    )
    yield reading(4, **at, model="summary", input_tokens=number * 333)
    yield reading(5, **at, estimated=True, output_tokens=0, input_tokens=10 * number)
    meters = [
        final(**answer, requests=1),
        final(**voice, characters=100),
        final(model="summary", input_tokens=number * 333),
        final(estimated=True, input_tokens=10 * number),
    ]
    length = number * 90_000_000
    if number % 4:  # of the others nobody counted the connected time
        yield reading(6, **at, **connected, session_us=length)
        meters.append(final(**connected, session_us=length))
    yield ended(7, *meters, **own, ended_at=began + length, outcome=outcome)
