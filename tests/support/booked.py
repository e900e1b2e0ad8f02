"""The ledger beside a test: it books the broker's stream while the body runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from voicecosts import connect, query
from voicecosts.analytics.answers.report import Report
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.config import LedgerConfig, from_env
from voicecosts.consumer.consume import consume
from voicecosts.consumer.store.clock import Pacing

QUICK: Final = Waits(group_s=0.1)
"""A ledger that takes what is there, and does not collect for a second."""


@contextlib.asynccontextmanager
async def consuming(config: LedgerConfig, **options: Any) -> AsyncIterator[None]:
    """Run the ledger in this process; it has declared the stream when the body begins.

    When the body ends, what was fetched is booked and the last snapshot is published. The next
    snapshot waits for as long as the last one took, not for twenty times as long.
    """
    stop, ready = asyncio.Event(), asyncio.Event()
    pacing = Pacing(min_interval_s=config.snapshot_interval_s, copy_factor=1.0)
    running = asyncio.create_task(
        consume(config, stop, on_ready=ready.set, pacing=pacing, **options)
    )
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    try:
        assert ready.is_set(), running
        yield
    finally:
        stop.set()
        waiting.cancel()
        await running


@contextlib.asynccontextmanager
async def ledger(url: str, data_dir: Path) -> AsyncIterator[Path]:
    """Run the ledger of a server in a data directory."""
    config = from_env(servers=url, data_dir=data_dir, snapshot_interval_s=0.05, environ={})
    async with consuming(config, waits=QUICK):
        yield data_dir


async def until_ended(
    data_dir: Path, sessions: int, *, modality: str, deadline_s: float = 60.0
) -> Report:
    """Wait until so many sessions have ended; return a modality's usage by tenant and agent."""
    async with asyncio.timeout(deadline_s):
        while True:
            with connect(data_dir) as reader:
                row = reader.execute(
                    "SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL"
                ).fetchone()
            if row is not None and row[0] >= sessions:
                return query(
                    ("tenant", "agent"), where=(f"modality={modality}",), data_dir=data_dir
                )
            await asyncio.sleep(0.05)
