"""The ledger of a small operator, of the last forty-five days: what the questions of docs/cookbook.md are asked of.

What is true of it is in the constants: who grows, who loses money, which call is dear and why, when a model was
changed for a dearer one. Prices are list prices; every tenant is charged by rules of the operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tests.support.events import PROJECT, ended, final, message, reading, session_id, started
from voicecosts.consumer.booking.operations import Adjust
from voicecosts.consumer.pricing import rate_by
from voicecosts.consumer.pricing.list_prices import ListPrices
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, Outcome, RequestDetail

DAYS: Final = 45
TENANTS: Final = ("acme", "bistro-nord", "clinic-west", "delta-air")
GROWS: Final = "clinic-west"
LOSES: Final = "delta-air"
AGENTS: Final = ("dental", "restaurant", "support")
CHANGED: Final = "dental"
"""The agent whose model was changed at the beginning of last week: from `MINI` to `LARGE`."""

MINI: Final = "gpt-4.1-mini"
LARGE: Final = "gpt-4.1"
UNPRICED: Final = "meadow-7b"
RUNAWAY_ROOM: Final = "front-desk-17"
"""The dearest call, yesterday's: one of its turns read a long document."""

RUNAWAY_SPEECH: Final = "speech_3"
CREDIT: Final = "credit for an hour without answers"
BOOK: Final = f"""
[[cost]]
provider = "livekit"
modality = "agent_session"
unit = "minute"
price = "0.05"

[[billed]]
markup = "30 %"

[[billed]]
tenant = "{LOSES}"
provider = "openai"
unit = "million tokens"
price = "0.05"

[[billed]]
tenant = "{LOSES}"
provider = "cartesia"
unit = "million characters"
price = "40"
"""
SILENT_ROOM: Final = "room-silent"
"""A call in which nobody said a word: the first one, of no tenant."""

_PROVIDERS: Final[dict[str, dict[str, str]]] = {
    "llm": {"modality": "llm", "provider": "openai"},
    "tts": {"modality": "tts", "provider": "cartesia", "model": "sonic-3"},
    "stt": {"modality": "stt", "provider": "deepgram", "model": "nova-3"},
    "line": {"modality": "agent_session", "provider": "livekit", "model": "agent"},
    "meadow": {"modality": "llm", "provider": "meadow_ai", "model": UNPRICED},
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Told(Struct, frozen=True, kw_only=True):
    """One call as it was told."""

    number: int
    began: datetime
    tenant: str | None
    agent: str
    model: str
    turns: int
    is_runaway: bool = False

    @property
    def session(self) -> str:
        """The id of its session."""
        return session_id(self.number, after_ms=self.began_ms - _FIRST_MS)

    @property
    def began_ms(self) -> int:
        """When it began, in milliseconds."""
        return (self.began - _EPOCH) // timedelta(milliseconds=1)


_FIRST_MS: Final = int(session_id(0).replace("-", "")[:12], 16)


def script(now: datetime) -> list[Told]:
    """Return the calls up to yesterday, in the order in which they began."""
    today = datetime.combine(now.date(), time(), UTC)
    this_week = today - timedelta(days=today.weekday())
    first = today - timedelta(days=DAYS)
    calls = [
        Told(number=1, began=first, tenant=None, agent="support", model=MINI, turns=0),
        Told(
            number=2,
            began=first + timedelta(hours=7),
            tenant=None,
            agent="support",
            model=MINI,
            turns=3,
        ),
    ]
    for back in range(DAYS, 0, -1):
        day = today - timedelta(days=back)
        is_new = day >= this_week - timedelta(days=7)
        whose = [*TENANTS, *[GROWS] * (3 if is_new else 0)]
        for at, tenant in enumerate(whose):
            agent = AGENTS[(back + at) % len(AGENTS)]
            model = LARGE if is_new and agent == CHANGED else MINI
            if agent == "support" and at == 1:
                model = UNPRICED
            calls.append(
                Told(
                    number=len(calls) + 1,
                    began=day + timedelta(hours=8 + at, minutes=back),
                    tenant=tenant,
                    agent=agent,
                    model=model,
                    turns=3 + (back + at) % 4,
                    is_runaway=back == 1 and at == 0,
                )
            )
    return calls


def write(folder: Path, now: datetime) -> list[Told]:
    """Book the calls in a data directory, and return them."""
    calls = script(now)
    with Ledger.open(folder, rate_by(ListPrices(), read(BOOK))) as ledger:
        told = enumerate(calls, start=1)
        ledger.apply([message(at, *_events(call), agent=call.agent) for at, call in told])
        last_month = now.date().replace(day=1) - timedelta(days=1)
        credit = Adjust(
            amount=Decimal("-0.25"), day=last_month, project=PROJECT, layer="billed", tenant="acme"
        )
        ledger.operate(credit, reason=CREDIT)
    (folder / "prices.toml").write_text(BOOK)
    return calls


def _events(call: Told) -> Iterator[Event]:
    own: dict[str, Any] = {
        "session_id": call.session,
        "tenant": call.tenant,
        "agent_id": call.agent,
    }
    began = call.began_ms * 1000
    room = RUNAWAY_ROOM if call.is_runaway else f"room-{call.number}"
    room = room if call.turns else SILENT_ROOM
    yield started(**own, started_at=began, room_name=room, job_id=f"AJ_{call.number}")
    meters: dict[tuple[str, bool], dict[str, int]] = {}
    kind = "meadow" if call.model == UNPRICED else "llm"
    number = 0
    for turn in range(1, call.turns + 1):
        moment = began + turn * 20_000_000
        speech = f"speech_{turn}"
        tokens = 2_000_000 if call.is_runaway and speech == RUNAWAY_SPEECH else 500 * turn
        is_cut = call.number % 7 == 0 and turn == 2
        used: dict[str, dict[str, int]] = {
            "stt": {"audio_us": 4_000_000, "requests": 1},
            kind: {
                "input_tokens": tokens,
                "cache_read_input_tokens": tokens * 6 // 10 if turn > 1 else 0,
                "output_tokens": 40 + turn,
                "requests": 1,
            },
            "tts": {"characters": 180, "requests": 1},
        }
        for name, amounts in used.items():
            estimated = is_cut and name == kind
            total = meters.setdefault((name, estimated), {})
            for amount, more in amounts.items():
                total[amount] = total.get(amount, 0) + more
            number += 1
            detail = RequestDetail(
                speech_id=speech,
                duration_us=900_000,
                time_to_first_us=300_000 + 10_000 * turn,
                cancelled=estimated,
            )
            yield reading(
                number, **own, **_meter(call, name), estimated=estimated, occurred_at=moment,
                last=detail, **total,
            )  # fmt: skip
    if call.is_runaway:  # its connected time, which is in no turn, costs more than its dearest turn
        meters[("line", False)] = {"session_us": 600_000_000}
    came = Outcome(result="fail" if call.number % 5 == 0 else "success", user_turns=call.turns)
    yield ended(
        number + 1,
        *(
            final(**_meter(call, name), estimated=estimated, **total)
            for (name, estimated), total in meters.items()
        ),
        **own,
        ended_at=began + (call.turns + 1) * 20_000_000,
        outcome=came,
    )


def _meter(call: Told, name: str) -> dict[str, str]:
    return {"model": call.model, **_PROVIDERS[name]}
