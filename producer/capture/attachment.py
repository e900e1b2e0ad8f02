"""One attached session: from its first event until its last, with exactly one end.

The tap delivers usage, the meters count it, the publisher sends the readings. The first of the
events that end a session finalises it; later ones change nothing. Usage that is reported after the
end still becomes a reading; its number is higher, so the ledger books the difference. A session
that starts again is a session of its own: `on_restart` attaches it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final
from weakref import ref

from livekit.agents import AgentSession

from voicecosts.producer.capture.account import Account, Outlet
from voicecosts.producer.capture.components import has_restarted, is_started
from voicecosts.producer.capture.connected import NOTHING, Connections, Rules
from voicecosts.producer.capture.estimates import Estimates
from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.capture.installed import SAYS_SCHEDULED
from voicecosts.producer.capture.listener import listener, report_failure
from voicecosts.producer.capture.open_streams import Streams
from voicecosts.producer.capture.outcome import talk_of, verdict_of
from voicecosts.producer.capture.recorded import Note
from voicecosts.producer.capture.requests import open_stream, watch
from voicecosts.producer.capture.tap import Tap
from voicecosts.producer.capture.usage import UnknownMetricsError, usage_of
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import now_us

logger = logging.getLogger(__name__)

watch()  # on import: OpenRTC attaches a session when its first speech may be under way

_REPORTED_WITHIN_S: Final = 1.0
"""How long after a speech its usage may still be reported."""

LINGER_S: Final = 1.0
"""How long after the close of a session without a job its components are still listened to."""

JOB_LINGER_S: Final = 10.0
"""How long after the first shutdown hook of a job its sessions are still listened to.

LiveKit calls the hooks at once and gives them ten seconds; one may summarise the call.
"""


class Attachment:
    """The metering of one `AgentSession`. Lives on the session's thread."""

    def __init__(
        self,
        session: AgentSession[Any],
        identity: SessionIdentity,
        outlet: Outlet,
        *,
        job: Any = None,
        job_id: str = "",
        rules: Rules = NOTHING,
        on_detached: Callable[[Attachment], None] = lambda _attachment: None,
        on_restart: Callable[[], Attachment | None] = lambda: None,
    ) -> None:
        self.session = session
        self.identity = identity
        self.job = job
        self.job_id = job_id
        """As LiveKit spells it; the identity's may have a telephone number masked."""
        loop, held = _running_loop(), ref(session)  # the account does not keep the session
        self.account = Account(identity, outlet, lambda: loop or getattr(held(), "_loop", None))
        self.meters = self.account.meters
        self.closed = asyncio.Event()
        self.finalised = False
        self._has_run = False
        self._has_failed = False
        self._preempted: list[str] | None = [] if SAYS_SCHEDULED else None
        self._said_unmeasured: set[str] = set()
        self._on_detached = on_detached
        self._restart = on_restart
        self._tap = Tap(
            session,
            self.measured,
            job=job,
            count_unattributed=outlet.count_unattributed,
            count_unmeasured=self._count_unmeasured,
        )
        self._estimates = Estimates(self._estimated)
        self._connections = Connections(
            session, rules, self._connected, job=job, failed=self._count_unmeasured
        )
        self._streams = Streams(session, self._estimated, self._tap.label)
        self._on_speech = listener(self.speech_created, self._count_unmeasured)
        self._on_close = listener(self._session_closed, self._count_unmeasured)
        self._on_state = listener(self._state_changed, self._count_unmeasured)

    def __repr__(self) -> str:
        state = "finalised" if self.finalised else "live"
        return f"<Attachment {state}: {self.meters!r}, {self._tap!r}>"

    @property
    def session_id(self) -> str:
        """The id under which the ledger knows this session."""
        return self.identity.session_id

    @property
    def is_running(self) -> bool:
        """Whether the session was started, and its close is still to come."""
        return (self._has_run or is_started(self.session)) and not self.closed.is_set()

    def goes_to(self, outlet: Outlet) -> bool:
        """Whether the events of this session go to an outlet."""
        return self.account.outlet is outlet

    def open(self) -> None:
        """Publish the start and begin to listen."""
        self._has_run = is_started(self.session)
        self.account.outlet.put(self.meters.started())
        self._tap.open()
        if self._has_run:
            self._catch_up_with_speeches()
        self.session.on("speech_created", self._on_speech)
        self.session.on("close", self._on_close)
        self.session.on("agent_state_changed", self._on_state)
        self._connections.open()

    def finalise(self, *, status: str, reason: str) -> None:
        """Publish the end with every meter's totals.

        A second call tells what the job says of the call since then, if anything. A session that
        never ran is not listened to any more.
        """
        if self.finalised:
            self._conclude()
            return
        self.catch_up()
        self._tap.release_held()
        self.finalised = True
        for speech_id in self._estimates.open_speeches():
            self._book_unreported(speech_id)
        self._connections.close()
        self._streams.close()
        self.account.agent_label = self._tap.label()
        self.account.conclude(
            talk_of(self.session, self._preempted, is_realtime=self.meters.has("realtime"))
        )
        self._conclude()
        self.account.end(status, reason, now_us())
        if not self._has_run and not is_started(self.session):
            self.detach()

    def detach(self) -> None:
        """Stop listening to usage; safe to call twice. A new start is still noticed."""
        if not self._tap.is_open:
            return
        if self.finalised:
            self._conclude()
        self._connections.close()
        self._tap.close()
        self.session.off("speech_created", self._on_speech)
        self.session.off("close", self._on_close)
        self._on_detached(self)

    def replace(self) -> None:
        """Stop listening altogether: the session has another attachment."""
        self.detach()
        self.session.off("agent_state_changed", self._on_state)

    def detach_later(self, after_s: float) -> None:
        """Stop listening after some seconds: a plugin may report its last usage late.

        Where the loop has ended nothing more can come.
        """
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().call_later(after_s, self.detach)

    def measured(self, metrics: Any, label: str, speech_id: str, service_tier: str) -> None:
        """Count a metrics object of this session, or of the session that it started again as."""
        self._has_run = True
        if self.finalised and (renewed := self._renewed()) is not None:
            renewed.measured(metrics, label, speech_id, service_tier)
            return
        try:
            usage = usage_of(
                metrics, now_us=now_us(), speech_id=speech_id, service_tier=service_tier
            )
            if usage is not None:
                self._estimates.measured(usage, label)
                self.account.outlet.put(self.meters.add(usage, label))
                if usage.unread:
                    self._count_unread(usage)
            if metrics.type == "stt_metrics":
                self._streams.heard(open_stream(), usage, label)
        except UnknownMetricsError as error:
            self._count_unmeasured()
            if error.kind not in self._said_unmeasured:
                self._said_unmeasured.add(error.kind)
                logger.warning("%s; its usage is missing from the costs of this session", error)
        except Exception as error:  # noqa: BLE001 - nothing may reach the agent's turn
            if self._has_failed:
                self._count_unmeasured()
            else:
                self._has_failed = True  # one traceback a session says enough
                report_failure(error, self._count_unmeasured)

    def record(self, note: Note) -> None:
        """Count what the worker's own code says was used; from any thread, also after the end."""
        self.account.thread.do(lambda: self._record(note))

    def catch_up(self) -> None:
        """Count what other threads have recorded and this one has not counted yet."""
        self.account.thread.catch_up()

    def _record(self, note: Note) -> None:
        if self.finalised and (renewed := self._renewed()) is not None:
            renewed.record(note)
            return
        self.account.add(note, self._tap.label())

    def _count_unread(self, usage: Usage) -> None:
        """Count an event of which one field or more held no amount; the rest is in the totals."""
        self._count_unmeasured()
        fields = f"{', '.join(usage.unread)} of {usage.modality} usage"
        if fields not in self._said_unmeasured:
            self._said_unmeasured.add(fields)
            logger.warning(
                "%s held no amount; it is missing from the costs of this session. Ask the maker of "
                "the plugin for %s.",
                fields,
                usage.model,
            )

    def _count_unmeasured(self) -> None:
        """Count what was heard and not measured; after the listening has ended it is nobody's."""
        if self.account.has_ended and not self._tap.is_open:
            self.account.outlet.count_unmeasured()
        else:
            self.account.count_unmeasured()

    def _state_changed(self, _event: Any) -> None:
        if self._renewed() is None:
            self._has_run = True
            self._connections.look()

    def _renewed(self) -> Attachment | None:
        """Return the attachment of a session that started again after its end, else `None`."""
        if not self.finalised or not has_restarted(self.session):
            return None
        if self._has_run and not self.closed.is_set():
            return None  # it was finalised by the end of its job, and runs on
        self.replace()
        return self._restart()

    def _estimated(self, usage: Usage, label: str) -> None:
        self.account.outlet.put(self.meters.add(usage, label, estimated=True))

    def _connected(self, usage: Usage, label: str) -> None:
        self.account.outlet.put(self.meters.add(usage, label))

    def speech_created(self, event: Any) -> None:
        """Follow a speech of this session, or of the session that it started again as."""
        renewed = self._renewed()
        if renewed is not None:
            renewed.speech_created(event)
            return
        self._has_run = True
        handle = event.speech_handle
        self._estimates.created(handle, self._tap.label())
        handle.add_done_callback(listener(self._speech_done))

    def _catch_up_with_speeches(self) -> None:
        """Follow the speeches that were created between the session's start and this attachment."""
        for event in list(getattr(self.session, "_recorded_events", ())):
            if event.type == "speech_created":
                self._on_speech(event)

    def _conclude(self) -> None:
        self.account.conclude(verdict_of(self.job, self.account.outcome))

    def _speech_done(self, handle: Any) -> None:
        if self._preempted is not None and handle.interrupted and not handle.scheduled:
            self._preempted.append(handle.id)
        if self._estimates.finished(handle.id):
            asyncio.get_running_loop().call_later(
                _REPORTED_WITHIN_S, self._book_unreported, handle.id
            )

    def _book_unreported(self, speech_id: str) -> None:
        self._estimates.book_unreported(speech_id, now_us=now_us())

    def _session_closed(self, event: Any) -> None:
        failed = event.error is not None or event.reason.value == "error"
        self.finalise(status="failed" if failed else "success", reason=event.reason.value)
        self.closed.set()
        if self.job is None:
            self.detach_later(LINGER_S)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
