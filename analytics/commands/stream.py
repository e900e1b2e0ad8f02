"""`costs stream`: how full the stream is, how old, who reads it, what is missing, what can go.

It asks the broker and compares with the newest snapshot of this ledger, so it works while the ledger
runs. What `trim` removes is booked and in that snapshot, as what the ledger removes by itself.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from voicecosts.analytics import config as here
from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.groups import SHOWS_FIRST, ShowsFirst
from voicecosts.analytics.commands.options import (
    Credentials,
    DataDir,
    Servers,
    TlsCa,
    TlsCert,
    TlsKey,
)
from voicecosts.analytics.errors import AnalyticsError, BadQuestion, require
from voicecosts.analytics.numbers import ago, clock, counted

if TYPE_CHECKING:
    from voicecosts.consumer.booking.progress import Progress
    from voicecosts.consumer.broker.room import Cut
    from voicecosts.consumer.broker.stream import Standing, StreamInfo
    from voicecosts.consumer.config import LedgerConfig

app = typer.Typer(
    name="stream",
    cls=ShowsFirst,
    subcommand_metavar=SHOWS_FIRST,
    rich_markup_mode=None,
    help="Show how full the stream is and who reads it, and make room in it.\n\n"
    "`costs stream` alone is `costs stream status`.",
)

_GAPS: Final = """
SELECT first_sequence, last_sequence, messages, epoch_us(noted_at), why FROM gaps
ORDER BY noted_at, first_sequence
"""
_PROGRESS: Final = """
SELECT
    ledger_id, epoch_us(stream_created), floor, last_known, trimmed_to, newest_booked,
    epoch_us(newest_stored_at)
FROM stream
"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Shape(StrEnum):
    """How the state is written."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Shape, typer.Option("--format", metavar="FORMAT", help="table or json.")]
Keep = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="HOURS",
        help="Keep what is younger, for a ledger that is restored from a backup.",
    ),
]


@app.command()
def status(
    *,
    servers: Servers = None,
    credentials: Credentials = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    data_dir: DataDir = None,
    keep: Keep = 24,
    output: Output = Shape.TABLE,
) -> None:
    """Show the stream: how full, how old, who reads it, what is missing, what can be removed.

    Changes nothing. Without servers, the one that `costs up` runs on this data directory is asked.
    """
    config = _config(servers, credentials, (tls_ca, tls_cert, tls_key), data_dir)
    found = asyncio.run(_look(config, keep * 3600))
    if output is Shape.JSON:
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo("\n".join(_sentences(found, datetime.now(UTC))))


@app.command()
def trim(
    *,
    servers: Servers = None,
    credentials: Credentials = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    data_dir: DataDir = None,
    keep: Keep = 24,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it without asking.")] = False,
) -> None:
    """Remove from the stream what this ledger has booked and published in a snapshot.

    The ledger does so by itself when the stream is nearly full. What is removed can no longer fill
    another ledger, or an older backup of this one.
    """
    config = _config(servers, credentials, (tls_ca, tls_cert, tls_key), data_dir)
    typer.echo(asyncio.run(_trim(config, keep * 3600, yes=yes)))


def _config(
    servers: str | None,
    credentials: Path | None,
    certificates: tuple[str | None, str | None, str | None],
    data_dir: Path | None,
) -> LedgerConfig:
    require("duckdb", "nats", needed_by="`costs stream`", extra="consumer")
    from voicecosts.consumer.config import from_env  # noqa: PLC0415 - `--help` is quick
    from voicecosts.producer.tls import Tls  # noqa: PLC0415 - same

    if servers is None and not here.names_servers():
        folder = here.data_dir(data_dir).absolute()
        try:
            servers = json.loads((folder / "up.json").read_text("utf-8"))["servers"]
        except OSError:
            raise BadQuestion(
                f"there is no stream to ask: no servers are named, and `costs up` does not run on "
                f"{folder}. Name the servers with --servers, or start it with `costs up --data-dir "
                f"{shlex.quote(str(folder))}`; workers without a server use no stream, and `costs "
                "outbox status` shows what waits of theirs"
            ) from None
    ca, cert, key = certificates
    tls = Tls(ca=ca, cert=cert, key=key)
    return from_env(servers=servers, credentials=credentials, tls=tls, data_dir=data_dir)


async def _look(config: LedgerConfig, keep_s: float) -> dict[str, Any]:
    from voicecosts.consumer.broker.replay import asking  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.broker.requests import Denied  # noqa: PLC0415 - same
    from voicecosts.consumer.broker.room import find_cut  # noqa: PLC0415 - same
    from voicecosts.consumer.broker.stream import inspect  # noqa: PLC0415 - same

    books, progress = _books(config.data_dir)
    async with asking(config) as ask:
        standing = await inspect(ask)
        if standing.stream is None:
            raise AnalyticsError(
                f"these credentials may not inspect the stream: allow them to publish to "
                f"{' and '.join(standing.denied)} (docs/security.md has what each role needs)"
            )
        cut: Cut | None = None
        unseen = [("who reads it and what waits", subject) for subject in standing.denied]
        try:
            cut = await find_cut(ask, standing.stream, progress, keep_s=keep_s, squeeze=False)
        except Denied as error:
            unseen.append(("what can be removed", error.subject))
    return {
        "stream": _stream(standing.stream),
        "reader": _reader(standing),
        "ledger": books,
        "removable": None
        if cut is None
        else {"upto": cut.upto, "messages": cut.messages, "bytes": cut.bytes},
        "keep_hours": keep_s / 3600,
        "denied": [
            f"{what}: these credentials may not publish to {subject}" for what, subject in unseen
        ],
    }


async def _trim(config: LedgerConfig, keep_s: float, *, yes: bool) -> str:
    from voicecosts.consumer.broker.replay import asking  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.broker.requests import Denied  # noqa: PLC0415 - same
    from voicecosts.consumer.broker.room import find_cut, trim  # noqa: PLC0415 - same
    from voicecosts.consumer.broker.stream import stream_info  # noqa: PLC0415 - same
    from voicecosts.consumer.errors import BrokerRefuses  # noqa: PLC0415 - same
    from voicecosts.producer.settings import mask  # noqa: PLC0415 - same

    _, progress = _books(config.data_dir)
    try:
        async with asking(config) as ask:
            info = await stream_info(ask)
            cut = await find_cut(ask, info, progress, keep_s=keep_s, squeeze=False)
            if cut is None:
                return (
                    "nothing can be removed: what is in the stream is not booked and published yet, "
                    f"or younger than {keep_s / 3600:g} hours (--keep)"
                )
            what = f"{counted(cut.messages, 'booked message')} (about {_size(cut.bytes)})"
            question = f"Remove {what} from the stream, up to message {cut.upto}?"
            if not yes and not typer.confirm(question):
                typer.echo("nothing was changed")
                raise typer.Exit(FAILED)
            purged = await trim(ask, cut)
    except Denied as error:
        raise BrokerRefuses([mask(url) for url in config.servers], str(error)) from error
    return f"removed {counted(purged, 'booked message')}, up to message {cut.upto}"


def _books(data_dir: Path) -> tuple[dict[str, Any] | None, Progress | None]:
    """Return what the newest snapshot says of the stream; None where there is none."""
    from voicecosts.analytics.errors import NoLedger  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.snapshot.connection import connect  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.progress import Mark, Progress  # noqa: PLC0415 - same

    try:
        connection = connect(data_dir)
    except NoLedger:
        return None, None
    with connection:
        has_views = connection.execute(
            "SELECT count(*) FROM duckdb_views() WHERE view_name IN ('gaps', 'stream')"
        ).fetchone()
        if has_views != (2,):  # the snapshot of an older version
            return None, None
        row = connection.execute(_PROGRESS).fetchone()
        gaps = connection.execute(_GAPS).fetchall()
    if row is None:
        return None, None
    ledger_id, stream_us, floor, last, trimmed_to, newest, stored_us = row
    mark = None if newest is None else Mark(sequence=newest, stored_us=stored_us)
    names = ("first", "last", "messages", "noted_at", "why")
    told = [dict(zip(names, gap, strict=True)) for gap in gaps]
    for gap in told:
        gap["noted_at"] = _text(_EPOCH + timedelta(microseconds=gap["noted_at"]))
    books = {"id": ledger_id, "booked_to": floor, "trimmed_to": trimmed_to, "gaps": told}
    return books, Progress(stream_us=stream_us, floor=floor, last=last, mark=mark)


def _stream(info: StreamInfo) -> dict[str, Any]:
    bound = info.config.max_bytes or -1
    return {
        "created": _text(_EPOCH + timedelta(microseconds=info.created_us)),
        "messages": info.messages,
        "bytes": info.bytes,
        "max_bytes": bound if bound > 0 else None,
        "first": info.first,
        "last": info.last,
        "oldest": None if info.first_at is None else _text(info.first_at),
        "replicas": info.config.num_replicas,
    }


def _reader(standing: Standing) -> dict[str, Any] | None:
    from voicecosts.consumer.broker.claim import claim_of  # noqa: PLC0415 - `--help` is quick

    info = standing.consumer
    if info is None:
        return None
    claim = claim_of(info.config.metadata)
    told = None
    if claim is not None:
        told = {
            "ledger": claim.ledger,
            "host": claim.host,
            "data_dir": claim.folder,
            "since": None if claim.since is None else _text(claim.since),
            "renewed": None if claim.renewed is None else _text(claim.renewed),
            "released": claim.released,
        }
    return {
        "claim": told,
        "waiting": info.num_pending or 0,
        "unacknowledged": info.num_ack_pending or 0,
    }


def _sentences(found: dict[str, Any], now: datetime) -> list[str]:
    said = [_say_stream(found["stream"], now)]
    if reader := found["reader"]:
        said.append(_say_reader(reader, now))
        waiting = counted(reader["waiting"], "message waits", "messages wait")
        said.append(f"{waiting}, {reader['unacknowledged']:,} handed out and not acknowledged")
    if books := found["ledger"]:
        said.append(f"this ledger's snapshot has everything up to message {books['booked_to']:,}")
        said += [_say_gap(gap) for gap in books["gaps"]]
    else:
        said.append("there is no snapshot here to compare with: pass --data-dir of the ledger")
    if cut := found["removable"]:
        said.append(
            f"{counted(cut['messages'], 'booked message')} (about {_size(cut['bytes'])}) can be "
            f"removed with `costs stream trim --keep {found['keep_hours']:g}`"
        )
    said += [f"not known: {each}" for each in found["denied"]]
    return said


def _say_stream(stream: dict[str, Any], now: datetime) -> str:
    size = _size(stream["bytes"])
    if stream["max_bytes"]:
        full = stream["bytes"] / stream["max_bytes"]
        size = f"{full:.0%} full, {size} of {_size(stream['max_bytes'])}"
    text = f"the stream is {size}, with {counted(stream['messages'], 'message')}"
    if stream["oldest"]:
        text += f"; the oldest came {ago(datetime.fromisoformat(stream['oldest']), now)}"
    return text


def _say_reader(reader: dict[str, Any], now: datetime) -> str:
    claim = reader["claim"]
    if claim is None:
        return "no ledger has claimed it"
    where = f"the ledger {claim['ledger']} in {claim['data_dir']} on host {claim['host']}"
    heard = ago(datetime.fromisoformat(claim["renewed"]), now)
    if claim["released"]:
        return f"no ledger reads it; the last was {where}, which ended {heard}"
    since = clock(datetime.fromisoformat(claim["since"]))
    return f"it is read by {where} since {since}, heard of {heard}"


def _say_gap(gap: dict[str, Any]) -> str:
    noted = clock(datetime.fromisoformat(gap["noted_at"]))
    if gap["last"] is None:
        return (
            f"the stream was made anew (noted {noted}): what came after message "
            f"{gap['first'] - 1:,} of the old one is not known"
        )
    numbers = f"messages {gap['first']:,} to {gap['last']:,} ({gap['messages']:,} of them)"
    return f"{numbers} never reached this ledger (noted {noted})"


def _size(count: int) -> str:
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size >= 1000:  # noqa: PLR2004 - the units are decimal
            size, unit = size / 1000, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
