"""Which session of this process caused a usage event. Every event is given to one, never to two.

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
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from livekit.agents import get_job_context

from voicecosts.producer.capture.usage import NOT_USAGE, usage_of

if TYPE_CHECKING:
    from voicecosts.producer.capture.tap import Tap

try:  # private: it sharpens attribution, and a test watches that it is still there
    from livekit.agents.voice.agent_activity import _AgentActivityContextVar as _ACTIVITY
except ImportError:  # pragma: no cover - a later livekit-agents
    _ACTIVITY = None  # type: ignore[assignment]  # absent in another version

logger = logging.getLogger(__name__)

REMEMBERED: Final = 1024
"""Metrics objects that are remembered as given away."""

Listener = Callable[[Any], None]


class _Opened:
    """Which tap was opened in a context, by which task. No tap when more than one was."""

    __slots__ = ("tap", "task")

    def __init__(self, tap: Tap | None) -> None:
        self.tap = None if tap is None else ref(tap)
        self.task = id(_current_task())


_OPENED: ContextVar[_Opened | None] = ContextVar("voicecosts_opened_tap", default=None)


class Attribution:
    """Knows the open taps of a process and the components they listen to.

    Its state is read and changed on the threads of voice loops by single dictionary operations; only
    coming to a component and leaving it take several, under a lock. The metrics
    objects that were given away are held, so that their identity is not used again meanwhile.
    """

    def __init__(self) -> None:
        self.unattributed = 0
        self._taps: dict[int, Tap] = {}
        self._listeners: dict[int, Listener] = {}
        self._users: dict[int, dict[int, Tap]] = {}
        self._given: OrderedDict[int, Any] = OrderedDict()
        # Jobs in threads may come to and leave a shared component at the same moment. Held for a
        # few dictionary operations at a session's start and end, never while an event is heard.
        self._joining = threading.Lock()

    def __repr__(self) -> str:
        return f"<Attribution {len(self._taps)} taps, {len(self._users)} components>"

    def enter(self, tap: Tap) -> None:
        """A tap was opened: the tasks that its session starts from here inherit this context."""
        opened = _OPENED.get()
        before = opened.tap() if opened is not None and opened.tap is not None else None
        alone = (
            before is None
            or not before.is_open
            or before.running_agent() is not None
            or opened is None
            or opened.task != id(_current_task())
        )
        self._taps[id(tap.session)] = tap
        # Two sessions attached by one task before either was started: both would inherit the
        # same mark, so there is none.
        _OPENED.set(_Opened(tap if alone else None))

    def exit(self, tap: Tap) -> None:
        """A tap was closed."""
        if self._taps.get(id(tap.session)) is tap:
            del self._taps[id(tap.session)]

    def join(self, tap: Tap, component: Any, listener: Callable[[Listener], Listener]) -> None:
        """`tap`'s session uses `component`; one listener serves all sessions that do."""
        key = id(component)
        with self._joining:
            self._users.setdefault(key, {})[id(tap)] = tap
            if key not in self._listeners:
                on_metrics = listener(partial(self._heard_from, key))
                self._listeners[key] = on_metrics
                component.on("metrics_collected", on_metrics)

    def leave(self, tap: Tap, component: Any) -> None:
        """`tap`'s session uses `component` no more; the last one takes the listener away."""
        with self._joining:
            users = self._users.get(id(component), {})
            users.pop(id(tap), None)
            if not users:
                self._users.pop(id(component), None)
                on_metrics = self._listeners.pop(id(component), None)
                if on_metrics is not None:
                    component.off("metrics_collected", on_metrics)

    def heard_by(self, tap: Tap, event: Any) -> None:
        """A session heard an event: its own, or one of a component that it shares."""
        metrics = event.metrics
        if id(metrics) in self._given or metrics.type in NOT_USAGE:
            return
        tap.scan()  # no component of ours has told of it: there may be a new one
        known, owner, label = self._by_context(None)
        if known:
            if owner is tap:
                self._give(tap, metrics, label)
        elif not self._is_shared(tap, metrics):
            # A realtime session, a detector, an own component: only its session hears it.
            self._give(tap, metrics, None)

    def claim(self, tap: Tap, metrics: Any) -> None:
        """Give an event of the past to the session that can show it is its own."""
        if id(metrics) not in self._given and metrics.type not in NOT_USAGE:
            self._give(tap, metrics, None)

    def _heard_from(self, key: int, metrics: Any) -> None:
        if id(metrics) in self._given or metrics.type in NOT_USAGE:
            return
        users = self._users.get(key, {})
        known, owner, label = self._by_context(users)
        if not known:
            candidates = list(users.values())
            if len(candidates) == 1:
                owner = candidates[0]
            elif usage_of(metrics, now_us=0) is not None:
                self._nobodys(metrics)
        if owner is not None:
            self._give(owner, metrics, label)

    def _by_context(self, users: dict[int, Tap] | None) -> tuple[bool, Tap | None, str | None]:
        """Return (whether the context decides, the session's tap, the agent's label).

        First the activity whose speech made the request; then the job, when it has one session
        that could be meant; then the tap that was opened in this context. A decided event without
        a tap belongs to a session that nobody observes.
        """
        activity = _ACTIVITY.get(None) if _ACTIVITY is not None else None  # type: ignore[redundant-expr]  # None in another version
        if activity is not None:
            tap = self._taps.get(id(activity.session))
            return True, tap, None if tap is None else activity.agent.label
        opened = _OPENED.get()
        inherited = opened.tap() if opened is not None and opened.tap is not None else None
        if inherited is not None and not inherited.is_open:
            inherited = None
        job = get_job_context(required=False)
        if job is None:
            return inherited is not None, inherited, None
        if inherited is not None and inherited.job is job:
            return True, inherited, None
        taps = list(self._taps.values() if users is None else users.values())
        of_job = [tap for tap in taps if tap.job is job]
        if len(of_job) == 1:
            return True, of_job[0], None
        # A job without a tap of its own decides only where every tap knows its job.
        return not of_job and all(tap.job is not None for tap in taps), None, None

    def _is_shared(self, tap: Tap, metrics: Any) -> bool:
        """Whether the event came from a component that other sessions listen to as well."""
        label = getattr(metrics, "label", None)
        for key, users in list(self._users.items()):
            if len(users) > 1 and id(tap) in users:
                component = users[id(tap)].component(key)
                if getattr(component, "label", None) == label:
                    return True
        return False

    def _give(self, tap: Tap, metrics: Any, label: str | None) -> None:
        self._remember(metrics)
        tap.take(metrics, label)

    def _nobodys(self, metrics: Any) -> None:
        self._remember(metrics)
        self.unattributed += 1
        if self.unattributed == 1:
            logger.warning(
                "%s of a provider that several sessions share came from outside all of them; it "
                "is counted as unattributed. Call the provider inside a job, or give each session "
                "a provider of its own.",
                metrics.type,
            )

    def _remember(self, metrics: Any) -> None:
        self._given[id(metrics)] = metrics
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


ATTRIBUTION: Final = Attribution()
"""The attribution of this process: provider objects are shared by all of its sessions."""
