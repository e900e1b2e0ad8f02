"""`costs rebuild`: compare what the ledger says twice, and make it anew of its rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics import config as here
from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.ledger_requests import data_folder
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
from voicecosts.analytics.errors import BadQuestion, require
from voicecosts.analytics.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voicecosts.consumer.config import LedgerConfig
    from voicecosts.consumer.rebuild import Verified
    from voicecosts.producer.tls import Tls

app = typer.Typer(rich_markup_mode=None)


@app.command()
def rebuild(
    *,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Only compare, and say where it differs."),
    ] = False,
    top: Annotated[int, TOP] = 20,
    as_json: AsJson = False,
    servers: Servers = None,
    credentials: Credentials = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    data_dir: DataDir = None,
) -> None:
    """Compare what the ledger says twice.

    Single rows are compared with sums, sums with calls, files of sealed days with their checksums, and the
    readings that the stream still holds with what is booked. Where the ledger runs, its newest snapshot is compared.
    The exit code is 1 where anything differs.
    """
    require("duckdb", "nats", "voice_prices", needed_by="`costs rebuild`", extra="consumer")
    from voicecosts.consumer.rebuild import verify as verified  # noqa: PLC0415 - `--help` is quick
    from voicecosts.producer.tls import Tls  # noqa: PLC0415 - same

    if not verify:
        raise BadQuestion("pass --verify: it compares, and changes nothing")
    root = data_folder(data_dir)
    tls = Tls(ca=tls_ca, cert=tls_cert, key=tls_key)
    with stream_of(root, servers, credentials, tls) as (config, why):
        found = asyncio.run(verified(root, config))
    if why:
        found.proof.left_out.append(why)
    if as_json:
        typer.echo(json.dumps(_record(found), indent=2))
    else:
        _show(found, top)
    if not found.proof.is_whole:
        raise typer.Exit(FAILED)


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


def _show(found: Verified, top: int) -> None:
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.differences import table  # noqa: PLC0415 - same
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - same

    proof = found.proof
    running = ", the newest snapshot of a ledger that runs" if found.is_running else ""
    typer.echo(printable(f"compared {found.file}{running}:"))
    typer.echo(
        f"  {counted(proof.rows, 'single row')} of {counted(proof.days, 'day')} with "
        f"{counted(proof.sums, 'sum')}, and these with {counted(proof.calls, 'call')}"
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
    require("rich", needed_by="`costs rebuild` without --json")
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
