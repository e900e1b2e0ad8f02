"""A network between a client and the broker that is slow, and never still."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

_CHUNK: Final = 8192
_PAUSE_S: Final = 0.01


@contextlib.asynccontextmanager
async def slow_network(port: int) -> AsyncIterator[int]:
    """Yield a port of the loopback that leads to `port`; about 800 kB a second come back from there."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, above_writer, pause_s=0))
                both.create_task(_carry(above_reader, writer, pause_s=_PAUSE_S))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pause_s: float
) -> None:
    with contextlib.closing(writer):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause_s)
