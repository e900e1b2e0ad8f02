"""Offline detectors of interruptions and of the ends of turns, which count what they are asked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any, Final

from livekit import rtc
from livekit.agents import inference, utils
from livekit.agents.inference.eot.base import _BaseStreamingTurnDetectorStream
from livekit.agents.inference.interruption import InterruptionStreamBase
from livekit.agents.metrics.base import EOTInferenceMetrics, Metadata
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from tests.support.scripted import tag_of
from voicecosts.producer.demo.providers import (
    Bill,
)

_SECRETS: Final = {"api_key": "key", "api_secret": "secret-of-a-test-that-calls-nobody"}


class ScriptedInterruptionDetector(inference.AdaptiveInterruptionDetector):
    """Stands where a session makes its own detector, and asks nobody.

    Sessions make their detectors themselves: put this class in the place of LiveKit's. Each
    detector knows its streams; `ask` makes a stream report requests, as a real one does when the
    caller speaks over the agent.
    """

    modality = "interruption"
    made: Final[list[ScriptedInterruptionDetector]] = []

    def __init__(self, **_options: Any) -> None:
        super().__init__(**_SECRETS)  # type: ignore[arg-type]  # two strings
        self.billed: Bill = defaultdict(Counter)
        self.streams: list[InterruptionStreamBase] = []
        self.made.append(self)

    def _ensure_session(self) -> Any:
        return None

    def stream(self, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Watch one call's audio."""
        watching = _Watching(model=self, conn_options=conn_options)
        self.streams.append(watching)
        return watching

    def ask(self, call: int, *, requests: int) -> None:
        """Have the newest stream report so many requests of a call."""
        self.billed[call]["requests"] += requests
        self.streams[-1].send(
            inference.OverlappingSpeechEvent(
                is_interruption=False, num_requests=requests, agent_ended=True
            )
        )


class _Watching(InterruptionStreamBase):
    async def _run(self) -> None:
        async for _ in self._input_ch:
            pass


class ScriptedTurnDetector(inference.TurnDetector):
    """Predicts the end of a turn, and counts its predictions by the call whose audio it heard.

    `streams` has the stream of each call that it has heard something of.
    """

    modality = "turn_detector"

    def __init__(self) -> None:
        super().__init__(version="v1", local_fallback=False, **_SECRETS)
        self.billed: Bill = defaultdict(Counter)
        self.streams: dict[int, _BaseStreamingTurnDetectorStream] = {}

    def stream(
        self,
        *,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> _BaseStreamingTurnDetectorStream:
        """Watch one call's audio."""
        return _BaseStreamingTurnDetectorStream(
            detector=self,
            opts=self._opts,
            transport=_Predicting(self),
            model="turn-detector-v1",
            local_fallback=False,
        )


class _Predicting:
    """The transport of a turn detector: answers from its own task, as a socket's reader does."""

    session_id = None

    def __init__(self, detector: ScriptedTurnDetector) -> None:
        self._detector = detector
        self._stream: _BaseStreamingTurnDetectorStream | None = None
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._call = 0

    def attach(self, stream: _BaseStreamingTurnDetectorStream) -> None:
        self._stream = stream

    def detach(self) -> None:
        self._stream = None

    async def run(self) -> None:
        assert self._stream is not None
        stream = self._stream
        listening = asyncio.create_task(stream._drain_audio_channel())
        try:
            while True:
                request = await self._asked.get()
                stream._resolve_prediction(request, 1.0)
                self._detector.billed[self._call]["requests"] += 1
                self._detector.emit(
                    "metrics_collected",
                    EOTInferenceMetrics(
                        timestamp=time.time(),
                        total_duration=0.1,
                        prediction_duration=0.1,
                        detection_delay=0.1,
                        metadata=Metadata(
                            model_name=self._detector.model,
                            model_provider=self._detector.provider,
                        ),
                    ),
                )
        finally:
            await utils.aio.cancel_and_wait(listening)

    def run_inference(self, request_id: str) -> None:
        self._asked.put_nowait(request_id)

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        self._call = tag_of(frame) or self._call
        if self._stream is not None:
            self._detector.streams[self._call] = self._stream

    def flush(self) -> None:
        pass
