"""Which session of this process used a provider. An event goes to one session at most.

Sessions may share provider objects, and LiveKit delivers an event to all of them. The rule, with
the reasons in docs/decisions/0006-who-used-it.md: first the component (only a session that uses it
can have caused its event, and what one session alone hears is that session's), then the context
(the innermost session that runs the code which reports), then the job. What none of these decides
is counted as unattributed, in amounts, and never guessed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextvars import copy_context
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet, ref

from livekit.agents import AgentSession, llm
from msgspec import Struct

from voicecosts.producer.capture import contexts, requests
from voicecosts.producer.capture.candidates import Candidate, Component, has_begun, reporting
from voicecosts.producer.capture.components import (
    components_of,
    emitters,
    is_started,
    sessions_of,
    uses,
)
from voicecosts.producer.capture.contexts import MARK, Mark
from voicecosts.producer.capture.held import Held, HeldEvents
from voicecosts.producer.capture.installed import current_job
from voicecosts.producer.capture.listener import METRICS, listener, report_failure
from voicecosts.producer.capture.marks import has_left, mark_start
from voicecosts.producer.capture.repeats import amounts_of
from voicecosts.producer.capture.tiers import tier_of_event
from voicecosts.producer.capture.usage import NOT_USAGE, UnknownMetricsError, usage_of
from voicecosts.producer.events import now_us

logger = logging.getLogger(__name__)

REMEMBERED: Final = 1024
"""Metrics objects that are remembered as attributed."""

_REQUESTED: Final = frozenset({"llm_metrics", "tts_metrics"})
"""What a request reports: LiveKit makes it in the activity that asked."""

_BORROWED: Final = 32
"""Providers that a session asked without having them, and that are still listened to."""

_OWN: Final = frozenset({"realtime_model_metrics", "interruption_metrics"})
"""What comes from an object that LiveKit makes for one session."""


class _Heard(Struct):
    """An event that is decided when all have heard it: by which sessions, and from which adapter.

    `is_served` if a request inside the adapter's was made, which may report the same.
    """

    metrics: Any
    sessions: list[Candidate] = []
    adapter: Component | None = None
    is_served: bool = False


class _Unattached(Struct):
    """The answer that a session which nobody attached used the component.

    `owner` is the attached session that opened it, if one did.
    """

    session: AgentSession[Any]
    owner: Candidate | None


class _Opener(Struct, frozen=True):
    """The attached session that opened another one, in the start that `began` then."""

    session: ref[AgentSession[Any]]
    began: float | None


class Attribution:
    """Knows the attached sessions of a process and the components they use.

    Its state is read and changed on the threads of voice loops by single dictionary operations;
    only coming to a component and leaving it take several, under a lock. The metrics objects that
    were attributed are held, so that their identity is not used again meanwhile.
    """

    def __init__(self) -> None:
        self._candidates: dict[int, Candidate] = {}
        self._components: dict[int, Component] = {}
        self._attributed: OrderedDict[int, Any] = OrderedDict()
        self._heard: dict[int, _Heard] = {}
        self.held = HeldEvents(self._give_away)
        self._known: WeakSet[AgentSession[Any]] = WeakSet()
        self._left: WeakKeyDictionary[AgentSession[Any], float] = WeakKeyDictionary()
        self._last_users: dict[int, tuple[ref[Any], ref[AgentSession[Any]]]] = {}
        self._has_adapters = False
        self._given_away: WeakKeyDictionary[AgentSession[Any], set[int]] = WeakKeyDictionary()
        self._openers: WeakKeyDictionary[AgentSession[Any], _Opener] = WeakKeyDictionary()
        self._asked_before: WeakKeyDictionary[AgentSession[Any], list[Any]] = WeakKeyDictionary()
        self._has_warned = False
        # Jobs in threads may come to and leave a shared component at the same moment. Held for a
        # few dictionary operations at a session's start and end, never while an event is heard.
        self._joining = threading.Lock()

    def __repr__(self) -> str:
        return f"<Attribution {len(self._candidates)} sessions, {len(self._components)} components>"

    def enter(self, candidate: Candidate, *, is_running: bool) -> None:
        """A session is attached: the tasks that its start creates from here inherit a mark."""
        session = candidate.session
        candidate.is_open, candidate.entered_at = True, time.time()
        self._candidates[id(session)] = candidate
        self._known.add(session)
        for provider in self._asked_before.pop(session, ()):
            self._borrow(candidate, provider)
        if is_running:
            candidate.running_since = time.time()
        else:
            mark_start(candidate)
        for held in self.held.taken_for(session):
            self._remember(held.metrics)
            held.context.run(candidate.receive, held.metrics, held.label, held.emitter)

    def exit(self, candidate: Candidate) -> None:
        """A session is detached; the last user of a component takes its listener away."""
        candidate.is_open = False
        self._left[candidate.session] = time.time()
        if candidate.borrowed and is_started(candidate.session):
            # It runs again, and what it asked since may still be answered.
            self._asked_before[candidate.session] = [each.emitter for each in candidate.borrowed]
        if self._candidates.get(id(candidate.session)) is candidate:
            del self._candidates[id(candidate.session)]
        for component in list(candidate.components.values()):
            self._leave(candidate, component)

    def exit_all(self) -> None:
        """In a forked child: detach the parent's sessions, which do not run here."""
        self._joining = threading.Lock()  # another thread of the parent may have held the old one
        self.held.clear()
        self._heard.clear()
        for candidate in list(self._candidates.values()):
            self.exit(candidate)

    def join(self, candidate: Candidate, used: Iterable[Any]) -> None:
        """An open session uses components; one listener serves all sessions that use one."""
        for emitter, is_adapter in emitters(used):
            if id(emitter) in candidate.components:
                continue
            with self._joining:
                if not candidate.is_open:
                    return
                component = self._components.get(id(emitter))
                if component is None:
                    component = Component(
                        emitter,
                        is_adapter=is_adapter,
                        is_connection=isinstance(emitter, llm.RealtimeSession),
                        since=time.time(),
                    )
                    self._components[id(emitter)] = component
                    self._has_adapters = self._has_adapters or is_adapter
                    component.was_shared = self._had_another_user(emitter, candidate.session)
                component.users[id(candidate)] = candidate
                component.was_shared = component.was_shared or len(component.users) > 1
                candidate.components[id(emitter)] = component
                if component.on_metrics is None:
                    component.on_metrics = listener(
                        partial(self._heard_from, component), candidate.count_unmeasured
                    )
                    emitter.on(METRICS, component.on_metrics)

    def asked(self, provider: Any) -> None:
        """A request is made: who makes it uses the provider, its own or another's, from here on."""
        mark, running = MARK.get(), contexts.activity()
        session = contexts.recognising() or (None if running is None else running.session)
        if session is None or not self._candidates:
            return
        candidate = self._candidates.get(id(session))
        if candidate is None:
            candidate = self._unattached(session, mark, running).owner
        if candidate is not None:
            self._borrow(candidate, provider)

    def _borrow(self, candidate: Candidate, provider: Any) -> None:
        """A session asks a provider that it has not got: it uses it for that request only."""
        if id(provider) in candidate.components:
            return
        self.join(candidate, [provider])
        borrowed = candidate.components.get(id(provider))
        if borrowed is not None:
            borrowed.borrowers.add(id(candidate))
            candidate.borrowed.append(borrowed)
            if len(candidate.borrowed) > _BORROWED:
                self._leave(candidate, candidate.borrowed.popleft())

    def _leave(self, candidate: Candidate, component: Component) -> None:
        """A session uses a component no more; the last user takes our listener away."""
        key = id(component.emitter)
        with self._joining:
            candidate.components.pop(key, None)
            component.users.pop(id(candidate), None)
            component.borrowers.discard(id(candidate))
            if not component.users and self._components.get(key) is component:
                del self._components[key]
                self._remember_user(component.emitter, candidate.session)
                component.emitter.off(METRICS, component.on_metrics)

    def is_new(self, metrics: Any) -> bool:
        """Whether an event is usage, as far as its type tells, that was not attributed before."""
        return id(metrics) not in self._attributed and metrics.type not in NOT_USAGE

    def heard_by(self, candidate: Candidate, metrics: Any) -> None:
        """Attribute a new event that a session heard, once every listener has heard it.

        If a component that we listen to reports it too, that decides. What one session alone heard
        is its own: a realtime session or a detector that nobody shares.
        """
        self._decide_later(metrics).sessions.append(candidate)

    def catch_up(self, candidate: Candidate) -> None:
        """Count what a session reported between its start and its attachment.

        OpenRTC hands a session over after its start, when its first speech may be under way. The
        session's own are its speeches, its realtime model, and components that nobody else uses.
        What no speech made, others may have caused and nobody heard is unattributed.
        """
        session = candidate.session
        since, given_away = self._left.get(session, 0.0), self._given_away.get(session, set())
        recorded = [
            e
            for e in getattr(session, "_recorded_events", ())
            if getattr(e, "created_at", math.inf) > since
        ]
        own = {e.speech_handle.id for e in recorded if e.type == "speech_created"}
        for event in recorded:
            if event.type != METRICS or not self.is_new(event.metrics):
                continue
            metrics, speech = event.metrics, getattr(event.metrics, "speech_id", None)
            if id(metrics) in given_away:
                continue
            if speech in own or self._is_alone(candidate, metrics):
                self.attribute(candidate, metrics)
            elif speech is None and not self._was_heard(candidate, metrics, event.created_at):
                self._leave_unattributed(metrics, candidate)

    def attribute(
        self, candidate: Candidate, metrics: Any, label: str | None = None, emitter: Any = None
    ) -> None:
        """Hand a new event to the session that it belongs to."""
        self._remember(metrics)
        candidate.receive(metrics, label, emitter)

    def _heard_from(self, component: Component, metrics: Any) -> None:
        if not self.is_new(metrics):
            return
        if component.is_adapter:
            # Passed on by an adapter: the object inside it, which we listen to as well, decides.
            heard = self._decide_later(metrics)
            heard.adapter = component
            heard.is_served = heard.is_served or requests.is_served_inside()
            return
        if self._has_adapters and (amounts := amounts_of(metrics)) is not None:
            component.reported.add(amounts)
        if component.is_connection:
            # The session's that came last, if it was opened by another one.
            owner = list(component.users.values())[-1]
            self.attribute(owner, metrics, emitter=component.emitter)
            return
        self._decide(metrics, component.users, component)

    def _decide_later(self, metrics: Any) -> _Heard:
        """Have an event decided when the listeners of the running emission have all been called."""
        heard = self._heard.get(id(metrics))
        if heard is None:
            heard = self._heard[id(metrics)] = _Heard(metrics)
            try:
                asyncio.get_running_loop().call_soon(self._decide_late, heard)
            except RuntimeError:  # reported by a thread without a loop
                threading.Timer(0.1, copy_context().run, [self._decide_late, heard]).start()
        return heard

    def _decide_late(self, heard: _Heard) -> None:
        metrics, adapter = heard.metrics, heard.adapter
        self._heard.pop(id(metrics), None)  # forgotten already in a forked child
        users = {id(each): each for each in heard.sessions} if adapter is None else adapter.users
        try:
            if not self.is_new(metrics) or not users:
                return
            if adapter is not None and (
                self._repeats(adapter, metrics, is_served=heard.is_served)
                or (heard.is_served and metrics.type != "llm_metrics")
            ):
                self._remember(metrics)
            elif adapter is None and len(users) == 1:
                self.attribute(next(iter(users.values())), metrics)
            else:
                self._decide(metrics, users, adapter)
        except Exception as error:  # noqa: BLE001 - the loop would only log it
            first = next(iter(list(users.values())), None)
            report_failure(error, None if first is None else first.count_unmeasured)

    def _repeats(self, adapter: Component, metrics: Any, *, is_served: bool) -> bool:
        """Whether a wrapper's own report repeats that of an object inside it."""
        amounts = amounts_of(metrics)
        if amounts is None:
            return is_served or bool(getattr(metrics, "cancelled", False))
        inside = [self._components.get(id(emitter)) for emitter, _ in emitters([adapter.emitter])]
        return adapter.reported.repeats(
            amounts,
            [each.reported for each in inside if each is not None and each is not adapter],
            is_served=is_served,
        )

    def _decide(
        self, metrics: Any, users: dict[int, Candidate], component: Component | None
    ) -> None:
        answer, label = self._by_context(users, component, metrics)
        if isinstance(answer, _Unattached):
            self._leave_to(answer, metrics, label, users, component)
            return
        if answer is None:
            answer = self._by_job(users, component)
        if answer is not None:
            emitter = None if component is None else component.emitter
            self.attribute(answer, metrics, label, emitter)
        else:
            self._leave_unattributed(metrics, next(iter(list(users.values())), None))

    def _by_context(
        self, users: dict[int, Candidate], component: Component | None, metrics: Any
    ) -> tuple[Candidate | _Unattached | None, str | None]:
        """Return the session that runs this code and its agent's label, or nothing.

        It may only name a session that uses the component. Whoever makes a request uses what it
        asks: LiveKit makes one in the activity that asked, and recognises in the session's own
        pipeline. Any other context may be inherited from code that only opened the session.
        """
        mark, running = MARK.get(), contexts.activity()
        session, label = contexts.recognising(), None
        is_sure = session is not None
        if session is None and running is not None and metrics.type in _REQUESTED:
            session, label, is_sure = running.session, running.agent.label, True
        if session is None and mark is not None and mark.is_innermost(running):
            marked = mark.owner()
            if marked is not None and marked.is_open and has_begun(marked):
                session = marked.session
        if session is None and running is not None:
            session, label = running.session, running.agent.label
        if session is None:
            return None, None
        emitter = None if component is None else component.emitter
        owner = self._candidates.get(id(session))
        if owner is None:
            is_its_own = is_sure or emitter is None or uses(session, emitter, running)
            return (self._unattached(session, mark, running), label) if is_its_own else (None, None)
        if is_sure or id(owner) in users:
            return owner, label
        if emitter is not None and uses(owner.session, emitter, running):
            self.join(owner, [emitter])  # it came to the component a moment ago
            return owner, label
        return None, None

    def _unattached(
        self, session: AgentSession[Any], mark: Mark | None, running: Any
    ) -> _Unattached:
        """Say who opened a session that nobody attached; its other parts are heard from now on."""
        began = getattr(session, "_started_at", None)
        known = self._openers.get(session)
        if known is not None and known.began == began:
            return _Unattached(session, self._candidates.get(id(known.session())))
        owner = self._candidates.get(id(self._opener(session, mark, running)))
        if owner is not None:
            self._openers[session] = _Opener(ref(owner.session), began)
            self.join(owner, components_of(session))
        return _Unattached(session, owner)

    def _opener(
        self, session: AgentSession[Any], mark: Mark | None, running: Any
    ) -> AgentSession[Any] | None:
        if running is not None and running.session is not session:
            # Its tasks were created while a speech or tool of this other session ran.
            other: AgentSession[Any] = running.session
            known = id(other) in self._candidates
            return other if known else self._opener(other, mark, None)
        owner = None if mark is None else mark.owner()
        if mark is None or owner is None or owner.session is session:
            return None
        if mark.activity is None:
            # The mark of a start: the task that set it may open other sessions before the start,
            # and after it where the start ran in a task of its own.
            start, began = (getattr(each, "_started_at", None) for each in (owner.session, session))
            end = math.inf if mark.is_over else owner.running_since or math.inf
            if start is None or began is None or not owner.entered_at <= start <= began <= end:
                return None
        opener: AgentSession[Any] = owner.session
        return opener

    def _by_job(self, users: dict[int, Candidate], component: Component | None) -> Candidate | None:
        """Return the one user of the component in the job; without a job, the only user ever."""
        job = current_job()
        possible = list(users.values())
        if component is not None and component.borrowers:
            possible = [each for each in possible if id(each) not in component.borrowers]
        if job is not None:
            of_job = [each for each in possible if each.job is job]
            if not of_job and any(each.job is not None for each in possible):
                return None  # it comes from the job of a session that does not use the component
            possible = of_job or possible
        if len(possible) != 1:
            return None
        owner = possible[0]
        if component is not None:
            is_of_job = job is not None and owner.job is job
            if not is_of_job and (component.was_shared or has_left()):
                return None
            if self._has_stranger(component, job):
                return None
        return owner

    def _has_stranger(self, component: Component, job: Any) -> bool:
        """Whether a session that nobody attached could be meant as well."""
        listeners = component.listeners()
        if listeners is not None:
            for session in sessions_of(listeners):
                if session not in self._known:
                    component.to_strangers().setdefault(session, None)
        return component.strangers is not None and any(
            session not in self._known
            and session not in self._openers
            and (its is None or job is None or its is job)
            for session, its in list(component.strangers.items())
        )

    def _is_alone(self, candidate: Candidate, metrics: Any) -> bool:
        """Whether the event can only be the session's: nobody else uses what reported it."""
        if metrics.type in _OWN:
            return True
        model = candidate.session.llm
        if isinstance(model, llm.RealtimeModel) and model.label == getattr(metrics, "label", ""):
            return True  # what the session's own connection hears
        possible = reporting(candidate, metrics)
        return bool(possible) and all(
            len(each.users) == 1 and not self._has_stranger(each, candidate.job)
            for each in possible
        )

    def _was_heard(self, candidate: Candidate, metrics: Any, at: float) -> bool:
        """Whether a component was listened to when it reported an event: it was decided then."""
        return any(each.since <= at for each in reporting(candidate, metrics))

    def _leave_to(
        self,
        unattached: _Unattached,
        metrics: Any,
        label: str | None,
        users: dict[int, Candidate],
        component: Component | None,
    ) -> None:
        """Keep an event of a session that nobody attached; it may be attached just after its start.

        If it is not, the event goes to the session that opened it, or is unattributed.
        """
        session, owner = unattached.session, unattached.owner
        heard_by = owner or next(iter(list(users.values())), None)
        if heard_by is None:
            return
        if component is not None and owner is None:
            component.to_strangers()[session] = current_job()
        emitter = None if component is None else component.emitter
        now = time.monotonic()
        held = Held(session, metrics, label, emitter, copy_context(), heard_by, owner, now)
        if self.held.add(held):
            self._remember(metrics)
        else:
            self._give_away(held)

    def _give_away(self, held: Held) -> None:
        self._given_away.setdefault(held.session, set()).add(id(held.metrics))
        if held.owner is not None:
            self._remember(held.metrics)
            held.context.run(held.owner.receive, held.metrics, held.label, held.emitter)
        else:
            self._leave_unattributed(held.metrics, held.heard_by)

    def _leave_unattributed(self, metrics: Any, heard_by: Candidate | None) -> None:
        """Have one of the candidates count an event, so that it is reported once in a process."""
        self._remember(metrics)
        if heard_by is None:
            return
        try:
            tier = tier_of_event(metrics, asked=requests.asked_tier(), emitter=None, used=())
            usage = usage_of(metrics, now_us=now_us(), service_tier=tier)
        except UnknownMetricsError:
            heard_by.count_unmeasured()
            return
        if usage is None:
            return
        heard_by.count_unattributed(usage)
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s of a provider that several sessions share cannot be attributed to one of them; "
                "it is counted as unattributed. Attach every session, call the provider inside a "
                "session or job, or give each session a provider of its own.",
                metrics.type,
            )

    def _remember_user(self, emitter: Any, session: AgentSession[Any]) -> None:
        """Remember who used a provider last; by its identity, because it may not be hashable."""
        if len(self._last_users) >= REMEMBERED:
            gone = [key for key, (used, _) in self._last_users.items() if used() is None]
            for key in gone or list(self._last_users)[: REMEMBERED // 2]:
                del self._last_users[key]
        with contextlib.suppress(TypeError):  # it cannot be referred to weakly
            self._last_users[id(emitter)] = ref(emitter), ref(session)

    def _had_another_user(self, emitter: Any, session: AgentSession[Any]) -> bool:
        found = self._last_users.get(id(emitter))
        return found is not None and found[0]() is emitter and found[1]() is not session

    def _remember(self, metrics: Any) -> None:
        self._attributed[id(metrics)] = metrics
        if len(self._attributed) > REMEMBERED:
            self._attributed.popitem(last=False)


ATTRIBUTION: Final = Attribution()
"""The attribution of this process: provider objects are shared by all of its sessions."""

requests.on_request(ATTRIBUTION.asked)
