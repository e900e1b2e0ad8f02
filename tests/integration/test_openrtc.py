"""Attribution is exact under OpenRTC: its real pool, shared providers, concurrent tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from producer import CostObserver
from producer.events import MeterReading, SessionEnded, SessionStarted
from producer.process import PROCESS
from tests.support import openrtc_pool, stream
from tests.support.broker import Broker
from tests.support.waiting import until


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Broker]:
    """A broker with the stream, and no publisher left behind."""
    await stream.declare(broker.url)
    yield broker
    for publisher in PROCESS._publishers.values():
        publisher.close(2.0)
    PROCESS._publishers.clear()


async def ended(bus: Broker, count: int) -> list[SessionEnded]:
    """Wait until so many sessions have ended, and return their ends."""
    async with asyncio.timeout(30):
        while True:
            ends = [e for e in await stream.events(bus.url) if isinstance(e, SessionEnded)]
            if len(ends) >= count:
                return ends
            await asyncio.sleep(0.05)


def requests_of(ends: list[SessionEnded], modality: str) -> dict[str | None, int]:
    """Return tenant → requests of a modality, from the final totals."""
    return {
        end.tenant: sum(m.totals.requests for m in end.meters if m.modality == modality)
        for end in ends
    }


async def test_concurrent_tenants_on_shared_providers_each_get_their_own(
    bus: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tenants and a call without one: each has its own usage, and absent stays absent."""
    openrtc_pool.stand_in(monkeypatch)
    driver = openrtc_pool.Driver({"AJ-1": 3, "AJ-2": 5, "AJ-3": 2}, hang_up=True)
    observer = CostObserver(project="prod", servers=bus.url)
    async with openrtc_pool.running_pool([observer, driver]) as server:
        await openrtc_pool.launch(server, 1, '{"agent": "dental", "tenant": "acme"}')
        await openrtc_pool.launch(server, 2, '{"agent": "dental", "tenant": "default"}')
        await openrtc_pool.launch(server, 3, '{"agent": "dental"}')
        ends = await ended(bus, 3)
    assert requests_of(ends, "llm") == {"acme": 3, "default": 5, None: 2}
    stored = await stream.events(bus.url)
    assert {e.agent_id for e in stored if isinstance(e, MeterReading)} == {"dental"}
    starts = [e for e in stored if isinstance(e, SessionStarted)]
    assert {e.room_name for e in starts} == {"dental-1", "dental-2", "dental-3"}


async def test_a_pool_that_closes_with_calls_in_flight_finalises_each_once(
    bus: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenRTC then runs neither the close event nor the shutdown callbacks, only the end hook."""
    openrtc_pool.stand_in(monkeypatch)
    driver = openrtc_pool.Driver({"AJ-1": 3, "AJ-2": 5}, hang_up=False)
    observer = CostObserver(project="prod", servers=bus.url)
    async with openrtc_pool.running_pool([observer, driver]) as server:
        await openrtc_pool.launch(server, 1, '{"agent": "dental", "tenant": "acme"}')
        await openrtc_pool.launch(server, 2, '{"agent": "dental", "tenant": "beta"}')
        await until(lambda: driver.talked == {"AJ-1", "AJ-2"})
    ends = await ended(bus, 2)
    assert len(ends) == 2
    assert requests_of(ends, "llm") == {"acme": 3, "beta": 5}
