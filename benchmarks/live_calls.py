"""Many real sessions at once in one process, each with a job and scripted providers of its own.

What the benchmarks run with and without an observer: nothing here differs between the two but the
one call of `attach`. A call starts, talks, waits until all have talked, and hangs up.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from livekit import rtc
from livekit.agents import Agent, AgentSession

from tests.support.jobs import job
from voicecosts import CostObserver
from voicecosts.producer.demo.devices import Microphone, session_io
from voicecosts.producer.demo.providers import SAMPLE_RATE, ScriptedLLM, ScriptedSTT, ScriptedTTS

PHRASE_S: Final = 1.5
"""What a caller says in each turn, where no frames flow by themselves."""

_STARTING_AT_ONCE: Final = 20
_REPORT_S: Final = 5
_SPEECH_SAMPLES: Final = 1000  # a character, spoken at life's speed: 16 of them a second


class Calls:
    """Calls that live at the same time. `talked` of them have said everything."""

    def __init__(self, count: int, observer: CostObserver | None) -> None:
        self.count = count
        self.observer = observer
        self.sessions: list[AgentSession[Any]] = []
        self.microphones: list[Microphone] = []
        self.started = 0
        self.talked = 0
        self._is_over = False
        self._gate = asyncio.Semaphore(_STARTING_AT_ONCE)
        self._go = asyncio.Event()
        self._hang_up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def dial(self, turns: int | None, pause_s: Callable[[], float]) -> None:
        """Begin all calls; each waits for `pause_s()` before every turn.

        Without a number of turns they are live: their speeches take as long as in life, and they
        talk until `stream` ends.
        """
        for number in range(1, self.count + 1):
            self._tasks.append(asyncio.create_task(self._call(number, turns, pause_s)))

    async def until_started(self) -> None:
        """Return when every session runs; nobody talks before `talk`."""
        await self._until(lambda: self.started == self.count)

    async def talk(self) -> None:
        """Let everybody talk; return when all have said everything."""
        self._go.set()
        await self._until(lambda: self.talked == self.count)

    async def hang_up(self) -> None:
        """End every call and return when all sessions have closed."""
        self._hang_up.set()
        await asyncio.gather(*self._tasks)
        self.sessions.clear()
        self.microphones.clear()
        self._tasks.clear()

    async def stream(self, frame_ms: int, seconds: float) -> float:
        """Let silence flow from every microphone, as rooms do; return by how much it came late."""
        samples = SAMPLE_RATE * frame_ms // 1000
        frame = rtc.AudioFrame(
            data=bytes(2 * samples),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            samples_per_channel=samples,
        )
        began, latest_s = time.monotonic(), 0.0
        for number in range(1, round(seconds * 1000 / frame_ms) + 1):
            for microphone in self.microphones:
                microphone._frames.send_nowait(frame)
            left_s = began + number * frame_ms / 1000 - time.monotonic()
            latest_s = max(latest_s, -left_s)
            await asyncio.sleep(max(0.0, left_s))
        self._is_over = True
        return latest_s

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            for task in self._tasks:
                if task.done():
                    task.result()  # a call that failed must not be waited for
            await asyncio.sleep(0.05)

    async def _call(self, number: int, turns: int | None, pause_s: Callable[[], float]) -> None:
        is_live = turns is None
        with job(f"bench-{number}", room=rtc.Room()) as context:
            session: AgentSession[Any] = AgentSession(
                llm=ScriptedLLM(model="gpt-4.1-mini", provider="api.openai.com"),
                stt=ScriptedSTT(
                    report_every_samples=_REPORT_S * SAMPLE_RATE if is_live else 16_000
                ),
                tts=ScriptedTTS(samples_per_character=_SPEECH_SAMPLES if is_live else 16),
                vad=None,
                turn_handling={"turn_detection": "manual"},
            )
            microphone = session_io(session, number, speed=1.0 if is_live else 50.0)
            async with self._gate:
                if self.observer is not None:
                    tenant = f"tenant-{number % 20}"
                    assert self.observer.attach(
                        session, agent_id="bench", tenant=tenant, job=context
                    )
                await session.start(Agent(instructions="Be brief."))
            self.sessions.append(session)
            self.microphones.append(microphone)
            self.started += 1
            await self._go.wait()
            turn = 0
            while turn != turns and not self._is_over:
                await asyncio.sleep(pause_s())
                if not is_live:
                    microphone.say(PHRASE_S)
                await session.run(user_input=f"#{number}# this is turn {turn} of our talk")
                turn += 1
            self.talked += 1
            await self._hang_up.wait()
            await session.aclose()


def within(seconds: float, seed: int = 7) -> Callable[[], float]:
    """Return pauses of up to so many seconds, the same in every process."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    return lambda: chance.uniform(0, seconds)
