"""Calls that a fault test offers, which know by their own counting what they must come to.

`Load` is the oracle of every fault test: it adds up what it offers, and prices the sums with
decimals and the providers' list prices as they are written here. It knows nothing of how readings
are kept, sent, booked or rated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from msgspec import Struct

from tests.support.events import START_US, ended, final, reading, started
from tests.support.oracle import LIST_PRICES, newest_readings
from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import Event, MeterReading, Quantities, now_us


class Model(Struct, frozen=True):
    """A model that the calls use: the one quantity that it is billed by, and how fast that grows."""

    modality: str
    provider: str
    quantity: str
    step: int


MODELS: Final = {
    "gpt-4.1-mini": Model("llm", "openai", "input_tokens", 7),
    "nova-3": Model("stt", "deepgram", "audio_us", 333_337),
    "llama-local": Model("llm", "homebrew", "input_tokens", 11),
}

Key = tuple[str, str]
"""Session and model."""

Totals = tuple[int, int]
"""Number of the last reading, and the amount of what the model is billed by."""

Booked = dict[Key, tuple[int, Decimal | None]]
"""By meter the amount, and the money where there is a price."""


class Load:
    """Sessions that use the models in turn, and what every meter must show in the end."""

    def __init__(
        self,
        put: Callable[[Event], None],
        *,
        sessions: int = 3,
        project: str = "faults",
        models: Sequence[str] = tuple(MODELS),
        clock: Callable[[], int] = now_us,
    ) -> None:
        self.put = put
        self.project = project
        self.models = models
        self.clock = clock
        self.sessions = [new_session_id(START_US) for _ in range(sessions)]
        self.expected: dict[Key, Totals] = {}
        self.history: set[tuple[Key, Totals]] = set()
        self.offered = 0
        self._agents = {name: f"agent-{at % 2}" for at, name in enumerate(self.sessions)}
        self._numbers = dict.fromkeys(self.sessions, 0)
        for session_id in self.sessions:
            put(started(**self._labels(session_id)))

    def agent(self, session_id: str) -> str:
        """Return the agent of a session: two of them take turns."""
        return self._agents[session_id]

    def reading(self) -> MeterReading:
        """Move one meter and return its reading; the oracle knows it from now on."""
        session_id = self.sessions[self.offered % len(self.sessions)]
        model = self.models[self.offered // len(self.sessions) % len(self.models)]
        self.offered += 1
        self._numbers[session_id] += 1
        number = self._numbers[session_id]
        key = (session_id, model)
        _, amount = self.expected.get(key, (0, 0))
        self.expected[key] = (number, amount + MODELS[model].step * number)
        self.history.add((key, self.expected[key]))
        return self.reading_of(session_id, model)

    def reading_of(self, session_id: str, model: str) -> MeterReading:
        """Return the newest reading of a meter."""
        number, _ = self.expected[session_id, model]
        meter = self._meter(session_id, model)
        return reading(number, **self._labels(session_id), **meter, occurred_at=self.clock())

    def offer(self, count: int) -> None:
        """Offer so many readings at once."""
        for _ in range(count):
            self.put(self.reading())

    async def offer_for(self, count: int, *, each: int = 5) -> None:
        """Offer so many readings a few at a time, as calls do."""
        for _ in range(0, count, each):
            self.offer(each)
            await asyncio.sleep(0.002)

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Offer readings all the while, about five hundred a second."""

        async def talk() -> None:
            while True:
                self.offer(5)
                await asyncio.sleep(0.01)

        talking = asyncio.create_task(talk())
        try:
            yield
        finally:
            talking.cancel()

    def end(self) -> None:
        """End every session with its totals."""
        for session_id in self.sessions:
            self._numbers[session_id] += 1
            number = self._numbers[session_id]
            own = [name for name in self.models if (session_id, name) in self.expected]
            meters = [final(**self._meter(session_id, model)) for model in own]
            labels = self._labels(session_id)
            self.put(ended(number, *meters, **labels, ended_at=self.clock()))
            for model in own:
                _, amount = self.expected[session_id, model]
                self.expected[session_id, model] = (number, amount)

    def _labels(self, session_id: str) -> dict[str, str | None]:
        agent = self.agent(session_id)
        return {
            "session_id": session_id,
            "project": self.project,
            "agent_id": agent,
            "tenant": None,
        }

    def _meter(self, session_id: str, model: str) -> dict[str, str | int]:
        billed = MODELS[model]
        _, amount = self.expected[session_id, model]
        return {
            "modality": billed.modality,
            "provider": billed.provider,
            "model": model,
            billed.quantity: amount,
        }


def totals(events: Iterable[Event]) -> dict[Key, Totals]:
    """Return of every meter what the reading with the highest number shows."""
    return {
        (meter.session_id, meter.model): (number, amount_of(meter.model, shown))
        for meter, (number, shown, _) in newest_readings(events).items()
    }


def amount_of(model: str, shown: Quantities) -> int:
    """Return the one quantity that a meter of a load counts."""
    return int(getattr(shown, MODELS[model].quantity))


def priced(shown: dict[Key, Totals]) -> Booked:
    """Return what a ledger must say of meters that show this: their amounts, and their money."""
    booked: Booked = {}
    for (session_id, model), (_, amount) in shown.items():
        price = LIST_PRICES.get(model, {}).get(MODELS[model].quantity)
        cost = (
            None if price is None else (amount * price).quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
        )
        booked[session_id, model] = (amount, cost)
    return booked
