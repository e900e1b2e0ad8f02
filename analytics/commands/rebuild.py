"""`costs rebuild`: compare what the ledger says twice, and make it anew of its rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics import config as here
from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.ledger_requests import at_folder, data_folder, rate_of
from voicecosts.analytics.commands.options import (
    TOP,
    AsJson,
    Credentials,
    DataDir,
    Servers,
    TlsCa,
    TlsCert,
    TlsKey,
)
from voicecosts.analytics.commands.signals import changing_nothing, undisturbed
from voicecosts.analytics.errors import AnalyticsError, BadQuestion, require
from voicecosts.analytics.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voicecosts.consumer.config import LedgerConfig
    from voicecosts.consumer.rebuild import Verified
    from voicecosts.consumer.store.proof import Proof
    from voicecosts.consumer.store.rebuilding import Found
    from voicecosts.producer.tls import Tls

app = typer.Typer(rich_markup_mode=None)


@app.command()
def rebuild(
    *,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Only compare, and say where it differs. Changes nothing."),
    ] = False,
    keep_sums: Annotated[
        bool,
        typer.Option(
            "--keep-sums",
            help="Take over the sums of days whose single rows are gone or cannot be read; answers then say that "
            "these rows are gone.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    top: Annotated[int, TOP] = 20,
    as_json: AsJson = False,
    servers: Servers = None,
    credentials: Credentials = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    data_dir: DataDir = None,
) -> None:
    """Compare what the ledger says twice, and make it anew of its single rows.

    Compared are single rows with sums, sums with calls, files of sealed days with their checksums, and the readings
    that the stream still holds with what is booked. With --verify the exit code is 1 where anything differs, and a
    ledger that runs is compared by its newest snapshot.

    Else a new ledger is made beside the old one, of its rows and facts, or of the newest snapshot where it cannot be read;
    it is compared with its rows, takes the old one's place, which is kept, and what the stream still has of what is
    missing is booked. The ledger must not run.
    """
    require("duckdb", "nats", "voice_prices", needed_by="`costs rebuild`", extra="consumer")
    if not as_json:
        require("rich", needed_by="`costs rebuild` without --json")
    from voicecosts.producer.tls import Tls  # noqa: PLC0415 - `--help` is quick

    if as_json and not (verify or yes):
        raise BadQuestion("--json asks nothing: pass --verify or --yes with it")
    if verify and keep_sums:
        raise BadQuestion("--verify changes nothing: give --keep-sums without it")
    root = data_folder(data_dir)
    tls = Tls(ca=tls_ca, cert=tls_cert, key=tls_key)
    if verify:
        _verify(root, (servers, credentials, tls), data_dir, top=None if as_json else top)
        return
    source, kept = _rebuild(
        root, data_dir, keep_sums=keep_sums, yes=yes, top=None if as_json else top
    )
    rows, after = _refilled(root, (servers, credentials, tls))
    more = {"made_of": str(source), "kept": kept and str(kept), "from_stream": rows}
    if as_json:
        typer.echo(json.dumps(_record(after) | more, indent=2))
    else:
        if rows:
            typer.echo(f"{counted(rows, 'row')} that it lacked came from the stream")
        _show(after.proof, f"{after.file}", top)
    if not after.proof.is_whole:
        raise typer.Exit(FAILED)


Access = tuple[str | None, "Path | None", "Tls"]
"""Servers, credentials and TLS, as they were given."""


def _verify(root: Path, access: Access, data_dir: Path | None, *, top: int | None) -> None:
    found = _verified(root, access)
    if top is None:
        typer.echo(json.dumps(_record(found), indent=2))
    else:
        running = ", the newest snapshot of a ledger that runs" if found.is_running else ""
        _show(found.proof, f"{found.file}{running}", top)
    if found.proof.is_whole:
        return
    if top is not None:
        rebuilt = f"`costs rebuild{at_folder(data_dir)}` makes it anew of its rows"
        if found.proof.bad_files:
            files = counted(len(found.proof.bad_files), "file")
            rebuilt = f"put {files} of sealed days back from a backup first; then {rebuilt}, if anything differs still"
        typer.echo(rebuilt, err=True)
    raise typer.Exit(FAILED)


def _verified(root: Path, access: Access) -> Verified:
    from voicecosts.consumer.rebuild import verify  # noqa: PLC0415 - `--help` is quick

    with stream_of(root, *access) as (config, why):
        found = asyncio.run(verify(root, config))
    if why:
        found.proof.left_out.append(why)
    return found


def _rebuild(
    root: Path, data_dir: Path | None, *, keep_sums: bool, yes: bool, top: int | None
) -> tuple[Path, Path | None]:
    """Make the ledger anew and put it in its place; return what it was made of, and where the old one is kept.

    With `top` it says what is done.
    """
    from voicecosts.consumer.rebuild import rebuilding  # noqa: PLC0415 - `--help` is quick

    def say(text: str) -> None:
        if top is not None:
            typer.echo(text)

    with rebuilding(root) as (found, work):
        with changing_nothing():
            if top is not None:
                _show_found(found, top)
            _require_rows(found, data_dir, keep_sums=keep_sums)
            if not yes and not typer.confirm("Make it anew? The ledger that is there is kept."):
                typer.echo("nothing was changed")
                raise typer.Exit(FAILED)
            made = work.make()
        say(
            f"made anew: {counted(made.rows, 'single row')}, {counted(made.sums, 'sum')}, "
            f"{counted(made.calls, 'call')}; sums and calls are those of the rows"
        )
        with undisturbed():
            kept = work.swap(f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}")
    if kept is not None:
        say(
            f"it has taken the ledger's place; the old one is {kept}: remove it when you have looked"
        )
    return found.source, kept


def _show_found(found: Found, top: int) -> None:
    if found.problem:
        typer.echo(
            f"! the ledger's own file cannot be read ({found.problem}): it is made of {found.source}. What was booked "
            "later comes from the stream; operations and what came from outboxes later do not",
            err=True,
        )
    if found.proof is None:
        typer.echo(
            f"! the sums in {found.source} cannot be read: they are made of the rows", err=True
        )
    else:
        _show(found.proof, f"{found.source}", top)


def _require_rows(found: Found, data_dir: Path | None, *, keep_sums: bool) -> None:
    """Refuse to make sums of rows that are not all there."""
    if not found.lost:
        return
    days = "; ".join(map(str, found.lost))
    if not keep_sums:
        raise AnalyticsError(
            f"single rows are not all there ({days}), so no sums can be made of them, and nothing was changed. Put "
            f"the files back from a backup (docs/operations.md), or take the sums of these days over as they are: "
            f"`costs rebuild --keep-sums{at_folder(data_dir)}`"
        )
    typer.echo(f"! the sums of these days are taken over as they are: {days}", err=True)


def _refilled(root: Path, access: Access) -> tuple[int, Verified]:
    """Book what the stream still has of what is missing, publish, and compare once more."""
    from voicecosts.consumer.rebuild import NOT_ASKED, refill, verify  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.ledger import Ledger  # noqa: PLC0415 - same

    rate, own_prices = rate_of(root)
    rows = 0
    with stream_of(root, *access) as (config, why):
        with Ledger.open(
            root, rate, embedded=True, has_source=True, own_prices=own_prices, goes_on=False
        ) as ledger:
            if config is not None:
                with contextlib.suppress(*NOT_ASKED):  # the comparison says so
                    rows = asyncio.run(refill(ledger, config))
        after = asyncio.run(verify(root, config))
    if why:
        after.proof.left_out.append(why)
    return rows, after


@contextlib.contextmanager
def stream_of(
    root: Path, servers: str | None, credentials: Path | None, tls: Tls
) -> Iterator[tuple[LedgerConfig | None, str]]:
    """Yield how to reach the stream of a ledger, or None and why not.

    The server of `costs up` is started where it does not run.
    """
    from voicecosts.consumer.broker.server import UP, PrivateBroker  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.config import from_env  # noqa: PLC0415 - same
    from voicecosts.consumer.errors import LedgerError  # noqa: PLC0415 - same
    from voicecosts.consumer.store.heartbeat import read_heartbeat  # noqa: PLC0415 - same
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same

    if servers is not None or here.names_servers():
        yield from_env(servers=servers, credentials=credentials, tls=tls, data_dir=root), ""
        return
    last = read_heartbeat(Layout(root).heartbeat)
    run_by = None if last is None else last.run_by
    if run_by is None or run_by.command != "up":
        why = "" if run_by is None else "the stream: name its servers with --servers"
        yield None, why
        return
    with contextlib.ExitStack() as stack:
        config, why = None, ""
        try:
            try:
                url = json.loads(root.joinpath(UP).read_text("utf-8"))["servers"]
            except OSError:
                url = stack.enter_context(PrivateBroker(root)).url
            config = from_env(servers=url, credentials=credentials, tls=tls, data_dir=root)
        except LedgerError as error:
            why = f"the stream: {error}"
        yield config, why


def _show(proof: Proof, what: str, top: int) -> None:
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.differences import table  # noqa: PLC0415 - same
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - same

    typer.echo(printable(f"compared {what}:"))
    typer.echo(
        f"  {counted(proof.rows, 'single row')} with {counted(proof.sums, 'sum')} of "
        f"{counted(proof.days, 'day')}, and these with {counted(proof.calls, 'call')}"
    )
    if proof.files:
        typer.echo(f"  {counted(proof.files, 'file')} of sealed days with their checksums")
    if proof.messages is not None:
        typer.echo(f"  {counted(proof.messages, 'message')} of the stream with what is booked")
    for each in proof.left_out:
        typer.echo(printable(f"! not compared: {each}"), err=True)
    if proof.is_whole:
        typer.echo("nothing differs")
        return
    count = len(proof.differences)
    typer.echo(
        f"{'more than ' if proof.more else ''}{counted(count, 'value differs', 'values differ')}:\n"
    )
    for line in table(proof.differences[:top], width=width()):
        typer.echo(line)
    if count > top:
        typer.echo(f"{count - top:,} more: --top {count} shows them, and --json")


def _record(found: Verified) -> dict[str, object]:
    from voicecosts.analytics.text.differences import record  # noqa: PLC0415 - `--help` is quick

    proof = found.proof
    return {
        "file": str(found.file),
        "running": found.is_running,
        "whole": proof.is_whole,
        "rows": proof.rows,
        "days": proof.days,
        "sums": proof.sums,
        "calls": proof.calls,
        "files": proof.files,
        "messages": proof.messages,
        "not_compared": proof.left_out,
        "differences": [record(it) for it in proof.differences],
        "more": proof.more,
    }
