"""Calls that a fault test offers, which know by their own counting what they must come to.

`Load` is the oracle of every fault test: it adds up what it offers, and prices the sums with
decimals and the providers' list prices as they are written here. It knows nothing of how readings
are kept, sent, booked or rated.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from msgspec import Struct

from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import (
    Event,
    MeterReading,
    MeterTotals,
    Quantities,
    SessionEnded,
    SessionStarted,
)

START_US: Final = 1_790_000_000_000_000


class Model(Struct, frozen=True):
    """A model that the calls use: how it is billed, and for how much; `None`: nobody knows."""

    modality: str
    provider: str
    quantity: str
    step: int
    price: Decimal | None


MODELS: Final = {
    "gpt-4.1-mini": Model("llm", "openai", "input_tokens", 7, Decimal("0.40") / 10**6),
    # 0.08 nano-dollars a microsecond: money that depended on the split would show.
    "nova-3": Model("stt", "deepgram", "audio_us", 333_337, Decimal("0.0048") / 60 / 10**6),
    "llama-local": Model("llm", "homebrew", "input_tokens", 11, None),
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
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.put = put
        self.project = project
        self.clock = clock
        self.sessions = [new_session_id(START_US) for _ in range(sessions)]
        self.expected: dict[Key, Totals] = {}
        self.history: set[tuple[Key, Totals]] = set()
        self.offered = 0
        self._agents = {name: f"agent-{at % 2}" for at, name in enumerate(self.sessions)}
        self._numbers = dict.fromkeys(self.sessions, 0)
        for session_id in self.sessions:
            put(
                SessionStarted(
                    session_id=session_id,
                    project=project,
                    agent_id=self.agent(session_id),
                    started_at=START_US,
                )
            )

    def agent(self, session_id: str) -> str:
        """Return the agent of a session: two of them take turns."""
        return self._agents[session_id]

    def reading(self) -> MeterReading:
        """Move one meter and return its reading; the oracle knows it from now on."""
        session_id = self.sessions[self.offered % len(self.sessions)]
        model = list(MODELS)[self.offered // len(self.sessions) % len(MODELS)]
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
        number, amount = self.expected[session_id, model]
        return MeterReading(
            session_id=session_id,
            number=number,
            project=self.project,
            agent_id=self.agent(session_id),
            agent_label="Greeter",
            modality=MODELS[model].modality,
            provider=MODELS[model].provider,
            model=model,
            occurred_at=self.clock(),
            totals=Quantities(**{MODELS[model].quantity: amount}),
        )

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
            own = [name for name in MODELS if (session_id, name) in self.expected]
            self.put(
                SessionEnded(
                    session_id=session_id,
                    number=number,
                    project=self.project,
                    agent_id=self.agent(session_id),
                    ended_at=self.clock(),
                    status="success",
                    meters=[self._final(session_id, model) for model in own],
                    readings=number - 1,
                )
            )
            for model in own:
                _, amount = self.expected[session_id, model]
                self.expected[session_id, model] = (number, amount)

    def _final(self, session_id: str, model: str) -> MeterTotals:
        reading = self.reading_of(session_id, model)
        return MeterTotals(
            agent_label=reading.agent_label,
            modality=reading.modality,
            provider=reading.provider,
            model=model,
            totals=reading.totals,
        )


def totals(events: Iterable[Event]) -> dict[Key, Totals]:
    """Return of every meter what the reading with the highest number shows."""
    last: dict[Key, Totals] = {}
    for event in events:
        if not isinstance(event, (MeterReading, SessionEnded)):
            continue
        meters: Sequence[MeterReading | MeterTotals]
        meters = event.meters if isinstance(event, SessionEnded) else [event]
        for meter in meters:
            key = (event.session_id, meter.model)
            if key not in last or last[key][0] < event.number:
                last[key] = (event.number, amount_of(meter))
    return last


def amount_of(meter: MeterReading | MeterTotals) -> int:
    """Return the one quantity that a meter of a load counts."""
    return int(getattr(meter.totals, MODELS[meter.model].quantity))


def priced(shown: dict[Key, Totals]) -> Booked:
    """Return what a ledger must say of meters that show this: their amounts, and their money."""
    booked: Booked = {}
    for key, (_, amount) in shown.items():
        price = MODELS[key[1]].price
        cost = (
            None if price is None else (amount * price).quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
        )
        booked[key] = (amount, cost)
    return booked
