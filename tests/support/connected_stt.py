"""A recogniser whose provider bills by connection, and calls in which time is skipped.

It connects, reads, and reports what it read, as LiveKit's plugins do; beside that it keeps the
provider's own book: from when to when each connection was open.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from livekit import rtc
from livekit.agents import APIConnectionError, stt
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

from tests.support.script_run import skip
from tests.support.waiting import until
from voicecosts.producer.demo.devices import Microphone

REPORTED_S: Final = 5.0
"""Seconds of audio after which LiveKit's plugin for Deepgram reports."""


class ConnectedSTT(stt.STT[Any]):
    """Bills the time that its connections are open.

    It takes `connects_s` to connect, and reports every five seconds of audio (`reports`), or what
    was not reported yet when a connection closes (`reports_rest`), as the plugin for Deepgram does.
    """

    def __init__(
        self,
        provider: str,
        *,
        model: str = "connected",
        connects_s: float = 0.4,
        reports: bool = True,
        reports_rest: bool = False,
    ) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))
        self._names = provider, model
        self.connects_s = connects_s
        self.reports = reports
        self.reports_rest = reports_rest
        self.opened: list[float] = []
        self.closed: list[float] = []
        self.read_s = 0.0
        self.fails_to_connect = 0
        self.drops = asyncio.Event()

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return self._names[0]

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return self._names[1]

    @property
    def billed_s(self) -> float:
        """What the provider bills."""
        return sum(self.closed) - sum(self.opened)

    @property
    def is_open(self) -> bool:
        """Whether a connection is open."""
        return len(self.opened) > len(self.closed)

    async def _recognize_impl(self, *_arguments: Any, **_options: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(
        self,
        *,
        language: Any = NOT_GIVEN,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Open a connection."""
        return _Connection(stt=self, conn_options=conn_options)


class _Connection(stt.RecognizeStream):
    async def _run(self) -> None:
        ear = self._stt
        assert isinstance(ear, ConnectedSTT)
        now = asyncio.get_running_loop().time
        await asyncio.sleep(ear.connects_s)
        if ear.fails_to_connect:
            ear.fails_to_connect -= 1
            raise APIConnectionError("scripted failure")
        ear.opened.append(opened := now())
        reported_s = waiting_s = 0.0

        def report(seconds: float) -> None:
            nonlocal reported_s, waiting_s
            reported_s += seconds
            waiting_s = 0.0
            used = stt.RecognitionUsage(audio_duration=seconds)
            kind = stt.SpeechEventType.RECOGNITION_USAGE
            self._event_ch.send_nowait(stt.SpeechEvent(type=kind, recognition_usage=used))

        async def read() -> None:
            nonlocal waiting_s
            async for frame in self._input_ch:
                if isinstance(frame, rtc.AudioFrame):
                    ear.read_s += frame.duration
                    waiting_s += frame.duration
                    if ear.reports and waiting_s >= REPORTED_S - 1e-6:
                        report(waiting_s)

        reading, dropping = asyncio.ensure_future(read()), asyncio.ensure_future(ear.drops.wait())
        try:
            await asyncio.wait({reading, dropping}, return_when=asyncio.FIRST_COMPLETED)
            if ear.drops.is_set():
                ear.drops.clear()
                raise APIConnectionError("scripted drop")
        finally:
            reading.cancel()
            dropping.cancel()
            ear.closed.append(now())
            if ear.reports_rest and now() - opened > reported_s:
                report(now() - opened - reported_s)


async def silence(seconds: float) -> None:
    """Have seconds pass in which nothing is heard."""
    await skip(seconds)


async def talk(microphone: Microphone, seconds: int, *ears: ConnectedSTT) -> None:
    """Speak for whole seconds, which pass; the recognisers have read it when this returns."""
    for _ in range(seconds):
        before = [ear.read_s for ear in ears]
        microphone.say(1.0)
        await skip(1.0)
        if before:
            await until(
                lambda before=before: all(  # type: ignore[misc]  # bound here
                    ear.read_s > was + 0.99 for ear, was in zip(ears, before, strict=True)
                ),
                deadline_s=5.0,
            )
