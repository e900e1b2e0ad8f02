"""No test of this folder may leave anything in the user's own outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import stream
from tests.support.broker import Broker
from voicecosts.producer.process import PROCESS


@pytest.fixture(autouse=True)
def outbox_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An outbox of this test alone, for the observers that it makes and their processes."""
    folder = tmp_path / "outbox"
    monkeypatch.setenv("COSTS_OUTBOX_DIR", str(folder))
    return folder


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Broker]:
    """A broker with the stream; no publisher and no session is left behind."""
    await stream.declare(broker.url)
    yield broker
    await asyncio.to_thread(PROCESS.close)
