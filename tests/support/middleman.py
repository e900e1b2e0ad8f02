"""Somebody between a client and its server, who changes the first line and notes what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

Info = dict[str, Any]


class Middleman:
    """`sent` is what clients have sent in all, `visits` how many of them came."""

    def __init__(self, upstream: int, change: Callable[[Info], None]) -> None:
        self.port = 0
        self.sent = b""
        self.visits = 0
        self._upstream = upstream
        self._change = change

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything on, but the server's first line changed."""
        self.visits += 1
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
            try:
                info = json.loads((await from_server.readline()).removeprefix(b"INFO "))
                self._change(info)
                writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
                await asyncio.gather(self._up(reader, to_server), _down(from_server, writer))
            finally:
                to_server.close()
                writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.sent += data
            writer.write(data)
        writer.close()


async def _down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def in_between(
    upstream: int, change: Callable[[Info], None] = lambda _: None, *, host: str = "127.0.0.1"
) -> AsyncIterator[Middleman]:
    """Somebody between clients and the server on a port, for the time of a block."""
    middleman = Middleman(upstream, change)
    server = await asyncio.start_server(middleman.serve, host, 0)
    middleman.port = server.sockets[0].getsockname()[1]
    try:
        yield middleman
    finally:
        server.close()
