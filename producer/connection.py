"""The connection to JetStream, supervised from outside: the border to nats-py.

A nats-py client can end for good without saying so (rotated credentials, a protocol error), and
its own retries would hide for how long nothing was accepted. So each client gets one chance to
reconnect, is thrown away when it looks dead, and is made anew by the next publish.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Final

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from producer.config import ProducerConfig, is_seed, mask
from producer.errors import NeverAccepted, NotNow
from producer.packing import Packed
from producer.subjects import STREAM

logger = logging.getLogger(__name__)

ACK_TIMEOUT_S: Final = 5.0
_CONNECT_TIMEOUT_S: Final = 5.0
_CLOSE_TIMEOUT_S: Final = 1.0
_TIMEOUTS_BEFORE_ANEW: Final = 3

_STREAM_MAX_MESSAGE: Final = 10054
_WRONG_STREAM: Final = 10060
_NEVER: Final = {_STREAM_MAX_MESSAGE: "larger than the stream's max_msg_size"}
_REASONS: Final = {
    10077: "the stream is full (max_bytes or max_msgs reached)",
    10023: "the server's JetStream storage is full",
    _WRONG_STREAM: f"the subject belongs to another stream than {STREAM}",
}


class Connection:
    """Publishes one message at a time per call; calls may overlap. One event loop owns it."""

    def __init__(self, config: ProducerConfig) -> None:
        self.config = config
        self.state = "not connected"
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self._opening = asyncio.Lock()
        self._timeouts = 0

    def __repr__(self) -> str:
        return f"<Connection {self.state}: {', '.join(map(mask, self.config.servers))}>"

    async def publish(self, message: Packed) -> None:
        """Return when JetStream has stored the message, now or at an earlier try.

        Raises:
            NotNow: Not stored, or not known to be; the message keeps its id, so trying again is
                safe even if it was.
            NeverAccepted: The server refuses this message for what it is.
        """
        stream = await self._open()
        try:
            await stream.publish(
                message.subject,
                message.data,
                timeout=ACK_TIMEOUT_S,
                headers={"Nats-Msg-Id": message.message_id, "Nats-Expected-Stream": STREAM},
            )
        except nats.errors.MaxPayloadError as error:
            raise NeverAccepted("larger than the server's max_payload") from error
        except nats.js.errors.APIError as error:
            code = error.err_code or 0
            if code in _NEVER:
                raise NeverAccepted(_NEVER[code]) from error
            raise NotNow(_REASONS.get(code, f"JetStream: {error.description}")) from error
        except nats.js.errors.NoStreamResponseError as error:
            raise NotNow(f"no stream {STREAM}: is the ledger (`costs consume`) set up?") from error
        except (TimeoutError, nats.errors.TimeoutError) as error:
            await self._timed_out()
            raise NotNow("no acknowledgement in time") from error
        except (nats.errors.Error, OSError) as error:
            await self._discard()
            raise NotNow(f"{type(error).__name__}: {error}") from error
        self._timeouts = 0

    async def close(self) -> None:
        """End the connection; what is not acknowledged stays with the caller."""
        self.state = "closed"
        await self._discard()

    async def _open(self) -> JetStreamContext:
        async with self._opening:
            if self._client is not None and self._client.is_closed:
                await self._discard()
            if self._stream is None:
                self._client = await self._connect()
                self._stream = self._client.jetstream(timeout=ACK_TIMEOUT_S)
                self._timeouts = 0
                self._say("connected", logging.INFO)
            return self._stream

    async def _connect(self) -> Client:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                return await nats.connect(
                    servers=list(self.config.servers),
                    name="voicecosts-producer",
                    connect_timeout=2,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0.1,
                    ping_interval=10,
                    max_outstanding_pings=2,
                    flush_timeout=2,
                    pending_size=1 << 20,
                    error_cb=_ignore,
                    **credential_options(self.config.credentials),
                )
        except (TimeoutError, nats.errors.Error, OSError) as error:
            self._say(f"not connected ({type(error).__name__}: {error})", logging.WARNING)
            raise NotNow("not connected") from error

    async def _timed_out(self) -> None:
        self._timeouts += 1
        if self._timeouts >= _TIMEOUTS_BEFORE_ANEW:
            await self._discard()

    async def _discard(self) -> None:
        client, self._client, self._stream = self._client, None, None
        if client is None:
            return
        if self.state != "closed":
            self._say("connection lost", logging.WARNING)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await client.close()
        except (TimeoutError, nats.errors.Error, OSError, AttributeError) as error:
            # A half-dead client may fail to close (nats.py raises ConnectionResetError while it
            # reconnects); there is nothing left in it that we need.
            logger.debug("closing a lost connection: %r", error)

    def _say(self, state: str, level: int) -> None:
        if state != self.state:
            self.state = state
            logger.log(level, "NATS %s: %s", ", ".join(map(mask, self.config.servers)), state)


def credential_options(path: str | None) -> dict[str, Any]:
    """Return the nats-py options for a credentials file: an nkey seed, or a `.creds` file."""
    if path is None:
        return {}
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return {"nkeys_seed_str": text.strip()} if is_seed(text) else {"user_credentials": path}


async def _ignore(_error: Exception) -> None:
    """Take errors that nats-py reports on the side; an exception here would end its read loop."""
