"""One call from its dispatch to its end: routed, observed, started, greeted, and reported once.

LiveKit runs `run_session` and `end_session` in a thread or a process of the call. A call that
cannot be routed is refused before its room is connected and before any observer is called. The end
is reported by LiveKit's end hook, which runs after the session has closed, in every executor.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from livekit.agents import AgentSession, CloseEvent, JobContext

from voicecosts.producer.errors import Refused
from voicecosts.producer.pool.config import AgentConfig
from voicecosts.producer.pool.observers import (
    HookLimits,
    Registered,
    SessionInfo,
    info_of,
    outcome_of,
    run_hook,
)
from voicecosts.producer.pool.routing import Router, resolve_and_log, view_of

logger = logging.getLogger(__name__)

_CALL: Final = "voicecosts.call"
"""Where a job's process keeps its call between the two hooks; a job has its own."""


@dataclass
class PoolState:
    """What a call needs of its pool. It is pickled into the process of the call."""

    agents: dict[str, AgentConfig] = field(default_factory=dict)
    observers: list[Registered] = field(default_factory=list)
    router: Router | None = None
    limits: HookLimits = field(default_factory=HookLimits)


class Call:
    """A call that was routed; `error` is what ended it, if anything did."""

    def __init__(self, state: PoolState, agent: AgentConfig, info: SessionInfo) -> None:
        self.state = state
        self.agent = agent
        self.info = info
        self.error: BaseException | None = None
        self.session: AgentSession[Any] = AgentSession(**agent.session_arguments())
        self.session.on("close", self._closed)

    async def run(self, job: JobContext) -> None:
        """Start the session; return when it runs and the greeting is on its way."""
        try:
            await job.connect()
            await self._tell_start(early=True)
            await self.session.start(self.agent.agent_class(), room=job.room)
            await self._tell_start(early=False)
            if self.agent.greeting is not None:
                # Not awaited: a caller who hangs up meanwhile must not wait for its end.
                self.session.generate_reply(instructions=self.agent.greeting)
        except BaseException as error:
            self.error = error
            raise

    async def end(self) -> None:
        """Tell every observer that the call is over."""
        outcome = outcome_of(self.info, self.error)
        for registered in self.state.observers:
            limit_s = self.state.limits.end_s
            await run_hook(
                registered.observer, "on_session_end", self.info, outcome, limit_s=limit_s
            )

    async def _tell_start(self, *, early: bool) -> None:
        for registered in self.state.observers:
            if registered.is_early is early:
                limit_s, told = self.state.limits.start_s, (self.info, self.session)
                await run_hook(registered.observer, "on_session_start", *told, limit_s=limit_s)

    def _closed(self, event: CloseEvent) -> None:
        if event.error is not None and self.error is None:
            self.error = event.error.error


async def run_session(state: PoolState, job: JobContext) -> None:
    """LiveKit's entrypoint: route a dispatched job to its agent and start its session.

    Raises:
        Refused: The call cannot be routed. The job ends with this error, and the log says why.
    """
    try:
        call = _routed(state, job)
    except Refused as error:
        logger.error("job %s is refused: %s", job.job.id, error)  # noqa: TRY400 - LiveKit logs the traceback
        job.shutdown(reason=f"refused: {error}")
        raise
    job.proc.userdata[_CALL] = call
    await call.run(job)


async def end_session(job: JobContext) -> None:
    """LiveKit's end hook: report the end of the job's call, if there was one, once."""
    call = job.proc.userdata.pop(_CALL, None)
    if call is not None:
        await call.end()


@contextlib.asynccontextmanager
async def session_here(state: PoolState, job: JobContext) -> AsyncIterator[AgentSession[Any]]:
    """Run a job in this process, from its dispatch to its end, around the body."""
    try:
        await run_session(state, job)
        yield job.proc.userdata[_CALL].session
    finally:
        if _CALL in job.proc.userdata:
            await job.proc.userdata[_CALL].session.aclose()
        await end_session(job)


def _routed(state: PoolState, job: JobContext) -> Call:
    view = view_of(job.job, job.room)
    route = resolve_and_log(view, tuple(state.agents), state.router)
    deployment = getattr(job.job, "deployment", "") or None
    info = info_of(route.agent, view, deployment=deployment)
    return Call(state, state.agents[route.agent], info)
