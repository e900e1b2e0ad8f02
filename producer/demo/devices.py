"""A microphone, a loudspeaker and a screen for a session without a real caller."""

from __future__ import annotations

import array
import asyncio
from typing import Any, Final

from livekit import rtc
from livekit.agents import utils
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities, TextOutput

from voicecosts.producer.demo.providers import SAMPLE_RATE

_FRAME_SAMPLES: Final = SAMPLE_RATE // 10


class Microphone(AudioInput):
    """Audio that the script says: every sample is the number of the call."""

    def __init__(self, call: int) -> None:
        super().__init__(label="scripted microphone")
        self._call = call
        self._frames: utils.aio.Chan[rtc.AudioFrame] = utils.aio.Chan()

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.__anext__()

    def say(self, seconds: float) -> None:
        """Send so many seconds of audio, in frames of 100 ms; the last one may be shorter."""
        left = round(seconds * SAMPLE_RATE)
        while left > 0:
            samples = min(left, _FRAME_SAMPLES)
            data = array.array("h", [self._call]) * samples
            self._frames.send_nowait(
                rtc.AudioFrame(
                    data=data.tobytes(),
                    sample_rate=SAMPLE_RATE,
                    num_channels=1,
                    samples_per_channel=samples,
                )
            )
            left -= samples


class Loudspeaker(AudioOutput):
    """Plays audio `speed` times faster than real time."""

    def __init__(self, speed: float = 50.0) -> None:
        super().__init__(
            label="scripted loudspeaker",
            capabilities=AudioOutputCapabilities(pause=False),
            sample_rate=SAMPLE_RATE,
        )
        self._speed = speed
        self._queued_s = 0.0
        self._since = 0.0
        self._end: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Queue a frame to play."""
        await super().capture_frame(frame)
        loop = asyncio.get_running_loop()
        if not self._queued_s:
            self._since = loop.time()
            self.on_playback_started(created_at=self._since)
        self._queued_s += frame.duration

    def played_s(self) -> float:
        """Return how many seconds of the current segment were played so far."""
        if not self._queued_s:
            return 0.0
        elapsed_s = asyncio.get_running_loop().time() - self._since
        return min(self._queued_s, elapsed_s * self._speed)

    def flush(self) -> None:
        """No more frames of this segment will come."""
        super().flush()
        if self._queued_s:
            loop = asyncio.get_running_loop()
            left_s = self._queued_s / self._speed - (loop.time() - self._since)
            self._end = loop.call_later(max(0.0, left_s), self._finish, False)  # noqa: FBT003 - positional for call_later

    def clear_buffer(self) -> None:
        """Stop at once: the caller interrupted."""
        if self._queued_s:
            self._finish(interrupted=True)

    def _finish(self, interrupted: bool) -> None:  # noqa: FBT001 - called by call_later
        if self._end is not None:
            self._end.cancel()
            self._end = None
        played_s = self.played_s() if interrupted else self._queued_s
        self._queued_s = 0.0
        self.on_playback_finished(playback_position=played_s, interrupted=interrupted)


class Screen(TextOutput):
    """Shows the transcript of what the agent says."""

    def __init__(self) -> None:
        super().__init__(label="scripted screen", next_in_chain=None)
        self.shown = ""

    async def capture_text(self, text: str) -> None:
        """Show a piece of text."""
        self.shown += text

    def flush(self) -> None:
        """No more text of this segment will come."""


class Handset:
    """An observer that gives each session its devices before it starts.

    The number of a call stands at the end of its job's id.
    """

    attaches_before_start = True

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Connect microphone, loudspeaker and screen, so that the room's are not used."""
        session_io(session, int(info.job_id.rpartition("-")[2]))
        session.output.transcription = Screen()

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Do nothing."""


def session_io(session: Any, call: int, *, speed: float = 50.0) -> Microphone:
    """Give a session a microphone and a loudspeaker; return the microphone."""
    microphone = Microphone(call)
    session.input.audio = microphone
    session.output.audio = Loudspeaker(speed)
    return microphone
