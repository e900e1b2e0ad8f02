"""`costs outbox`: what waits on this host, and moving it on when no worker is left to do so.

Messages for a server are published to it, those for the ledger of this host are booked by it, which
is handed in as the context's object. What a living process holds for a server is left to it.
"""

from __future__ import annotations

import json
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from voicecosts.producer.errors import ConfigError, DrainIncomplete, MissingExtra

if TYPE_CHECKING:
    from voicecosts.producer.config import ProducerConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None)
outbox = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at what waits on this host, and move it.",
)
app.add_typer(outbox, name="outbox")

OutboxDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder of the outboxes.  [default: $COSTS_OUTBOX_DIR, or `outbox` in the data "
        "directory]",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The ledger's data directory.  [default: $COSTS_DATA_DIR, or the user's data folder]",
    ),
]

_LOOK_S: Final = 0.05


@app.callback()
def _producer() -> None:
    """Keep `outbox` a group of commands, although it is the only one."""


@outbox.command()
def status(
    *,
    outbox_dir: OutboxDir = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show what waits, for whom, and since when.

    Only looks. A process that lives sends on what it holds by itself; what a dead one left is taken
    over by the next worker, by `costs up`, or by `costs outbox drain`.
    """
    from voicecosts.analytics.text.outbox import counted, record, remarks, table  # noqa: PLC0415 - `--help` is quick
    from voicecosts.producer.outbox.survey import damaged, outboxes, quarantine  # noqa: PLC0415 - `--help` is quick

    folder = _folder(outbox_dir, data_dir)
    waiting, quarantined, broken = outboxes(folder), quarantine(folder), damaged(folder)
    if as_json:
        typer.echo(json.dumps(record(folder, waiting, quarantined, broken), indent=2))
        return
    messages = sum(found.messages for found in waiting)
    events = sum(found.events for found in waiting)
    if messages:
        typer.echo(f"{counted(messages, 'message')} with {counted(events, 'event')} in {folder}")
        typer.echo()
        for line in table(waiting, now_us=time.time_ns() // 1000):
            typer.echo(line)
    else:
        typer.echo(f"nothing waits in {folder}")
    for line in remarks(waiting, quarantined, broken):
        typer.echo(f"! {line}")


@outbox.command()
def drain(
    ctx: typer.Context,
    *,
    servers: Annotated[
        str | None,
        typer.Option(
            metavar="URL,…", help="NATS servers, separated by commas.  [env: COSTS_SERVERS]"
        ),
    ] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A NATS .creds or nkey seed file.  [env: COSTS_CREDENTIALS]"
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Publish to these servers what dead processes left for any other."
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Give up after so long.")
    ] = 30.0,
    outbox_dir: OutboxDir = None,
    data_dir: DataDir = None,
) -> None:
    """Move what waits to where it belongs.

    What waits for the ledger of this host is booked. With servers, what dead processes left for
    these servers is published to them. Exits with 1 when something that could be moved was not.
    """
    from voicecosts.analytics.text.outbox import counted, remarks  # noqa: PLC0415 - same
    from voicecosts.producer.config import resolve  # noqa: PLC0415 - `--help` is quick
    from voicecosts.producer.outbox.survey import outboxes  # noqa: PLC0415 - same

    folder = _folder(outbox_dir, data_dir)
    config = resolve(
        project=os.environ.get("COSTS_PROJECT", "").strip() or "voicecosts",
        servers=servers,
        credentials=credentials,
        outbox_dir=folder,
    )
    if everything and config.is_embedded:
        raise ConfigError(["--all publishes to a server: give --servers nats://host:4222"])
    said, failed = [], []
    if not everything and any(found.is_embedded for found in outboxes(folder)):
        booked = ctx.obj.book(data_dir, folder)
        said.append(f"booked {counted(booked.messages, 'message')} in the ledger")
        if booked.why is not None:
            failed.append(f"{counted(booked.left, 'message')} could not be booked ({booked.why})")
    if not config.is_embedded:
        published, left = _publish(config, everything=everything, timeout_s=timeout)
        said.append(f"published {counted(published, 'event')} to {config.destination}")
        failed += left
    for line in said or ["nothing waits for the ledger of this host"]:
        typer.echo(line)
    others = [found for found in outboxes(folder) if found.destination != config.destination]
    for line in remarks(others):
        typer.echo(f"! {line}")
    if failed:
        raise DrainIncomplete(failed)


def _publish(
    config: ProducerConfig, *, everything: bool, timeout_s: float
) -> tuple[int, list[str]]:
    """Publish what dead processes left; return how many events, and what is left over."""
    if find_spec("nats") is None:
        raise MissingExtra("costs outbox drain", "producer")
    from msgspec.structs import replace  # noqa: PLC0415 - `--help` is quick

    from voicecosts.analytics.text.outbox import counted  # noqa: PLC0415 - same
    from voicecosts.producer.publishing.publisher import Publisher  # noqa: PLC0415 - loads the broker client

    publisher = Publisher(replace(config, adopts_all=everything))
    deadline = time.monotonic() + timeout_s
    try:
        while not publisher.backlog.adopted.is_done and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        stats = publisher.stats()
        if publisher.backlog.adopted.is_done:
            return stats.published, []
        left = counted(stats.outbox_rows, "message")
        why = stats.connection.because(stats.connection_problem)
        return stats.published, [f"{left} could not be published in time (NATS {why})"]
    finally:
        publisher.close(1.0)


def _folder(outbox_dir: Path | None, data_dir: Path | None) -> Path:
    from voicecosts.producer.config import outbox_folder  # noqa: PLC0415 - `--help` is quick

    named = outbox_dir or outbox_folder(os.environ, data_dir=data_dir)
    return named.expanduser().absolute()
