"""`costs rerate`: what was used, at the prices of today.

Without `--apply` nothing is written: the difference is worked out from the newest snapshot.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from datetime import time as clock_time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from voicecosts.analytics.commands.ledger_requests import (
    at_folder,
    data_folder,
    operate,
    say_closed,
)
from voicecosts.analytics.commands.options import (
    DataDir,
    Format,
    Output,
    Reason,
    ReasonSource,
    Where,
)
from voicecosts.analytics.commands.signals import changing_nothing, undisturbed
from voicecosts.analytics.errors import BadFilter, BadQuestion, NoLedger, require
from voicecosts.analytics.numbers import counted, fresh

if TYPE_CHECKING:
    from datetime import date

    from voicecosts.analytics.commands.repricing import Changes, Model
    from voicecosts.consumer.booking.operations import Rerate
    from voicecosts.consumer.pricing import Rate
    from voicecosts.consumer.pricing.own import OwnBook
    from voicecosts.consumer.store.layout import Layout

_READ_S = 3.0
"""A ledger that runs has read a file that changed by then."""
_LOOK_S = 0.05

app = typer.Typer(rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  costs rerate --since 2026-10-01 --until 2026-11-01 --where provider=deepgram
  costs rerate --unpriced
  costs rerate --unpriced --apply --reason 'prices.toml has a price for llama now'
  costs rerate --since 7d --what-if openai/gpt-4.1=openai/gpt-4.1-mini
"""


@app.command(epilog=_EXAMPLES)
def rerate(
    *,
    since: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="Calls that started on this day (UTC) or later."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DAY", help="Calls that started before this day.")
    ] = None,
    where: Where = None,
    unpriced: Annotated[
        bool, typer.Option("--unpriced", help="Only what has no price, or has one in part.")
    ] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROVIDER/MODEL=PROVIDER/MODEL",
            help="What the first one would have cost on the second one. It is never applied.",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Book the difference, or only show it.")
    ] = False,
    reason: Reason = None,
    source: ReasonSource = "",
    output: Output = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Show, or book, what was used at the prices of today.

    The difference is booked by rows of one operation, which can be reverted; no quantity changes. With
    --what-if, seconds and characters are exact, and tokens an estimate: another model counts them
    otherwise.
    """
    from voicecosts.analytics.commands.repricing import changes  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.changes import say_billed_in_part, say_kept  # noqa: PLC0415 - same

    require("duckdb", "voice_prices", needed_by="`costs rerate`", extra="consumer")
    work = _work(since, until, where or [], unpriced=unpriced)
    instead = dict(_pair(text) for text in what_if or ())
    with changing_nothing():
        _check_names(work, data_dir)
    if apply:
        if instead:
            raise BadQuestion("--what-if is never applied: leave out one of the two")
        if not (reason or "").strip():
            raise BadQuestion("--apply needs a --reason: it is kept with the operation")
        with changing_nothing():
            _own_prices(data_folder(data_dir))  # what cannot be shown first is not booked
            kept, in_part = _kept(work, data_dir)
        number = operate(
            work, reason=reason or "", source=source, data_dir=data_dir, command="`costs rerate`"
        )
        with undisturbed():
            _say_done(number, data_dir)
            say_closed(number, data_dir)
            if kept:
                typer.echo(say_kept(kept))
            if in_part:
                typer.echo(say_billed_in_part(in_part))
        return
    found = changes(work, _rate(data_folder(data_dir)), data_dir, instead=instead)
    _write(found, output, has_others=bool(instead))


def _check_names(work: Rerate, data_dir: Path | None) -> None:
    """Raise `BadQuestion` where a condition has a name that nothing has; without a snapshot nobody can tell."""
    from voicecosts.analytics.answers.unseen import say_unseen  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.question.columns import group  # noqa: PLC0415 - same
    from voicecosts.analytics.snapshot.connection import closing, open_newest  # noqa: PLC0415 - same

    wanted = [(group(name), value) for name, values in work.where.items() for value in values]
    if not wanted:
        return
    try:
        connection, snapshot = open_newest(data_dir)
    except NoLedger:
        return
    with closing(connection):
        unseen = list(say_unseen(connection, snapshot, wanted))
    if unseen:
        raise BadQuestion("; ".join(unseen))


def _kept(work: Rerate, data_dir: Path | None) -> tuple[int, int]:
    """Return of how many calls a re-rating will leave what is billed, and how many it bills in part.

    That is so where a snapshot can tell.
    """
    from voicecosts.analytics.commands.repricing import changes  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.booking.rerating import narrows_calls  # noqa: PLC0415 - same

    if not narrows_calls(work):
        return 0, 0
    try:
        found = changes(work, _rate(data_folder(data_dir)), data_dir, instead={})
    except (NoLedger, BadQuestion):
        return 0, 0
    return len(found.keep_billed), len(found.billed_in_part)


def _say_done(number: int, data_dir: Path | None) -> None:
    """Say what a re-rating has booked, or that it has changed nothing."""
    from voicecosts.analytics.answers.operations import listed  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.changes import say_moved  # noqa: PLC0415 - same

    done = next((it for it in listed(data_dir) if it.operation == number), None)
    booked = ""
    if done is not None:
        booked = ", and nothing that was used meets its conditions, or has another price now"
        if moved := say_moved(done):
            booked = f": {moved}"
        elif done.rows:
            booked = ", and no amount has changed"
    show = f"`costs operations show {number}{at_folder(data_dir)}`"
    typer.echo(f"operation {number} is done{booked}; {show}")


def _work(since: str | None, until: str | None, where: list[str], *, unpriced: bool) -> Rerate:
    from voicecosts.analytics.question.columns import Group  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.question.filters import values_by_column  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.operations import Rerate  # noqa: PLC0415 - same

    first, end = _day(since), _day(until)
    if first is not None and end is not None and first >= end:
        raise BadQuestion(f"--since {first} is not before --until {end}: the period holds no day")
    chosen = values_by_column(where)
    for column in (Group.SESSION, Group.DAY, Group.MONTH, Group.CORRECTS):
        if column in chosen:
            raise BadFilter(
                f"{column}=…", "is no condition of a re-rating: give --since and --until"
            )
    return Rerate(
        since=first,
        until=end,
        where={
            str(column): tuple(None if it is None else str(it) for it in values)
            for column, values in chosen.items()
        },
        unpriced=unpriced,
    )


def _day(text: str | None) -> date | None:
    from voicecosts.analytics.question.times import moment  # noqa: PLC0415 - `--help` is quick

    if text is None:
        return None
    found = moment(text, now=datetime.now(UTC))
    if found.time() != clock_time() and not text.strip().endswith(("d", "w")):
        raise BadQuestion(
            f"{text!r} is a time of day, and a re-rating is of whole days (UTC): give one, as in {found.date()}"
        )
    return found.date()


def _pair(text: str) -> tuple[Model, Model]:
    here, equals, there = text.partition("=")
    found = [each.strip().partition("/") for each in (here, there)]
    short = [each for each in (here, there) if not all(each.strip().partition("/"))]
    if not equals or short:
        why = f"{short[0].strip()!r} lacks its provider or model" if equals else "it has no ="
        raise BadQuestion(
            f"--what-if {text!r}: {why}. Write PROVIDER/MODEL=PROVIDER/MODEL, both as `costs query --by "
            "provider,model` shows them"
        )
    (provider, _, model), (other_provider, _, other_model) = found
    return (provider, model), (other_provider, other_model)


def _rate(root: Path) -> Rate:
    """Return how the ledger would re-rate; raises as `_own_prices`."""
    from voicecosts.consumer.config import max_reading_from_env  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.pricing import ListPrices, rate_by  # noqa: PLC0415 - same

    return rate_by(ListPrices(), _own_prices(root), max_reading=max_reading_from_env())


def _own_prices(root: Path) -> OwnBook:
    """Return the operator's prices by which the ledger would re-rate, once it has read its file.

    Raises:
        InvalidPrices: The file has mistakes, or is gone: the ledger would go on with older prices.
        BadQuestion: A ledger runs and uses other prices than this command.
    """
    from voicecosts.consumer.config import PRICES_FILE, prices_from_env  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.errors import InvalidPrices  # noqa: PLC0415 - same
    from voicecosts.consumer.pricing.own import OwnBook  # noqa: PLC0415 - same
    from voicecosts.consumer.pricing.own.book import read, text_of  # noqa: PLC0415 - same
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.price_file import emptied, gone, has_text  # noqa: PLC0415 - same

    path, layout = prices_from_env(root), Layout(root)
    text = text_of(path)
    if text is None and layout.prices.is_file():
        raise InvalidPrices(str(path), [gone(path)])
    if text is not None and not text.strip() and has_text(layout.prices):
        raise InvalidPrices(str(path), [emptied(path)])
    book = OwnBook(name=path.name) if text is None else read(text, path.name, path=str(path))
    deadline = time.monotonic() + _READ_S
    while text_of(layout.prices) != text and _is_run(layout):
        if time.monotonic() > deadline:
            of_its_own = root.joinpath(PRICES_FILE)
            cure = (
                "name its file in COSTS_PRICES, or start it with the prices that are meant "
                f"({layout.prices} is its copy, which nobody edits)"
            )
            if text_of(of_its_own) == text_of(layout.prices):
                cure = f"they are in {of_its_own}; leave out COSTS_PRICES"
            raise BadQuestion(f"the ledger that runs uses other prices than {path}: {cure}")
        time.sleep(_LOOK_S)
    return book


def _is_run(layout: Layout) -> bool:
    from voicecosts.consumer.errors import LedgerInUse  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.files import WriterLock  # noqa: PLC0415 - same

    try:
        WriterLock.acquire(layout.lock).release()
    except LedgerInUse:
        return True
    except OSError:  # only looked at, in a folder of somebody else
        return False
    return False


def _write(found: Changes, output: Format, *, has_others: bool) -> None:
    from voicecosts.analytics.answers.layers import say_uncharged  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.answers.report import CURRENCY, Uncharged  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - same
    from voicecosts.analytics.text import changes as text  # noqa: PLC0415 - same
    from voicecosts.analytics.text.grid import wrapped  # noqa: PLC0415 - same
    from voicecosts.analytics.text.plain import (  # noqa: PLC0415 - same
        csv_bytes,
        json_bytes,
        plain_moment,
        plain_money,
    )

    uncharged = sorted(
        (
            Uncharged(tenant=tenant, has_time=has_time, calls=len(calls))
            for (tenant, has_time), calls in found.uncharged.items()
        ),
        key=lambda it: (-it.calls, it.tenant or ""),
    )
    tenants = [
        {"tenant": name, **text.record(change)}
        for name, change in text.tenants_in_order(found.by_tenant.items())
    ]
    models = [
        dict(zip(("modality", "provider", "model"), key, strict=True)) | text.record(change)
        for key, change in text.models_in_order(found.by_model.items())
    ]
    if output is Format.JSON:
        typer.echo(
            json_bytes(
                {
                    "by_tenant": tenants,
                    "by_model": models,
                    "total": text.record(found.total),
                    "left": found.left,
                    "left_why": found.left_why or None,
                    "unpriced_reasons": [
                        {"reason": reason, "meters": meters}
                        for reason, meters in found.reasons.items()
                    ],
                    "without_time": [
                        {"tenant": it.tenant, "calls": it.calls}
                        for it in uncharged
                        if not it.has_time
                    ],
                    "uncharged": to_builtins(uncharged),
                    "keep_billed": len(found.keep_billed),
                    "billed_in_part": len(found.billed_in_part),
                    "corrected": [
                        {
                            "month": f"{month:%Y-%m}",
                            "day": f"{day}",
                            "cost": plain_money(it.cost),
                            "billed": plain_money(it.billed),
                        }
                        for (month, day), it in sorted(found.corrected.items())
                    ],
                    "estimated": found.estimated,
                    "currency": CURRENCY,
                    "as_of": plain_moment(found.as_of),
                }
            ),
            nl=False,
        )
        return
    if output is Format.CSV:
        names = ["by", "tenant", "modality", "provider", "model", *text.record(found.total)]
        rows = [{"by": "tenant", **row} for row in tenants]
        rows += [{"by": "model", **row} for row in models]
        typer.echo(csv_bytes(names, rows), nl=False)
        return
    require("rich", needed_by="`costs rerate`")
    if not found.total.meters:
        hint = "; `costs query --by provider,model` shows names" if has_others else ""
        typer.echo(f"nothing that was used meets these conditions{hint}")
        return
    books = "" if has_others else " (--apply --reason … books it)"
    shown = width()
    typer.echo("\n".join(text.by_tenant(found.by_tenant.items(), found.total, width=shown)))
    typer.echo("")
    typer.echo("\n".join(text.by_model(found.by_model.items(), found.total, width=shown)))
    typer.echo("")
    meters = f"{counted(found.total.meters, 'meter')}, in {CURRENCY}"
    said = [f"{meters}; nothing was changed{books}"]
    if not any(map(text.is_change, found.by_model.values())):
        said = [f"{meters}; no amount would change"]
    said += [
        text.say_corrected(*key, it.cost, it.billed) for key, it in sorted(found.corrected.items())
    ]
    said += text.say_reasons(found.reasons)
    said += [f"! {it.text}" for it in say_uncharged(uncharged)]
    said += [text.say_kept(len(found.keep_billed))] if found.keep_billed else []
    in_part = len(found.billed_in_part)
    said += [text.say_billed_in_part(in_part, would=True)] if in_part else []
    said += [text.say_left(found.left, found.left_why, would=True)] if found.left else []
    said += ["an estimate: another model would have counted other tokens"] * found.estimated
    said.append(fresh(found.as_of, datetime.now(UTC)))
    typer.echo("\n".join(line for sentence in said for line in wrapped(sentence, shown)))
