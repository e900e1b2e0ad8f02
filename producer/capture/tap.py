"""Listening to one LiveKit session: on the session itself and on every component it uses.

No single subscription is right. A session hears every event of a provider object that it shares
with others, and it stops listening before its speech recogniser reports the last seconds; a
component's own listener hears those, but not what a realtime session or a detector reports.
`attribution.py` decides which session an event belongs to. Nothing here may raise or wait: an
exception in a listener can end the agent's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import AgentSession

from voicecosts.producer.capture.attribution import ATTRIBUTION, Candidate, running_agent
from voicecosts.producer.capture.listener import METRICS, listener
from voicecosts.producer.counts import Usage

try:  # private: it tells interrupted speeches apart, and a test watches that it is still there
    from livekit.agents.voice.agent_activity import _SpeechHandleContextVar as _SPEECH
except ImportError:  # pragma: no cover - a later livekit-agents
    _SPEECH = None  # type: ignore[assignment]  # absent in another version

_EMITTER: Final[Any] = rtc.EventEmitter
"""`AgentSession.on` warns about the metrics event; the emitter below it does not."""

Sink = Callable[[Any, str, str], None]
"""Receives a metrics object, the label of the agent that was active, and the speech's id or ""."""


class Tap:
    """Hands the usage events of one session to `sink`, from `open` until `close`.

    `sink` is called on the session's thread, exactly once per metrics object of this session;
    `count_unattributed` with the usage of one that could be another's, in one of those sessions.
    """

    def __init__(
        self,
        session: AgentSession[Any],
        sink: Sink,
        *,
        job: Any,
        count_unattributed: Callable[[Usage], None],
    ) -> None:
        self.session = session
        self.agent_label = ""
        self._sink = sink
        self._candidate = Candidate(
            session=session,
            job=job,
            receive=self._receive,
            count_unattributed=count_unattributed,
        )
        self._used: tuple[Any, ...] = ()
        self._on_metrics = listener(self._heard)
        self._on_item = listener(lambda _item: self.scan())

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
        is_running = running_agent(self.session) is not None
        ATTRIBUTION.enter(self._candidate)
        _EMITTER.on(self.session, METRICS, self._on_metrics)
        self.session.on("conversation_item_added", self._on_item)
        self.scan()
        if is_running:
            self._catch_up()

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        if not self.is_open:
            return
        _EMITTER.off(self.session, METRICS, self._on_metrics)
        self.session.off("conversation_item_added", self._on_item)
        ATTRIBUTION.exit(self._candidate)

    def scan(self) -> None:
        """Listen to components that came since the last scan (a hand-off, a live swap)."""
        session, agent = self.session, running_agent(self.session)
        used: tuple[Any, ...] = (session.stt, session.llm, session.tts)
        if agent is not None:
            used += (agent.stt, agent.llm, agent.tts)
            self.agent_label = agent.label
        if used == self._used:
            return
        self._used = used
        for component in used:
            if isinstance(component, rtc.EventEmitter):
                ATTRIBUTION.join(self._candidate, component)

    def label(self) -> str:
        """Return the label of the active agent; after the end, of the last one."""
        agent = running_agent(self.session)
        if agent is not None:
            self.agent_label = agent.label
        return self.agent_label

    def voice(self) -> Any:
        """Return the TTS in use, `None` when there is none."""
        return getattr(running_agent(self.session), "tts", None) or self.session.tts

    def _heard(self, event: Any) -> None:
        metrics = event.metrics
        # In a forked child the parent's sessions still hear what a shared provider reports.
        if self.is_open and ATTRIBUTION.is_new(metrics):
            self.scan()  # no component we listen to has reported it: there may be a new one
            ATTRIBUTION.heard_by(self._candidate, metrics)

    def _catch_up(self) -> None:
        """Count what the session reported between its start and this attachment.

        OpenRTC hands a session over after its start, when its first speech may be under way. Only
        usage of the session's own speeches is counted, because no other is surely its own.
        """
        recorded = list(getattr(self.session, "_recorded_events", ()))
        own = {e.speech_handle.id for e in recorded if e.type == "speech_created"}
        for event in recorded:
            if event.type != METRICS or getattr(event.metrics, "speech_id", None) not in own:
                continue
            if ATTRIBUTION.is_new(event.metrics):
                ATTRIBUTION.attribute(self._candidate, event.metrics)

    def _receive(self, metrics: Any, label: str | None) -> None:
        """Hand an event of this session to the sink, with the speech that it belongs to.

        LiveKit writes the speech's id into an event only when it reaches the session, which is
        after a component's own listeners have heard it; its context tells it at once.
        """
        speech = _SPEECH.get(None) if _SPEECH is not None else None  # type: ignore[redundant-expr]  # None in another version
        self._sink(
            metrics, self.label() if label is None else label, "" if speech is None else speech.id
        )
