"""`costs prices`: which prices are in force, what has none, how a cost comes about, and what is wrong.

The command only reads. It asks the prices of the installed list and the operator's own file as a ledger
would use them now; only `explain` has the prices that the ledger kept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.groups import SHOWS_FIRST, ShowsFirst
from voicecosts.analytics.commands.options import (
    AsJson,
    DataDir,
    DataDirOrSnapshot,
    Format,
    Output,
    Prices,
)
from voicecosts.analytics.errors import BadQuestion, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicecosts.analytics.answers.report import Outbox
    from voicecosts.consumer.pricing.own import OwnBook

app = typer.Typer(
    name="prices",
    cls=ShowsFirst,
    subcommand_metavar=SHOWS_FIRST,
    rich_markup_mode=None,
    help="Show which prices are in force, what has none, and how a cost comes about.\n\n"
    "`costs prices` alone is `costs prices check`.",
)
ShortJson = Annotated[bool, typer.Option("--json", help="Write JSON, as --format json.")]


@app.command()
def check(
    *,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 when anything that was used has no price, or is not billed although the file has "
            "[[billed]] prices.",
        ),
    ] = False,
    output: Output = Format.TABLE,
    as_json: ShortJson = False,
    prices: Prices = None,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Show every model that the ledger has seen: its price, or what to write into prices.toml.

    A model is unpriced when some of what is booked of it has no price. For one that the prices of now
    do not know either, the entry to write is shown, in the unit that its vendor bills.
    """
    output = Format.JSON if as_json else output
    _require(output, "`costs prices check`")
    from msgspec.structs import replace  # noqa: PLC0415 - `--help` is quick

    from voicecosts.analytics.commands import price_check  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.local_outbox import look_first  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.output import write  # noqa: PLC0415 - same
    from voicecosts.consumer.pricing import ListPrices  # noqa: PLC0415 - same
    from voicecosts.consumer.pricing.terms import Finder  # noqa: PLC0415 - same

    book, said = _in_force(data_dir, prices)
    with look_first(data_dir) as outbox:
        found = price_check.answer(
            data_dir, Finder(ListPrices(), book), book, warnings=(*said, *_not_booked(outbox))
        )
    found = replace(found, warnings=(*found.warnings, *price_check.idle(book, found.models)))
    write(found, output, price_check, now=datetime.now(UTC))
    if strict and (found.lacking or found.unbilled or found.without_rule):
        raise typer.Exit(FAILED)


@app.command()
def show(
    model: Annotated[
        str, typer.Argument(metavar="PROVIDER/MODEL", help="As `costs query` shows them.")
    ],
    *,
    modality: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What it was used as.  [default: as this ledger has seen it]"
        ),
    ] = None,
    service_tier: Annotated[
        str, typer.Option(metavar="NAME", help="The vendor's name of a tier.  [default: standard]")
    ] = "",
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="For calls of a tenant.")
    ] = None,
    agent: Annotated[str, typer.Option(metavar="NAME", help="For calls of an agent.")] = "",
    project: Annotated[str, typer.Option(metavar="NAME", help="For calls of a project.")] = "",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="For calls with a label; repeat it for several."),
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="TIME", help="For calls of a day: 2026-11-21, yesterday.")
    ] = "today",
    output: Output = Format.TABLE,
    as_json: ShortJson = False,
    prices: Prices = None,
    data_dir: DataDir = None,
) -> None:
    """Show the price in force for a model in every layer, and which entry won.

    List is the published price, cost is what you pay, billed is what a tenant is charged. Every entry
    of prices.toml that applies is shown, and why one goes before the others.
    """
    output = Format.JSON if as_json else output
    _require(output, "`costs prices show`")
    from voicecosts.analytics.commands import price_show  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.output import write  # noqa: PLC0415 - same
    from voicecosts.analytics.question.times import moment  # noqa: PLC0415 - same
    from voicecosts.consumer.pricing import ListPrices, Scope  # noqa: PLC0415 - same
    from voicecosts.producer.events import Meter  # noqa: PLC0415 - same

    provider, slash, name = model.partition("/")
    if not (slash and provider and name):
        raise BadQuestion(f"{model!r} is no provider and model: write them as openai/gpt-4.1-mini")
    now = datetime.now(UTC)
    book, said = _in_force(data_dir, prices)
    found = price_show.answer(
        Meter("", "", modality or "", provider, name, estimated=False, service_tier=service_tier),
        Scope(project=project, agent_id=agent, tenant=tenant, labels=_labels(label or [])),
        moment(at, now=now),
        ListPrices(),
        book,
        seen=() if modality else _seen(provider, name, data_dir),
        warnings=(*said, *_misspelled(provider, name, book, data_dir)),
    )
    write(found, output, price_show, now=now)


@app.command()
def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The id of its session or the beginning of it, its room, its job, or `last`: the call that "
            "began last.",
        ),
    ],
    *,
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The project, where several have such a call."),
    ] = None,
    output: Output = Format.TABLE,
    as_json: ShortJson = False,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Explain what a call costs, line by line, by the prices that the ledger kept.

    Every meter is shown from its quantities to its money in all layers, with minimums and round-ups,
    and where its prices come from. The lines add up to what is booked, to the ninth digit.
    """
    output = Format.JSON if as_json else output
    _require(output, "`costs prices explain`")
    from voicecosts.analytics.commands import price_explain  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.local_outbox import look_first  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.output import write  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.price_call import answer  # noqa: PLC0415 - `--help` is quick

    with look_first(data_dir) as outbox:
        found = answer(name, data_dir, project=project, warnings=_not_booked(outbox))
    write(found, output, price_explain, now=datetime.now(UTC))


@app.command()
def validate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="[env: COSTS_PRICES; default: prices.toml in the data directory]",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Check a file of prices: every mistake with its line and what to do, or what it holds.

    The exit code is 1 when there is a mistake.
    """
    _require(Format.JSON, "`costs prices validate`")
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.plain import json_bytes  # noqa: PLC0415 - same
    from voicecosts.consumer.config import prices_from_env  # noqa: PLC0415 - same
    from voicecosts.consumer.errors import InvalidPrices  # noqa: PLC0415 - same
    from voicecosts.consumer.pricing.own import load  # noqa: PLC0415 - same
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.price_file import emptied, gone, has_text  # noqa: PLC0415 - same

    _require_file(file)
    root = _directory(data_dir)
    path = prices_from_env(root, given=file)
    problems: tuple[str, ...] = ()
    holds = {"cost": 0, "billed": 0, "exchange": 0}
    try:
        book = load(path)
        holds["exchange"] = len(book.exchange)
        for entry in book.entries:
            holds[entry.layer] += 1
    except InvalidPrices as error:
        problems = error.problems
    if not path.exists() and Layout(root).prices.is_file():
        problems = (gone(path),)
    elif not problems and has_text(Layout(root).prices) and not has_text(path):
        problems = (emptied(path),)
    if as_json:
        record = {"file": str(path), "ok": not problems, "problems": list(problems), **holds}
        typer.echo(json_bytes(record), nl=False)
    elif problems:
        for problem in problems:
            typer.echo(printable(problem))
    elif not path.exists():
        typer.echo(f"there is no {path}: list prices alone are used")
    else:
        said = ", ".join(f"{count:,} [[{name}]]" for name, count in holds.items())
        found = (f"{path} has no mistakes: {said}", *_worth_a_look(book))
        typer.echo("\n".join(map(printable, found)))
    if problems:
        raise typer.Exit(FAILED)


def _worth_a_look(book: OwnBook) -> Iterator[str]:
    """Yield what a mistake may hide in that no rule finds: rates the wrong way round, names of one's own."""
    from voicecosts.consumer.pricing.own.units import MODALITIES  # noqa: PLC0415 - `--help` is quick

    for rate in book.exchange:
        since = f" from {rate.valid_from} on" if rate.valid_from else ""
        yield f"one {rate.currency} is {rate.usd:f} USD{since}"
    own = {it.modality for it in book.entries if it.modality} - set(MODALITIES)
    for name in sorted(own):
        yield f"modality {name!r} is none of LiveKit's: it prices what `record` names so, and nothing else"


def _require(output: Format, command: str) -> None:
    from voicecosts.analytics.commands.output import require_for  # noqa: PLC0415 - `--help` is quick

    require("duckdb", "voice_prices", needed_by=command, extra="consumer")
    require_for(output, needed_by=command)


def _require_file(file: Path | None) -> None:
    from voicecosts.producer.settings import expanded  # noqa: PLC0415 - `--help` is quick

    if file is None:
        return
    path = expanded(file, instead="give the full path of the prices")
    if not path.is_file():
        what = "is no file" if path.exists() else "is not there"
        raise BadQuestion(f"{file} {what}: name a file of prices")


def _directory(data_dir: Path | None) -> Path:
    from voicecosts.analytics import config  # noqa: PLC0415 - `--help` is quick

    root = config.data_dir(data_dir).absolute()
    return root.parent if root.is_file() else root


def _in_force(data_dir: Path | None, prices: Path | None) -> tuple[OwnBook, tuple[str, ...]]:
    """Return the prices that a ledger would use now, and what is to be said of their file."""
    from voicecosts.consumer.config import prices_from_env  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.price_file import prices_in_force  # noqa: PLC0415 - same

    root = _directory(data_dir)
    book, said = prices_in_force(prices_from_env(root, given=prices), Layout(root).prices)
    return book, (said,) if said else ()


def _seen(provider: str, model: str, data_dir: Path | None) -> tuple[str, ...]:
    """Return as what the ledger has seen a model, if there is a ledger."""
    from voicecosts.analytics.answers.states import schema_of  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.errors import NoLedger  # noqa: PLC0415 - same
    from voicecosts.analytics.question.relation import relation  # noqa: PLC0415 - same
    from voicecosts.analytics.snapshot.connection import closing, open_newest, read  # noqa: PLC0415 - same

    statement = (
        "SELECT DISTINCT modality FROM {} WHERE lower(provider) = lower(?) "
        "AND lower(model) = lower(?) AND session_id IS NOT NULL ORDER BY modality"
    )
    try:
        connection, snapshot = open_newest(data_dir)
    except NoLedger:
        return ()
    with closing(connection):
        statement = statement.format(relation(schema_of(connection, snapshot)))
        found = read(connection, snapshot.path, statement, [provider, model], row=tuple[str])
    return tuple(row[0] for row in found)


def _misspelled(provider: str, model: str, book: OwnBook, data_dir: Path | None) -> tuple[str, ...]:
    """Return a sentence with near names, where neither the ledger nor prices.toml has such a model."""
    from difflib import get_close_matches  # noqa: PLC0415 - `--help` is quick

    from voicecosts.analytics.answers.states import schema_of  # noqa: PLC0415 - same
    from voicecosts.analytics.errors import NoLedger  # noqa: PLC0415 - same
    from voicecosts.analytics.question.relation import relation  # noqa: PLC0415 - same
    from voicecosts.analytics.snapshot.connection import closing, open_newest, read  # noqa: PLC0415 - same
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - same

    known = {
        f"{it.provider}/{it.model}".lower()
        for it in book.entries
        if it.provider and it.model and "*" not in it.model
    }
    try:
        connection, snapshot = open_newest(data_dir)
    except NoLedger:
        pass
    else:
        statement = "SELECT DISTINCT lower(provider || '/' || model) FROM {}"
        with closing(connection):
            statement = statement.format(relation(schema_of(connection, snapshot)))
            known |= {row[0] for row in read(connection, snapshot.path, statement, row=tuple[str])}
    asked = f"{provider}/{model}".lower()
    near = [] if asked in known else get_close_matches(asked, sorted(known), 3)
    if not near:
        return ()
    return (f"this ledger has not seen {asked}; near names are {printable(', '.join(near))}",)


def _not_booked(outbox: Outbox | None) -> tuple[str, ...]:
    from voicecosts.analytics.answers.findings import say_not_booked  # noqa: PLC0415 - `--help` is quick

    if outbox is None or outbox.not_booked is None:
        return ()
    return (f"not in these numbers: {say_not_booked(outbox.not_booked)}",)


def _labels(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BadQuestion(f"{text!r} is no label: write it as campaign=winter")
        found[name] = value
    return found
