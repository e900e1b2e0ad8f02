"""Calls for a pool in a real worker: who talks in them, and what runs the worker.

Everything here goes into job processes by pickle. The caller is an observer of either kind of pool;
where it arrives, it puts LiveKit's mock room in the place of the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from livekit.agents import AgentServer, JobExecutorType, get_job_context

from tests.support import openrtc_pool
from tests.support.dispatch import KEYS, Dispatcher, stand_in_room
from tests.support.worker import running
from voicecosts.producer.demo.devices import session_io

PHRASE_S = 1.5
"""What the caller says aloud in each turn."""


class Caller:
    """Talks for so many turns, a call by its job's id, and hangs up."""

    def __init__(
        self, turns: Mapping[str, int], *, hang_up: bool = True, openrtc: bool = False
    ) -> None:
        self.turns = dict(turns)
        self.hang_up = hang_up
        self.openrtc = openrtc
        self._talks: list[asyncio.Task[None]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return arrive, (self.turns, self.hang_up, self.openrtc)

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Pick up and begin to talk."""
        self._talks.append(asyncio.create_task(self._talk(info, session, get_job_context())))

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Nothing to do."""

    async def _talk(self, info: Any, session: Any, job: Any) -> None:
        number = int(info.job_id.rpartition("-")[2])
        microphone = session_io(session, number)
        for turn in range(self.turns[info.job_id]):
            microphone.say(PHRASE_S)
            await session.run(user_input=f"#{number}# turn {turn}")
        if self.hang_up:
            job.shutdown("hang-up")


def arrive(turns: Mapping[str, int], hang_up: bool, openrtc: bool) -> Caller:  # noqa: FBT001 - called by pickle
    """Make the caller in a job process, which has no network either."""
    if openrtc:
        openrtc_pool.stand_in(pytest.MonkeyPatch())
    else:
        stand_in_room()
    return Caller(turns, hang_up=hang_up, openrtc=openrtc)


class Scribe:
    """Writes what it is told into a file, which outlives the process of the call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Return what was written so far."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def told(self, event: str) -> list[str]:
        """Return the jobs of which an event was told."""
        return [line["job"] for line in self.read() if line["event"] == event]

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Write the start, and the close when it comes."""
        self._write("start", info, agent=info.agent_name, tenant=info.tenant)
        session.on("close", lambda _: self._write("close", info))

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Write the end."""
        self._write("end", info, status=outcome.status.value)

    def _write(self, event: str, info: Any, **facts: Any) -> None:
        line = json.dumps({"event": event, "job": info.job_id, "pid": os.getpid(), **facts})
        with self.path.open("a") as file:
            file.write(f"{line}\n")


def loopback_server(executor: JobExecutorType) -> AgentServer:
    """Return a server that listens on loopback only."""
    return AgentServer(job_executor_type=executor, num_idle_processes=0, host="127.0.0.1", port=0)


class Running:
    """A worker that has registered with a dispatcher."""

    def __init__(self, server: Any, dispatcher: Dispatcher) -> None:
        self.server = server
        self.dispatcher = dispatcher

    def active(self) -> list[str]:
        """Return the jobs that run."""
        return [info.job.id for info in self.server.active_jobs]

    @classmethod
    @contextlib.asynccontextmanager
    async def worker(cls, server: Any) -> AsyncIterator[Self]:
        """Run a pool's server against a dispatcher of its own; it is closed at the end."""
        async with Dispatcher() as dispatcher:
            server.update_options(ws_url=dispatcher.url, **KEYS)
            async with running(server, dispatcher.registered):
                yield cls(server, dispatcher)
