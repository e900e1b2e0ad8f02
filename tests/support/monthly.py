"""Ledgers over three months, of which the first ones were closed: with late readings and operations of every kind."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tests.support.events import PROJECT, START_US, ended, message, reading, session_id, started
from tests.support.price_books import mini
from voicecosts.consumer.booking.operations import Adjust, Close, Rerate, Revert, Void
from voicecosts.consumer.errors import OperationRefused
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

TENANTS: Final = ("acme", "globex", None)
MONTHS: Final = ("2026-10", "2026-11", "2026-12")
_START: Final = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US)
_MODELS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"modality": "stt", "provider": "homebrew", "model": "ear"},
)


class Months:
    """A ledger whose clock a test sets; calls are told by the day on which they begin."""

    def __init__(self, folder: Path, *, billed: bool = True) -> None:
        self.now = datetime(2026, 10, 1, tzinfo=UTC)
        self.folder = folder
        self.ledger = Ledger.open(
            folder, mini("2", billed=billed), clock=Clock(now=lambda: self.now)
        )
        self.messages = 0
        self.calls: dict[int, dict[str, Any]] = {}
        self.totals: dict[tuple[int, int], int] = {}
        self.readings: dict[int, int] = {}

    def _apply(self, event: Any) -> None:
        """Book an event."""
        self.messages += 1
        self.ledger.apply([message(self.messages, event, agent=event.agent_id)])

    def begin(self, number: int, on: date, *, tenant: str | None, agent: str = "dental") -> None:
        """Begin a call on a day."""
        after = datetime(on.year, on.month, on.day, 12, tzinfo=UTC) - _START
        milliseconds = round(after.total_seconds() * 1000) + number
        own = {
            "session_id": session_id(number, after_ms=milliseconds),
            "tenant": tenant,
            "agent_id": agent,
        }
        self.calls[number] = {**own, "at": START_US + milliseconds * 1000}
        self.readings[number] = 0
        self._apply(started(**own, started_at=self.calls[number]["at"]))

    def use(self, number: int, tokens: int, model: int = 0) -> None:
        """Read a meter of a call, which has used so many tokens more."""
        own = dict(self.calls[number])
        at = own.pop("at")
        self.readings[number] += 1
        total = self.totals[number, model] = self.totals.get((number, model), 0) + tokens
        self._apply(
            reading(
                self.readings[number],
                **own,
                **_MODELS[model],
                occurred_at=at + self.readings[number],
                input_tokens=total,
                requests=self.readings[number],
            )
        )

    def end(self, number: int, after_s: int) -> None:
        """End a call, so many seconds after it began."""
        own = dict(self.calls[number])
        at = own.pop("at")
        count = self.readings[number]
        self._apply(ended(count + 1, **own, ended_at=at + after_s * 1_000_000))

    def run(self, work: Any, *, price: str = "2", billed: bool = True) -> int | None:
        """Do an operation to its end; return its number, None where it was refused."""
        self.ledger._rate = mini(price, billed=billed)
        try:
            number = self.ledger.operate(work, reason="as it is *agreed*", source="mail")
        except OperationRefused:
            return None
        while self.ledger.work():
            pass
        return number

    def void(self, number: int) -> int | None:
        """Take a call out."""
        return self.run(Void(project=PROJECT, session_id=self.calls[number]["session_id"]))

    def close(self) -> Path:
        """Close the ledger, which publishes all; return the data directory."""
        self.ledger.close()
        return self.folder


def by_chance(folder: Path, seed: int) -> Path:
    """Make a ledger by chance; October is closed in November, and November perhaps in December."""
    rng = random.Random(seed)  # noqa: S311 - the same ledger every time
    books = Months(folder, billed=rng.random() < 0.8)
    operations: list[int] = []

    def work() -> None:
        kind = rng.choice(["rerate", "void", "adjust", "adjust", "revert"])
        made: Any = Rerate()
        if kind == "void":
            made = Void(
                project=PROJECT, session_id=rng.choice(list(books.calls.values()))["session_id"]
            )
        elif kind == "adjust":
            made = Adjust(
                amount=Decimal(rng.randint(-999_999, 999_999)).scaleb(-6),
                day=date(2026, rng.randint(10, 12), rng.randint(1, 28)),
                project=PROJECT,
                layer=rng.choice(["cost", "billed", "list"]),
                tenant=rng.choice(TENANTS),
                agent=rng.choice(["", "dental"]),
            )
        elif kind == "revert" and operations:
            made = Revert(operation=rng.choice(operations))
        price, billed = rng.choice(["2", "3", "0"]), rng.random() < 0.8
        number = books.run(made, price=price, billed=billed)
        operations.extend([] if number is None else [number])

    for month in (10, 11, 12):
        books.now = datetime(2026, month, 2, tzinfo=UTC)
        if month > 10 and rng.random() < 0.8:
            books.run(Close(month=date(2026, month - 1, 1)))
        for _ in range(rng.randint(3, 6)):
            number = len(books.calls) + 1
            day = date(2026, max(10, month - rng.choice([0, 0, 0, 1])), rng.randint(1, 28))
            agent = rng.choice(["dental", "sales"])
            books.begin(number, day, tenant=rng.choice(TENANTS), agent=agent)
        books.now = datetime(2026, month, 28, 23, tzinfo=UTC)
        for _ in range(rng.randint(5, 12)):
            if rng.random() < 0.3:
                work()
            else:
                number = rng.choice(list(books.calls))
                books.use(number, rng.randint(1, 999_999), rng.choice([0, 0, 1]))
    books.now = datetime(2027, 1, 3, tzinfo=UTC)
    return books.close()
