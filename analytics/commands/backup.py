"""`costs backup`: copy what a restore needs into a folder, while the ledger runs, and check what is there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.options import DataDir
from voicecosts.analytics.errors import BadQuestion, require
from voicecosts.analytics.numbers import ago, counted

if TYPE_CHECKING:
    from voicecosts.consumer.store.backup import Checked, Made

app = typer.Typer(rich_markup_mode=None)


@app.command()
def backup(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Where the backups are: a new directory, or one of theirs."
        ),
    ],
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Make none: read all that are there, and check them.")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Then remove all but the newest N.  [default: keep all]"
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Back the ledger up, while it runs: its newest snapshot, sealed days, dead letters and prices.

    Each backup is a directory in DIR, named by its time, and whole if it has that name. Files that the
    backup before has too are links to it, so the next one costs what is new. None is ever changed: copy them anywhere.
    docs/operations.md says how to restore one; what is newer comes from the stream. An erased tenant stays in
    older backups: remove those.
    """
    require("duckdb", needed_by="`costs backup`", extra="consumer")
    if verify:
        if keep is not None:
            raise BadQuestion("--verify removes nothing: give --keep without it")
        _verify(folder)
        return
    _back_up(folder, keep, data_dir)


def _back_up(folder: Path, keep: int | None, data_dir: Path | None) -> None:
    from voicecosts.analytics.answers.findings import say_not_booked  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.ledger_requests import data_folder  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.local_outbox import book  # noqa: PLC0415 - same
    from voicecosts.analytics.snapshot.files import locate  # noqa: PLC0415 - same
    from voicecosts.consumer.config import prices_from_env  # noqa: PLC0415 - same
    from voicecosts.consumer.store.backup import back_up  # noqa: PLC0415 - same

    root = data_folder(data_dir)
    left = book(data_dir).left  # what waits in the outbox of this host is on no other disk
    status = locate(root).status
    made = back_up(root, folder, prices=prices_from_env(root), keep=keep)
    for line in _said(made):
        typer.echo(line)
    if left is not None:
        typer.echo(f"! {say_not_booked(left)}", err=True)
    if status is not None and status.was_killed:
        typer.echo(
            "! the ledger was ended: what it booked after its last snapshot is not in this backup. Start it, and "
            "back up again",
            err=True,
        )
    if made.manifest.lacks:
        typer.echo(_say_lacking(made), err=True)
        raise typer.Exit(FAILED)


def _said(made: Made) -> list[str]:
    manifest = made.manifest
    until = ago(manifest.moment, datetime.now(UTC))
    place = f", up to message {manifest.sequence:,} of the stream" if manifest.sequence else ""
    size = sum(file.bytes for file in manifest.files)
    linked = f", {made.linked:,} of them as in the backup before" if made.linked else ""
    return [
        f"backed up in {made.path}",
        f"booked    until {until}{place}",
        f"size      {_size(size)} in {counted(len(manifest.files), 'file')}{linked}; {_size(made.written)} written",
        f"`costs backup {made.path.parent} --verify` checks it; docs/operations.md says how to restore it",
    ]


def _say_lacking(made: Made) -> str:
    lacks = made.manifest.lacks
    return (
        f"! gone or damaged in the data directory: {counted(len(lacks), 'file')} of sealed days, the first is "
        f"{lacks[0]}. This backup has the sums of these days and lacks their single rows. No older backup was "
        "removed: put the files back from one that has them, and back up again"
    )


def _verify(folder: Path) -> None:
    from voicecosts.consumer.store.backup import check  # noqa: PLC0415 - `--help` is quick

    try:
        found = check(folder)
    except OSError as error:
        raise BadQuestion(f"{folder} cannot be read: {error.strerror or error}") from error
    if not found:
        raise BadQuestion(f"{folder} has no backup: `costs backup {folder}` makes one")
    for each in found:
        typer.echo(f"{each.path.name}  {_state(each)}")
        for problem in each.problems:
            typer.echo(f"  ! {problem}")
    if all(each.is_whole for each in found):
        return
    typer.echo(
        "! do not restore what is not whole. Remove the files that are named, so that no later backup links to "
        f"them, check that disk, and run `costs backup {folder}`: it copies them anew",
        err=True,
    )
    raise typer.Exit(FAILED)


def _state(checked: Checked) -> str:
    manifest = checked.manifest
    if manifest is None or checked.problems:
        return "not whole"
    size = sum(file.bytes for file in manifest.files)
    lacks = (
        f"; it lacks {counted(len(manifest.lacks), 'file')} of sealed days"
        if manifest.lacks
        else ""
    )
    return f"whole: {counted(len(manifest.files), 'file')}, {_size(size)}, booked until {manifest.as_of}{lacks}"


def _size(count: int) -> str:
    return f"{-(-count // 1000):,} kB"
