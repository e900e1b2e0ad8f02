"""Agents from a directory: one `.py` file each, marked with `@agent_config` or found by its class.

A file whose name begins with an underscore is skipped. Every other file must define an agent: one
that cannot be imported, or that defines none, stops the worker before its first call.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from livekit.agents import Agent
from msgspec import Struct

from voicecosts.producer.errors import AgentsPathIsAFile, BrokenAgentModule, NoAgentsDirectory
from voicecosts.producer.pool.config import Provider, SessionOptions, as_name
from voicecosts.producer.pool.modules import load_module, module_name

_MARK: Final = "__voicecosts_agent__"

_Class = TypeVar("_Class", bound=type[Agent])


class AgentMark(Struct, frozen=True, kw_only=True):
    """The arguments of `@agent_config`; for `None` the pool's default is used."""

    name: str | None = None
    stt: Provider | None = None
    llm: Provider | None = None
    tts: Provider | None = None
    greeting: str | None = None
    session_kwargs: SessionOptions | None = None


class Discovered(Struct, frozen=True):
    """An agent that was found in a file."""

    name: str
    agent_class: Any
    mark: AgentMark
    path: Path


def agent_config(
    *,
    name: str | None = None,
    stt: Provider | None = None,
    llm: Provider | None = None,
    tts: Provider | None = None,
    greeting: str | None = None,
    session_kwargs: SessionOptions | None = None,
) -> Callable[[_Class], _Class]:
    """Mark the agent of a module for `AgentPool.discover`; the class itself is not changed.

    Without `name` the agent is named as its file. A subclass of a marked class is not marked.

    Raises:
        InvalidRegistration: The name is malformed. `discover` says in which file.
    """
    mark = AgentMark(
        name=None if name is None else as_name(name),
        stt=stt,
        llm=llm,
        tts=tts,
        greeting=greeting,
        session_kwargs=session_kwargs,
    )

    def marked(kind: _Class) -> _Class:
        setattr(kind, _MARK, mark)
        return kind

    return marked


def discover(directory: str | Path) -> list[Discovered]:
    """Return the agents of a directory, in the order of their file names.

    Raises:
        NoAgentsDirectory: The directory does not exist.
        AgentsPathIsAFile: It is a file.
        BrokenAgentModule: A file cannot be imported, or defines no agent.
    """
    folder = Path(directory).expanduser().resolve()
    if not folder.exists():
        raise NoAgentsDirectory(folder)
    if not folder.is_dir():
        raise AgentsPathIsAFile(folder)
    return [_agent_in(path) for path in sorted(folder.glob("*.py")) if path.name[0] != "_"]


def _agent_in(path: Path) -> Discovered:
    try:
        module = load_module(path, module_name(path))
    except (Exception, SystemExit) as error:
        problem = f"it cannot be imported: {type(error).__name__}: {error}"
        raise BrokenAgentModule(path, problem) from error
    own = _own_agents(module)
    if not own:
        raise BrokenAgentModule(path, "it defines no subclass of livekit.agents.Agent")
    kind = next((it for it in own if _MARK in vars(it)), own[0])
    mark = vars(kind).get(_MARK, AgentMark())
    return Discovered(mark.name or path.stem, kind, mark, path)


def _own_agents(module: ModuleType) -> list[type[Agent]]:
    """Return the agents that a module defines itself, in their order; not those that it imports."""
    return [
        it
        for it in vars(module).values()
        if isinstance(it, type) and issubclass(it, Agent) and it.__module__ == module.__name__
    ]
