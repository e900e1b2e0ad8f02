"""What stands in front of a page that is served to the browsers of this host alone.

Loopback is not enough: other users of the host reach it, and any page of the web can have a browser ask an address of
this host. So whoever does not come with the address that was printed is refused before anything is read but the head
of the request. A request must name that address (a name that was made to point here does not) and must not come from
another page, and the answer forbids its own page to load anything from elsewhere, whatever a name in a ledger looks like.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

from msgspec import Struct, field

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

HOST: Final = "127.0.0.1"

_PARAMETER: Final = "access_token"

_OWN_ALONE: Final = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    b"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    b"content-security-policy": _OWN_ALONE,
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}

_REFUSED: Final = b"Open the address that `costs dashboard` printed. It is another one after each start, and nothing else is answered here.\n"


class Keys(Struct, frozen=True):
    """What one start of a dashboard makes, and nobody can guess.

    A browser sends a cookie of this host to every port of it, whoever listens there. So the cookie is one for `path`
    alone: a server on another port is sent it only where the browser is led to that path.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """In the address that is printed; whoever comes with it is given the cookie, and sent to `path`."""
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    path: str = field(default_factory=lambda: f"/{secrets.token_hex(8)}")

    def address(self, port: int) -> str:
        """Return what is printed."""
        return f"http://{HOST}:{port}/?{_PARAMETER}={self.token}"


class Loopback:
    """An ASGI application that lets through who has the cookie, and asks at `http://127.0.0.1:port` or localhost.

    Its application is told so by a header (`Authorization: Bearer`, with the token), and neither gets nor sets cookies.
    `on_known` is told the addresses of those who have the token or the cookie.
    """

    def __init__(self, app: App, port: int, keys: Keys, on_known: Callable[[Any], None]) -> None:
        self._app = app
        self._keys = keys
        self._on_known = on_known
        self._hosts = {f"{name}:{port}".encode() for name in (HOST, "localhost")}
        self._name = f"costs_{port}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif not self._is_ours(scope["headers"]):
            await _refuse(scope, send)
        elif self._has_cookie(scope):
            self._on_known(scope["client"])
            kept = [it for it in scope["headers"] if it[0] not in (b"cookie", b"authorization")]
            told = (b"authorization", f"Bearer {self._keys.token}".encode())
            await self._app({**scope, "headers": [*kept, told]}, receive, _with_headers(send))
        elif self._has_token(scope):
            self._on_known(scope["client"])
            await _answer(send, 303, self._entry())
        else:
            await _refuse(scope, send)

    def _is_ours(self, headers: Headers) -> bool:
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        return (
            len(hosts) == 1
            and hosts[0] in self._hosts
            and all(origin == b"http://" + hosts[0] for origin in origins)
        )

    def _has_cookie(self, scope: Message) -> bool:
        """Return whether it is asked below the path, by who was given the cookie."""
        if not scope["path"].startswith(f"{self._keys.path}/"):
            return False
        own = f"{self._name}={self._keys.cookie}".encode()
        sent = [value for name, value in scope["headers"] if name == b"cookie"]
        return any(
            secrets.compare_digest(each.strip(), own) for it in sent for each in it.split(b";")
        )

    def _has_token(self, scope: Message) -> bool:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            return False
        asked = parse_qs(scope["query_string"])
        return any(
            secrets.compare_digest(it, self._keys.token.encode())
            for it in asked.get(_PARAMETER.encode(), ())
        )

    def _entry(self) -> Headers:
        """Return where the page is, and the cookie for it."""
        path = f"{self._keys.path}/"
        given = f"{self._name}={self._keys.cookie}; Path={path}; HttpOnly; SameSite=Lax"
        yield b"location", path.encode()
        yield b"set-cookie", given.encode()
        yield b"cache-control", b"no-store"


async def _refuse(scope: Message, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
    else:
        # closed, as the body of the request, which nobody reads, may have no end
        await _answer(send, 403, [(b"connection", b"close")], _REFUSED)


async def _answer(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    head = [
        *headers,
        *_HEADERS.items(),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    not_kept = {*_HEADERS, b"set-cookie"}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [it for it in message.get("headers", ()) if it[0].lower() not in not_kept]
            message["headers"] = [*kept, *_HEADERS.items()]
        await send(message)

    return sending
