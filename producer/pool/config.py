"""The configuration of one agent, and how it is sent into the job processes that run its calls.

LiveKit runs a call in a process of its own, which receives the pool's state by pickle. So whatever
is registered must pickle, which is checked at once and not at the first call. A class that was
discovered in a file is loaded from that file again in the job process.
"""

from __future__ import annotations

import logging
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from inspect import signature
from pathlib import Path
from typing import Any, Final

from livekit.agents import Agent, AgentSession, NotGiven
from livekit.agents.llm import LLM, RealtimeModel
from livekit.agents.stt import STT
from livekit.agents.tts import TTS
from msgspec import Struct

from voicecosts.producer.errors import InvalidRegistration, NotPicklable, shown
from voicecosts.producer.pool.modules import file_of, load_module, loaded

Provider = str | object | Callable[[], object]
"""A LiveKit model string, a value that pickles, or a factory that is called once per session."""

SessionOptions = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Further arguments of `AgentSession`, or a factory of them."""

logger = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "stt": (STT,),
    "llm": (LLM, RealtimeModel),
    "tts": (TTS,),
}
_INSTANCES: Final = tuple(kind for kinds in _KINDS.values() for kind in kinds)
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
        return {**given, **copied(dict(made(self.session_kwargs) or {}))}

    def __reduce__(self) -> tuple[Any, ...]:
        state = {each.name: getattr(self, each.name) for each in fields(self)}
        module = self.agent_class.__module__
        path = file_of(module)
        # The rest may refer to the module of the agent, a factory for example. So it stays pickled
        # until that module is loaded.
        with loaded(module, self.agent_class):
            return _restored, (module, path and str(path), pickle.dumps(state))


def made(value: Any) -> Any:
    """Return a value as it is, or what a factory makes of it now."""
    return value() if _is_factory(value) else value


def copied(value: Any) -> Any:
    """Return the dicts, lists and sets of some options anew, with the same values in them.

    So neither who registered them nor a session that got them can change them for other calls.
    Values of other types, also of subclasses of these, stay as they are.
    """
    if type(value) is dict:
        return {key: copied(each) for key, each in value.items()}
    if type(value) in (list, set):
        return type(value)(map(copied, value))
    return value


def as_name(name: object, *, of: str = "") -> str:
    """Return the name of an agent, without the blanks around it; `of` is what to name it beside.

    Raises:
        InvalidRegistration: It is not 1 to 64 ASCII letters, digits, dashes and underscores.
    """
    stripped = name.strip() if isinstance(name, str) else ""
    if not _NAME.fullmatch(stripped):
        raise InvalidRegistration(
            "an agent's name is 1 to 64 ASCII letters, digits, dashes and underscores, "
            f"not {shown(name)}{of and f' (of {of})'}"
        )
    return stripped


def checked(config: AgentConfig) -> AgentConfig:
    """Return the configuration of an agent that can be registered and sent into a job process.

    Raises:
        InvalidRegistration: Its name is malformed, or no session can be made of the rest.
        TypeError: Its class is not a subclass of `livekit.agents.Agent`.
        NotPicklable: A part of it cannot be pickled; the message names it and says what to do.
    """
    as_name(config.name)
    owner, kind = f"agent '{config.name}'", config.agent_class
    if not (isinstance(kind, type) and issubclass(kind, Agent)):
        raise TypeError(f"{owner}: {kind!r} is not a subclass of livekit.agents.Agent")
    _warn_of_arguments(owner, kind)
    program = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    if kind.__module__ == "__main__" and not program.is_file():
        problem = "it was not read from a file"
        raise NotPicklable(f"{owner}: its class {kind.__qualname__}", problem, _AT_MODULE_LEVEL)
    with loaded(kind.__module__, kind):
        require_picklable(f"{owner}: its class {kind.__qualname__}", kind, _AT_MODULE_LEVEL)
    for role in ("stt", "llm", "tts"):
        value = getattr(config, role)
        require_picklable(f"{owner}: its {role}, {type_name(value)},", value, _FACTORY)
        check_provider(f"{owner}: its {role}", role, value)
    _check_options(owner, config.session_kwargs)
    require_picklable(f"{owner}: its session_kwargs", config.session_kwargs, _OPTIONS)
    check_greeting(f"{owner}: its greeting", config.greeting)
    return config


def check_provider(part: str, role: str, value: object) -> None:
    """Refuse what LiveKit can never use as `stt`, `llm` or `tts`: `None` and factories pass.

    Raises:
        InvalidRegistration: It is blank, or of another type; `part` says what was wrong.
    """
    if isinstance(value, str):
        if not value.strip():
            raise InvalidRegistration(f"{part} is blank: name a model, or leave it out")
        return
    kinds = _KINDS[role]
    if value is None or isinstance(value, (*kinds, NotGiven)) or _is_factory(value):
        return
    raise InvalidRegistration(
        f"{part} is of type {type_name(value)}: pass a LiveKit model string, "
        f"an object of LiveKit's {' or '.join(kind.__name__ for kind in kinds)}, or a factory of one"
    )


def check_greeting(part: str, value: object) -> None:
    """Refuse a greeting that is no text.

    Raises:
        InvalidRegistration: It is neither a text nor `None`.
    """
    if not isinstance(value, str | None):
        raise InvalidRegistration(f"{part} is {shown(value)}: pass a text")


def _warn_of_arguments(owner: str, kind: type[Agent]) -> None:
    """Say of a class with required arguments that its calls will fail: a pool gives it none."""
    try:
        signature(kind).bind()
    except TypeError as error:
        logger.warning(
            "%s: %s() will fail at every call (%s): give its arguments defaults",
            *(owner, kind.__qualname__, error),
        )
    except ValueError:
        pass  # a class that does not tell its arguments


def _check_options(owner: str, options: object) -> None:
    """Refuse session options that every call would fail with; a factory's are not known yet."""
    if options is None or _is_factory(options):
        return
    if not isinstance(options, Mapping):
        raise InvalidRegistration(
            f"{owner}: its session_kwargs are a {type(options).__name__}: pass a mapping, or a "
            "function of a module that makes one per session"
        )
    unknown = [name for name in options if name not in signature(AgentSession).parameters]
    if unknown:
        raise InvalidRegistration(
            f"{owner}: AgentSession takes no {', '.join(map(repr, unknown))}: correct its "
            "session_kwargs"
        )


def _is_factory(value: object) -> bool:
    return callable(value) and not isinstance(value, _INSTANCES)


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
