"""OpenRTC's real `AgentPool` without a network: only the room and a model download are stood in for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import types
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit.agents import Agent, get_job_context
from livekit.agents.ipc import job_proc_lazy_main
from livekit.agents.ipc.mock_room import create_mock_room

from tests.support import worker
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedTTS

_TURN_DETECTOR = "livekit.plugins.turn_detector.multilingual"


_SHARED: dict[str, ScriptedLLM] = {}


def shared_llm() -> ScriptedLLM:
    """Return the one model object that all calls of the last pool shared, with its own books."""
    return _SHARED["llm"]


class Front(Agent):
    """The agent that every test call is routed to."""

    def __init__(self) -> None:
        super().__init__(instructions="front")


class Driver:
    """An observer beside ours: it talks, and hangs up when it is told to."""

    def __init__(self, turns: dict[str, int], *, hang_up: bool) -> None:
        self.turns = turns
        self.hang_up = hang_up
        self.talked: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Let the caller talk."""
        job = get_job_context()

        async def talk() -> None:
            number = info.job_id.rpartition("-")[2]
            for turn in range(self.turns[info.job_id]):
                await session.run(user_input=f"#{number}# turn {turn}")
            self.talked.add(info.job_id)
            if self.hang_up:
                job.shutdown("hang-up")

        self._tasks.append(asyncio.create_task(talk()))

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Nothing to do."""


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the turn detector's download and the room, which need a network."""
    module = types.ModuleType(_TURN_DETECTOR)
    module.MultilingualModel = type("MultilingualModel", (), {})  # type: ignore[attr-defined]  # what openrtc imports
    monkeypatch.setitem(sys.modules, _TURN_DETECTOR, module)
    import openrtc.runtime.coroutine_runtime as runtime  # noqa: PLC0415 - after the stand-in
    from openrtc.runtime import prewarm  # noqa: PLC0415 - after the stand-in

    room = types.SimpleNamespace(Room=create_mock_room)
    monkeypatch.setattr(runtime, "rtc", room)
    monkeypatch.setattr(job_proc_lazy_main, "rtc", room)
    silero = types.SimpleNamespace(VAD=types.SimpleNamespace(load=lambda: None))
    monkeypatch.setattr(
        prewarm, "_load_shared_runtime_dependencies", lambda: (silero, module.MultilingualModel)
    )


@contextlib.asynccontextmanager
async def running_pool(observers: list[Any], **options: Any) -> AsyncIterator[Any]:
    """Run a pool with one agent on shared providers; yield its server."""
    from openrtc import AgentPool  # noqa: PLC0415 - after the stand-in

    pool = AgentPool(observers=observers, **options)
    _SHARED["llm"] = ScriptedLLM()
    pool.add(
        "dental",
        Front,
        stt=None,
        llm=shared_llm(),
        tts=ScriptedTTS(),
        session_kwargs={"turn_handling": {"turn_detection": "manual"}},
    )
    server = pool.server
    server._port = 0
    async with worker.unregistered(server):
        yield server


async def launch(server: Any, number: int, metadata: str) -> None:
    """Give the pool a job that is not a fake one, so that its session is held open."""
    await worker.launch(server, number, room="dental", metadata=metadata, fake_job=False)
