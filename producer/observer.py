"""`CostObserver`: attach the meter to live sessions, by OpenRTC's seam or by hand.

It fits OpenRTC's `SessionObserver` by shape and does not import openrtc. It holds configuration
only, so it pickles into job processes; the publisher it uses belongs to the process. No hook raises
into a call: a call that cannot be metered goes on, and the log says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from livekit.agents import AgentSession

from voicecosts.producer.capture.attachment import JOB_LINGER_S, LINGER_S, Attachment
from voicecosts.producer.capture.components import is_started
from voicecosts.producer.capture.connected import Rules
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.capture.installed import current_job
from voicecosts.producer.capture.recorded import UNREADABLE, Recorded, read, say, say_problems
from voicecosts.producer.capture.supported import require_livekit
from voicecosts.producer.config import BufferLimits, ProducerConfig, resolve
from voicecosts.producer.counts import UNKNOWN
from voicecosts.producer.dispatch import job_fields, openrtc_tenant, tenant_name
from voicecosts.producer.events import MeterTotals, now_us
from voicecosts.producer.names import labels as plain_labels
from voicecosts.producer.names import name, text
from voicecosts.producer.process import PROCESS
from voicecosts.producer.publishing.publisher import Publisher, Stats
from voicecosts.producer.tls import Tls

logger = logging.getLogger(__name__)


class CostObserver:
    """Meters every session it is given and publishes the readings to NATS JetStream.

    `servers` is one NATS address (`host:port` or a URL), several separated by commas, or a
    sequence; without it `COSTS_SERVERS` is used. With neither, the readings stay in the outbox
    until `costs query` or `costs up` on this host books them. `project` falls back to
    `COSTS_PROJECT`, `credentials` (a `.creds` or an nkey seed file) to `COSTS_CREDENTIALS`, and
    each path in `tls` (a `Tls`, for tls:// and wss://) to its variable `COSTS_TLS_…`.
    `labels` travel with every session: short facts such as a region. What is not acknowledged waits
    in `outbox_dir`, or `COSTS_OUTBOX_DIR`, or the user's data folder.
    `connections` says whether connected time is counted (agent minutes, participants, telephone
    legs): `auto`, where the room is at LiveKit Cloud; `on`, everywhere; `off`; or
    `COSTS_CONNECTIONS`. `carrier` is who carries your telephone calls (`twilio`), or
    `COSTS_CARRIER`: its own minutes are counted beside LiveKit's.

    Raises:
        ConfigError: At construction, naming everything that is missing or wrong, or what the
            installed livekit-agents lacks.
    """

    attaches_before_start = True
    """Makes our own pool hand over a session before it starts. OpenRTC always does so after."""

    def __init__(
        self,
        project: str | None = None,
        servers: str | Sequence[str] | None = None,
        credentials: str | os.PathLike[str] | None = None,
        *,
        tls: Tls | None = None,
        labels: Mapping[str, str] | None = None,
        limits: BufferLimits | None = None,
        outbox_dir: str | os.PathLike[str] | None = None,
        connections: str | None = None,
        carrier: str | None = None,
    ) -> None:
        require_livekit()
        self._config = resolve(
            project=project,
            servers=servers,
            credentials=credentials,
            tls=tls,
            outbox_dir=outbox_dir,
            limits=limits,
            connections=connections,
            carrier=carrier,
        )
        self._labels = dict(labels or {})

    @property
    def config(self) -> ProducerConfig:
        """The configuration in use."""
        return self._config

    def __repr__(self) -> str:
        return f"CostObserver({self._config!r})"

    def attach(
        self,
        session: AgentSession[Any],
        *,
        agent_id: str,
        tenant: str | None = None,
        job: Any = None,
        labels: Mapping[str, str] | None = None,
    ) -> Attachment | None:
        """Meter `session`, before `session.start()` so that nothing is missed.

        `agent_id` is the registered agent the call was routed to, `job` the `JobContext` (inside a
        job it may be left out). Attaching a session again changes nothing, and a warning names what
        is ignored; after its end it opens a session of its own, as a new start does. Returns the attachment, whose
        `session_id` is the ledger's, or `None` if metering failed: the call goes on.
        """
        wrong = _wrong_arguments(session, job, labels)
        if wrong:
            logger.error(
                "a session of agent %r is not metered: %s; the call goes on", agent_id, wrong
            )
            return None
        try:
            attachment = self._attach(
                session,
                agent_id=_agent_name(agent_id),
                tenant=_tenant(tenant, agent_id),
                job=job if job is not None else current_job(),
                labels={**self._labels, **(labels or {})},
            )
        except Exception:
            logger.exception("a session of agent %r is not metered; the call goes on", agent_id)
            return None
        return attachment

    def record(
        self, session: AgentSession[Any] | Attachment | str, **used: Unpack[Recorded]
    ) -> None:
        """Count for a session what LiveKit does not report: an avatar's minutes, a paid tool, a model.

        `session` is the `AgentSession` that was attached, what `attach` returned, or the session's
        id. `modality`, `provider` and `model` name what a price is for; `modality` is one of
        LiveKit's (`llm`, `stt`, `tts`), by which list prices are found, or a word of yours
        (`avatar`, `tool`), which a price of your own names. Amounts:

        * `requests`, `input_tokens`, `output_tokens`, `characters` and the other quantities of
          `Recorded`, in whole numbers. `input_tokens` includes cached ones, `output_tokens`
          includes reasoning;
        * `audio_seconds` and `session_seconds`: seconds, counted to the microsecond;
        * `reported_cost`: US dollars that the provider says it charged, as text or `Decimal`. It
          is kept beside the cost by prices, never in its place.

        Each call adds to the totals so far, so give what was used since the last one: a total could
        be given twice, or by two parts of a worker. `agent_label` is the agent that used it, the
        active one if it is left out; `service_tier` is the provider's name of one that is not the
        standard. Where a price depends on the size of a request, record each by itself.

        What LiveKit reports is metered already: recorded as well, it would be counted twice. Where
        a meter has measured usage when something is recorded on it, a warning says so once.

        May be called on any thread, before, during and after the session, while the process lives;
        by an id after the session object is gone, for the last 256 sessions of the process.
        Never raises and never waits. What is wrong is an error in the log that says what to give; the
        rest is counted, and the session says that it lacks something. What is recorded for a session that is not
        attached is reported as unattributed.
        """
        try:
            note = read(used, now_us=now_us())
        except Exception:
            logger.exception("what was recorded could not be read; the call goes on")
            note = UNREADABLE
        try:
            say_problems(note)
            known = PROCESS.find(session)
            if known is not None:
                known.record(note)
                return
            say(
                "the session is not attached, so its usage is reported as unattributed: give the "
                f"AgentSession that was attached; this was {_kind(session)}"
            )
            publisher = self._publisher()
            if note.has_amounts:
                publisher.count_unattributed(note.usage)
            elif note.usage.unread:
                publisher.count_unmeasured()
        except Exception:
            logger.exception("usage was not recorded; the call goes on")

    def usage_so_far(self, session: AgentSession[Any] | Attachment | str) -> list[MeterTotals]:
        """Return what a session has used so far: its meters' totals, at once, from memory.

        `session` as in `record`. One `MeterTotals` a meter, in the order of their first usage: its
        names (`agent_label`, `modality`, `provider`, `model`, `estimated`, tiers) and its `totals`,
        with `audio_us` and `session_us` in microseconds. Nothing is priced here: that is the
        ledger's, which knows the prices. After the end these are the final totals; of a session
        that starts again, those since then. Empty for a session that is not attached.

        May be called on any thread. What another thread has recorded is in it when the session's
        loop has come to it.
        """
        try:
            known = PROCESS.find(session)
            return [] if known is None else known.meters.totals()
        except Exception:
            logger.exception("what a session has used so far cannot be told")
            return []

    async def on_session_start(self, info: Any, session: AgentSession[Any]) -> None:
        """A pool's hook: a session goes live. Agent and tenant are fixed here, from `info`."""
        try:
            job = current_job()
            self._attach(
                session,
                agent_id=info.agent_name,
                tenant=openrtc_tenant(info, job),
                job=job,
                job_id=info.job_id,
                labels=self._labels,
                deployment=getattr(info, "deployment_version", None),
                fallback={"job_id": text(info.job_id), "room_name": text(info.room_name)},
                by_pool=True,
            )
        except Exception:
            logger.exception("a session is not metered; the call goes on")

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """A pool's hook: a session ended, or only its entrypoint returned.

        In OpenRTC's process mode this comes right after the greeting, so a live session is
        finalised only where the pool or the executor says that the call is over. An end without a
        start is ignored.
        """
        try:
            status = getattr(outcome.status, "value", str(outcome.status))
            is_over = getattr(outcome, "is_final", False) or _is_held_open()
            for attachment in PROCESS.attachments_of(info.job_id):
                if attachment.closed.is_set() or is_over:
                    attachment.finalise(status=status, reason="session end hook")
                if is_over:
                    attachment.detach_later(LINGER_S)
            await self._publisher().wait_until_safe(self._config.flush_timeout_s, patient=False)
        except Exception:
            logger.exception("finalising a session failed; its readings were published before")

    async def flush(self, timeout: float = 2.0) -> bool:  # noqa: ASYNC109 - the public name
        """Wait until everything captured so far is stored by JetStream, at most `timeout` seconds.

        Without servers, until it is in the outbox. Returns whether it is. On a timeout nothing is
        lost: what was captured is in the outbox, and this process or a later one publishes it.
        """
        return await self._publisher().wait_until_safe(timeout)

    def stats(self) -> Stats:
        """Return the counts of this process's publisher."""
        return self._publisher().stats()

    def _publisher(self) -> Publisher:
        return PROCESS.publisher(self._config)

    def _attach(
        self,
        session: AgentSession[Any],
        *,
        agent_id: str,
        tenant: str | None,
        job: Any,
        labels: Mapping[str, str],
        job_id: str = "",
        deployment: str | None = None,
        fallback: Mapping[str, str] | None = None,
        by_pool: bool = False,
    ) -> Attachment:
        publisher, config = self._publisher(), self._config
        started_at = now_us()
        facts = {**(fallback or {}), **job_fields(job)}
        if deployment:
            facts["deployment"] = text(deployment)
        identity = SessionIdentity(
            session_id=new_session_id(started_at),
            project=self._config.project,
            agent_id=name(agent_id, UNKNOWN),
            tenant=tenant,
            started_at=started_at,
            labels=plain_labels(labels),
            **facts,
        )
        existing = PROCESS.attachments.get(id(session))
        if existing is not None and not existing.finalised:
            _warn_of_second(
                existing.identity, identity, is_elsewhere=not existing.goes_to(publisher)
            )
            return existing
        if existing is not None:
            existing.replace()
        if not by_pool and is_started(session):
            logger.warning(
                "session of agent %r was attached after its start: usage before now may be "
                "missing; call attach() before session.start()",
                identity.agent_id,
            )

        def again() -> Attachment | None:
            known = PROCESS.attachments.get(id(session))
            if known is not None:
                return known
            return self._attach(
                session,
                agent_id=agent_id,
                tenant=tenant,
                job=current_job() or job,
                labels=labels,
                job_id=job_id,
                deployment=deployment,
                fallback=fallback,
                by_pool=True,
            )

        job_id = job.job.id if job is not None else job_id
        PROCESS.detach_ended(job_id)
        attachment = Attachment(
            session,
            identity,
            publisher,
            job=job,
            job_id=job_id,
            rules=Rules(config.connections, config.carrier, config.livekit_url),
            on_detached=PROCESS.forget,
            on_restart=again,
        )
        PROCESS.attachments[id(session)] = attachment
        attachment.open()
        if job is not None and PROCESS.hook(job, publisher):
            job.add_shutdown_callback(self._shutdown_callback(job_id))
        return attachment

    def _shutdown_callback(self, job_id: str) -> Any:
        """Return what a job does when it ends: finalise the sessions that closed, and flush.

        A session that runs is waited for until the deadline of a flush; one that was never started
        is not. All are listened to while the job's other hooks may still use them.
        """

        async def flush_costs(reason: str) -> None:
            until = time.monotonic() + self._config.flush_timeout_s
            await asyncio.sleep(0)  # LiveKit calls all hooks at once: one may say the outcome
            attachments = PROCESS.attachments_of(job_id)
            try:
                async with asyncio.timeout(self._config.flush_timeout_s):
                    for attachment in attachments:
                        if attachment.is_running and not attachment.finalised:
                            await attachment.closed.wait()
            except TimeoutError:
                pass
            for attachment in attachments:
                attachment.finalise(status="cancelled", reason=f"job shutdown: {reason}")
                attachment.detach_later(JOB_LINGER_S)
            await self._publisher().wait_until_safe(until - time.monotonic(), patient=False)

        return flush_costs


def _wrong_arguments(session: object, job: object, labels: object) -> str:
    """Return what is wrong with arguments that no session can be metered with, "" if nothing is."""
    if not isinstance(session, AgentSession):
        return f"attach() needs an AgentSession, and got {_kind(session)}"
    if job is not None and not hasattr(job, "add_shutdown_callback"):
        return f"job must be a JobContext, and is {_kind(job)}"
    if labels is not None and not isinstance(labels, Mapping):
        return f"labels must be a mapping of text, and they are {_kind(labels)}"
    return ""


def _agent_name(value: object) -> Any:
    """Return the agent that a caller named, and say so where it is no name."""
    if not isinstance(value, str) or not value.strip():
        logger.warning(
            "agent_id is %s, not a name: its costs are shown under %r; pass the agent's name",
            repr(value) if isinstance(value, str) else _kind(value),
            name(value, UNKNOWN),
        )
    return value


def _tenant(value: object, agent_id: object) -> str | None:
    """Return the tenant that a caller gave; what is neither text nor a number names nobody."""
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return tenant_name(value)
    logger.warning(
        "the tenant of a session of agent %r is ignored: it is %s; pass a text",
        agent_id,
        _kind(value),
    )
    return None


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a value of type {type(value).__name__}"


def _warn_of_second(
    known: SessionIdentity, ignored: SessionIdentity, *, is_elsewhere: bool
) -> None:
    """Say what a second attachment of a session asked for and does not get."""
    different = [
        f"{what} {value!r}" if value else f"no {what}"
        for what in ("project", "agent_id", "tenant", "labels")
        if (value := getattr(ignored, what)) != getattr(known, what)
    ]
    if is_elsewhere and known.project == ignored.project:
        different.append("the servers and outbox of another observer")
    if different:
        logger.warning(
            "session %s is metered already, for agent %r and tenant %r of project %r; ignored: %s",
            known.session_id,
            known.agent_id,
            known.tenant,
            known.project,
            ", ".join(different),
        )


def _is_held_open() -> bool:
    """Whether OpenRTC calls the end hook only when the session has ended (its coroutine mode)."""
    job = current_job()
    return bool(getattr(job, "_openrtc_defer_session_end", False))
