"""The operator's price book: read from one file, asked for the charges of one meter.

A book never changes. A meter that is asked for twice gets the same charges, so what priced a row can
be kept by its content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from voicecosts.consumer.errors import InvalidPrices
from voicecosts.consumer.pricing.billing import CALL_TIME
from voicecosts.consumer.pricing.charge import Charge, Rate
from voicecosts.consumer.pricing.own.entries import (
    DOLLAR,
    Entry,
    Exchange,
    Layer,
    read_entry,
    read_exchange,
)
from voicecosts.consumer.pricing.own.keys import MANY
from voicecosts.consumer.pricing.own.matching import Asked, applies, concerns, priority
from voicecosts.consumer.pricing.own.reading import Problem, tables_of
from voicecosts.consumer.pricing.own.units import part_of, with_cached
from voicecosts.consumer.pricing.own.validation import check
from voicecosts.consumer.pricing.units import TOKEN_PARTS

if TYPE_CHECKING:
    from pathlib import Path

    from msgspec import UnsetType

    from voicecosts.consumer.pricing.scope import Scope
    from voicecosts.producer.events import Meter

MAX_BYTES: Final = 1_000_000
"""The largest file that is read."""

REGION: Final = "region"
"""The label of a session that says in which region its models ran: no meter tells."""

_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_EVEN)
_INCLUDED: Final = "included"

MAX_FORMER: Final = 100
"""Files of prices that are kept: a call is billed to its end by the one under which it began."""

_MAX_NAMES: Final = 4096
"""Names of providers kept. A worker that makes them up must not fill the consumer's memory."""


class OwnBook:
    """The prices of one file. `entries` and `exchange` are its lines, in their order.

    `digest` names the content of the file; it is empty for a book without a file.
    """

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        exchange: Iterable[Exchange] = (),
        *,
        name: str = "prices.toml",
        digest: str = "",
    ) -> None:
        self.entries: Final[Sequence[Entry]] = tuple(entries)
        self.exchange: Final[Sequence[Exchange]] = tuple(exchange)
        self.digest: Final = digest
        self._name = name
        self._ordered = sorted(self.entries, key=priority)
        self._concerned: dict[tuple[Layer, str, str], list[Entry]] = {}
        self._rates = sorted(self.exchange, key=lambda rate: rate.valid_from or date.min)
        self._charges: dict[tuple[int, str, int], Charge] = {}

    def __repr__(self) -> str:
        return f"<OwnBook {self._name}: {len(self.entries)} entries>"

    def find(
        self, meter: Meter, scope: Scope, at: datetime, region: str = ""
    ) -> tuple[Charge | None, Charge | None]:
        """Return what the operator pays and what is billed for a meter, `None` where nothing says so.

        `at` is the start of the session; without a zone it is UTC. Without a `region` the session's
        label of that name is taken.
        """
        aware = at if at.tzinfo else at.replace(tzinfo=UTC)
        asked = Asked(
            model=meter.model.lower(),
            service_tier=meter.service_tier.lower(),
            region=(region or scope.labels.get(REGION, "")).lower(),
            scope=scope,
            day=aware.astimezone(UTC).date(),
        )
        provider, modality = meter.provider.lower(), meter.modality.lower()
        return (
            self._charge("cost", provider, modality, asked),
            self._charge("billed", provider, modality, asked),
        )

    def billed_by(
        self, digest: str, meter: Meter, scope: Scope, at: datetime
    ) -> Charge | UnsetType | None:
        """Return what a meter is billed by former prices; unset where this process has never read them."""
        book = self if digest == self.digest else former(digest)
        return UNSET if book is None else book.find(meter, scope, at)[1]

    def _charge(self, layer: Layer, provider: str, modality: str, asked: Asked) -> Charge | None:
        concerned = self._concerned.get((layer, provider, modality))
        if concerned is None:
            if len(self._concerned) >= _MAX_NAMES:
                self._concerned.clear()
            concerned = self._concerned[layer, provider, modality] = [
                entry
                for entry in self._ordered
                if entry.layer == layer and concerns(entry, provider, modality)
            ]
        entry = next((entry for entry in concerned if applies(entry, asked)), None)
        if entry is None:
            return None
        rate = self._rate(entry, asked.day)
        part = _single_part(entry, modality)
        key = (id(entry), part, id(rate))  # the book holds both, and a worker names no new parts
        if (charge := self._charges.get(key)) is None:
            charge = self._charges[key] = self._made(entry, part, rate)
        return charge

    def _rate(self, entry: Entry, day: date) -> Exchange | None:
        """Return the newest exchange rate on a day; the file was checked to have one."""
        if entry.currency == DOLLAR:
            return None
        return [
            rate
            for rate in self._rates
            if rate.currency == entry.currency and (rate.valid_from or date.min) <= day
        ][-1]

    def _made(self, entry: Entry, part: str, rate: Exchange | None) -> Charge:
        included = part == _INCLUDED
        usd = None if rate is None else rate.usd
        at_least = entry.at_least
        if at_least is not None and usd is not None:
            at_least = _EXACT.multiply(at_least, usd)
        return Charge(
            entry=f"{self._name} line {entry.line}",
            parts=() if included else _parts(entry, part, rate),
            minimum=0 if included else entry.minimum,
            increment=1 if included else entry.increment,
            at_least=None if included else at_least,
            share=entry.share,
            of=entry.of,
            included=included,
            whole=entry.bills_the_call and not included,
            unit=entry.unit_name,
            source=entry.source,
            currency=entry.currency,
            exchange_rate=usd,
            original_price=entry.original,
            valid_from=entry.valid_from,
            valid_to=entry.valid_to,
        )


def _single_part(entry: Entry, modality: str) -> str:
    """Return what the one price of an entry is for; it is empty for a share and for several prices."""
    if entry.bills_the_call and modality != CALL_TIME:
        return _INCLUDED
    unit = entry.unit
    return part_of(unit.kind, modality) if unit is not None and "" in dict(entry.prices) else ""


def _parts(entry: Entry, part: str, rate: Exchange | None) -> tuple[Rate, ...]:
    unit = entry.unit
    if unit is None:
        return ()
    prices = dict(entry.prices)
    if rate is not None:
        prices = {key: _EXACT.multiply(price, rate.usd) for key, price in prices.items()}
    if "" in prices:
        return (Rate(part, prices[""], unit.per),)
    return tuple(
        Rate(TOKEN_PARTS[key], price, 1 if key == "request" else unit.per)
        for key, price in with_cached(prices).items()
    )


def read(text: str, name: str = "prices.toml", *, path: str = "") -> OwnBook:
    """Return the book that a text is; charges call it `name`, mistakes its `path` if there is one.

    Raises:
        InvalidPrices: With everything that is wrong, line by line.
    """
    tables, problems = tables_of(text, ("exchange", "cost", "billed"))
    entries: list[Entry] = []
    exchange: list[Exchange] = []
    for table in tables:
        if table.name == "exchange":
            if (rate := read_exchange(table, problems)) is not None:
                exchange.append(rate)
        elif (entry := read_entry(table, _layer(table.name), problems)) is not None:
            entries.append(entry)
        if len(problems) > MANY:
            break
    if len(problems) <= MANY:
        problems += check(entries, exchange, is_whole=not problems)
    if problems:
        raise _invalid(path or name, problems)
    digest = digest_of(text)
    book = OwnBook(entries, exchange, name=name, digest=digest)
    _former.pop(digest, None)
    _former[digest] = book
    if len(_former) > MAX_FORMER:
        del _former[next(iter(_former))]
    return book


def digest_of(text: str) -> str:
    """Return what names the prices that a text is."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def former(digest: str) -> OwnBook | None:
    """Return prices that this process read before, `None` if it did not, or long ago; nothing is named by no digest."""
    return _former.get(digest) if digest else _NO_PRICES


def _layer(name: str) -> Layer:
    return "billed" if name == "billed" else "cost"


def _invalid(name: str, problems: Sequence[Problem]) -> InvalidPrices:
    told = sorted(problems)[:MANY]
    sentences = [f"{name}:{line}: {text}" for line, text in told]
    if len(problems) > MANY:
        sentences.append(f"{name}: and more mistakes, which are told when these are corrected")
    return InvalidPrices(name, sentences)


def load(path: Path) -> OwnBook:
    """Return the book in a file; without a file there are no own prices.

    Raises:
        InvalidPrices: With everything that is wrong in the file, or why it cannot be read.
    """
    text = text_of(path)
    return OwnBook(name=path.name) if text is None else read(text, path.name, path=str(path))


def text_of(path: Path) -> str | None:
    """Return the text of a file of prices, `None` where there is no file.

    Raises:
        InvalidPrices: It cannot be read, or is no text.
    """
    data = data_of(path)
    return None if data is None else decoded(data, path)


def data_of(path: Path) -> bytes | None:
    """Return what a file of prices holds, `None` where there is no file; of a larger one its beginning.

    Raises:
        InvalidPrices: It cannot be read.
    """
    name = str(path)
    try:
        if path.exists() and not path.is_file():
            raise InvalidPrices(name, [f"{name} is not a file: name one with prices"])
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidPrices(name, [f"{name} cannot be read ({why}): correct it"]) from error


def decoded(data: bytes, path: Path) -> str:
    """Return what `data_of` returned as text.

    Raises:
        InvalidPrices: It is too large, or no text.
    """
    name = str(path)
    if len(data) > MAX_BYTES:
        text = f"{name} is larger than {MAX_BYTES} bytes: it is not a file of prices"
        raise InvalidPrices(name, [text])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidPrices(
            name, [f"{name}:{line}: this is not UTF-8 text: save it as UTF-8"]
        ) from error


_NO_PRICES: Final = OwnBook()
_former: Final[dict[str, OwnBook]] = {}
