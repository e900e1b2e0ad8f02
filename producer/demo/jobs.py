"""A LiveKit job without a worker, in every supported version of livekit-agents.

LiveKit has had a helper of its own since 1.6. What stands in for it makes the same context.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from livekit import rtc
from livekit.agents import JobContext, JobExecutorType, utils
from livekit.agents.job import JobAcceptArguments, JobProcess, RunningJobInfo, _JobContextVar
from livekit.protocol import agent, models

__all__ = ["fake_job_context"]


@contextlib.contextmanager
def _before_1_6(
    *, room: Any = None, job_id: str = "fake-job", job_metadata: str = ""
) -> Iterator[JobContext]:
    room = rtc.Room() if room is None else room
    job = agent.Job(
        id=job_id,
        room=models.Room(name=room.name or "fake-room", sid=utils.shortuuid("RM_")),
        type=agent.JobType.JT_ROOM,
        metadata=job_metadata,
    )
    info = RunningJobInfo(
        accept_arguments=JobAcceptArguments(identity="fake-agent", name="", metadata=""),
        job=job,
        url="",
        token="",
        worker_id="fake",
        fake_job=True,
    )
    context = JobContext(
        proc=JobProcess(executor_type=JobExecutorType.THREAD, user_arguments=None, http_proxy=None),
        info=info,
        room=room,
        on_connect=lambda: None,
        on_shutdown=lambda _reason: None,
        inference_executor=None,  # type: ignore[arg-type]  # nothing here infers
    )
    context._connected = True  # noqa: SLF001 - a fake job has no room to connect to
    token = _JobContextVar.set(context)
    try:
        yield context
    finally:
        _JobContextVar.reset(token)


try:
    from livekit.agents.testing import fake_job_context
except ImportError:  # pragma: no cover - until 1.5
    fake_job_context = _before_1_6  # type: ignore[assignment]  # without the options unused here
