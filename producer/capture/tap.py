"""Listening to one LiveKit session: on the session itself and on every component it uses.

No single subscription is right. A session hears every event of a provider object that it shares
with others, and it stops listening before its speech recogniser reports the last seconds; a
component's own listener hears those, but not what a realtime session or a detector reports.
`attribution.py` decides which session an event belongs to. Nothing here may raise or wait: an
exception in a listener can end the agent's turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any, Final

from livekit import rtc
from livekit.agents import AgentSession

from voicecosts.producer.capture import requests
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.capture.candidates import Candidate
from voicecosts.producer.capture.components import components_of, is_started, running_agent
from voicecosts.producer.capture.contexts import speech_id
from voicecosts.producer.capture.listener import METRICS, listener, report_failure
from voicecosts.producer.capture.marks import end_start, mark_speech
from voicecosts.producer.capture.tiers import TIERED, tier_of_event
from voicecosts.producer.counts import Usage

_EMITTER: Final[Any] = rtc.EventEmitter
"""`AgentSession.on` warns about the metrics event; the emitter below it does not."""

Sink = Callable[[Any, str, str, str], None]
"""Receives a metrics object, the label of the agent that was active, the speech's id or "", and the
service tier or ""."""


class Tap:
    """Hands the usage events of one session to `sink`, from `open` until `close`.

    `sink` is called on the session's thread, exactly once per metrics object of this session.
    `count_unattributed` gets usage that could be another's, in one of those sessions;
    `count_unmeasured` is called for an event that could not be read.
    """

    def __init__(
        self,
        session: AgentSession[Any],
        sink: Sink,
        *,
        job: Any,
        count_unattributed: Callable[[Usage], None],
        count_unmeasured: Callable[[], None],
    ) -> None:
        self.session = session
        self.agent_label = ""
        self._sink = sink
        self._candidate = Candidate(
            session=session,
            job=job,
            receive=self._receive,
            count_unattributed=count_unattributed,
            count_unmeasured=count_unmeasured,
        )
        self._used: tuple[Any, ...] = ()
        self._on_metrics = listener(self._heard, count_unmeasured)
        self._on_item = listener(self._item_added, count_unmeasured)
        self._on_state = listener(self._state_changed, count_unmeasured)

    def __repr__(self) -> str:
        state, components = "open" if self.is_open else "closed", len(self._candidate.components)
        return f"<Tap {state}, {components} components, agent {self.agent_label!r}>"

    @property
    def is_open(self) -> bool:
        """Whether the session is listened to."""
        return self._candidate.is_open

    def open(self) -> None:
        """Start listening, and catch up with a session that runs already.

        Before `session.start()` nothing is missed.
        """
        is_running = is_started(self.session)
        ATTRIBUTION.enter(self._candidate, is_running=is_running)
        _EMITTER.on(self.session, METRICS, self._on_metrics)
        self.session.on("conversation_item_added", self._on_item)
        self.session.on("agent_state_changed", self._on_state)
        try:
            self.scan()
            if is_running:
                ATTRIBUTION.catch_up(self._candidate)
        except Exception as error:  # noqa: BLE001 - an odd provider costs no more than its own usage
            report_failure(error, self._candidate.count_unmeasured)

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        if not self.is_open:
            return
        _EMITTER.off(self.session, METRICS, self._on_metrics)
        self.session.off("conversation_item_added", self._on_item)
        self.session.off("agent_state_changed", self._on_state)
        ATTRIBUTION.exit(self._candidate)

    def release_held(self) -> None:
        """Receive at once what is held for a session that this one opened: no attachment follows."""
        ATTRIBUTION.held.release(self._candidate)

    def scan(self) -> None:
        """Listen to components that came since the last scan (a hand-off, a live swap)."""
        agent = running_agent(self.session)
        if agent is not None:
            self.agent_label = agent.label
        used = components_of(self.session)
        if any(now is not before for now, before in zip_longest(used, self._used)):
            self._used = used
            ATTRIBUTION.join(self._candidate, used)

    def label(self) -> str:
        """Return the label of the active agent; after the end, of the last one."""
        agent = running_agent(self.session)
        if agent is not None:
            self.agent_label = agent.label
        return self.agent_label

    def _heard(self, event: Any) -> None:
        metrics = event.metrics
        # In a forked child the parent's sessions still hear what a shared provider reports.
        if self._candidate.is_open and ATTRIBUTION.is_new(metrics):
            self.scan()  # no component we listen to has reported it: there may be a new one
            ATTRIBUTION.heard_by(self._candidate, metrics)

    def _item_added(self, _event: Any) -> None:
        mark_speech(self._candidate)
        self.scan()

    def _state_changed(self, event: Any) -> None:
        mark_speech(self._candidate)
        if event.new_state == "listening":
            end_start(self._candidate)
            self.scan()

    def _receive(self, metrics: Any, label: str | None, emitter: Any) -> None:
        """Hand an event of this session to the sink, with its speech and its service tier.

        LiveKit writes the speech's id into an event only when it reaches the session, which is
        after a component's own listeners have heard it; its context tells it at once.
        """
        tier = ""
        if metrics.type in TIERED:
            used: Iterable[Any] = ()
            if emitter is None:
                used = [each.emitter for each in list(self._candidate.components.values())]
            asked = requests.asked_tier()
            tier = tier_of_event(metrics, asked=asked, emitter=emitter, used=used)
        self._sink(metrics, self.label() if label is None else label, speech_id(), tier)
