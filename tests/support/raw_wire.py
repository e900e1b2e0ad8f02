"""A publisher that speaks to the broker without a client library: those refuse what it sends.

Whoever holds credentials can do the same, so any bytes may stand in a subject, a header and a body.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from msgspec import Struct

SPACES = b" \t\r\n"
"""What the broker takes for the end of a subject."""


class RawMessage(Struct, frozen=True):
    """One message; without `headers` (the whole block, as it is sent) it has none."""

    subject: bytes
    data: bytes
    headers: bytes | None = None
    reply: bytes = b""


class RawPublisher:
    """One connection that sends messages as they are."""

    def __init__(self, connection: socket.socket, user: str, password: str) -> None:
        self._connection = connection
        self._received = connection.makefile("rb")
        assert self._received.readline().startswith(b"INFO ")
        told = {"verbose": False, "headers": True, "protocol": 1, "user": user, "pass": password}
        connection.sendall(b"CONNECT %s\r\n" % json.dumps(told).encode())

    def send(self, *messages: RawMessage) -> None:
        """Publish, and return when the broker has read all of it; fail if it refused one."""
        self._connection.sendall(b"".join(map(_encoded, messages)) + b"PING\r\n")
        while (line := self._received.readline()) != b"PONG\r\n":
            if line == b"PING\r\n":
                self._connection.sendall(b"PONG\r\n")
            elif not line.startswith(b"INFO "):
                raise AssertionError(line)


@contextmanager
def raw_publisher(url: str) -> Iterator[RawPublisher]:
    """Connect for the time of a block."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 60) as connection:
        yield RawPublisher(connection, parts.username or "", parts.password or "")


def fuzzed(choose: random.Random, good: bytes) -> RawMessage:
    """Return a message as a broken or malicious client may send it; `good` is a good body."""
    reply = b"_INBOX.x" if choose.random() < 0.2 else b""
    return RawMessage(_subject(choose), _body(choose, good), _headers(choose), reply)


def _subject(choose: random.Random) -> bytes:
    """Return a subject below `costs.v1.`, with every byte that the broker lets through."""
    length = choose.choice((1, 1, 3, 8, 20, 60, 3000))
    tail = bytes(b for b in choose.randbytes(length) if b not in SPACES)
    odd = (tail, b"\xff\xfe", b"\x0b1\x0c2", b"\xed\xa0\x80", b"\x00", b"*", b"$JS", "ä€𝄞".encode())
    token = choose.choice(odd) or b"x"
    place = choose.choice((b"costs.v1.%s", b"costs.v1.p.%s.00", b"costs.v1.%s.a.00"))
    # A wildcard or an empty token is no subject that the stream stores.
    token = b".".join(part for part in token.split(b".") if part not in {b"", b"*", b">"}) or b"x"
    return place % token


def _body(choose: random.Random, good: bytes) -> bytes:
    cut = choose.randrange(len(good) + 1)
    flipped = bytearray(good)
    flipped[choose.randrange(len(good))] ^= 1 << choose.randrange(8)
    large = choose.randbytes(choose.choice((900_000, 999_000)) if choose.random() < 0.02 else 5)
    nested = b"\x91" * choose.choice((10, 5000))
    return choose.choice((b"", b"x", b"\r\n", good[:cut], bytes(flipped), nested, large))


def _headers(choose: random.Random) -> bytes | None:
    """Return headers that are broken, huge, or the words with which the broker ends a pull."""
    return choose.choice(
        (
            None,
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0 404 No Messages\r\n\r\n",
            b"NATS/1.0 408 Request Timeout\r\n\r\n",
            b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: $SYS.x\r\n\r\n",
            b"NATS/1.0\r\nStatus: 409\r\nDescription: Consumer Deleted\r\n\r\n",
            b"NATS/1.0 \xff\xff\xff\r\n\r\n",
            b"NATS/1.0 ",
            b"NATS/1.0",
            b"N",
            b"",
            choose.randbytes(40),
            b"NATS/1.0\r\n" + b"X: \xff\xfe\r\n" * 50 + b"\r\n",
            b"NATS/1.0\r\nX: " + b"y" * 30_000 + b"\r\n\r\n",
        )
    )


def _encoded(message: RawMessage) -> bytes:
    fields = [message.subject, *([message.reply] if message.reply else [])]
    headers = message.headers
    if headers is None:
        return b"PUB %s %d\r\n%s\r\n" % (b" ".join(fields), len(message.data), message.data)
    body = headers + message.data
    return b"HPUB %s %d %d\r\n%s\r\n" % (b" ".join(fields), len(headers), len(body), body)
