"""A ledger in a process of its own, for tests that starve it or read beside it.

It applies the traffic of a seed, a few messages at a time, and writes one line to its output for
each thing it did: `open`, `acked <next message>`, `done`, `failed <error>`.
"""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path
from typing import Annotated

import typer

from tests.support.oracle import rate
from tests.support.traffic import traffic
from voicecosts.consumer.errors import LedgerError
from voicecosts.consumer.store.clock import Pacing
from voicecosts.consumer.store.ledger import Ledger


def main(  # noqa: PLR0917 - the two arguments and the options of a command
    data_dir: Path,
    seed: int,
    group: int = 5,
    max_file_bytes: Annotated[
        int, typer.Option(help="Files may not grow beyond; 0: they may.")
    ] = 0,
    interval_s: Annotated[float, typer.Option(help="Between two snapshots.")] = 0.0,
    rounds: Annotated[int, typer.Option(help="How often to apply everything.")] = 1,
    piece_weight: Annotated[int, typer.Option(help="Readings that are booked at once.")] = 5,
) -> None:
    """Apply the traffic of a seed and tell what was applied."""
    messages = traffic(seed).messages
    pacing = Pacing(min_interval_s=interval_s, copy_factor=0, bytes_per_day=math.inf)
    try:
        with Ledger.open(data_dir, rate, pacing=pacing, piece_weight=piece_weight) as ledger:
            say("open")
            if max_file_bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
            for _ in range(rounds):
                for place in range(0, len(messages), group):
                    ledger.apply(messages[place : place + group])
                    say(f"acked {place + group}")
                    ledger.publish_if_due()
                    ledger.heartbeat(len(messages) - place)
    except LedgerError as error:
        say(f"failed {type(error).__name__}")
        sys.exit(3)
    say("done")


def say(line: str) -> None:
    """Tell the parent, now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    typer.run(main)
