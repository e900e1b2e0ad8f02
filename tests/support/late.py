"""A way to a broker on which one question is held back for a while, as a busy broker would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def late(port: int, question: bytes, delay_s: float) -> AsyncIterator[str]:
    """Pass everything on to a loopback port; the first `question` waits, and what follows it."""
    held = [question]
    busy: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.closing(target), contextlib.suppress(OSError):
            while data := await source.read(2**16):
                if held and held[0] in data:
                    held.clear()
                    await asyncio.sleep(delay_s)  # the length of the fault
                target.write(data)
                await target.drain()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        for task in (pump(reader, back), pump(there, writer)):
            started = asyncio.create_task(task)
            busy.add(started)
            started.add_done_callback(busy.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert not held, "nobody asked the question"
    finally:
        server.close()
        for task in list(busy):
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await server.wait_closed()
