"""What runs on the voice loop when usage is heard: no file, no socket, no lock, no log."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from livekit.agents import Agent, AgentSession

from tests.support.counted_providers import CountedLLM, CountedRealtime, CountedSTT, CountedTTS
from tests.support.pool_agents import QUIET
from tests.support.rooms import CALLER, SIP, ScriptedRoom, room_job
from tests.support.script_run import SkippingLoop, skip
from voicecosts import CostObserver
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.process import PROCESS

LISTENER: Final = "listener.py"

WAITING: Final = {
    "open", "read", "write", "fsync", "stat", "listdir", "connect", "send", "recv", "sendall",
    "execute", "sleep", "select", "poll", "acquire", "wait", "join", "print", "getaddrinfo",
}  # fmt: skip
"""Built-in functions that wait, or may."""


class Watch:
    """Notes what built-in functions our listeners call on this thread, and through what."""

    def __init__(self) -> None:
        self.events = 0
        self.called: Counter[str] = Counter()
        self._inside = 0

    @property
    def is_inside(self) -> bool:
        """Whether one of our listeners runs."""
        return self._inside > 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note a call or a return, as `sys.setprofile` tells it."""
        if event in ("call", "return") and frame.f_code.co_filename.endswith(LISTENER):
            if frame.f_code.co_name == "guarded":
                self._inside += 1 if event == "call" else -1
                self.events += event == "call"
        elif self._inside and event == "c_call":
            if argument.__name__ in WAITING and not isinstance(argument.__self__, str):
                self.called[argument.__qualname__] += 1
        elif self._inside and event == "call" and "logging" in frame.f_code.co_filename:
            self.called["log"] += 1


class Lock:
    """The attribution's lock; notes when a listener takes it."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._lock = watch, threading.Lock()

    def __enter__(self) -> None:
        self._watch.called["lock"] += self._watch.is_inside
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Profile this thread."""
    watch = Watch()
    yield watch
    sys.setprofile(None)


async def a_call(llm: Any, observer: CostObserver, watch: Watch) -> None:
    """Run a call with audio, a turn and a speech; watch it from after its start to its end."""
    session: AgentSession[Any] = AgentSession(llm=llm, tts=CountedTTS(), stt=CountedSTT(), **QUIET)
    microphone = session_io(session, 1, speed=1000.0)
    assert observer.attach(session, agent_id="front")
    await session.start(Agent(instructions="x"))
    sys.setprofile(watch)
    microphone.say(2.5)
    await session.run(user_input="#1# hello")
    await session.say("#1# a word")
    await session.aclose()
    sys.setprofile(None)


@pytest.mark.parametrize("llm", [CountedLLM, CountedRealtime])
async def test_a_listener_waits_for_nothing(
    llm: type, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a publisher at work and no server, our listeners open, send, lock and log nothing."""
    monkeypatch.setattr(ATTRIBUTION, "_joining", Lock(watch))
    observer = CostObserver(project="tests", servers="nats://127.0.0.1:1", outbox_dir=tmp_path)
    try:
        await a_call(llm(), observer, watch)
        assert watch.events >= 6  # usage of three kinds, heard by the session and by components
        assert not +watch.called
    finally:
        sys.setprofile(None)
        await asyncio.to_thread(PROCESS.close)


def test_a_listener_of_the_room_waits_for_nothing(watch: Watch, tmp_path: Path) -> None:
    """Also what counts connected time opens, sends, locks and logs nothing."""
    observer = CostObserver(project="tests", servers="nats://127.0.0.1:1", outbox_dir=tmp_path)

    async def call() -> None:
        room = ScriptedRoom()
        with room_job(room.room) as context:
            session: AgentSession[Any] = AgentSession(llm=CountedLLM(), **QUIET)
            assert observer.attach(session, agent_id="front", job=context)
            await session.start(Agent(instructions="x"))
            sys.setprofile(watch)
            room.connect()
            room.join("caller", SIP, {**CALLER, "sip.callStatus": "ringing"})
            room.change("caller", callStatus="active")
            await skip(61)
            room.leave("caller")
            sys.setprofile(None)
            await session.aclose()

    try:
        with asyncio.Runner(loop_factory=SkippingLoop) as runner:
            runner.run(call())
        assert watch.events >= 5
        assert not +watch.called
    finally:
        sys.setprofile(None)
        PROCESS.close()
