"""Agents from a directory: one `.py` file each, marked with `@agent_config` or found by its class.

A file whose name begins with an underscore is skipped. Every other file must define an agent: one
that cannot be imported, or that defines none, stops the worker before its first call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Never, TypeVar

from livekit.agents import Agent
from msgspec import Struct

from voicecosts.producer.errors import (
    AgentsPathIsAFile,
    BrokenAgentModule,
    DiscoveryFailed,
    EmptyAgentsDirectory,
    InvalidRegistration,
    NoAgentsDirectory,
    shown,
)
from voicecosts.producer.pool.config import Provider, SessionOptions, as_name
from voicecosts.producer.pool.modules import load_module, module_name
from voicecosts.producer.settings import NoHomeDirectory, expanded

logger = logging.getLogger(__name__)
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
    *misplaced: Never,
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
        InvalidRegistration: The name is malformed, something is not passed by its name, the
            parentheses are missing, or what is marked is no agent. `discover` says in which file.
    """
    if misplaced:
        raise InvalidRegistration(_misuse(*misplaced))
    mark = AgentMark(
        name=None if name is None else as_name(name),
        stt=stt,
        llm=llm,
        tts=tts,
        greeting=greeting,
        session_kwargs=session_kwargs,
    )

    def marked(kind: _Class) -> _Class:
        if not _is_agent(kind):
            raise InvalidRegistration(
                f"@agent_config() marks {_called(kind)}, which is no subclass of "
                "livekit.agents.Agent: put it above the class of the agent"
            )
        setattr(kind, _MARK, mark)
        return kind

    return marked


def _misuse(first: object, *_more: object) -> str:
    if _is_agent(first) or isfunction(first):
        return f"@agent_config lacks its parentheses at {_called(first)}: write @agent_config()"
    return f"agent_config({shown(first)}) lacks a keyword: write agent_config(name='…')"


def _called(value: object) -> str:
    return getattr(value, "__qualname__", None) or shown(value)


def _is_agent(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Agent)


def discover(directory: str | Path) -> list[Discovered]:
    """Return the agents of a directory, in the order of their file names.

    A directory may have none yet, as under OpenRTC; the log says so, and `run` refuses a pool
    without an agent.

    Raises:
        DiscoveryFailed: What was given is no path.
        NoAgentsDirectory: The directory does not exist.
        AgentsPathIsAFile: It is a file.
        BrokenAgentModule: A file cannot be imported, or defines no agent.
    """
    try:
        folder = expanded(directory, instead="give the full path of the agents").resolve()
    except NoHomeDirectory as error:
        raise DiscoveryFailed(str(error)) from None
    except TypeError:
        raise DiscoveryFailed(
            f"the agents directory is {shown(directory)}: pass the path of a folder"
        ) from None
    if not folder.exists():
        raise NoAgentsDirectory(folder)
    if not folder.is_dir():
        raise AgentsPathIsAFile(folder)
    files = [path for path in sorted(folder.glob("*.py")) if path.name[0] != "_"]
    if not files:
        logger.warning("%s", EmptyAgentsDirectory(folder))
    return [_agent_in(path) for path in files]


def _agent_in(path: Path) -> Discovered:
    try:
        module = load_module(path, module_name(path))
    except (Exception, SystemExit) as error:
        problem = f"it cannot be imported: {type(error).__name__}: {error}"
        raise BrokenAgentModule(path, problem) from error
    own = _own_agents(module)
    if not own:
        raise BrokenAgentModule(
            path,
            "it defines no subclass of livekit.agents.Agent: put one into it, or begin its name with "
            "an underscore to leave it out",
        )
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
