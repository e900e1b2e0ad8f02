"""The sessions that usage may be attributed to, and the provider objects that they use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from livekit.agents import AgentSession
from msgspec import Struct, field

from voicecosts.producer.capture.components import PROVIDERS, is_started
from voicecosts.producer.capture.listener import METRICS, Listener
from voicecosts.producer.capture.repeats import Reported
from voicecosts.producer.counts import Usage


def _empty() -> deque[Any]:
    return deque()


class Candidate(Struct, eq=False, weakref=True, kw_only=True):
    """A session that usage may be attributed to. `Attribution` writes the fields with defaults.

    `receive` gets a metrics object of the session, the label of the agent that caused it, `None`
    for the active one, and the provider object that reported it, `None` where only the session did.
    `count_unattributed` gets usage that could as well be another's,
    `count_unmeasured` is called for an event that could not be read.
    """

    session: AgentSession[Any]
    job: Any
    receive: Callable[[Any, str | None, Any], None]
    count_unattributed: Callable[[Usage], None]
    count_unmeasured: Callable[[], None]
    is_open: bool = False
    entered_at: float = 0.0  # seconds since 1970
    running_since: float | None = None  # seconds since 1970; None before the start has ended
    components: dict[int, Component] = field(default_factory=dict)
    borrowed: deque[Component] = field(default_factory=_empty)


class Component(Struct, eq=False):
    """A provider object, its one listener since `since`, and the sessions that use it.

    `borrowers` are users that asked it without having it: only their own requests are theirs.
    `strangers` are sessions that use it and that nobody attached, with their jobs, `None` before the
    first one. `reported` are the amounts that it reported lately, where it may be inside an adapter.
    """

    emitter: Any
    is_adapter: bool
    is_connection: bool  # to a realtime model: one session's own
    since: float  # seconds since 1970
    on_metrics: Listener | None = None
    users: dict[int, Candidate] = field(default_factory=dict)
    borrowers: set[int] = field(default_factory=set)
    was_shared: bool = False
    reported: Reported = field(default_factory=Reported)
    _seen: tuple[int, Any] = (0, None)
    strangers: WeakKeyDictionary[AgentSession[Any], Any] | None = None

    def to_strangers(self) -> WeakKeyDictionary[AgentSession[Any], Any]:
        """Return the strangers, to add one. Made late: an event asks faster whether there are any."""
        if self.strangers is None:
            self.strangers = WeakKeyDictionary()
        return self.strangers

    def listeners(self) -> list[Any] | None:
        """Return who listens to the object, `None` if nobody came since the last call.

        LiveKit's emitter keeps them in the order in which they came.
        """
        events = getattr(self.emitter, "_events", None)
        found = events.get(METRICS) if events else None
        if not found:
            return None
        try:
            seen = len(found), next(reversed(found))
        except (TypeError, RuntimeError):  # a set in older versions; another thread came or left
            return list(found)
        if seen[0] == self._seen[0] and seen[1] is self._seen[1]:
            return None
        self._seen = seen
        return list(found)


def reporting(candidate: Candidate, metrics: Any) -> list[Component]:
    """Return the components of a session that may have reported an event, by its label.

    A detector's events have none.
    """
    label = getattr(metrics, "label", None)
    return [
        component
        for component in list(candidate.components.values())
        if (
            getattr(component.emitter, "label", None) == label
            if label is not None
            else not isinstance(component.emitter, PROVIDERS)
        )
    ]


def has_begun(candidate: Candidate) -> bool:
    """Whether the session's start has begun; before it, no task is the session's."""
    return candidate.running_since is not None or is_started(candidate.session)


def will_start(candidate: Candidate | None) -> bool:
    """Whether a session is attached and has not been started."""
    return candidate is not None and candidate.is_open and candidate.running_since is None
