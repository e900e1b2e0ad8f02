"""The connection to JetStream, supervised from outside: the border to nats-py.

A nats-py client can end for good, or hang, without reporting it (rotated credentials, a protocol
error, a stalled server), and its own retries would hide for how long nothing was accepted. So every
call has a deadline that does not depend on nats-py, each client reconnects at most once and is
closed when it seems dead, and the next publish makes a new one. What would make the server close
the connection (a message above its limit) is found before it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client, RawCredentials
from nats.js import JetStreamContext

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import NeverAccepted, NotAllowed, NotNow, TooLarge
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.publishing.reports import ConnectionState
from voicecosts.producer.settings import credentials_kind
from voicecosts.producer.subjects import PREFIX, STREAM, token
from voicecosts.producer.tls import explained
from voicecosts.producer.transport import Informed, exposed, guarded

logger = logging.getLogger(__name__)

ACK_TIMEOUT_S: Final = 5.0
_CONNECT_TIMEOUT_S: Final = 5.0
_CLOSE_TIMEOUT_S: Final = 1.0
_GRACE_S: Final = 1.0
_CONFIRMATION_S: Final = 2.0
_MOST_TIMEOUTS: Final = 3

_HEADER_BYTES: Final = 512
"""More than our headers take: the server's limit is for headers and payload together."""

_STREAM_MAX_MESSAGE: Final = 10054
_REASONS: Final = {
    10077: "the stream is full (max_bytes or max_msgs reached)",
    10023: "the server's JetStream storage is full",
    10060: f"the subject belongs to another stream than {STREAM}",
}
_DENIED: Final = re.compile(r"permissions violation for publish to \"([^\"]+)\"", re.IGNORECASE)
_DEAF: Final = re.compile(r"permissions violation for subscription to \"([^\"]+)\"", re.IGNORECASE)
_SUBJECT: Final = re.compile(rf"{re.escape(PREFIX)}(\.[A-Za-z0-9_-]{{1,64}}){{3}}")

_T = TypeVar("_T")


class Connection:
    """Publishes one message at a time per call; calls may overlap. One event loop owns it."""

    def __init__(self, config: ProducerConfig) -> None:
        self.config = config
        self.state = ConnectionState.UNTRIED
        self.problem = ""
        self._client: Informed | None = None
        self._stream: JetStreamContext | None = None
        self._opening = asyncio.Lock()
        self._timeouts = 0
        self._failed = 0  # tries to connect
        self._has_warned = False  # of clear text
        self._denied: set[str] = set()
        self._deaf = ""  # why acknowledgements cannot arrive
        self._last_error: Exception | None = None
        self._abandoned: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Connection to {self.config.destination}: {self.state.because(self.problem)}>"

    @property
    def may_acknowledge(self) -> bool:
        """Whether an acknowledgement can be expected soon, for all that is known."""
        return self.state in (ConnectionState.UNTRIED, ConnectionState.CONNECTED)

    async def publish(self, message: Packed) -> None:
        """Return when JetStream has stored the message, now or at an earlier try.

        Raises:
            NotNow: Not stored, or not known to be; the message keeps its id, so trying again is
                safe even if it was.
            NeverAccepted: The server will refuse this message at every try.
        """
        if not _SUBJECT.fullmatch(message.subject):
            raise NeverAccepted(f"{message.subject[:80]!r} is not a subject of ours")
        try:
            await self._publish(message)
        except NotAllowed:
            raise  # only this subject is denied: the state of the connection does not change
        except NotNow as error:
            if self._client is not None and self._client.is_connected:
                self._enter(ConnectionState.NOT_ACCEPTING, error.reason)
            raise
        self._timeouts = 0
        self._denied.discard(message.subject)
        self._enter(ConnectionState.CONNECTED)

    async def close(self) -> None:
        """End the connection; what is not acknowledged stays with the caller."""
        self.state, self.problem = ConnectionState.CLOSED, ""
        await self._discard("closed")

    async def _publish(self, message: Packed) -> None:
        client, stream = await self._open()
        if len(message.data) + _HEADER_BYTES > client.max_payload:
            await self._check_limit(client, message)
        try:
            await self._within(
                ACK_TIMEOUT_S + _GRACE_S,
                stream.publish(
                    message.subject,
                    message.data,
                    timeout=ACK_TIMEOUT_S,
                    headers={"Nats-Msg-Id": message.message_id, "Nats-Expected-Stream": STREAM},
                ),
            )
        except nats.errors.MaxPayloadError as error:
            raise TooLarge("larger than the server's max_payload") from error
        except nats.errors.BadSubjectError as error:
            raise NeverAccepted("its subject is not valid") from error
        except nats.js.errors.APIError as error:
            code = error.err_code or 0
            if code == _STREAM_MAX_MESSAGE:
                raise TooLarge("larger than the stream's max_msg_size") from error
            raise NotNow(_REASONS.get(code, f"JetStream: {error.description}")) from error
        except nats.js.errors.NoStreamResponseError as error:
            raise NotNow(f"no stream {STREAM}: has `costs consume` created it?") from error
        except (TimeoutError, nats.errors.TimeoutError) as error:
            if message.subject in self._denied:
                raise NotAllowed(f"no permission to publish on {message.subject}") from error
            raise NotNow(await self._unanswered(client)) from error
        except (nats.errors.Error, OSError) as error:
            await self._discard(_words(error), client)
            raise NotNow(_words(error)) from error

    async def _check_limit(self, client: Informed, message: Packed) -> None:
        """Refuse a message that is too large for the server; one that is refused is given up.

        nats-py compares the payload alone, and the server would end the connection.
        """
        limit = await client.limit(within_s=_CONFIRMATION_S)
        if limit is None:
            raise NotNow(
                f"the server does not confirm its max_payload of {client.max_payload} bytes"
            )
        if len(message.data) + _HEADER_BYTES > limit:
            raise TooLarge(f"larger than the server's max_payload of {limit} bytes")

    async def _open(self) -> tuple[Informed, JetStreamContext]:
        failed = self._failed
        async with self._opening:
            if failed != self._failed:
                # Another message has tried meanwhile: one try is enough for all that are in flight.
                raise NotNow("not connected")
            if self._client is not None and self._client.is_closed:
                await self._discard(_words(self._client.last_error))
            if self._client is None or self._stream is None:
                self._last_error, self._deaf = None, ""
                self._client = await self._connect()
                self._stream = self._client.jetstream(timeout=ACK_TIMEOUT_S)
                self._timeouts = 0
                self._enter(ConnectionState.CONNECTED)
            return self._client, self._stream

    async def _connect(self) -> Informed:
        client = Informed()
        try:
            await self._within(
                _CONNECT_TIMEOUT_S,
                client.connect(
                    servers=list(self.config.servers),
                    name="voicecosts-producer",
                    connect_timeout=2,
                    allow_reconnect=False,  # a connection is replaced, not repaired
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,  # a refusal is known at once; the sender pauses
                    ping_interval=60,  # each wakes an idle process; acknowledgements have deadlines
                    max_outstanding_pings=2,
                    flush_timeout=2,
                    pending_size=1 << 20,
                    inbox_prefix=inbox_prefix(self.config.project),
                    error_cb=self._on_error,
                    **guarded(client, self.config.servers, self.config.tls),
                    **credential_options(self.config.credentials),
                ),
            )
        except (TimeoutError, nats.errors.Error, OSError, ValueError) as error:
            # OSError: TLS files as well. ValueError: a credentials file that is being rewritten at this moment.
            # nats-py raises "no servers available" and reports the cause to its error callback.
            self._failed += 1
            self._enter(ConnectionState.NOT_CONNECTED, _words(self._last_error or error))
            await self._close(client)
            raise NotNow("not connected") from error
        except asyncio.CancelledError:
            await self._close(client)
            raise
        warning = exposed(client, has_credentials=self.config.credentials is not None)
        if warning and not self._has_warned:
            self._has_warned = True
            logger.warning("%s", warning)
        return client

    async def _unanswered(self, client: Client) -> str:
        """Close a client that gets no answers, although it reports that it is connected.

        Returns why there is none, as far as it is known.
        """
        if deaf := self._deaf:
            await self._discard(deaf, client)
            return deaf
        self._timeouts += 1
        if self._timeouts >= _MOST_TIMEOUTS:
            await self._discard(f"no answer to {self._timeouts} messages in a row", client)
        return "no acknowledgement in time"

    async def _discard(self, reason: str, blamed: Client | None = None) -> None:
        """Close the client, unless it has been replaced since `blamed` failed."""
        client = self._client
        if client is None or (blamed is not None and blamed is not client):
            return
        self._client, self._stream = None, None
        self._enter(ConnectionState.LOST, reason)
        await self._close(client)

    async def _close(self, client: Client) -> None:
        try:
            await self._within(_CLOSE_TIMEOUT_S, client.close())
        except Exception as error:  # noqa: BLE001 - see below
            # A half-dead client fails to close in many ways (ConnectionResetError while it
            # reconnects, AssertionError before it connected); nothing in it is needed any more.
            logger.debug("closing a lost connection failed: %r", error)
        # A client that ended by itself, or while it was connecting, leaves its socket open.
        transport = getattr(client, "_transport", None)
        if transport is not None:
            with contextlib.suppress(Exception):
                transport.close()

    async def _within(self, seconds: float, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what `work` returns, or raise `TimeoutError`, even if it ignores cancellation."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            if not task.done():
                task.cancel()
                self._abandoned.add(task)
                task.add_done_callback(self._ended)
        if not task.done():
            raise TimeoutError
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.debug("a call that had timed out failed: %r", task.exception())

    async def _on_error(self, error: Exception) -> None:
        """Keep what nats-py reports. An exception raised here would end its read loop."""
        self._last_error = error
        if _DEAF.search(str(error)):
            inbox = f"{inbox_prefix(self.config.project)}.>"
            self._deaf = (
                f"no permission to subscribe to {inbox}, where acknowledgements arrive: grant it"
            )
        denied = _DENIED.search(str(error))
        if denied is not None and denied.group(1) not in self._denied:
            self._denied.add(denied.group(1))
            logger.error(
                "no permission to publish on %s: its events are kept and tried again",
                denied.group(1),
            )

    def _enter(self, state: ConnectionState, problem: str = "") -> None:
        """Change the state and log it; nothing is logged while it stays the same."""
        if self.state is ConnectionState.CLOSED or (state, problem) == (self.state, self.problem):
            return
        self.state, self.problem = state, problem
        level = logging.INFO if state is ConnectionState.CONNECTED else logging.WARNING
        logger.log(level, "NATS %s: %s", self.config.destination, state.because(problem))


def inbox_prefix(project: str) -> str:
    """Return where the acknowledgements of a project's workers arrive, in `<prefix>.>`.

    A prefix for each project: permissions can then keep other clients from reading them.
    """
    return f"_INBOX_w.{token(project)}"


def credential_options(path: str | None) -> dict[str, Any]:
    """Return the nats-py options for a credentials file: an nkey seed, or a `.creds` file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is neither; nats-py would never stop reading such a file.
    """
    if path is None:
        return {}
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    match credentials_kind(text):
        case "seed":
            return {"nkeys_seed_str": text.strip()}
        case "creds":
            return {"user_credentials": RawCredentials(text)}
    raise ValueError(f"{path!r} holds no credentials at this moment")


def _words(error: BaseException | None) -> str:
    if error is None:
        return "the client stopped without a reason"
    if said := explained(error):
        return said
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
