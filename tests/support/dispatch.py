"""The dispatching half of a LiveKit server on loopback: workers register, are asked, and get jobs.

It speaks LiveKit's worker protocol, so what is tested is a worker as it runs in production. It is no
media server: a job's room is LiveKit's own mock room, put in place of the real one by `stand_in_room`.
"""

from __future__ import annotations

import asyncio
import itertools
import types
from typing import Self

from aiohttp import WSMsgType, web
from livekit.agents.ipc import job_proc_lazy_main
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.protocol import agent, models

KEYS = {"api_key": "devkey", "api_secret": "a-secret-that-is-long-enough-for-a-test"}
"""What a worker signs its registration with; nobody checks it."""


def stand_in_room() -> None:
    """Give every job of this process LiveKit's mock room: there is no network to connect to."""
    room = types.SimpleNamespace(Room=create_mock_room)
    setattr(job_proc_lazy_main, "rtc", room)  # noqa: B010 - the module has it by import only


class Offer:
    """What became of one dispatched job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.accepted = False
        self.terminate = False


class Dispatcher:
    """Listens for workers; `dispatch` offers a job to the one that registered first."""

    def __init__(self) -> None:
        self.url = ""
        self.registered = asyncio.Event()
        self._workers: list[web.WebSocketResponse] = []
        self._answers: dict[str, asyncio.Future[agent.AvailabilityResponse]] = {}
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/agent", self._worker)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in list(self._workers):
            await worker.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def dispatch(
        self, *, room: str = "room", metadata: str = "", room_metadata: str = ""
    ) -> Offer:
        """Offer a job; when the worker accepts it, assign it."""
        number = next(self._numbers)
        job = agent.Job(
            id=f"AJ-{number}",
            type=agent.JobType.JT_ROOM,
            metadata=metadata,
            room=models.Room(sid=f"RM-{number}", name=room, metadata=room_metadata),
        )
        answer = self._answers[job.id] = asyncio.get_running_loop().create_future()
        asked = agent.ServerMessage()
        asked.availability.job.CopyFrom(job)
        await self._send(asked)
        async with asyncio.timeout(30):
            response = await answer
        offer = Offer(job.id)
        offer.accepted, offer.terminate = response.available, response.terminate
        if response.available:
            assigned = agent.ServerMessage()
            assigned.assignment.job.CopyFrom(job)
            assigned.assignment.token = "no-token"  # noqa: S105 - nothing is entered with it
            await self._send(assigned)
        return offer

    async def terminate(self, job_id: str) -> None:
        """End a job, as a server does when its room is deleted."""
        message = agent.ServerMessage()
        message.termination.job_id = job_id
        await self._send(message)

    async def _send(self, message: agent.ServerMessage) -> None:
        await self._workers[0].send_bytes(message.SerializeToString())

    async def _worker(self, request: web.Request) -> web.WebSocketResponse:
        worker = web.WebSocketResponse()
        await worker.prepare(request)
        self._workers.append(worker)
        async for frame in worker:
            if frame.type != WSMsgType.BINARY:
                continue
            message = agent.WorkerMessage.FromString(frame.data)
            kind = message.WhichOneof("message")
            if kind == "register":
                welcome = agent.ServerMessage()
                welcome.register.worker_id = f"AW-{len(self._workers)}"
                await worker.send_bytes(welcome.SerializeToString())
                self.registered.set()
            elif kind == "availability":
                answer = self._answers.pop(message.availability.job_id, None)
                if answer is not None and not answer.done():
                    answer.set_result(message.availability)
        self._workers.remove(worker)
        return worker
