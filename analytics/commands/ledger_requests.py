"""Having the ledger do something: it alone may write, so one that runs is asked to.

Where none runs, it is opened for that and closed again.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
from msgspec.structs import replace

from voicecosts.analytics.commands.signals import (
    NothingChanged,
    changing_nothing,
    stopping,
    undisturbed,
)
from voicecosts.analytics.errors import require
from voicecosts.analytics.numbers import age

if TYPE_CHECKING:
    from voicecosts.consumer.booking.operations import Work
    from voicecosts.consumer.pricing import Rate
    from voicecosts.consumer.store.ledger import Ledger
    from voicecosts.consumer.store.price_file import PriceFile
    from voicecosts.consumer.store.requests import Asked, Outcome

_ANSWER_S: Final = 60.0
_STOP_S: Final = 10.0


def answered(asked: Asked, data_dir: Path | None, command: str) -> Outcome:
    """Return what came of what was asked of the ledger.

    Raises:
        NoLedger: There is no ledger.
        LedgerBusy: The one that runs did not answer in time.
        MissingExtra: What a ledger needs is not installed.
    """
    require("duckdb", "voice_prices", needed_by=command, extra="consumer")
    from voicecosts.analytics.errors import NoLedger  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.errors import LedgerInUse, SnapshotFailed  # noqa: PLC0415 - same
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.ledger import Ledger  # noqa: PLC0415 - same
    from voicecosts.consumer.store.requests import Halt, ask  # noqa: PLC0415 - same

    root = data_folder(data_dir)
    layout = Layout(root)
    if not layout.ledger.exists():
        raise NoLedger(root)
    outcome = None
    try:
        with contextlib.ExitStack() as stack:
            with changing_nothing():
                rate, own_prices = rate_of(root)
                opened = Ledger.open(
                    root,
                    rate,
                    embedded=True,
                    has_source=True,
                    own_prices=own_prices,
                    goes_on=not isinstance(asked, Halt),
                )
                ledger = stack.enter_context(opened)
            outcome = _done(ledger, asked, data_dir)
    except KeyboardInterrupt:
        if outcome is not None and outcome.operation and outcome.is_done:
            typer.echo(say_done(outcome.operation, data_dir), err=True)
        raise
    except LedgerInUse:
        return ask(layout.requests, asked, timeout_s=_ANSWER_S)
    except SnapshotFailed as error:
        if outcome is None:
            raise
        typer.echo(f"! {error}", err=True)  # it is done, and answers do not show it yet
    return outcome


@stopping()
def operate(work: Work, *, reason: str, source: str, data_dir: Path | None, command: str) -> int:
    """Have an operation done on the books, and return its number when it has ended.

    It is done once, however often it is asked before an answer comes, for as long as `ONCE`. Ctrl-C, and what ends
    a process otherwise, stops it between two slices, and says what was done.

    Raises:
        OperationRefused: Something is in its way; nothing was changed.
        LedgerBusy: The ledger that runs did not answer, not the second time either.
    """
    from voicecosts.consumer.errors import LedgerBusy, OperationRefused  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.requests import ONCE, Operate, forget, remember  # noqa: PLC0415 - same

    require("duckdb", "voice_prices", needed_by=command, extra="consumer")
    layout = Layout(data_folder(data_dir))
    asked = Operate(work=work, reason=reason, source=source)
    asked_ago = None
    if layout.ledger.exists():  # else `answered` says so
        asked, asked_ago = remember(layout.requests, asked)
    try:
        outcome = answered(asked, data_dir, command)
    except NothingChanged:
        forget(layout.requests, asked)
        raise
    except LedgerBusy as busy:
        if not busy.took:
            raise
        try:
            outcome = answered(asked, data_dir, command)
        except LedgerBusy:
            raise LedgerBusy(busy.path, busy.timeout_s, took=True, is_once=True) from None
    if outcome.problem:
        forget(layout.requests, asked)
        raise OperationRefused(outcome.problem)
    number = outcome.operation
    if asked_ago is not None:
        when = f"{age(asked_ago)} ago"
        if outcome.was_done:
            typer.echo(
                f"! operation {number} did this already: it was asked {when}, and its answer was lost. "
                "Nothing was done now; to do it once more, run the command again",
                err=True,
            )
        elif asked_ago > ONCE:
            typer.echo(
                f"! the same was asked {when}, and its answer was lost. Operation {number} did it now: if "
                f"`costs operations` shows that it was done then as well, `costs operations revert "
                f"{number} --reason …{at_folder(data_dir)}` undoes it",
                err=True,
            )
    outcome = _watched(outcome, data_dir)
    forget(layout.requests, asked)
    _tell(outcome)
    return number


def refuse_early(work: Work, data_dir: Path | None, command: str) -> None:
    """Raise `OperationRefused` where something is in the way of an operation that a person is to be asked about."""
    from voicecosts.consumer.errors import OperationRefused  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.requests import Check  # noqa: PLC0415 - same

    if problem := answered(Check(work=work), data_dir, command).problem:
        raise OperationRefused(problem)


@stopping()
def go_on(operation: int, data_dir: Path | None, command: str) -> None:
    """Have an operation that was stopped go on, and return when it has ended.

    Raises:
        OperationRefused: It was not stopped, or something is in its way.
    """
    _tell(_watched(halted(operation, data_dir, command, goes_on=True), data_dir))


def halted(
    operation: int, data_dir: Path | None, command: str, *, goes_on: bool = False
) -> Outcome:
    """Stop a long operation, or have it go on, and return what came of it.

    Raises:
        OperationRefused: It has ended, or there is none.
    """
    from voicecosts.consumer.errors import OperationRefused  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.requests import Halt  # noqa: PLC0415 - same

    outcome = answered(Halt(operation=operation, goes_on=goes_on), data_dir, command)
    if outcome.problem:
        raise OperationRefused(outcome.problem)
    return outcome


def say_stopped(operation: int, data_dir: Path | None) -> str:
    """Return what is to be said of an operation that was stopped."""
    at = at_folder(data_dir)
    return (
        f"operation {operation} is stopped: what it did stays booked. `costs operations resume "
        f"{operation}{at}` goes on with it, `costs operations revert {operation} --reason …{at}` undoes it"
    )


def _watched(outcome: Outcome, data_dir: Path | None) -> Outcome:
    """Wait until an operation has ended; Ctrl-C stops it."""
    from voicecosts.consumer.errors import LedgerBusy, OperationRefused  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.requests import Halt, Watch, ask  # noqa: PLC0415 - same

    requests, number = Layout(data_folder(data_dir)).requests, outcome.operation
    try:
        while not outcome.is_done:
            outcome = ask(requests, Watch(operation=number), timeout_s=_ANSWER_S)
    except LedgerBusy:
        typer.echo(
            f"operation {number} is recorded, and a ledger that runs here goes on with it: `costs "
            f"operations show {number}{at_folder(data_dir)}`",
            err=True,
        )
        raise
    except KeyboardInterrupt:
        with contextlib.suppress(LedgerBusy):
            found = ask(requests, Halt(operation=number), timeout_s=_STOP_S)
            typer.echo(found.problem or say_stopped(number, data_dir), err=True)
            raise
        typer.echo(
            f"operation {number} is under way, and the ledger did not answer: `costs operations stop "
            f"{number}{at_folder(data_dir)}` stops it",
            err=True,
        )
        raise
    if outcome.is_stopped and outcome.left_why and not outcome.left:
        raise OperationRefused(
            f"operation {number} is stopped: {outcome.left_why}. `costs operations resume {number}"
            f"{at_folder(data_dir)}` goes on with it"
        )
    if outcome.is_stopped:
        raise OperationRefused(say_stopped(number, data_dir))
    return outcome


def _tell(outcome: Outcome) -> None:
    """Say what an operation left as it is, and why."""
    from voicecosts.analytics.text.changes import say_left  # noqa: PLC0415 - `--help` is quick

    if outcome.left:
        typer.echo(say_left(outcome.left, outcome.left_why), err=True)


def _done(ledger: Ledger, asked: Asked, data_dir: Path | None) -> Outcome:
    """Have a ledger do what is asked, slice by slice; Ctrl-C is heard between two of them, and stops it."""
    from voicecosts.consumer.booking.operations import Retain  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.requests import Operate, Watch  # noqa: PLC0415 - same

    outcome = None
    try:
        with undisturbed():
            outcome = ledger.answer(asked)
        number = outcome.operation
        if isinstance(asked, Operate) and isinstance(asked.work, Retain):
            with undisturbed():
                ledger.work_off()  # nobody else does it soon
        if not number or outcome.is_done or outcome.is_stopped:
            return outcome
        has_more = True
        while has_more:
            with undisturbed():
                has_more = ledger.work()
        with undisturbed():
            ended = ledger.answer(Watch(operation=number))
        return replace(ended, was_done=outcome.was_done)
    except KeyboardInterrupt:
        if outcome is not None and outcome.operation:
            with undisturbed():
                typer.echo(_cut_short(ledger, outcome.operation, data_dir), err=True)
        raise


def _cut_short(ledger: Ledger, operation: int, data_dir: Path | None) -> str:
    """Stop an operation that has not ended, and return what is to be said of it."""
    from voicecosts.consumer.store.requests import Halt, Watch  # noqa: PLC0415 - `--help` is quick

    if not ledger.answer(Watch(operation=operation)).is_done:
        halted = ledger.answer(Halt(operation=operation))
        return halted.problem or say_stopped(operation, data_dir)
    return say_done(operation, data_dir)


def say_done(operation: int, data_dir: Path | None) -> str:
    """Return what is to be said of an operation that has ended, with what it booked in all."""
    from voicecosts.analytics.answers.operations import listed  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.changes import say_moved  # noqa: PLC0415 - same

    moved = "".join(say_moved(it) for it in listed(data_dir) if it.operation == operation)
    show = f"`costs operations show {operation}{at_folder(data_dir)}`"
    return f"operation {operation} is done: {'; '.join(filter(None, [moved, show]))}"


def say_closed(operation: int, data_dir: Path | None) -> None:
    """Say what an operation booked of closed months, and where."""
    from voicecosts.analytics.answers.operations import corrected  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.output import say  # noqa: PLC0415 - same
    from voicecosts.analytics.text.changes import say_corrected  # noqa: PLC0415 - same

    for it in corrected(data_dir, operation):
        say(say_corrected(it.month, it.day, it.cost, it.billed, is_booked=True))


def at_folder(data_dir: Path | None) -> str:
    """Return the option that names the ledger in a command that is advised, where it was named."""
    return "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"


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
