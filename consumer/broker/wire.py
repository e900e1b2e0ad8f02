"""A client of the broker that reads every message a stream can hold, whatever its sender put in.

A subject is any bytes without a space, and a header is any bytes at all: the server stores both, and
whoever may publish somewhere can send them. The library's own client stops reading for good at the
first that is not UTF-8, holds a vertical tab, or has a broken header, and offers no way to change
that, so three of its private methods are replaced here; its version is pinned for this.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, Parser

_END: Final = b"\r\n"
_MESSAGES: Final = (b"MSG ", b"HMSG ")
_PLAIN_FIELDS: Final = (4, 5)  # MSG subject sid [reply] length
_HEADED_FIELDS: Final = (5, 6)  # HMSG subject sid [reply] header-length length


class LenientClient(Client):
    """As the library's client, except that no message ends its reading.

    `received_bytes` rises with everything that comes, so that slow can be told from silent.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = _LenientParser(self)
        self.received_bytes = 0

    def cut_off(self) -> None:
        """Close the socket at once: `close` leaves it open when it fails or is interrupted."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        with contextlib.suppress(IndexError, UnicodeDecodeError):
            found: dict[str, str] | None = await super()._process_headers(headers)
            return found
        return None  # a broken header is no word of the server


class _LenientParser(Parser):
    r"""Reads the lines of messages itself, by the one space that the server puts between fields.

    Bytes that are not UTF-8 are passed on as `\xff`. The headers of a message with a reply address
    are not read: the ledger uses none, and only the server's own words have no such address.
    """

    async def parse(self, data: bytes = b"") -> None:
        """Take what came from the server, and hand on what is complete."""
        self.nc.received_bytes += len(data)
        self.buf.extend(data)
        while self.buf:
            if self.state == AWAITING_MSG_PAYLOAD:
                if len(self.buf) < self.needed + len(_END):
                    return
                await self._deliver()
                continue
            end = self.buf.find(_END)
            if end < 0:
                return
            if self.buf.startswith(_MESSAGES):
                self._begin(bytes(self.buf[:end]))
                del self.buf[: end + len(_END)]
            else:
                await self._control(end + len(_END))

    def _begin(self, line: bytes) -> None:
        """Note where a message belongs and how long it is."""
        kind, *fields = line.split(b" ")
        has_headers = kind == b"HMSG"
        if len(fields) + 1 not in (_HEADED_FIELDS if has_headers else _PLAIN_FIELDS):
            raise nats.errors.ProtocolError("nats: malformed MSG")
        lengths = [int(field) for field in fields[-2 if has_headers else -1 :]]
        subject, sid, *reply = fields[: -len(lengths)]
        self.msg_arg: dict[str, Any] = {
            "subject": _readable(subject),
            "sid": int(sid),
            "reply": _readable(reply[0]) if reply else b"",
        }
        self.needed = lengths[-1]
        self.header_needed = lengths[0] if has_headers else 0
        self.state = AWAITING_MSG_PAYLOAD

    async def _deliver(self) -> None:
        headers = bytes(self.buf[: self.header_needed])
        payload = bytes(self.buf[self.header_needed : self.needed])
        del self.buf[: self.needed + len(_END)]
        self.state = AWAITING_CONTROL_LINE
        subject, sid, reply = (self.msg_arg[name] for name in ("subject", "sid", "reply"))
        await self.nc._process_msg(sid, subject, reply, payload, None if reply else headers)  # noqa: SLF001 - where the library's parser hands it on

    async def _control(self, length: int) -> None:
        """Leave one line that is no message to the library."""
        line, rest = self.buf[:length], self.buf[length:]
        self.buf = line
        await super().parse()
        if self.buf:
            raise nats.errors.ProtocolError("nats: unknown protocol")
        self.buf = rest


def _readable(field: bytes) -> bytes:
    return field.decode("utf-8", "backslashreplace").encode()
