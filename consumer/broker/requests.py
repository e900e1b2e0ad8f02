"""Questions to JetStream: a denied one is told from a late one, and a late one is asked again.

The server answers a request that it denies with an error for the whole connection, which names the
subject, and never with an answer. A request that is only late gets a second chance with more time.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, ServiceUnavailableError

PREFIX: Final = "$JS.API."

_DENIED = re.compile(r'permissions violation for \w+ to "([^"]+)"', re.IGNORECASE)
_LATE_FACTOR = 3.0


class Denied(nats.errors.Error):
    """These credentials may not publish to `subject`."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(f"these credentials may not publish to {subject}")


class Denials:
    """What the server has denied on one connection."""

    def __init__(self) -> None:
        self._subjects: set[str] = set()
        self._more = asyncio.Event()

    def note(self, error: str) -> None:
        """Take in an error of the server, if it is one of permissions."""
        if found := _DENIED.search(error):
            self._subjects.add(found[1].lower())  # the client does not keep the case
            self._more.set()

    def __contains__(self, subject: str) -> bool:
        return subject.lower() in self._subjects

    async def more(self) -> None:
        """Return when something else is denied."""
        self._more.clear()
        await self._more.wait()


class Api:
    """The API of JetStream over one connection. Requests can be repeated without harm."""

    def __init__(
        self, client: Client, denials: Denials | None = None, *, answer_s: float = 10.0
    ) -> None:
        self._client = client
        self._denials = denials or Denials()
        self._answer_s = answer_s

    @property
    def server_version(self) -> tuple[int, int]:
        """Major and minor version of the server that answers."""
        version = self._client.connected_server_version
        return version.major, version.minor

    async def ask(self, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a request, such as `STREAM.INFO.COSTS`.

        Raises:
            Denied: These credentials may not ask it.
            TimeoutError: No answer, twice.
            APIError: JetStream answers with an error, or does not run.
        """
        data = json.dumps(request).encode() if request else b""
        try:
            return await self._answer(PREFIX + method, data, self._answer_s)
        except TimeoutError:
            return await self._answer(PREFIX + method, data, self._answer_s * _LATE_FACTOR)

    async def _answer(self, subject: str, data: bytes, answer_s: float) -> dict[str, Any]:
        asked = asyncio.ensure_future(self._client.request(subject, data, timeout=answer_s))
        try:
            while not asked.done():
                if subject in self._denials:
                    raise Denied(subject)
                denied = asyncio.ensure_future(self._denials.more())
                await asyncio.wait((asked, denied), return_when=asyncio.FIRST_COMPLETED)
                denied.cancel()
            answer: dict[str, Any] = json.loads(asked.result().data)
        except nats.errors.NoRespondersError:
            raise ServiceUnavailableError from None
        finally:
            asked.cancel()
        if "error" in answer:
            raise APIError.from_error(answer["error"])
        return answer
