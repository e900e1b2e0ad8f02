"""Which session of this process caused a usage event. An event goes to one session at most.

Sessions may share provider objects, so the object says nothing about the caller. The context does:
LiveKit emits metrics in the task that made the request. Where no context decides and several
sessions could be meant, the event is counted as unattributed and reported, not guessed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final
from weakref import ref

from livekit.agents import AgentSession, get_job_context
from msgspec import Struct, field

from voicecosts.producer.capture.listener import METRICS, Listener, listener
from voicecosts.producer.capture.usage import NOT_USAGE, usage_of
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import now_us

try:  # private: it sharpens attribution, and a test watches that it is still there
    from livekit.agents.voice.agent_activity import _AgentActivityContextVar as _ACTIVITY
except ImportError:  # pragma: no cover - a later livekit-agents
    _ACTIVITY = None  # type: ignore[assignment]  # absent in another version

logger = logging.getLogger(__name__)

REMEMBERED: Final = 1024
"""Metrics objects that are remembered as attributed."""


class Candidate(Struct, eq=False, weakref=True, kw_only=True):
    """A session that usage may be attributed to. The last two fields are written by `Attribution`.

    `receive` gets a metrics object of the session and the label of the agent that caused it, `None`
    for the active one. `count_unattributed` gets the usage of one that could as well be another's.
    """

    session: AgentSession[Any]
    job: Any
    receive: Callable[[Any, str | None], None]
    count_unattributed: Callable[[Usage], None]
    is_open: bool = False
    components: dict[int, _Component] = field(default_factory=dict)


class _Component(Struct, eq=False):
    """A provider object, its one listener, and the sessions that use it."""

    emitter: Any
    on_metrics: Listener | None = None
    users: dict[int, Candidate] = field(default_factory=dict)


_ATTACHED: ContextVar[tuple[ref[Candidate] | None, int]] = ContextVar(
    "voicecosts_attached", default=(None, 0)
)
"""The session attached in a context, `None` when several could be meant, and the task's id."""


class Attribution:
    """Knows the attached sessions of a process and the components they use.

    Its state is read and changed on the threads of voice loops by single dictionary operations;
    only coming to a component and leaving it take several, under a lock. The metrics objects that
    were attributed are held, so that their identity is not used again meanwhile.
    """

    def __init__(self) -> None:
        self._candidates: dict[int, Candidate] = {}
        self._components: dict[int, _Component] = {}
        self._attributed: OrderedDict[int, Any] = OrderedDict()
        self._has_warned = False
        # Jobs in threads may come to and leave a shared component at the same moment. Held for a
        # few dictionary operations at a session's start and end, never while an event is heard.
        self._joining = threading.Lock()

    def __repr__(self) -> str:
        return f"<Attribution {len(self._candidates)} sessions, {len(self._components)} components>"

    def enter(self, candidate: Candidate) -> None:
        """A session is attached: the tasks that it starts from here inherit this context."""
        before, task = _inherited(), id(_current_task())
        is_alone = (
            before is None
            or running_agent(before.session) is not None
            or _ATTACHED.get()[1] != task
        )
        candidate.is_open = True
        self._candidates[id(candidate.session)] = candidate
        # Two sessions attached by one task before either was started: both would inherit the
        # same mark, so there is none.
        _ATTACHED.set((ref(candidate) if is_alone else None, task))

    def exit(self, candidate: Candidate) -> None:
        """A session is detached; the last user of a component takes its listener away."""
        candidate.is_open = False
        if self._candidates.get(id(candidate.session)) is candidate:
            del self._candidates[id(candidate.session)]
        with self._joining:
            for key, component in candidate.components.items():
                del component.users[id(candidate)]
                if not component.users:
                    del self._components[key]
                    component.emitter.off(METRICS, component.on_metrics)
            candidate.components = {}

    def exit_all(self) -> None:
        """In a forked child: detach the parent's sessions, which do not run here."""
        self._joining = threading.Lock()  # another thread of the parent may have held the old one
        for candidate in list(self._candidates.values()):
            self.exit(candidate)

    def join(self, candidate: Candidate, emitter: Any) -> None:
        """An open session uses a component; one listener serves all sessions that do."""
        with self._joining:
            if not candidate.is_open:
                return
            component = self._components.get(id(emitter))
            if component is None:
                component = self._components[id(emitter)] = _Component(emitter)
            component.users[id(candidate)] = candidate
            candidate.components[id(emitter)] = component
            if component.on_metrics is None:
                component.on_metrics = listener(partial(self._heard_from, component))
                emitter.on(METRICS, component.on_metrics)

    def is_new(self, metrics: Any) -> bool:
        """Whether an event is usage, as far as its type tells, that was not attributed before."""
        return id(metrics) not in self._attributed and metrics.type not in NOT_USAGE

    def heard_by(self, candidate: Candidate, metrics: Any) -> None:
        """Attribute a new event that a session heard: its own, or one of a shared component."""
        known, owner, label = self._by_context(None)
        if known:
            if owner is candidate:
                self.attribute(candidate, metrics, label)
        elif not self._is_shared(candidate, metrics):
            # A realtime session, a detector, an own component: only its session hears it.
            self.attribute(candidate, metrics)

    def attribute(self, candidate: Candidate, metrics: Any, label: str | None = None) -> None:
        """Hand a new event to the session that it belongs to."""
        self._remember(metrics)
        candidate.receive(metrics, label)

    def _heard_from(self, component: _Component, metrics: Any) -> None:
        if not self.is_new(metrics):
            return
        users = component.users
        known, owner, label = self._by_context(users)
        if not known:
            candidates = list(users.values())
            if len(candidates) == 1:
                owner = candidates[0]
            elif candidates:
                usage = usage_of(metrics, now_us=now_us())
                if usage is not None:
                    self._leave_unattributed(candidates[0], metrics, usage)
        if owner is not None:
            self.attribute(owner, metrics, label)

    def _by_context(
        self, users: dict[int, Candidate] | None
    ) -> tuple[bool, Candidate | None, str | None]:
        """Return (whether the context decides, the session, the agent's label).

        First the activity whose speech made the request; then the job, when it has one session
        that could be meant; then the session that was attached in this context. A decided event
        without a candidate belongs to a session that is not observed.
        """
        activity = _ACTIVITY.get(None) if _ACTIVITY is not None else None  # type: ignore[redundant-expr]  # None in another version
        if activity is not None:
            owner = self._candidates.get(id(activity.session))
            return True, owner, None if owner is None else activity.agent.label
        inherited = _inherited()
        job = get_job_context(required=False)
        if job is None:
            return inherited is not None, inherited, None
        if inherited is not None and inherited.job is job:
            return True, inherited, None
        candidates = list(self._candidates.values() if users is None else users.values())
        of_job = [candidate for candidate in candidates if candidate.job is job]
        if len(of_job) == 1:
            return True, of_job[0], None
        # A job without a session of its own decides only where every session's job is known.
        return not of_job and all(each.job is not None for each in candidates), None, None

    def _is_shared(self, candidate: Candidate, metrics: Any) -> bool:
        """Whether the event came from a component that other sessions use as well."""
        label = getattr(metrics, "label", None)
        return any(
            len(component.users) > 1 and getattr(component.emitter, "label", None) == label
            for component in list(candidate.components.values())
        )

    def _leave_unattributed(self, candidate: Candidate, metrics: Any, usage: Usage) -> None:
        """Have one of the candidates count an event, so that it is reported once in a process."""
        self._remember(metrics)
        candidate.count_unattributed(usage)
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s of a provider that several sessions share came from outside all of them; it "
                "is counted as unattributed. Call the provider inside a job, or give each session "
                "a provider of its own.",
                metrics.type,
            )

    def _remember(self, metrics: Any) -> None:
        self._attributed[id(metrics)] = metrics
        if len(self._attributed) > REMEMBERED:
            self._attributed.popitem(last=False)


def running_agent(session: AgentSession[Any]) -> Any:
    """Return the agent that is active now, `None` before the start and after the end."""
    try:
        return session.current_agent
    except RuntimeError:
        return None


def _inherited() -> Candidate | None:
    """Return the session that was attached in this context or an ancestor, while it is open."""
    attached, _ = _ATTACHED.get()
    candidate = attached() if attached is not None else None
    return candidate if candidate is not None and candidate.is_open else None


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


ATTRIBUTION: Final = Attribution()
"""The attribution of this process: provider objects are shared by all of its sessions."""
