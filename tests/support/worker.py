"""A LiveKit worker without a LiveKit server: the stock executors run real jobs in it.

The entry points are module-level functions, because a job process receives them by pickle.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobExecutorType
from livekit.agents.job import JobAcceptArguments, RunningJobInfo
from livekit.protocol import agent, models

from tests.support.pool_agents import QUIET
from voicecosts import CostObserver
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS

TURNS = 3


async def metered_call(observer: CostObserver, hang_up: bool, ctx: JobContext) -> None:  # noqa: FBT001 - bound by partial
    """Run one call of `TURNS` turns inside a job, attached by hand."""
    call = int(ctx.job.id.rpartition("-")[2])
    session: AgentSession[Any] = AgentSession(
        llm=ScriptedLLM(), stt=ScriptedSTT(), tts=ScriptedTTS(), **QUIET
    )
    microphone = session_io(session, call)
    observer.attach(session, agent_id="dental", tenant=f"tenant-{call}", job=ctx)
    await session.start(Agent(instructions="Be brief."))
    for turn in range(TURNS):
        microphone.say(1.5)
        await session.run(user_input=f"#{call}# turn {turn}")
    if hang_up:
        ctx.shutdown("hang-up")


@contextlib.asynccontextmanager
async def running(server: Any, ready: asyncio.Event, **options: Any) -> AsyncIterator[None]:
    """Run a worker's server from when it is ready to the end of a block."""
    task = asyncio.create_task(server.run(devmode=True, **options))
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        yield
    finally:
        await server.aclose()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def unregistered(server: Any) -> AsyncIterator[None]:
    """Run a worker that knows of no LiveKit server: its jobs come from `launch`."""
    started = asyncio.Event()
    server.once("worker_started", started.set)
    async with running(server, started, unregistered=True):
        yield


@contextlib.asynccontextmanager
async def worker(
    observer: CostObserver, executor: JobExecutorType, *, hang_up: bool = True
) -> AsyncIterator[AgentServer]:
    """Run a worker whose every job is a metered call; it is closed at the end."""
    logging.getLogger("livekit.agents").setLevel(logging.ERROR)
    server = AgentServer(
        job_executor_type=executor,
        num_idle_processes=0,
        port=0,
        host="127.0.0.1",
        shutdown_process_timeout=20.0,
    )
    server.rtc_session(functools.partial(metered_call, observer, hang_up))
    async with unregistered(server):
        yield server


async def launch(
    server: Any, number: int, *, room: str = "room", metadata: str = "", fake_job: bool = True
) -> str:
    """Give the worker a job, as the dispatcher would; return its id."""
    job = agent.Job(
        id=f"AJ-{number}",
        room=models.Room(sid=f"RM-{number}", name=f"{room}-{number}"),
        metadata=metadata,
    )
    await server._proc_pool.launch_job(
        RunningJobInfo(
            accept_arguments=JobAcceptArguments(name="", identity=f"agent-{number}", metadata=""),
            job=job,
            url="ws://127.0.0.1:1",
            token="",
            worker_id="worker-1",
            fake_job=fake_job,
        )
    )
    return job.id
