"""`costs up` and `costs consume`: the ledger with a broker of its own, or against one that is there.

Both stay in the foreground, log to stderr, one line per change of state, and end cleanly on Ctrl-C
or SIGTERM. Everything heavy is imported when a command runs, so that `costs --help` stays quick. The
outbox of this host, which is the producer's, is handed in as the context's object.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.consumer.errors import BrokerFailed, MissingExtra

if TYPE_CHECKING:
    from voicecosts.consumer.broker.server import PrivateBroker
    from voicecosts.consumer.config import LedgerConfig
    from voicecosts.consumer.local import OpenLog

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Book what the workers report.",
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where the ledger and its snapshots live.  [env: COSTS_DATA_DIR]"
    ),
]
SnapshotInterval = Annotated[
    float | None,
    typer.Option(help="Seconds between two snapshots for readers, at least.", metavar="SECONDS"),
]


@app.command()
def up(
    ctx: typer.Context,
    *,
    data_dir: DataDir = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="N",
            help="Port on loopback; without it, the one used before or a free one.",
        ),
    ] = None,
    snapshot_interval: SnapshotInterval = None,
) -> None:
    """Run a private NATS server and the ledger here.

    In the foreground until Ctrl-C, which stops both in order. Prints where workers connect. Port
    and token stay the same, so workers find it again; a second one on the same data directory is
    refused. What workers without a server leave on this host is booked too, and what workers of
    this server left when they died is published.
    """
    from voicecosts.consumer.broker.server import STREAM_MAX_BYTES, PrivateBroker  # noqa: PLC0415 - see above
    from voicecosts.consumer.config import from_env  # noqa: PLC0415 - see above

    config = from_env(
        own_broker=True,
        data_dir=data_dir,
        snapshot_interval_s=snapshot_interval,
        stream_max_bytes=STREAM_MAX_BYTES,
    )
    _require_ledger("costs up")
    _log_to_stderr()
    with PrivateBroker(config.data_dir, port=port) as broker:
        with contextlib.ExitStack() as beside:
            if ctx.obj is not None:
                beside.enter_context(ctx.obj.adopting((broker.url,)))
            _run_with(broker, config, _log_of(ctx, config))
        if broker.exited():
            raise BrokerFailed(f"it ended by itself; {broker.last_words()}")


@app.command()
def consume(
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
    data_dir: DataDir = None,
    replicas: Annotated[
        int | None,
        typer.Option(metavar="N", help="Copies of the stream that the cluster keeps: 1, 3 or 5."),
    ] = None,
    stream_max_bytes: Annotated[
        int | None,
        typer.Option(metavar="BYTES", help="What the stream may take of the broker's disk."),
    ] = None,
    snapshot_interval: SnapshotInterval = None,
) -> None:
    """Run the ledger alone, against a NATS of yours.

    Creates the stream COSTS and its consumer, or checks them and refuses to run on a difference.
    SIGINT and SIGTERM stop it in order; it goes on where it was when it is started again. What
    workers without a server leave on this host is booked too.
    """
    from voicecosts.consumer.config import from_env  # noqa: PLC0415 - see above

    config = from_env(
        servers=servers,
        credentials=credentials,
        data_dir=data_dir,
        snapshot_interval_s=snapshot_interval,
        replicas=replicas,
        stream_max_bytes=stream_max_bytes,
    )
    _require_ledger("costs consume")
    _log_to_stderr()
    from voicecosts.consumer.consume import serve  # noqa: PLC0415 - see above

    asyncio.run(serve(config, open_log=_log_of(ctx, config)))


def _log_of(ctx: typer.Context, config: LedgerConfig) -> OpenLog | None:
    """Return what opens the outbox of this host, where the command was given one."""
    return None if ctx.obj is None else ctx.obj.open_log(config.data_dir)


def _run_with(broker: PrivateBroker, config: LedgerConfig, open_log: OpenLog | None) -> None:
    from msgspec.structs import replace  # noqa: PLC0415 - see above

    from voicecosts.consumer.consume import serve  # noqa: PLC0415 - see above

    folder = shlex.quote(str(config.data_dir))

    def announce() -> None:
        typer.echo(
            f"voicecosts is up. The ledger is in {folder}\n\n"
            f"  workers:  export COSTS_SERVERS={broker.url}\n"
            f"  costs:    costs query --by tenant --data-dir {folder}\n\n"
            "Stop it with Ctrl-C."
        )
        sys.stdout.flush()

    served = replace(config, servers=(broker.url,))
    asyncio.run(serve(served, on_ready=announce, broker_ended=broker.exited, open_log=open_log))


def _require_ledger(command: str) -> None:
    """Look for what a ledger needs, and name the extra when a part is not installed."""
    if not all(find_spec(name) for name in ("duckdb", "nats", "voice_prices")):
        raise MissingExtra("consumer", f"`{command}`")


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("voicecosts").setLevel(logging.INFO)
