"""Having the ledger do something: it alone may write, so one that runs is asked to.

Where none runs, it is opened for that and closed again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
from msgspec.structs import replace

from voicecosts.analytics.commands.signals import undisturbed
from voicecosts.analytics.errors import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicecosts.consumer.booking.operations import Work
    from voicecosts.consumer.pricing import Rate
    from voicecosts.consumer.store.ledger import Ledger
    from voicecosts.consumer.store.price_file import PriceFile
    from voicecosts.consumer.store.requests import Asked, Outcome

_ANSWER_S: Final = 60.0


def answered(asked: Asked, data_dir: Path | None, command: str) -> Outcome:
    """Return what came of what was asked of the ledger.

    Raises:
        NoLedger: There is no ledger.
        LedgerBusy: The one that runs did not answer in time.
        MissingExtra: What a ledger needs is not installed.
    """
    require("duckdb", "voice_prices", needed_by=command, extra="consumer")
    from voicecosts.analytics.errors import NoLedger  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.errors import LedgerInUse  # noqa: PLC0415 - same
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.ledger import Ledger  # noqa: PLC0415 - same
    from voicecosts.consumer.store.requests import ask  # noqa: PLC0415 - same

    root = data_folder(data_dir)
    layout = Layout(root)
    if not layout.ledger.exists():
        raise NoLedger(root)
    rate, own_prices = rate_of(root)
    try:
        with Ledger.open(
            root, rate, embedded=True, has_source=True, own_prices=own_prices
        ) as ledger:
            with undisturbed():
                outcome = ledger.answer(asked)
            with _telling(outcome.operation, "the next ledger that runs here goes on with it"):
                _work_on(ledger)
            return replace(outcome, is_done=True)
    except LedgerInUse:
        return ask(layout.requests, asked, timeout_s=_ANSWER_S)


def operate(work: Work, *, reason: str, source: str, data_dir: Path | None, command: str) -> int:
    """Have an operation done on the books, and return its number when it has ended.

    Raises:
        OperationRefused: Something is in its way; nothing was changed.
    """
    from voicecosts.consumer.errors import OperationRefused  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.requests import Operate, Watch, ask  # noqa: PLC0415 - same

    outcome = answered(Operate(work=work, reason=reason, source=source), data_dir, command)
    if outcome.problem:
        raise OperationRefused(outcome.problem)
    number = outcome.operation
    requests = Layout(data_folder(data_dir)).requests
    with _telling(number, "the ledger that runs goes on with it"):
        while not outcome.is_done:
            outcome = ask(requests, Watch(operation=number), timeout_s=_ANSWER_S)
    return number


def _work_on(ledger: Ledger) -> None:
    """Do what is under way, slice by slice; a signal is heard between two of them."""
    has_more = True
    while has_more:
        with undisturbed():
            has_more = ledger.work()


@contextlib.contextmanager
def _telling(operation: int, how: str) -> Iterator[None]:
    """Say what becomes of an operation when Ctrl-C ends the wait for it."""
    try:
        yield
    except KeyboardInterrupt:
        if operation:
            typer.echo(
                f"operation {operation} is not finished, and {how}. `costs operations show "
                f"{operation}` shows it; `costs operations revert {operation}` undoes it once it has "
                "ended",
                err=True,
            )
        raise


def data_folder(data_dir: Path | None) -> Path:
    """Return the data directory that was named, or that of the environment."""
    from voicecosts.analytics import config  # noqa: PLC0415 - `--help` is quick

    return config.data_dir(data_dir).absolute()


def rate_of(root: Path) -> tuple[Rate, PriceFile]:
    """Return how a ledger of `root` rates meters, and the file of own prices that it uses."""
    from voicecosts.consumer.config import max_reading_from_env, prices_from_env  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.pricing import ListPrices, rate_by  # noqa: PLC0415 - same
    from voicecosts.consumer.store.price_file import PriceFile  # noqa: PLC0415 - same

    own_prices = PriceFile(prices_from_env(root))
    rate = rate_by(ListPrices(), own_prices, max_reading=max_reading_from_env())
    return rate, own_prices
