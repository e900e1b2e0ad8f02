"""Listening to one LiveKit session: on the session itself and on every component it uses.

No single subscription is right. A session hears every event of a provider object that it shares
with others, and it stops listening before its speech recogniser reports the last seconds; a
component's own listener hears those, but not what a realtime session or a detector reports.
`attribution.py` gives each event to one session. Nothing here may raise or wait: an exception in a
listener can end the agent's turn.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from livekit import rtc
from livekit.agents import AgentSession, get_job_context

from voicecosts.producer.capture.attribution import ATTRIBUTION, Attribution

try:  # private: it tells interrupted speeches apart, and a test watches that it is still there
    from livekit.agents.voice.agent_activity import _SpeechHandleContextVar as _SPEECH
except ImportError:  # pragma: no cover - a later livekit-agents
    _SPEECH = None  # type: ignore[assignment]  # absent in another version

logger = logging.getLogger(__name__)

METRICS: Final = "metrics_collected"
_SIGNATURE: Final = inspect.Signature(
    [inspect.Parameter("events", inspect.Parameter.VAR_POSITIONAL)]
)

_EMITTER: Final[Any] = rtc.EventEmitter
"""`AgentSession.on` warns about the metrics event; the emitter below it does not."""

Sink = Callable[[Any, str, str], None]
"""Receives a metrics object, the label of the agent that was active, and the speech's id or ""."""


def listener(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return `function` as a listener that an emitter calls cheaply and that never raises.

    LiveKit's emitter inspects the signature of every listener at every event; it finds one that is
    already there, and takes any arguments, several times faster. It re-raises a TypeError into the
    agent's turn.
    """

    def guarded(event: Any) -> None:
        try:
            function(event)
        except Exception:
            logger.exception("a usage listener failed; the call goes on, an event may be missing")

    guarded.__signature__ = _SIGNATURE  # type: ignore[attr-defined]  # read by inspect.signature
    return guarded


class Tap:
    """Hands the usage events of one session to `sink`, from `open` until `close`.

    `sink` is called on the session's thread, exactly once per metrics object of this session.
    """

    def __init__(
        self, session: AgentSession[Any], sink: Sink, attribution: Attribution = ATTRIBUTION
    ) -> None:
        self.session = session
        self.job = get_job_context(required=False)
        self.agent_label = ""
        self.is_open = False
        self._sink = sink
        self._attribution = attribution
        self._components: dict[int, Any] = {}
        self._used: tuple[Any, ...] = ()
        self._on_metrics = listener(partial(attribution.heard_by, self))
        self._on_item = listener(lambda _item: self.scan())

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Tap {state}, {len(self._components)} components, agent {self.agent_label!r}>"

    def open(self) -> None:
        """Start to listen. Before `session.start()` nothing is missed."""
        self.is_open = True
        self._attribution.enter(self)
        _EMITTER.on(self.session, METRICS, self._on_metrics)
        self.session.on("conversation_item_added", self._on_item)
        self.scan()

    def close(self) -> None:
        """Stop to listen; safe to call twice."""
        if not self.is_open:
            return
        self.is_open = False
        _EMITTER.off(self.session, METRICS, self._on_metrics)
        self.session.off("conversation_item_added", self._on_item)
        for component in self._components.values():
            self._attribution.leave(self, component)
        self._components.clear()
        self._attribution.exit(self)

    def scan(self) -> None:
        """Listen to components that came since the last scan (a hand-off, a live swap)."""
        if not self.is_open:
            return
        session, agent = self.session, self.running_agent()
        used: tuple[Any, ...] = (session.stt, session.llm, session.tts)
        if agent is not None:
            used += (agent.stt, agent.llm, agent.tts)
            self.agent_label = agent.label
        if used == self._used:
            return
        self._used = used
        for component in used:
            if isinstance(component, rtc.EventEmitter) and id(component) not in self._components:
                self._components[id(component)] = component
                self._attribution.join(self, component, listener)

    def component(self, key: int) -> Any:
        """Return the component with this identity, if the session uses it."""
        return self._components.get(key)

    def running_agent(self) -> Any:
        """Return the agent that is active now, `None` before the start and after the end."""
        try:
            return self.session.current_agent
        except RuntimeError:
            return None

    def label(self) -> str:
        """Return the label of the active agent; after the end, of the last one."""
        agent = self.running_agent()
        if agent is not None:
            self.agent_label = agent.label
        return self.agent_label

    def voice(self) -> Any:
        """Return the TTS in use, `None` when there is none."""
        return getattr(self.running_agent(), "tts", None) or self.session.tts

    def catch_up(self) -> None:
        """Take what the session reported between its start and this attachment.

        OpenRTC hands a session over after its start, when its first speech may be under way. Only
        what is surely this session's is taken: the usage of its own speeches.
        """
        recorded = list(getattr(self.session, "_recorded_events", ()))
        own = {e.speech_handle.id for e in recorded if e.type == "speech_created"}
        for event in recorded:
            if event.type != METRICS:
                continue
            if getattr(event.metrics, "speech_id", None) in own:
                self._attribution.claim(self, event.metrics)

    def take(self, metrics: Any, label: str | None) -> None:
        """Hand an event of this session to the sink, under the agent that is active.

        LiveKit writes the speech's id into an event only when it reaches the session, which is
        after a component's own listeners have heard it; its context tells it at once.
        """
        speech = _SPEECH.get(None) if _SPEECH is not None else None  # type: ignore[redundant-expr]  # None in another version
        self._sink(
            metrics, self.label() if label is None else label, "" if speech is None else speech.id
        )
