"""What can go wrong in a worker, outside of a call.

ProducerError
├── ConfigError          the configuration of an observer is wrong
├── PublishError         a batch was not acknowledged
│   ├── NotNow           the server, the stream or the network is not ready: retry
│   │   └── NotAllowed   the credentials may not publish on this message's subject
│   └── NeverAccepted    the server would refuse this message every time
│       └── TooLarge     its events may be accepted in smaller messages
├── OutboxError          the outbox on disk cannot be used
│   ├── OutboxUnavailable  the disk is full or read-only
│   │   └── OutboxHeld   another process holds the file
│   └── OutboxDamaged    a file is damaged
├── PoolError
│   ├── InvalidRegistration  an agent, an observer or a cap cannot be registered (ValueError)
│   │   └── NotPicklable     it cannot be sent to a job process
│   ├── NoSuchAgent          no agent of this name is registered (KeyError)
│   ├── DiscoveryFailed      a directory of agents cannot be loaded (RuntimeError)
│   │   ├── NoAgentsDirectory, AgentsPathIsAFile, EmptyAgentsDirectory
│   │   └── BrokenAgentModule
│   └── Refused              a call is not handled, and its job ends with this error
│       ├── UnknownAgent     its metadata or the router names an unknown agent (ValueError)
│       │   └── NotAName         the router returned something else than a text
│       ├── RouterFailed     the custom router raised (ValueError)
│       └── NoAgents         the pool is empty (RuntimeError)
└── DrainIncomplete      `costs outbox drain` could not move everything

Nothing here is ever raised into a running call: what concerns configuration appears at the start of
the worker, publishing errors live and end in the publisher's thread, and a call is refused before
its room is connected.
"""

# ruff: noqa: N818 - the names say what happened, `UnknownAgent` needs no suffix to be an error

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_SHOWN = 80


class ProducerError(Exception):
    """Root of this package's errors."""


class ConfigError(ProducerError):
    """The configuration of an observer has one or more problems."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        return ConfigError, (self.problems,)


class PublishError(ProducerError):
    """A batch was not acknowledged."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotNow(PublishError):
    """The batch was not accepted this time; a later try may be."""


class NeverAccepted(PublishError):
    """No retry can make the server accept this batch."""


class NotAllowed(NotNow):
    """The server does not let these credentials publish on the subject of the batch."""


class TooLarge(NeverAccepted):
    """The batch is larger than the server or the stream takes."""


class OutboxError(ProducerError):
    """The outbox on disk cannot be used; the reason says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class OutboxUnavailable(OutboxError):
    """A file of the outbox cannot be read or written now."""


class OutboxHeld(OutboxUnavailable):
    """A living process holds the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "another process holds it: ask again when that one has ended")

    def __reduce__(self) -> tuple[type[OutboxHeld], tuple[Path]]:
        return OutboxHeld, (self.path,)


class OutboxDamaged(OutboxError):
    """A file of the outbox is damaged."""


class PoolError(ProducerError):
    """Root of what an `AgentPool` raises on purpose."""


class InvalidRegistration(PoolError, ValueError):
    """Something cannot be registered in a pool."""


class NotPicklable(InvalidRegistration):
    """A part of a pool cannot be sent to a job process, where LiveKit runs calls."""

    def __init__(self, part: str, reason: str, way_out: str) -> None:
        super().__init__(f"{part} cannot be pickled into a job process ({reason}): {way_out}")
        self.part = part
        self.reason = reason


class NoSuchAgent(PoolError, KeyError):
    """No agent of this name is registered."""

    def __init__(self, name: object, names: Iterable[str]) -> None:
        super().__init__(name)
        self.name = name
        self.names = tuple(names)

    def __str__(self) -> str:
        return f"no agent {shown(self.name)} in the pool; {_registered(self.names)}"


class DiscoveryFailed(PoolError, RuntimeError):
    """A directory of agents, or a module in it, cannot be loaded."""


class NoAgentsDirectory(DiscoveryFailed, FileNotFoundError):
    """There is no such directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"agents directory {path} does not exist: name a folder with .py files")


class AgentsPathIsAFile(DiscoveryFailed, NotADirectoryError):
    """The path is a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"agents path {path} is not a directory: name the folder of the file")


class EmptyAgentsDirectory(DiscoveryFailed):
    """The directory holds no agent."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds no agent: put one into a .py file whose name has no leading underscore"
        )


class BrokenAgentModule(DiscoveryFailed):
    """A module of the directory cannot be imported, or holds no agent."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"agent module {path.name!r} in {path.parent}: {problem}")
        self.path = path
        self.problem = problem


class Refused(PoolError):
    """A call is not handled; its job ends with this error."""


class UnknownAgent(Refused, ValueError):
    """A call asks for an agent that is not registered. There is no silent fallback."""

    def __init__(self, name: str, source: str, names: Iterable[str]) -> None:
        self.name = name
        self.source = source
        self.names = tuple(names)
        super().__init__(
            f"Unknown agent {shown(name)} requested via {source}. {_registered(self.names)}"
        )


class NotAName(UnknownAgent):
    """The custom router returned what is no text and equals no agent's name."""

    def __init__(self, answer: object, names: Iterable[str]) -> None:
        super().__init__(f"<{type(answer).__name__}>", "router", names)
        said = (
            f"The router returned a value of type {type(answer).__name__}: let it return the name "
            f"of an agent as text, or None. {_registered(self.names)}"
        )
        self.args = (said,)


class RouterFailed(Refused, ValueError):
    """The custom router raised; the cause is attached."""

    def __init__(self, job_id: str, error: Exception) -> None:
        super().__init__(
            f"The router raised {shown(error)}: correct it, or let it return None to leave the call "
            "to the next rule."
        )
        self.job_id = job_id


class NoAgents(Refused, RuntimeError):
    """The pool is empty."""

    def __init__(self) -> None:
        super().__init__(
            "No agents are registered in the pool: register one with add() or discover()."
        )


class DrainIncomplete(ProducerError):
    """Something that waits on this host could not be moved; it goes on waiting."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            f"{'; '.join(problems)}. Nothing is lost: it still waits. "
            "Correct what is said there, and drain again"
        )
        self.problems = problems


def shown(value: object) -> str:
    """Return a foreign value as one short line: it goes into logs and onto terminals.

    A text is quoted, anything else is written as its repr, or by its type where that fails.
    """
    if isinstance(value, str):
        return f"'{_line(value)}'"
    try:
        return _line(repr(value))
    except Exception:  # noqa: BLE001 - a foreign object's own code
        return f"a value of type {type(value).__name__}"


def _line(value: str) -> str:
    text = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
    return "".join(mark if mark.isprintable() else ascii(mark).strip("'\"") for mark in text)


def _registered(names: tuple[str, ...]) -> str:
    return f"Registered: {', '.join(names) or 'none'}."
