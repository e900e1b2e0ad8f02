"""How a ledger is configured: an argument wins over its variable, a variable over the default.

The only place of this package that reads the environment. All problems are reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.consumer.errors import InvalidConfig
from voicecosts.producer import settings
from voicecosts.producer.tls import Tls, resolve_tls

DEFAULT_SNAPSHOT_INTERVAL_S: Final = 5.0
DEFAULT_SNAPSHOT_BYTES_PER_DAY: Final = 12_000_000_000
"""What copies for readers may write in a day: with much to write they come more rarely."""

DEFAULT_DEAD_LETTER_BYTES: Final = 256 * 2**20
"""What the bytes of dead letters may take on disk together."""

DEFAULT_STREAM_MAX_BYTES: Final = 4 * 2**30
"""Two weeks of about 15 events a second, packed; the broker reserves this much of its disk."""

DEFAULT_STREAM_KEEP_S: Final = 24 * 3600.0
"""How long booked messages stay in a stream that needs room: what a restored backup reads again."""

MAX_READING: Final = Decimal(10_000)
"""US dollars that a meter may cost unless the operator says otherwise. A call of an hour on the
dearest realtime model of the list costs tens."""

MAX_READING_VARIABLE: Final = "COSTS_MAX_READING"
MAX_READING_OPTION: Final = "--max-reading-cost"

PRICES_VARIABLE: Final = "COSTS_PRICES"
PRICES_OPTION: Final = "--prices"
PRICES_FILE: Final = "prices.toml"
"""The operator's own prices, in the data directory unless another file is named."""

_MORE_THAN_A_ROW_HOLDS: Final = 10**9


class LedgerConfig(Struct, frozen=True, kw_only=True):
    """Which broker a ledger reads, where it keeps its files, and how its stream is declared.

    `servers` is empty only until `costs up` has started its own broker. `tls` is whom to trust, and
    a client certificate. Another number of `replicas` on the server is drift; a stream below
    `stream_max_bytes` is made larger. Where it needs room, booked messages older than
    `stream_keep_s` are removed from it.
    `max_reading` is the most that one meter may cost, in US dollars (`pricing.ceiling`).
    `own_broker` is that of `costs up`, which runs it for this ledger alone.
    `prices` is a file of own prices that was named; without one it is that of the data directory, if
    there is any.
    """

    data_dir: Path
    servers: tuple[str, ...] = ()
    credentials: Path | None = None
    tls: Tls = Tls()
    snapshot_interval_s: float = DEFAULT_SNAPSHOT_INTERVAL_S
    snapshot_bytes_per_day: int = DEFAULT_SNAPSHOT_BYTES_PER_DAY
    dead_letter_bytes: int = DEFAULT_DEAD_LETTER_BYTES
    replicas: int = 1
    stream_max_bytes: int = DEFAULT_STREAM_MAX_BYTES
    stream_keep_s: float = DEFAULT_STREAM_KEEP_S
    max_reading: Decimal = MAX_READING
    own_broker: bool = False
    prices: Path | None = None

    @property
    def price_file(self) -> Path:
        """Where the operator's own prices are, if there are any."""
        return self.prices or self.data_dir / PRICES_FILE

    def __repr__(self) -> str:
        return (
            f"LedgerConfig(data_dir={str(self.data_dir)!r}, "
            f"servers={', '.join(map(settings.mask, self.servers))!r}, "
            f"credentials={str(self.credentials) if self.credentials else None!r}, "
            f"snapshot_interval_s={self.snapshot_interval_s}, replicas={self.replicas}, "
            f"stream_max_bytes={self.stream_max_bytes}, max_reading={self.max_reading})"
        )


def from_env(
    *,
    servers: str | None = None,
    credentials: Path | None = None,
    tls: Tls | None = None,
    data_dir: Path | None = None,
    snapshot_interval_s: float | None = None,
    replicas: int | None = None,
    stream_max_bytes: int | None = None,
    stream_keep_s: float | None = None,
    max_reading: str | None = None,
    snapshot_bytes_per_day: int | None = None,
    dead_letter_bytes: int | None = None,
    own_broker: bool = False,
    prices: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> LedgerConfig:
    """Return the configuration from arguments, then the environment, then defaults.

    `servers` as `parse_servers`. With `own_broker` servers, credentials and TLS of the environment
    are ignored: `costs up` starts the broker that it reads.

    Raises:
        InvalidConfig: With everything that is wrong.
    """
    problems: list[str] = []
    urls: tuple[str, ...] = ()
    secret: Path | None = None
    found_tls = Tls()
    if not own_broker:
        urls, problems = settings.named_servers(servers, environ)
        if not urls and not problems:
            problems.append(
                f"no NATS server is given: pass --servers {settings.EXAMPLE} "
                f"or set {settings.SERVERS}"
            )
        secret = settings.named_credentials(credentials, environ, problems)
        found_tls = resolve_tls(tls, environ, urls, problems)
    interval_s = DEFAULT_SNAPSHOT_INTERVAL_S if snapshot_interval_s is None else snapshot_interval_s
    copies = 1 if replicas is None else replicas
    max_bytes = DEFAULT_STREAM_MAX_BYTES if stream_max_bytes is None else stream_max_bytes
    keep_s = DEFAULT_STREAM_KEEP_S if stream_keep_s is None else stream_keep_s
    problems += _limits(interval_s, copies, max_bytes, keep_s)
    per_day, letter_bytes = snapshot_bytes_per_day, dead_letter_bytes
    problems += _bytes_problems(per_day, letter_bytes)
    ceiling = _ceiling(max_reading, environ, problems)
    named_prices = _prices(prices, environ, problems)
    folder = Path()
    try:
        folder = settings.data_dir(environ, data_dir).absolute()
    except settings.NoHomeDirectory as error:
        problems.append(str(error))
    if folder.exists() and not folder.is_dir():
        problems.append(f"the data directory {folder} is a file, not a folder")
    if problems:
        raise InvalidConfig(problems)
    return LedgerConfig(
        data_dir=folder,
        own_broker=own_broker,
        servers=urls,
        credentials=secret,
        tls=found_tls,
        snapshot_interval_s=interval_s,
        replicas=copies,
        stream_max_bytes=max_bytes,
        stream_keep_s=keep_s,
        max_reading=ceiling,
        prices=named_prices,
        snapshot_bytes_per_day=DEFAULT_SNAPSHOT_BYTES_PER_DAY if per_day is None else per_day,
        dead_letter_bytes=DEFAULT_DEAD_LETTER_BYTES if letter_bytes is None else letter_bytes,
    )


def _bytes_problems(per_day: int | None, letter_bytes: int | None) -> list[str]:
    """Return what is wrong with the bounds in bytes."""
    problems: list[str] = []
    if per_day is not None and per_day < 2**30:
        problems.append(
            f"snapshots may write {per_day} bytes a day, but it must be at least one gibibyte"
        )
    if letter_bytes is not None and letter_bytes < 2**20:
        problems.append(
            f"dead letters may take {letter_bytes} bytes, but it must be at least one mebibyte"
        )
    return problems


def _limits(interval_s: float, copies: int, max_bytes: int, keep_s: float) -> list[str]:
    """Return what is wrong with the numbers."""
    problems: list[str] = []
    if not interval_s > 0:
        problems.append(f"the snapshot interval is {interval_s} s, but it must be above zero")
    if not keep_s >= 0:
        problems.append(f"the stream is to keep {keep_s / 3600} hours, but that is below zero")
    if copies not in (1, 3, 5):
        problems.append(f"replicas is {copies}, but JetStream keeps 1, 3 or 5 copies")
    if max_bytes < 2**20:
        problems.append(
            f"the stream's limit is {max_bytes} bytes, but it must be at least one mebibyte"
        )
    return problems


def max_reading_from_env(environ: Mapping[str, str] = os.environ) -> Decimal:
    """Return the most that one meter may cost, for a ledger that a reader opens.

    Raises:
        InvalidConfig: The variable holds no amount.
    """
    problems: list[str] = []
    found = _ceiling(None, environ, problems)
    if problems:
        raise InvalidConfig(problems)
    return found


def prices_from_env(
    data_dir: Path, environ: Mapping[str, str] = os.environ, *, given: Path | None = None
) -> Path:
    """Return the file of own prices, which need not exist in the data directory.

    Raises:
        InvalidConfig: `given`, or the variable, names a file that is not there.
    """
    problems: list[str] = []
    found = _prices(given, environ, problems)
    if problems:
        raise InvalidConfig(problems)
    return found or data_dir / PRICES_FILE


def _prices(given: Path | None, environ: Mapping[str, str], problems: list[str]) -> Path | None:
    """Return the file that was named, `None` where none was; one that is named has to be there."""
    named = settings.named_path("the prices", given, environ, PRICES_VARIABLE, problems)
    if named is None:
        return None
    path = named.absolute()
    try:
        is_there = path.is_file()
    except OSError:
        is_there = True  # it cannot be looked at: whoever reads it says why
    if not is_there:
        problems.append(
            f"there is no file of prices {path}: correct {PRICES_OPTION} or {PRICES_VARIABLE}"
        )
    return path


def _ceiling(given: str | None, environ: Mapping[str, str], problems: list[str]) -> Decimal:
    said = given if given is not None else settings.said(environ, MAX_READING_VARIABLE)
    if not said:
        return MAX_READING
    try:
        most = Decimal(said)
    except InvalidOperation:
        most = Decimal("NaN")
    if not (most.is_finite() and 0 < most < _MORE_THAN_A_ROW_HOLDS):
        problems.append(
            f"the most that one meter may cost is {said!r}, but it must be an amount of US dollars "
            f"above 0 and below 1000000000, such as {MAX_READING}: correct "
            f"{MAX_READING_OPTION} or {MAX_READING_VARIABLE}"
        )
    return most
