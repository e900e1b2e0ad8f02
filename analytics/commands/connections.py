"""How many connections may be open at once that have not shown the address that was printed, and for how long.

Everybody on the host can connect, and each connection takes a file descriptor and some memory. Of those that showed
nothing the oldest makes room for a new one, so who has the address gets in whatever others hold. A connection that is
lost while a page is drawn is not told.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST: Final = 64
"""Connections at once that have shown nothing."""
WAITED_S: Final = 10.0
"""How long one may stay that shows nothing."""
BACKLOG: Final = 64
"""Connections that the kernel keeps until they are taken: asyncio takes as many at once."""

_NO_FILES: Final = "socket.accept()"
_PAGE_IS_GONE: Final = "socket.send() raised exception."
"""What asyncio logs for each part of a page that is sent after its connection was lost."""


class Strangers:
    """The connections that have shown nothing yet, the oldest first. Used on one event loop."""

    def __init__(self) -> None:
        self._there: dict[Any, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}
        self._has_said = False

    def come(self, address: Any, transport: asyncio.Transport) -> None:
        """Give a new connection its time, and end the oldest one where there are too many."""
        while len(self._there) >= MOST:
            self._end(next(iter(self._there)))
        timer = asyncio.get_running_loop().call_later(WAITED_S, self._end, address)
        self._there[address] = transport, timer

    def forget(self, address: Any) -> None:
        """Let a connection stay: it has shown the address, or has ended by itself."""
        if found := self._there.pop(address, None):
            found[1].cancel()

    def on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say once where there are no files left for connections; asyncio writes a traceback for each."""
        if not str(context.get("message")).startswith(_NO_FILES):
            loop.default_exception_handler(context)
        elif not self._has_said:
            self._has_said = True
            sys.stderr.write(
                "no more files can be open (ulimit -n): some connections have to wait\n"
            )

    def _end(self, address: Any) -> None:
        transport, timer = self._there.pop(address)
        timer.cancel()
        transport.abort()


def say_nothing_of_pages_that_are_gone() -> None:
    """Leave out what asyncio logs for each part of a page whose browser ended the connection."""
    logging.getLogger("asyncio").addFilter(lambda record: record.msg != _PAGE_IS_GONE)


def protocol(strangers: Strangers) -> type[asyncio.Protocol]:
    """Return how connections are spoken with: as uvicorn does, each one a stranger at first."""

    class Bounded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
            super().connection_made(transport)
            strangers.come(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            strangers.forget(self.client)
            super().connection_lost(exc)

    return Bounded
