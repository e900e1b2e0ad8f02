"""`costs dead-letters`: what could not be booked, why, and what to do about it.

`list` and `show` read the snapshot, as every question does. `requeue` and `purge` write, which the one
ledger alone may: a ledger that runs is asked to do it, and where none runs it is opened for that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from msgspec.structs import replace

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.groups import SHOWS_FIRST, ShowsFirst
from voicecosts.analytics.commands.ledger_requests import answered
from voicecosts.analytics.commands.options import AsJson, DataDir, Format, Output
from voicecosts.analytics.errors import BadQuestion, require
from voicecosts.analytics.numbers import counted

if TYPE_CHECKING:
    from voicecosts.analytics.answers.dead_letters import Group, Letter
    from voicecosts.consumer.store.requests import Outcome, Request

app = typer.Typer(
    name="dead-letters",
    cls=ShowsFirst,
    subcommand_metavar=SHOWS_FIRST,
    rich_markup_mode=None,
    help="Show what could not be booked, and book it again or give it up.\n\n"
    "`costs dead-letters` alone is `costs dead-letters list`.",
)

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only these; repeat it for several."),
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID…", help="Only these; the first characters of an id are enough."),
]

_SHOWN_BYTES: Final = 4096
_NAMED: Final = 3
"""How many ids a sentence names."""


@app.command("list")
def list_letters(*, output: Output = Format.TABLE, data_dir: DataDir = None) -> None:
    """Show what could not be booked, by reason and project.

    Events that were booked later, or given up, are not among them.
    """
    from voicecosts.analytics.answers.dead_letters import groups  # noqa: PLC0415 - `--help` is quick

    require("duckdb", needed_by="`costs dead-letters list`")
    found = groups(data_dir)
    if output is not Format.TABLE:
        records = [_record(group) for group in found]
        typer.echo(_plain(records, output), nl=False)
        return
    if not found:
        typer.echo("Every event that reached the ledger was booked.")
        return
    require("rich", needed_by="`costs dead-letters list`")
    letters, events = sum(it.letters for it in found), sum(it.events for it in found)
    are = "is" if events == 1 else "are"
    typer.echo(
        f"{counted(events, 'event')} could not be booked and {are} in no row "
        f"({counted(letters, 'letter')}).\n"
    )
    typer.echo("\n".join(_table(found)))
    typer.echo("\nOne of them: costs dead-letters show ID")


@app.command()
def show(
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="Its id, or the first characters of it.")
    ],
    *,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show everything about one letter: why it was not booked, and its bytes."""
    from voicecosts.analytics.answers.dead_letters import groups, letters  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.layout import Layout  # noqa: PLC0415 - same
    from voicecosts.consumer.store.payloads import read_payload  # noqa: PLC0415 - same

    require("duckdb", needed_by="`costs dead-letters show`")
    found, path = letters(data_dir, letter_id)
    if not found:
        some = [group.example for group in groups(data_dir)]
        raise BadQuestion(f"no dead letter has an id that begins with {letter_id!r}; {_ids(some)}")
    if len(found) > 1:
        some = [letter.id for letter in found]
        raise BadQuestion(
            f"several dead letters have ids that begin with {letter_id!r}, such as "
            f"{', '.join(some[:_NAMED])}: give more of it"
        )
    letter = found[0]
    folder = Layout(path.parent).dead_letters
    payload = read_payload(folder, letter.file, letter.place, letter.bytes or 0)
    record = _letter_record(letter, payload)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    _show(record, payload)


@app.command()
def requeue(
    ids: Ids = None,
    *,
    reason: Reasons = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Read letters again and book what is understood now.

    For after an upgrade: what a newer version sent is read again by itself when the ledger starts.
    What is refused once more stays as it is, and what comes twice is booked once. Exits with 1 when
    something was chosen and nothing of it could be booked.
    """
    from voicecosts.consumer.store.requests import Action, Request  # noqa: PLC0415 - `--help` is quick

    _require_choice(ids, reason, every=every, what="requeue")
    request = Request(action=Action.REQUEUE, ids=tuple(ids or ()), reasons=tuple(reason or ()))
    command = "`costs dead-letters requeue`"
    if not _find(request, data_dir, command).letters:
        typer.echo("no letter waits to be read again")
        return
    outcome = answered(request, data_dir, command)
    booked = outcome.letters - outcome.left
    typer.echo(f"{counted(booked, 'letter')} of {outcome.letters:,} read again and booked")
    if outcome.left:
        typer.echo(
            f"{counted(outcome.left, 'letter')} refused once more, or no longer kept: see "
            "`costs dead-letters list`"
        )
        if not booked:
            raise typer.Exit(FAILED)


@app.command()
def purge(
    ids: Ids = None,
    *,
    reason: Reasons = None,
    older: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what was received before: 30d, 24h, 2026-11-21."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Give up letters: their bytes are removed, and no answer mentions them any more.

    A row of each stays in the ledger, with the moment when it was given up. A call that lacks one of
    these events stays short.
    """
    from voicecosts.analytics.question.times import moment  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.store.requests import ALWAYS, Action, Request  # noqa: PLC0415 - same

    _require_choice(ids, reason, every=every or older is not None, what="purge")
    before = ALWAYS
    if older is not None:
        before = int(moment(older, now=datetime.now(UTC)).timestamp() * 1_000_000)
    request = Request(
        action=Action.PURGE,
        ids=tuple(ids or ()),
        reasons=tuple(reason or ()),
        before_us=before,
    )
    command = "`costs dead-letters purge`"
    found = _find(request, data_dir, command)
    if found.letters and not yes:
        if older is None:  # what comes while the question is read is not what it asks about
            request = replace(request, before_us=int(datetime.now(UTC).timestamp() * 1_000_000))
        if not typer.confirm(f"Give up {_counts(found)} for good?"):
            typer.echo("nothing was changed")
            raise typer.Exit(FAILED)
    outcome = answered(request, data_dir, command) if found.letters else found
    typer.echo(f"{counted(outcome.letters, 'letter')} given up")


def _find(request: Request, data_dir: Path | None, command: str) -> Outcome:
    """Return which letters a request chooses; raises `BadQuestion` where it names one that is not there."""
    from voicecosts.consumer.store.requests import Action  # noqa: PLC0415 - `--help` is quick

    found = answered(replace(request, action=Action.FIND), data_dir, command)
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in found.open.items())
    for name in found.unknown:
        if name in request.reasons:
            raise BadQuestion(
                f"no dead letter has the reason {name!r}; there are: {reasons or 'none at all'}"
            )
        raise BadQuestion(
            f"no open dead letter has an id that begins with {name!r}; {_ids(found.examples)}"
        )
    if request.ids and not found.letters:
        raise BadQuestion(
            "no letter has one of these ids and meets --reason and --older as well: leave one out"
        )
    return found


def _ids(some: Sequence[str]) -> str:
    """Return what ids there are, for whom has mistyped one."""
    if not some:
        return "there is none at all"
    return f"ids are, for example, {', '.join(some[:_NAMED])}: see `costs dead-letters list`"


def _counts(found: Outcome) -> str:
    """Return how many letters were found, and of which reasons."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.chosen.items())
    return f"{counted(found.letters, 'letter')} ({reasons})"


def _require_choice(
    ids: Sequence[str] | None, reasons: Sequence[str] | None, *, every: bool, what: str
) -> None:
    if not (ids or reasons or every):
        raise typer.BadParameter(f"say which letters to {what}: an ID, --reason, or --all")
    if any("\n" in given or not given for given in (*(ids or ()), *(reasons or ()))):
        raise typer.BadParameter("an ID and a reason are one line each, and not empty")


def _plain(records: list[dict[str, Any]], output: Format) -> str | bytes:
    if output is Format.JSON:
        return json.dumps(records, indent=2) + "\n"
    from voicecosts.analytics.text.plain import csv_bytes  # noqa: PLC0415 - `--help` is quick

    names = (
        "reason", "project", "letters", "events", "bytes", "kept", "first_at", "last_at", "example",
        "detail",
    )  # fmt: skip
    return csv_bytes(names, records)


def _record(group: Group) -> dict[str, Any]:
    return {
        "reason": group.reason,
        "project": group.project,
        "letters": group.letters,
        "events": group.events,
        "bytes": group.bytes,
        "kept": group.kept,
        "first_at": _iso(group.first_at),
        "last_at": _iso(group.last_at),
        "example": group.example,
        "detail": group.detail,
    }


def _table(found: Sequence[Group]) -> list[str]:
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.grid import Column, lines, wrapped  # noqa: PLC0415 - same
    from voicecosts.analytics.text.names import in_cell  # noqa: PLC0415 - same

    names = [
        Column("reason", [it.reason for it in found]),
        Column(
            "project", ["(unknown)" if it.project is None else in_cell(it.project) for it in found]
        ),
        Column("an id", [it.example for it in found]),
    ]
    numbers = [
        Column("letters", [f"{it.letters:,}" for it in found]),
        Column("events", [f"{it.events:,}" for it in found]),
        Column("last", [f"{it.last_at:%Y-%m-%d %H:%M}" for it in found]),
    ]
    said = [
        line
        for it in found
        for line in wrapped(
            f"{it.reason}: {it.detail}"
            + ("" if it.kept == it.letters else f" ({it.letters - it.kept:,} without their bytes)"),
            width(),
        )
    ]
    return [*lines(names, numbers, width=width()), "", *said]


def _letter_record(letter: Letter, payload: bytes | None) -> dict[str, Any]:
    return {
        "id": letter.id,
        "state": letter.state,
        "reason": letter.reason,
        "detail": letter.detail,
        "received_at": _iso(letter.received_at),
        "project": letter.project,
        "subject": letter.subject,
        "stream_sequence": letter.stream_sequence,
        "event_index": letter.event_index,
        "events": letter.events,
        "producer_id": letter.producer_id,
        "batch_number": letter.batch_number,
        "bytes": letter.bytes,
        "sha256": letter.sha256,
        "payload_state": letter.payload_state,
        "event": None if payload is None else _readable(payload),
        "hex": None if payload is None else payload.hex(),
    }


def _show(record: dict[str, Any], payload: bytes | None) -> None:
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - `--help` is quick

    for name, value in record.items():
        if name in ("event", "hex") or value is None:
            continue
        typer.echo(f"{name.replace('_', ' '):<16} {printable(str(value))}")
    if payload is None:
        typer.echo("\nIts bytes are not kept any more.")
        return
    if record["event"] is not None:
        text = json.dumps(record["event"], indent=2, ensure_ascii=True)
        typer.echo(f"\n{text}")
    typer.echo("")
    for line in _hex_lines(payload[:_SHOWN_BYTES]):
        typer.echo(line)
    if len(payload) > _SHOWN_BYTES:
        left = len(payload) - _SHOWN_BYTES
        typer.echo(f"{left:,} more bytes are in the answer with --json")


def _hex_lines(payload: bytes) -> list[str]:
    lines = []
    for at in range(0, len(payload), 16):
        row = payload[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)  # noqa: PLR2004 - ASCII
        lines.append(f"{at:08x}  {row.hex(' '):<47}  {text}")
    return lines


def _readable(payload: bytes) -> Any:
    """Return what MessagePack says, with what JSON cannot hold as text; None where it is none."""
    import msgspec  # noqa: PLC0415 - `--help` is quick

    try:
        found = msgspec.msgpack.decode(payload)
        return json.loads(msgspec.json.encode(found))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return None


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"
