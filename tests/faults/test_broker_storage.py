"""The broker has no room: the stream's own limit, and the server's `max_file_store`.

Both refuse with another error, both are waited out, and what was refused arrives when there is room.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from nats.js import api
from nats.js.errors import ServiceUnavailableError

from tests.support import stream
from tests.support.broker import Broker
from tests.support.load import Load
from tests.support.outcome import assert_exact, stored
from tests.support.publishing import flushed, publishing
from tests.support.waiting import until
from voicecosts.producer.subjects import STREAM, subject

pytestmark = pytest.mark.faults

STREAM_FULL: Final = 10077
STORAGE_FULL: Final = 10023


async def refused_with(url: str) -> int | None:
    """Fill the last room there is, and return the error code with which the server says no."""
    async with stream.jetstream(url) as js:
        try:
            for _ in range(1000):
                await js.publish(subject("nobody", "x", "y"), b"x" * 4000)
        except ServiceUnavailableError as error:
            return error.err_code
    return None


async def forget(url: str, project: str) -> None:
    """Remove the messages of a project from the stream."""
    async with stream.jetstream(url) as js:
        await js.purge_stream(STREAM, subject=f"costs.v1.{project}.>")


async def test_a_stream_that_is_full_is_waited_for(
    broker: Broker, tmp_path: Path, outbox: Path
) -> None:
    """A stream that refuses new messages gets them when its limit is raised."""
    await stream.declare(broker.url, max_bytes=20_000, discard=api.DiscardPolicy.NEW)
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(1000)
        await until(lambda: "full" in publisher.stats().connection_problem)
        await load.offer_for(200)
        fitted = len((await stored(broker.url)).readings)
        assert await refused_with(broker.url) == STREAM_FULL
        await stream.declare(broker.url, max_bytes=1 << 26, discard=api.DiscardPolicy.NEW)
        await forget(broker.url, "nobody")
        load.end()
        await flushed(publisher)
        assert 0 < fitted < load.offered
        more = f"{fitted} fitted, {publisher.stats().retried} sendings refused (err_code 10077)"
        await assert_exact("stream full, then raised", broker.url, tmp_path, load, more=more)


def limited(directory: Path, most: str) -> str:
    """Return a configuration that gives JetStream so much of the disk."""
    store = json.dumps(str(directory / "store"))
    return f"jetstream {{ store_dir: {store}, max_file_store: {most} }}"


async def test_a_server_whose_storage_is_full_is_waited_for(tmp_path: Path, outbox: Path) -> None:
    """At `max_file_store` every stream refuses; after a restart with more room all is stored."""
    directory = tmp_path / "small"
    with Broker(directory, extra=limited(directory, "64KB")) as broker:
        await stream.declare(broker.url)
        with publishing(broker.url, outbox) as publisher:
            load = Load(publisher.put)
            async with load.going_on():
                await until(lambda: "storage is full" in publisher.stats().connection_problem)
                fitted = len((await stored(broker.url)).readings)
                assert await refused_with(broker.url) == STORAGE_FULL
                refused = publisher.stats().retried
                await until(lambda: publisher.stats().retried > refused + 3)
                broker.stop()
                broker.extra = limited(directory, "64MB")
                broker.start()
                published = publisher.stats().published
                await until(lambda: publisher.stats().published > published)
            load.end()
            await flushed(publisher)
            await forget(broker.url, "nobody")
            assert 0 < fitted < load.offered
            refused = publisher.stats().retried
            more = f"{fitted} fitted into 64 kB, {refused} sendings refused (err_code 10023)"
            fault = "max_file_store reached, then raised by a restart"
            await assert_exact(fault, broker.url, tmp_path, load, more=more)
