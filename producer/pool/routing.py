"""Which agent handles a call: a chain of small rules over what is known before the room connects.

The first rule that names an agent decides. A name that is not registered is an error, never a
reason to try the next rule: a call must not reach another agent than it names. The rules are pure
and the chain is data, so the same chain routes a call, admits a job and answers `costs agents route`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Final

from msgspec import Struct

from voicecosts.producer.dispatch import metadata_object, overlaid
from voicecosts.producer.errors import (
    NoAgents,
    NotAName,
    RouterFailed,
    UnknownAgent,
    shown,
)

logger = logging.getLogger(__name__)

Router = Callable[[Mapping[str, Any] | None], str | None]
"""A user's own rule: job metadata → an agent's name, or `None` to leave the call to the chain."""


class JobView(Struct, frozen=True, kw_only=True, dict=True):
    """What is known of a call before its room is connected, as it was dispatched.

    Its metadata is parsed once: it may be long, and many rules ask for it.
    """

    job_id: str = ""
    room_name: str = ""
    job_metadata: Any = None
    room_metadata: Any = None

    @cached_property
    def job(self) -> Mapping[str, Any] | None:
        """The job's metadata, `None` where it is no JSON object."""
        return metadata_object(self.job_metadata)

    @cached_property
    def room(self) -> Mapping[str, Any] | None:
        """The room's metadata, `None` where it is no JSON object."""
        return metadata_object(self.room_metadata)

    def metadata(self) -> dict[str, Any]:
        """Return the room's metadata overlaid with the job's."""
        return overlaid(self.room, self.job)


class Finding(Struct, frozen=True):
    """The result of one rule: the agent that it names, if any, and why."""

    agent: str | None
    why: str


Rule = Callable[[JobView, Sequence[str]], Finding]
"""Looks at a call and at the registered names, in their order."""


class Strategy(Struct, frozen=True):
    """A rule, the source that it reads, and what it looks for there."""

    source: str
    asks: str
    rule: Rule


class Step(Struct, frozen=True):
    """One strategy of the chain, and what it found."""

    strategy: Strategy
    finding: Finding


class Route(Struct, frozen=True):
    """The agent of a call, and the source that named it."""

    agent: str
    source: str


def by_metadata(owner: str, key: str, view: JobView, _names: Sequence[str]) -> Finding:
    """The agent that a key of the job's or the room's metadata names."""
    metadata: Mapping[str, Any] | None = getattr(view, owner)
    if metadata is None:
        dispatched = getattr(view, f"{owner}_metadata")
        absent = dispatched is None or (isinstance(dispatched, str) and not dispatched.strip())
        return Finding(
            None, "there is no metadata" if absent else "the metadata is not a JSON object"
        )
    value = metadata.get(key)
    if not isinstance(value, str):
        return Finding(None, "it is not a text" if key in metadata else "there is no such key")
    agent = value.strip()
    return Finding(agent, f"it is {shown(agent)}") if agent else Finding(None, "it is blank")


def by_room_name(view: JobView, names: Sequence[str]) -> Finding:
    """The first registered agent whose `<name>-` the room name begins with; not the longest."""
    fitting = [name for name in names if view.room_name.startswith(f"{name}-")]
    if not fitting:
        return Finding(
            None, f"{shown(view.room_name)} does not begin with an agent's name and a dash"
        )
    also = f", before {', '.join(map(shown, fitting[1:]))}" if fitting[1:] else ""
    return Finding(fitting[0], f"{shown(view.room_name)} begins with '{fitting[0]}-'{also}")


def by_default(_view: JobView, names: Sequence[str]) -> Finding:
    """The agent that was registered first."""
    return Finding(names[0], "the first registered agent")


def _metadata(owner: str, key: str) -> Strategy:
    source = f"{owner} metadata"
    return Strategy(source, f"{source} {key!r}", partial(by_metadata, owner, key))


_DEFAULT: Final = Strategy("default fallback", "default fallback", by_default)

CHAIN: Final = (
    _metadata("job", "agent"),
    _metadata("job", "demo"),
    _metadata("room", "agent"),
    _metadata("room", "demo"),
    Strategy("room name prefix", "room name prefix", by_room_name),
    _DEFAULT,
)
"""The strategies, in the order in which they are asked."""


def by_router(router: Router, view: JobView, names: Sequence[str]) -> Finding:
    """The agent that the user's own rule names: what it returns must equal a registered name.

    A text counts by its characters, also that of an enumeration. Whatever else equals no name is
    an unknown agent, even if it would be written like one.

    Raises:
        RouterFailed: It raised.
        NotAName: It returned something else than a text, and that equals no name.
    """
    try:
        # Parsed for it alone: what it writes into is not what the chain reads.
        agent: Any = router(metadata_object(view.job_metadata))
    except Exception as error:
        raise RouterFailed(view.job_id, error) from error
    if agent is None:
        return Finding(None, "it left the call to the chain")
    if isinstance(agent, str):
        named = str.__str__(agent)
    else:
        equal = next((it for it in names if _equals(agent, it)), None)
        if equal is None:
            raise NotAName(agent, names)
        named = equal
    return Finding(named, f"it returned {shown(named)}")


def _equals(answer: object, name: str) -> bool:
    try:
        return bool(name == answer)
    except Exception:  # noqa: BLE001 - a foreign object's own code
        return False


def strategies(router: Router | None = None) -> tuple[Strategy, ...]:
    """Return the chain, after the user's own router if there is one."""
    if router is None:
        return CHAIN
    return (Strategy("router", "router", partial(by_router, router)), *CHAIN)


def steps(view: JobView, names: Sequence[str], router: Router | None = None) -> Iterator[Step]:
    """Ask the strategies in their order, until one has named an agent, registered or not.

    Raises:
        NoAgents: There is nothing to choose from.
    """
    if not names:
        raise NoAgents
    for strategy in strategies(router):
        step = Step(strategy, strategy.rule(view, names))
        yield step
        if step.finding.agent is not None:
            return


def resolve(view: JobView, names: Sequence[str], router: Router | None = None) -> Route:
    """Return where a call goes.

    Raises:
        UnknownAgent: What decides names an agent that is not registered.
        RouterFailed: The custom router raised.
        NoAgents: The pool is empty.
    """
    *_, last = steps(view, names, router)
    agent = last.finding.agent or ""  # the last strategy always names one
    if agent not in names:
        raise UnknownAgent(agent, last.strategy.source, names)
    return Route(agent, last.strategy.source)


def resolve_and_log(view: JobView, names: Sequence[str], router: Router | None = None) -> Route:
    """Resolve a call, and log in one line which agent it goes to and why."""
    route = resolve(view, names, router)
    logger.info("Resolved agent '%s' via %s.", route.agent, route.source)
    return route


def owner(view: JobView, names: Sequence[str], router: Router | None = None) -> str | None:
    """Return the registered agent that something in the dispatch names, `None` for a foreign call.

    The default rule does not count, because the call did not ask for the first registered agent. An
    unknown name is taken for an agent of another worker.
    """
    if not names:
        return None
    *_, last = steps(view, names, router)
    agent = last.finding.agent
    return agent if last.strategy is not _DEFAULT and agent in names else None


def view_of(job: Any, room: Any = None) -> JobView:
    """Return what a dispatched LiveKit job says; `room` fills in what its own room leaves out.

    The job has the room's name and metadata from its dispatch, `room` only once it is connected.
    """
    dispatched = getattr(job, "room", None)
    name = getattr(dispatched, "name", None) or getattr(room, "name", None)
    metadata = getattr(dispatched, "metadata", None)
    return JobView(
        job_id=getattr(job, "id", "") or "",
        room_name=name if isinstance(name, str) else "",
        job_metadata=getattr(job, "metadata", None),
        room_metadata=metadata if metadata is not None else getattr(room, "metadata", None),
    )
