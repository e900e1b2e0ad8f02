"""`costs outbox`: shows what waits on this host, and books or publishes it when no worker does.

Messages for a server are published to it, those for the ledger of this host are booked. What a
running process holds for a server is left to that process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from voicecosts.analytics.commands.groups import SHOWS_FIRST, ShowsFirst
from voicecosts.analytics.commands.options import (
    AsJson,
    Credentials,
    DataDir,
    Servers,
    TlsCa,
    TlsCert,
    TlsKey,
)
from voicecosts.analytics.errors import require
from voicecosts.analytics.numbers import age, counted

if TYPE_CHECKING:
    from voicecosts.producer.config import ProducerConfig
    from voicecosts.producer.outbox.survey import Quarantined, Waiting

app = typer.Typer(
    name="outbox",
    cls=ShowsFirst,
    subcommand_metavar=SHOWS_FIRST,
    rich_markup_mode=None,
    help="Show what waits on this host, and book or publish it.\n\n"
    "`costs outbox` alone is `costs outbox status`.",
)

OutboxDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder of the outboxes.  [default: $COSTS_OUTBOX_DIR, or `outbox` in the data "
        "directory]",
    ),
]

_LOOK_S: Final = 0.05
_CLOSE_S: Final = 1.0


@app.command()
def status(
    *, outbox_dir: OutboxDir = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show what waits, for whom, and since when.

    Changes nothing. A running process sends what it holds by itself; what an ended one left is
    adopted by the next worker, by `costs up`, or by `costs outbox drain`.
    """
    from voicecosts.producer.outbox.survey import damaged, outboxes, quarantine  # noqa: PLC0415 - `--help` is quick

    folder = _folder(outbox_dir, data_dir)
    waiting, quarantined, broken = outboxes(folder), quarantine(folder), damaged(folder)
    if as_json:
        typer.echo(json.dumps(_record(folder, waiting, quarantined, broken), indent=2))
        return
    messages = sum(found.messages for found in waiting)
    events = sum(found.events for found in waiting)
    if messages:
        typer.echo(f"{counted(messages, 'message')} with {counted(events, 'event')} in {folder}\n")
        _show(_remarks(waiting, quarantined, broken), below=_table(waiting))
    else:
        typer.echo(f"nothing waits in {folder}")
        _show(_remarks(waiting, quarantined, broken))


@app.command()
def drain(
    *,
    servers: Servers = None,
    credentials: Credentials = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Publish to these servers what ended processes left for any other."
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Give up after this time.")
    ] = 30.0,
    outbox_dir: OutboxDir = None,
    data_dir: DataDir = None,
) -> None:
    """Book or publish what waits.

    What waits for the ledger of this host is booked. With servers, what ended processes left for
    these servers is published to them. Exits with 1 when something is left that should not be.
    """
    from voicecosts.analytics.answers.findings import say_not_booked  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.local_outbox import book  # noqa: PLC0415 - same
    from voicecosts.producer.config import command_project, resolve  # noqa: PLC0415 - same
    from voicecosts.producer.errors import ConfigError, DrainIncomplete  # noqa: PLC0415 - same
    from voicecosts.producer.outbox.row import destination_id  # noqa: PLC0415 - same
    from voicecosts.producer.outbox.survey import outboxes  # noqa: PLC0415 - same
    from voicecosts.producer.tls import Tls  # noqa: PLC0415 - same

    folder = _folder(outbox_dir, data_dir)
    config = resolve(
        project=command_project(),
        servers=servers,
        credentials=credentials,
        tls=Tls(ca=tls_ca, cert=tls_cert, key=tls_key),
        outbox_dir=folder,
    )
    if everything and config.is_embedded:
        raise ConfigError(["--all publishes to a server: give --servers nats://host:4222"])
    said, failed = [], []
    if not everything and any(found.is_embedded for found in outboxes(folder)):
        booked = book(data_dir, folder)
        said.append(f"booked {counted(booked.messages, 'message')} in the ledger")
        if booked.left is not None:
            failed.append(f"not booked: {say_not_booked(booked.left)}")
    if not config.is_embedded:
        published, not_published = _publish(config, everything=everything, timeout_s=timeout)
        is_empty = not (published or not_published)
        said.append(
            f"found nothing to publish to {config.destination}"
            if is_empty
            else f"published {counted(published, 'event')} to {config.destination}"
        )
        failed += not_published
    for line in said or ["nothing waits for the ledger of this host"]:
        typer.echo(line)
    own = f"{destination_id(config)}-"  # by id: the address that is shown hides the user
    others = [found for found in outboxes(folder) if not found.path.name.startswith(own)]
    _show(_remarks(others))
    if failed:
        raise DrainIncomplete(failed)


def _publish(
    config: ProducerConfig, *, everything: bool, timeout_s: float
) -> tuple[int, list[str]]:
    """Publish what ended processes left; return how many events, and what is left over."""
    require("nats", needed_by="`costs outbox drain`", extra="producer")
    from msgspec.structs import replace  # noqa: PLC0415 - `--help` is quick

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
        publisher.close(_CLOSE_S)


def _folder(outbox_dir: Path | None, data_dir: Path | None) -> Path:
    from voicecosts.producer.config import outbox_folder  # noqa: PLC0415 - `--help` is quick

    return outbox_folder(given=outbox_dir, data_dir=data_dir)


def _show(remarks: Sequence[str], *, below: Sequence[str] = ()) -> None:
    """Write remarks, below a table if there is one."""
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.grid import page  # noqa: PLC0415 - same

    if below or remarks:
        table = [*below, ""] if below and remarks else below
        typer.echo(page(table, [], remarks, width=width()), nl=False)


def _table(waiting: Sequence[Waiting]) -> list[str]:
    """Return the lines of a table, one outbox each."""
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.grid import Column, lines  # noqa: PLC0415 - same

    names = [
        Column("for", [it.destination for it in waiting]),
        Column(
            "held by",
            [f"process {it.pid}" if it.is_held else "nobody" for it in waiting],
        ),
    ]
    numbers = [
        Column("messages", [f"{it.messages:,}" for it in waiting]),
        Column("events", [f"{it.events:,}" for it in waiting]),
        Column("size", [_size(it.bytes) for it in waiting]),
        Column("oldest", [_ago(it.oldest_at) for it in waiting]),
    ]
    return list(lines(names, numbers, width=width()))


def _remarks(
    waiting: Sequence[Waiting], quarantined: Quarantined | None = None, broken: Sequence[Path] = ()
) -> list[str]:
    """Return what a person should know, with what to do."""
    said = [
        f"{it.path.name} cannot be read ({it.problem}): check the disk and the rights of the file"
        for it in waiting
        if it.problem
    ]
    for destination in dict.fromkeys(it.destination for it in waiting if not it.is_embedded):
        theirs = [it for it in waiting if it.destination == destination and not it.is_held]
        if messages := sum(it.messages for it in theirs):
            said.append(
                f"{counted(messages, 'message')} of ended processes for {destination}: its next "
                "worker publishes them, and so does `costs up` where that runs this very server. To do "
                "it now, give `costs outbox drain --servers` the full address, with its user, password or "
                "token; --all sends them to another server"
            )
    if quarantined is not None:
        said.append(
            f"{counted(quarantined.events, 'event')} that no server accepts in {quarantined.path}: "
            f"{'; '.join(quarantined.reasons)}. Correct the cause for those to come; these stay there"
        )
    if broken:
        said.append(
            f"{counted(len(broken), 'damaged file')} kept for inspection: "
            f"{', '.join(path.name for path in broken)}. Check the disk; delete what nobody needs"
        )
    return said


def _record(
    folder: Path,
    waiting: Sequence[Waiting],
    quarantined: Quarantined | None,
    broken: Sequence[Path],
) -> dict[str, Any]:
    """Return the same for programs: names are public, absent values are null or empty."""
    return {
        "folder": str(folder),
        "outboxes": [
            {
                "file": it.path.name,
                "target": it.destination,
                "embedded": it.is_embedded,
                "held": it.is_held,
                "pid": it.pid,
                "messages": it.messages,
                "events": it.events,
                "bytes": it.bytes,
                "oldest_at": _moment(it.oldest_at) if it.oldest_at else None,
                "problem": it.problem,
            }
            for it in waiting
        ],
        "quarantine": quarantined
        and {
            "file": quarantined.path.name,
            "messages": quarantined.messages,
            "events": quarantined.events,
            "reasons": list(quarantined.reasons),
        },
        "damaged": [path.name for path in broken],
    }


def _moment(micros: int) -> str:
    moment = datetime.fromtimestamp(micros / 1_000_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ago(micros: int | None) -> str:
    if not micros:
        return "-"
    return f"{age(timedelta(microseconds=time.time_ns() // 1000 - micros))} ago"


def _size(count: int) -> str:
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
