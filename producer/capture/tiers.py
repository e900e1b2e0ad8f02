"""The service tier of a request: what it was sent with, or what its provider says that it served.

LiveKit's metrics do not name it. A plugin keeps the tier that it was configured with among its
options, and merges it with what one request asks for when the request is made; the merged arguments
are the truth, because plugins differ in which of the two wins. All of it is private to plugins, and
none is imported: what is absent or odd is the standard tier, and nothing here raises.
"""
# ruff: noqa: SLF001 - LiveKit's requests and plugins are read from the inside

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from livekit import rtc
from livekit.agents import llm

from voicecosts.producer.names import plain
from voicecosts.producer.names import text as masked
from voicecosts.producer.providers import normalise_provider

STANDARD: Final = frozenset(
    {
        "",
        "auto",  # the provider chooses, which is the standard one unless its answer says otherwise
        "default",  # OpenAI, Azure
        "standard",  # Google, LiveKit Inference
        "standard_only",  # Anthropic
        "on_demand",  # Groq: https://console.groq.com/docs/service-tiers
        "unspecified",  # Google
        "service_tier_unspecified",
    }
)
"""The names of the tier whose price a price list gives; it has no name of its own in the events."""

_ANSWERING: Final = frozenset({"openai", "azure.ai.openai", "openrouter"})
"""Providers that bill the tier which their answer names, whatever was asked for.

OpenAI serves a priority request at the standard tier when it comes too suddenly, Azure has the
priority on the deployment, where no request names it, and OpenRouter promises nothing.
https://platform.openai.com/docs/guides/priority-processing,
https://learn.microsoft.com/azure/foundry/openai/concepts/priority-processing,
https://openrouter.ai/docs/guides/features/service-tiers
"""

TIERED: Final = frozenset({"llm_metrics", "realtime_model_metrics"})
"""The types of the metrics of what LiveKit passes a tier on to."""

LIVEKIT: Final = "livekit"
"""LiveKit Inference, which has classes of its own. What the model behind it answers is not billed."""

_CLASS_HEADER: Final = "X-LiveKit-Inference-Priority"
"""LiveKit Inference's class of a request; a job may put another one over the model's own."""

_LONGEST: Final = 64
"""Characters of a tier in an event."""

_INNER: Final = ("_duplex", "_active")
"""Where LiveKit's adapters keep the connection that serves: the duplex and the fallback one."""

_DEPTH: Final = 4

_ABSENT: Final = object()


def tier_name(value: Any) -> str:
    """Return a tier as the contract carries it: the provider's name in lower case, "" for standard.

    A value that is neither a text nor a member of an enumeration of texts names no tier: `None`,
    and each library's own mark for an option that was not given.
    """
    if type(value) is not str:
        if isinstance(value, Enum):
            value = value.value
        if not isinstance(value, str):
            return ""
    text = plain(value).strip().lower()
    if not (text.isascii() and text.isprintable()):
        text = "".join(each for each in text if unicodedata.category(each)[0] != "C").strip()
    text = masked(text)[:_LONGEST]
    return "" if text in STANDARD else text


class AskedTier:
    """The tier of one request. It is final when the request's task is done.

    The options may change afterwards; what was configured when the request was made is kept, and
    what the request itself carries, which a plugin writes down after that, is read when it is over.
    """

    __slots__ = ("_answered", "_configured", "_final", "_stream")

    def __init__(self, stream: Any, model: Any) -> None:
        self._stream: Any = stream
        self._configured = _configured(model)
        self._answered: Any = None
        self._final = ""

    @property
    def name(self) -> str:
        """The tier as the contract carries it."""
        return self._final if self._stream is None else self._read()

    def answered(self, usage: Any) -> None:
        """Note the tier that the usage in an answer names."""
        self._answered = getattr(usage, "service_tier", None) or self._answered

    def end(self, _task: Any = None) -> None:
        """The request is over: nothing of it changes any more, and it is not held any longer."""
        if self._stream is not None:
            self._final = self._read()
            self._stream = None

    def _read(self) -> str:
        try:
            return self._of_request()
        except Exception:  # noqa: BLE001 - a property of somebody else's
            return ""

    def _of_request(self) -> str:
        stream = self._stream
        configured_tier, configured_class = self._configured
        sent = getattr(stream, "_extra_kwargs", None)
        sent = sent if isinstance(sent, dict) else {}
        tier = _first(_in(sent.get("extra_body")), _in(sent), configured_tier)
        inference_class = _first(
            _in(sent.get("extra_headers"), _CLASS_HEADER),
            getattr(stream, "_inference_class", _ABSENT),
            configured_class,
        )
        if self._answered is None and tier is None and inference_class is None:
            return ""  # most are: whoever provides it
        provider = normalise_provider(plain(getattr(stream._llm, "provider", "")))
        answered = tier_name(self._answered)
        if provider in _ANSWERING and (answered or _says_standard(self._answered)):
            return answered
        return _both(inference_class, tier) if provider == LIVEKIT else tier_name(tier)


def tier_of_event(
    metrics: Any, *, asked: AskedTier | None, emitter: Any, used: Iterable[Any]
) -> str:
    """Return the tier of what an event reports, "" for the standard one and where there is none.

    `asked` is of the request in whose context it was reported. `emitter` is the provider object
    that reported it, `None` where only the session did; then it is one of those that it `used`.
    """
    kind = metrics.type
    if kind not in TIERED:
        return ""
    try:
        if emitter is None and (asked is None or kind != "llm_metrics"):
            emitter = _named(metrics, list(used))
        if _is_connection(emitter.__class__):
            return _tier_of_connection(emitter, kind)
        if asked is not None:
            return asked.name
        return _tier_of_model(emitter)
    except Exception:  # noqa: BLE001 - a property of somebody else's
        return ""


@lru_cache(maxsize=256)
def _is_connection(kind: type) -> bool:
    """Whether a class is one of connections to a realtime model; an abstract base answers slowly."""
    return issubclass(kind, llm.RealtimeSession)


def _named(metrics: Any, used: list[Any]) -> Any:
    """Return the provider object that reported an event, as far as its names tell.

    Of several that are called the same the last one is meant, which came last to the session.
    """
    name = getattr(getattr(metrics, "metadata", None), "model_name", None)
    if metrics.type == "llm_metrics":
        for each in reversed(used):
            is_called_so = getattr(each, "label", None) == metrics.label
            if is_called_so and name in (None, getattr(each, "model", None)):
                return each
    return next((it for it in reversed(used) if isinstance(it, llm.RealtimeSession)), None)


def _tier_of_connection(connection: Any, kind: str) -> str:
    """Return the tier that a realtime connection runs under, or the model that answers for it.

    A connection has a copy of its model's options, or looks into them. The model to which GPT-Live
    delegates has options of its own among them, and reports as a language model.
    """
    for _ in range(_DEPTH):
        inner = (getattr(connection, name, None) for name in _INNER)
        serving = next((each for each in inner if isinstance(each, rtc.EventEmitter)), None)
        if serving is None:
            break
        connection = serving
    model = getattr(connection, "_realtime_model", None)
    held = [getattr(each, "_opts", None) for each in (connection, model)]
    if kind == "llm_metrics":
        held = [_option(options, "responses") for options in held]
    return tier_name(_first(*(_option(options, "service_tier") for options in held)))


def _tier_of_model(model: Any) -> str:
    """Return the tier that a model is configured with now, for what no known request reports."""
    tier, inference_class = _configured(model)
    if tier is None and inference_class is _ABSENT:
        return ""
    provider = normalise_provider(plain(getattr(model, "provider", "")))
    return _both(inference_class, tier) if provider == LIVEKIT else tier_name(tier)


def _configured(model: Any) -> tuple[Any, Any]:
    """Return the tier and LiveKit Inference's class among a model's options, as they are now."""
    try:
        options = getattr(model, "_opts", None)
        if options is None:
            return None, _ABSENT
        return (
            _first(
                _in(_option(options, "extra_body")),
                _option(options, "service_tier"),
                _in(_option(options, "extra_kwargs")),
            ),
            _option(options, "inference_class"),
        )
    except Exception:  # noqa: BLE001 - a property of somebody else's
        return _ABSENT, _ABSENT


def _both(inference_class: Any, tier: Any) -> str:
    """Return LiveKit's class and the tier behind it as one: neither decides the other."""
    return "+".join(filter(None, map(tier_name, (inference_class, tier))))[:_LONGEST]


def _first(*values: Any) -> Any:
    """Return the first value that somebody set: not the mark for an option that was not given."""
    return next((value for value in values if value is not _ABSENT and _is_given(value)), None)


def _is_given(value: Any) -> bool:
    return value is None or isinstance(value, str | Enum)


def _says_standard(answered: Any) -> bool:
    """Whether an answer names the standard tier. `auto` asks for any, and names none."""
    return isinstance(answered, str) and answered.strip().lower() not in {"", "auto"}


def _in(holder: Any, name: str = "service_tier") -> Any:
    return holder.get(name, _ABSENT) if isinstance(holder, dict) else _ABSENT


def _option(options: Any, name: str) -> Any:
    if isinstance(options, dict):
        return options.get(name, _ABSENT)
    return getattr(options, name, _ABSENT)
