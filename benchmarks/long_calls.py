"""Calls by the thousand that come and go on a clock of their own, and what they must come to.

They are metered by the producer's own meters and put what comes of it into a publisher. What a call
uses follows from its number alone, so the oracle needs no memory of what was metered.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.events import START_US, session_id
from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.capture.meters import Meters
from voicecosts.producer.counts import Usage
from voicecosts.producer.publishing.publisher import Publisher

LIFE_S: Final = 180
READ_EVERY_S: Final = 2.0
TICK_S: Final = 0.1
PROVIDERS: Final = (
    ("llm", "api.openai.com", "gpt-4.1-mini"),
    ("tts", "Cartesia", "sonic-3"),
    ("stt", "Deepgram", "nova-3"),
)

Key = tuple[int, str]
"""Number of the call, and modality."""


def used(call: int, reading: int) -> tuple[str, dict[str, int]]:
    """Return what the n-th reading of a call adds: the modality, and whole quantities."""
    modality = PROVIDERS[reading % 3][0]
    amount = 100 + (31 * call + 17 * reading) % 900
    if modality == "llm":
        return modality, {"requests": 1, "input_tokens": amount, "output_tokens": amount % 70 + 1}
    if modality == "tts":
        return modality, {"requests": 1, "characters": amount}
    return modality, {"audio_us": amount * 1000}


def oracle(readings: list[int]) -> dict[Key, Counter[str]]:
    """Return every meter's totals from the number of readings of each call."""
    totals: dict[Key, Counter[str]] = {}
    for call, count in enumerate(readings):
        for reading in range(count):
            modality, quantities = used(call, reading)
            totals.setdefault((call, modality), Counter()).update(quantities)
    return totals


class Calls:
    """Calls that take each other's places; `readings` counts those of every call there was."""

    def __init__(self, publisher: Publisher, count: int) -> None:
        self.publisher = publisher
        self.readings: list[int] = []
        self._now_us = START_US
        # In the middle of their lives, so that starts and ends are spread evenly.
        self._live = [(self._dial(), LIFE_S * place / count) for place in range(count)]

    def hour(self, minutes: float) -> Iterator[float]:
        """Offer the load; yield after every tick the time in seconds that it stands for."""
        count = len(self._live)
        ticks_a_reading = round(READ_EVERY_S / TICK_S)
        for tick in range(round(minutes * 60 / TICK_S)):
            now_s = tick * TICK_S
            self._now_us = START_US + round(now_s * 1_000_000)
            for place in range(tick % ticks_a_reading, count, ticks_a_reading):
                (call, meters), ends_s = self._live[place]
                if now_s >= ends_s:
                    self._hang_up(meters)
                    self._live[place] = (call, meters), ends_s = (self._dial(), ends_s + LIFE_S)
                self._use(call, meters)
            yield now_s + TICK_S

    def end(self) -> None:
        """Let every live call hang up."""
        for (_, meters), _ in self._live:
            self._hang_up(meters)

    def _dial(self) -> tuple[int, Meters]:
        call = len(self.readings)
        self.readings.append(0)
        meters = Meters(
            SessionIdentity(
                session_id=session_id(call),
                project="bench",
                agent_id="bench",
                tenant=f"tenant-{call % 50}",
                started_at=self._now_us,
                job_id=f"AJ_{call:012d}",
                room_name=f"room-{call}",
                room_sid=f"RM_{call:012d}",
                worker_id="AW_benchmark",
            )
        )
        self.publisher.put(meters.started())
        return call, meters

    def _use(self, call: int, meters: Meters) -> None:
        reading = self.readings[call]
        self.readings[call] += 1
        modality, quantities = used(call, reading)
        audio_s = quantities.pop("audio_us", 0) / 1_000_000
        _, provider, model = PROVIDERS[reading % 3]
        usage = Usage(
            modality=modality,
            provider_raw=provider,
            model=model,
            occurred_at=self._now_us,
            quantities=quantities,
            audio_s=audio_s,
        )
        self.publisher.put(meters.add(usage, "Greeter"))

    def _hang_up(self, meters: Meters) -> None:
        coalesced = self.publisher.buffer.coalesced_of(meters.identity.session_id)
        self.publisher.put(
            meters.ended(
                ended_at=self._now_us, status="success", reason="bench", coalesced=coalesced
            )
        )
