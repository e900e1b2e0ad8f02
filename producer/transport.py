"""What nats-py sends through, for worker and ledger alike: nothing in clear where TLS is promised.

nats-py decides on TLS by the server's first line, which arrives in clear: a server without TLS, or
somebody in between who leaves `tls_required` out, would be sent the secrets. Where TLS is a must,
the transport itself encrypts, before it hands the connection to nats-py; there is no connection
else. Addresses that a server announces are never used: a client connects once, to a configured one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import ParseResult, urlparse

from nats.aio.client import Client
from nats.aio.transport import TcpTransport, WebSocketTransport

from voicecosts.producer.settings import mask
from voicecosts.producer.tls import (
    EndedAfterHandshake,
    Tls,
    TlsUnusable,
    context,
    explained,
    must_encrypt,
)

_SILENCE_S: Final = 1.0
"""How long a server may take to speak first. One with `handshake_first` waits for the client."""


_WHY: Final = "one address with tls://, or files for TLS, make TLS a must at all addresses"


class NotEncrypted(ConnectionError):  # noqa: N818 - the name says what is wrong
    """TLS is a must and the server does not offer it; nothing was sent to it."""

    def __init__(self, uri: ParseResult) -> None:
        why = "" if uri.scheme in ("tls", "wss") else f" ({_WHY})"
        super().__init__(
            f"{_address(uri)} does not offer TLS, so nothing was sent to it{why}: set up TLS in the "
            "server, or find out who answers instead of it"
        )


def guarded(client: Client, servers: Sequence[str], tls: Tls) -> dict[str, Any]:
    """Make a client encrypt where it must, and return the options for its `connect`.

    Call it before `connect`, for each client: the files for TLS are read here.

    Raises:
        TlsUnusable: The files for TLS cannot be used, or wss:// lacks a package.
    """
    if not must_encrypt(servers, tls):
        return {}
    made = context(tls)
    # The attribute is nats-py's own; it makes a transport only where there is none.
    if servers[0].lower().startswith("ws"):
        try:
            client._transport = EncryptedWebSocket()  # noqa: SLF001 - as above
        except ImportError as error:
            raise TlsUnusable("wss:// needs aiohttp: pip install 'nats-py[aiohttp]'") from error
    else:
        client._transport = Encrypted(made)  # noqa: SLF001 - as above
    return {"tls": made}


class Informed(Client):
    """A client that takes the server's limits from what it says once the connection is up.

    nats-py takes them from the first line, which may have come in clear. nats-server 2.15 says them
    again behind its first answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._has_confirmed = asyncio.Event()

    async def limit(self, *, within_s: float) -> int | None:
        """Return how many bytes a message may have; `None` when only somebody in between said so."""
        transport = self._transport
        if isinstance(transport, Encrypted) and transport.was_greeted_in_clear:
            try:
                await asyncio.wait_for(self._has_confirmed.wait(), within_s)
            except TimeoutError:
                return None
        return self.max_payload

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - nats-py's
        await super()._process_info(info, initial_connection)
        limit = info.get("max_payload")
        if not initial_connection and isinstance(limit, int):
            self._max_payload = limit
            self._has_confirmed.set()


class Encrypted(TcpTransport):
    """A TCP connection that is encrypted, with a server that is verified, or does not exist."""

    def __init__(self, verifier: ssl.SSLContext) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nats-py's
        self._verifier = verifier
        self.was_greeted_in_clear = False
        self._greeting = b""
        self._has_answered = False  # inside TLS

    def __bool__(self) -> bool:
        """True, so that nats-py does not replace it by a transport of its own."""
        return True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect, let the server offer TLS, and encrypt.

        Raises:
            NotEncrypted: The server offers no TLS.
            ssl.SSLError: The handshake failed, or the certificate is not the server's.
            EndedAfterHandshake: It did not fail, and the connection is lost by now.
        """
        self._has_answered = False
        try:
            await super().connect(uri, buffer_size, connect_timeout)
            self._greeting = await self._greeted(uri)
            self.was_greeted_in_clear = bool(self._greeting)
            # What somebody may have sent beside that line is dropped with the reader of clear text.
            await super().connect_tls(
                uri.hostname or "", self._verifier, buffer_size, connect_timeout
            )
            self._check_not_lost()
            self._keep_quiet_at_the_end()
        except BaseException:
            self._drop()
            raise

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Do nothing: nats-py asks for this when the first line says so, and it is done by then."""

    async def readline(self) -> bytes:
        """Return the next line, and first of all the one with which the server began.

        Raises:
            EndedAfterHandshake: The connection is lost, and the server has said nothing inside TLS.
        """
        greeting, self._greeting = self._greeting, b""
        if greeting:
            return greeting
        with self._unanswered():
            line = await self._line()
            if not line and not self._has_answered:
                raise EndedAfterHandshake
        self._has_answered = True
        return line

    async def drain(self) -> None:
        """Wait until there is room to write.

        Raises:
            EndedAfterHandshake: As for `readline`.
        """
        with self._unanswered():
            await super().drain()  # type: ignore[no-untyped-call]  # nats-py's

    @contextlib.contextmanager
    def _unanswered(self) -> Iterator[None]:
        """Tell a connection that is lost before the server has answered, unless an alert says why."""
        try:
            yield
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            if self._has_answered or isinstance(error, EndedAfterHandshake):
                raise
            raise EndedAfterHandshake from error

    async def _greeted(self, uri: ParseResult) -> bytes:
        """Return the server's first line if it offers TLS, or nothing if it waits for ours."""
        try:
            line = await asyncio.wait_for(self._line(), _SILENCE_S)
        except TimeoutError:
            return b""
        word, _, text = line.partition(b" ")
        try:
            info = dict(json.loads(text)) if word == b"INFO" else {}
        except (TypeError, ValueError):
            info = {}
        if not line:
            raise ConnectionError(f"{_address(uri)} closed the connection before it said anything")
        if not (info.get("tls_required") or info.get("tls_available")):
            raise NotEncrypted(uri)
        return line

    def _check_not_lost(self) -> None:
        """Raise if the connection was lost while asyncio handed it over: it hands `None` then."""
        if self._io_writer is not None and getattr(self._io_writer, "transport", None) is None:
            self._io_writer = None
            raise EndedAfterHandshake

    def _keep_quiet_at_the_end(self) -> None:
        """Tell asyncio that its protocol is inside TLS: it warns at each lost connection else."""
        protocol = self._io_writer.transport.get_protocol() if self._io_writer is not None else None
        if isinstance(protocol, asyncio.StreamReaderProtocol):  # else it is lost already
            protocol._over_ssl = True  # type: ignore[attr-defined]  # noqa: SLF001 - see above

    async def _line(self) -> bytes:
        line: bytes = await super().readline()  # type: ignore[no-untyped-call]  # nats-py's
        return line

    def _drop(self) -> None:
        """Close what is open, so that nothing can be written and the next address can be tried."""
        for writer in (self._io_writer, self._bare_io_writer):
            if writer is not None:
                writer.close()
        self._io_reader = self._io_writer = self._bare_io_reader = self._bare_io_writer = None
        self._greeting = b""


class EncryptedWebSocket(WebSocketTransport):
    """A websocket that is encrypted also after the server has redirected it."""

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Connect as nats-py does.

        Raises:
            NotEncrypted: A redirection led to an address without TLS.
            EndedAfterHandshake: The server ended the connection instead of an answer.
        """
        from aiohttp import ClientConnectionError, ClientConnectorError  # noqa: PLC0415 - optional

        try:
            await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        except (ClientConnectorError, TimeoutError):  # before the handshake was over
            raise
        except ClientConnectionError as error:
            if explained(error):
                raise
            raise EndedAfterHandshake from error
        if self._ws is not None and self._ws.get_extra_info("ssl_object") is None:
            await self._ws.close()
            raise NotEncrypted(uri if isinstance(uri, ParseResult) else urlparse(uri))


def _address(uri: ParseResult) -> str:
    """Return host and port without a user or token."""
    return uri.netloc.rpartition("@")[2]


def exposed(client: Client, *, has_credentials: bool) -> str | None:
    """Return a warning if a connected client has signed in over a network in clear, or `None`.

    A loopback address is no network.
    """
    url, transport = client.connected_url, client._transport  # noqa: SLF001 - nats-py does not tell
    if url is None or not (has_credentials or url.username or url.password):
        return None
    stream = getattr(transport, "_ws", None) or getattr(transport, "_io_writer", None)
    if stream is None or stream.get_extra_info("ssl_object") is not None:
        return None
    peer = stream.get_extra_info("peername")
    if not isinstance(peer, tuple) or ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback:
        return None
    return (
        f"the connection to {mask(url.geturl())} is not encrypted: others on the way can read what "
        "is sent and act with these credentials; set up TLS in the server and write tls://"
    )
