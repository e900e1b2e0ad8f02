"""Language models with a service tier, shaped as LiveKit's plugins are, and their books by tier.

A plugin keeps its options in `_opts`, merges them with those of one request in `chat`, where the
model's own win, and writes the merged ones into the request after LiveKit's base class has set it up.
"""

from __future__ import annotations

import enum
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from livekit.agents import llm
from livekit.agents.types import NOT_GIVEN
from livekit.agents.utils import is_given

from tests.support.interruptible import InterruptibleLLM, Moments

HEADER = "X-LiveKit-Inference-Priority"
KEYS = {"api_key": "devkey", "api_secret": "a-secret-that-is-long-enough-for-a-test"}


class GoogleTier(str, enum.Enum):  # noqa: UP042 - so is the one of google-genai
    """The tiers as google-genai spells them."""

    UNSPECIFIED = "unspecified"
    STANDARD = "standard"
    FLEX = "flex"
    PRIORITY = "priority"


@dataclass
class _Options:
    model: str
    service_tier: Any
    extra_body: Any


class TieredLLM(InterruptibleLLM):
    """Shaped as LiveKit's plugins for OpenAI, Groq, Google and Azure.

    `served` is the tier that its answers name. `received` has a page for each tier that a request
    was sent with, as it was written there.
    """

    def __init__(
        self,
        provider: str = "api.openai.com",
        service_tier: Any = NOT_GIVEN,
        *,
        extra_body: Any = NOT_GIVEN,
        served: str | None = None,
        moments: Moments | None = None,
        **options: Any,
    ) -> None:
        moments = moments or Moments()
        super().__init__(moments, lambda _context: ("It is open until six.", []), **options)
        self._opts = _Options(self.name, service_tier, extra_body)
        self._provider = provider
        self.served = served

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return self._provider

    def book_of(self, request: llm.LLMStream) -> Any:
        """Return the tier that a request was sent with, `None` for none."""
        sent = request._extra_kwargs  # type: ignore[attr-defined]
        return sent.get("extra_body", sent).get("service_tier")

    def chat(self, *, extra_kwargs: Any = NOT_GIVEN, **options: Any) -> llm.LLMStream:
        """Make a request."""
        extra = dict(extra_kwargs) if is_given(extra_kwargs) else {}
        for name in ("service_tier", "extra_body"):
            if is_given(getattr(self._opts, name)):
                extra[name] = getattr(self._opts, name)
        request = super().chat(**options)
        request._extra_kwargs = extra  # type: ignore[attr-defined]
        return request


class Gateway:
    """LiveKit Inference's gateway on loopback, as far as a language model asks it.

    Its books have a page for each class that came in a header, with the tier that came in a body.
    """

    def __init__(self, *, served: str | None = None) -> None:
        self.url = ""
        self.served = served
        self.billed: defaultdict[Any, Counter[str]] = defaultdict(Counter)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = 3 + sum(len(str(each).split()) for each in body["messages"])
        page = request.headers.get(HEADER), body.get("service_tier")
        self.billed[page].update(requests=1, input_tokens=prompt, output_tokens=2)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for more in (
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Until six."}}]},
            {"choices": [], "usage": _usage(prompt, 2)},
        ):
            chunk: Mapping[str, Any] = {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1_800_000_000,
                "model": body["model"],
                "service_tier": self.served,
                **more,
            }
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


def _usage(prompt: int, output: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
    }
