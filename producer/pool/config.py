"""The configuration of one agent, and how it is sent into the job processes that run its calls.

LiveKit runs a call in a process of its own, which receives the pool's state by pickle. So whatever
is registered must pickle, which is checked at once and not at the first call. A class that was
discovered in a file is loaded from that file again in the job process.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from livekit.agents import Agent
from livekit.agents.llm import LLM, RealtimeModel
from livekit.agents.stt import STT
from livekit.agents.tts import TTS
from msgspec import Struct

from voicecosts.producer.errors import InvalidRegistration, NotPicklable, shown
from voicecosts.producer.pool.modules import is_discovered, load_module

Provider = str | object | Callable[[], object]
"""A LiveKit model string, a value that pickles, or a factory that is called once per session."""

SessionOptions = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Further arguments of `AgentSession`, or a factory of them."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_INSTANCES: Final = (STT, LLM, TTS, RealtimeModel)
_FACTORY: Final = (
    "pass a LiveKit model string, or a factory that makes one per session: a function of a module, "
    "or functools.partial(Plugin, model='…')"
)

_AT_MODULE_LEVEL: Final = "define it at the top level of a module"
_OPTIONS: Final = "pass plain values, or a function of a module that makes them per session"


class Defaults(Struct, frozen=True):
    """What the agents of a pool share unless they say otherwise."""

    stt: Provider | None = None
    llm: Provider | None = None
    tts: Provider | None = None
    greeting: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """One registered agent: a class that needs no arguments, and what its sessions are made of.

    `source_path` is the file it was discovered in. Its repr shows no provider: one may hold a key.
    """

    name: str
    agent_class: Callable[[], Agent]
    stt: Provider | None = field(default=None, repr=False)
    llm: Provider | None = field(default=None, repr=False)
    tts: Provider | None = field(default=None, repr=False)
    greeting: str | None = None
    session_kwargs: SessionOptions | None = field(default=None, repr=False)
    source_path: Path | None = None

    def session_arguments(self) -> dict[str, Any]:
        """Return the arguments of one `AgentSession`: factories are called for it alone.

        What is not configured is left to LiveKit, and an explicit option wins over a provider.
        """
        providers = {role: made(getattr(self, role)) for role in ("stt", "llm", "tts")}
        given = {role: provider for role, provider in providers.items() if provider is not None}
        return {**given, **(made(self.session_kwargs) or {})}

    def __reduce__(self) -> tuple[Any, ...]:
        state = {each.name: getattr(self, each.name) for each in fields(self)}
        module = self.agent_class.__module__
        path = str(self.source_path) if is_discovered(module) else None
        # The rest may refer to the module of the agent, a factory for example. So it stays pickled
        # until that module is loaded.
        return _restored, (module, path, pickle.dumps(state))


def made(value: Any) -> Any:
    """Return a value as it is, or what a factory makes of it now."""
    is_factory = callable(value) and not isinstance(value, _INSTANCES)
    return value() if is_factory else value


def checked(config: AgentConfig) -> AgentConfig:
    """Return the configuration of an agent that can be registered and sent into a job process.

    Raises:
        InvalidRegistration: Its name is malformed.
        TypeError: Its class is not a subclass of `livekit.agents.Agent`.
        NotPicklable: A part of it cannot be pickled; the message names it and says what to do.
    """
    if not _NAME.fullmatch(config.name):
        raise InvalidRegistration(
            f"an agent's name is 1 to 64 ASCII letters, digits, dashes and underscores, "
            f"not {shown(config.name)}"
        )
    owner, kind = f"agent '{config.name}'", config.agent_class
    if not (isinstance(kind, type) and issubclass(kind, Agent)):
        raise TypeError(f"{owner}: {kind!r} is not a subclass of livekit.agents.Agent")
    program = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    if kind.__module__ == "__main__" and not program.is_file():
        problem = "it was not read from a file"
        raise NotPicklable(f"{owner}: its class {kind.__qualname__}", problem, _AT_MODULE_LEVEL)
    require_picklable(f"{owner}: its class {kind.__qualname__}", kind, _AT_MODULE_LEVEL)
    for role in ("stt", "llm", "tts"):
        value = getattr(config, role)
        require_picklable(f"{owner}: its {role}, {type_name(value)},", value, _FACTORY)
    require_picklable(f"{owner}: its session_kwargs", config.session_kwargs, _OPTIONS)
    return config


def require_picklable(part: str, value: object, way_out: str) -> None:
    """Refuse what cannot be sent into a job process; `way_out` says what to do instead.

    Raises:
        NotPicklable: Pickling failed, with whatever error.
    """
    try:
        pickle.dumps(value)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise NotPicklable(part, reason, way_out) from error


def type_name(value: object) -> str:
    """Return what a value is, without showing what is in it: a provider may hold a key."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _restored(module: str, path: str | None, state: bytes) -> AgentConfig:
    if path is not None:
        load_module(Path(path), module)
    return AgentConfig(**pickle.loads(state))  # noqa: S301 - our own bytes, from our own process
