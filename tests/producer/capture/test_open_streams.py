"""Speech recognition that is billed by connection: what is open and not reported is estimated.

Real sessions on a recogniser that keeps its provider's book; time is skipped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from livekit.agents import Agent, AgentSession
from livekit.agents import stt as recognition
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from tests.support.connected_stt import ConnectedSTT, silence, talk
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.script_run import SkippingLoop, skip
from tests.support.situation import KeptEvents, RecordingObserver
from tests.support.waiting import until
from voicecosts.producer.capture import open_streams
from voicecosts.producer.capture.by_connection import BY_CONNECTION
from voicecosts.producer.demo.devices import Microphone, session_io
from voicecosts.producer.events import MeterReading
from voicecosts.producer.process import PROCESS
from voicecosts.producer.providers import normalise_provider

CLOSE_S = 1.0
"""How near to the provider's book: the clock runs on while a test works, also on a busy machine."""


@pytest.fixture(autouse=True)
def _no_warnings_of_livekit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger("livekit"), "level", logging.CRITICAL)
    yield
    for attachment in list(PROCESS.attachments.values()):
        attachment.finalise(status="cancelled", reason="test")
        attachment.detach()


def run(call: Callable[[], Awaitable[Any]]) -> None:
    """Run a call on a loop whose time can be skipped."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(call())  # type: ignore[arg-type]  # it is a coroutine


class Line:
    """A call on a recogniser: its session, its microphone, and what was counted."""

    def __init__(self, ear: Any, *, recorder: KeptEvents | None = None) -> None:
        self.ear = ear
        self.recorder = recorder or KeptEvents()
        self.observer = RecordingObserver(self.recorder)
        self.session: AgentSession[Any] = AgentSession(stt=ear, **QUIET)
        self.microphone: Microphone = session_io(self.session, 1, speed=1000.0)
        self.attachment: Any = None

    async def start(self, agent: Agent | None = None, *, late: bool = False) -> None:
        """Start the session, attached before or after."""
        if not late:
            self.attach()
        await self.session.start(agent or Agent(instructions="x"))
        await until(lambda: self.session._activity is not None)
        await skip(0)
        if late:
            self.attach()

    def attach(self) -> None:
        """Attach the session."""
        self.attachment = self.observer.attach(self.session, agent_id="front")

    async def open(self) -> None:
        """Let the recogniser connect."""
        await skip(self.ear.connects_s + 0.1)
        await until(lambda: bool(self.ear.is_open))

    async def close(self) -> None:
        """End the session, and what is left of its streams."""
        await self.session.aclose()
        await skip(0.1)

    def readings(self, *, estimated: bool) -> list[MeterReading]:
        """Return the readings of the recogniser."""
        session_id = self.attachment.session_id
        return [
            it
            for it in self.recorder.readings(session_id)
            if it.modality == "stt" and it.estimated is estimated
        ]

    def seconds(self, *, estimated: bool) -> float:
        """Return the seconds that were counted."""
        totals = self.recorder.totals(self.attachment.session_id, estimated=estimated)
        return totals.get("stt", {}).get("audio_us", 0) / 1_000_000

    def counted_s(self) -> float:
        """Return the seconds that were counted, measured and estimated."""
        return self.seconds(estimated=False) + self.seconds(estimated=True)

    def check(self) -> None:
        """What was counted is what the provider bills, and no total ever fell."""
        assert abs(self.counted_s() - self.ear.billed_s) < CLOSE_S
        for each in (False, True):
            totals = [it.totals.audio_us for it in self.readings(estimated=each)]
            assert totals == sorted(totals)


@pytest.mark.parametrize(("seconds", "talked"), [(20, 12), (120, 97), (600, 300)])
@pytest.mark.parametrize("provider", ["AssemblyAI", "livekit", "Deepgram"])
def test_the_time_that_a_stream_is_open_is_counted_beyond_what_it_reported(
    provider: str, seconds: int, talked: int
) -> None:
    """Of twenty seconds, two minutes and ten: what the plugin reports, and the rest as an estimate."""

    async def call() -> None:
        line = Line(ConnectedSTT(provider, connects_s=3.0))
        await line.start()
        await line.open()
        await silence(3)
        await talk(line.microphone, talked, line.ear)
        await silence(seconds - talked - 3)
        await line.close()
        line.check()
        assert line.ear.billed_s >= seconds
        assert line.seconds(estimated=False) == talked - talked % 5
        last = line.readings(estimated=True)[-1]
        assert (last.provider_raw, last.model, last.agent_label) == (
            provider,
            "connected",
            line.readings(estimated=False)[-1].agent_label,
        )
        (measured, estimated) = line.recorder.ends()[-1].meters
        assert (measured.estimated, estimated.estimated) == (False, True)
        assert estimated.totals == last.totals

    run(call)


def test_a_plugin_that_reports_the_rest_leaves_nothing_to_estimate() -> None:
    """Newer plugins for Deepgram do, when the connection closes; nothing is counted twice."""

    async def call() -> None:
        line = Line(ConnectedSTT("Deepgram", reports_rest=True))
        await line.start()
        await line.open()
        await silence(30)
        await talk(line.microphone, 12, line.ear)
        await line.close()
        line.check()
        assert line.seconds(estimated=True) < 0.01

    run(call)


def test_a_provider_that_bills_audio_is_counted_as_it_reports() -> None:
    """What is not known to be billed by connection has no estimate."""

    async def call() -> None:
        line = Line(ConnectedSTT("Gladia"))
        await line.start()
        await line.open()
        await silence(30)
        await talk(line.microphone, 10, line.ear)
        await line.close()
        assert line.counted_s() == line.seconds(estimated=False) == 10

    run(call)


def test_connections_that_drop_and_fail_are_counted_while_they_are_open() -> None:
    """The pauses between two connections, and tries that do not connect, are on no bill."""

    async def call() -> None:
        line = Line(ear := ConnectedSTT("AssemblyAI"))
        ear.fails_to_connect = 1
        await line.start()
        await skip(0.5)
        for number in range(3):
            await skip(4)  # until the next try
            await line.open()
            await talk(line.microphone, 6, ear)
            await silence(20)
            if number < 2:
                ear.drops.set()
                await until(lambda: not ear.is_open)
        await line.close()
        assert len(ear.opened) == 3
        assert ear.billed_s >= 78
        line.check()

    run(call)


def test_what_never_connected_claims_nothing() -> None:
    """A provider that could not be reached bills nothing."""

    async def call() -> None:
        line = Line(ear := ConnectedSTT("livekit", connects_s=8.0))
        ear.fails_to_connect = 99
        await line.start()
        for _ in range(8):
            await skip(8)
        await line.close()
        assert not ear.opened
        assert line.counted_s() == 0

    run(call)


@pytest.mark.parametrize("late", [False, True])
def test_a_stream_that_reports_nothing_is_counted_to_its_session(late: bool) -> None:  # noqa: FBT001
    """LiveKit Inference reports with a transcript only; also of a call that was attached late."""

    async def call() -> None:
        line = Line(ConnectedSTT("livekit", reports=False))
        await line.start(late=late)
        await line.open()
        await talk(line.microphone, 5, line.ear)
        await silence(15)
        await line.close()
        assert line.seconds(estimated=False) == 0
        line.check()
        assert len(line.recorder.ends()) == 1

    run(call)


def test_an_attachment_in_the_middle_of_a_call_claims_no_more_than_the_stream_left() -> None:
    """What the stream reported before its session was attached is on the bill, but not the rest."""

    async def call() -> None:
        line = Line(ConnectedSTT("livekit"))
        await line.session.start(Agent(instructions="x"))
        await line.open()
        await talk(line.microphone, 20, line.ear)
        await silence(10)
        line.attach()
        await talk(line.microphone, 10, line.ear)
        await line.close()
        assert line.counted_s() < line.ear.billed_s + 0.01
        assert abs(line.seconds(estimated=True) - (line.ear.billed_s - 30)) < CLOSE_S

    run(call)


def test_the_recogniser_inside_an_adapter_is_counted_once_under_its_name() -> None:
    """An adapter has no connection of its own."""

    async def call() -> None:
        ear = ConnectedSTT("AssemblyAI")
        line = Line(ear)
        line.session = AgentSession(
            stt=recognition.FallbackAdapter([ear], max_retry_per_stt=0),
            **QUIET,
        )
        line.microphone = session_io(line.session, 1, speed=1000.0)
        await line.start()
        await line.open()
        await silence(10)
        await talk(line.microphone, 10, ear)
        await line.close()
        line.check()
        assert {it.provider for it in line.readings(estimated=True)} == {"assemblyai"}

    run(call)


def test_a_shared_recogniser_is_counted_to_each_call_by_its_own_streams() -> None:
    """Two calls on one object: each has the time of its own connection."""

    async def call() -> None:
        recorder, ear = KeptEvents(), ConnectedSTT("livekit")
        lines = [Line(ear, recorder=recorder) for _ in range(2)]
        first, second = lines
        await first.start()
        await first.open()
        await silence(30)
        await second.start()
        await skip(ear.connects_s)
        await until(lambda: len(ear.opened) == 2)
        await talk(second.microphone, 5, ear)
        await silence(10)
        await second.close()
        await talk(first.microphone, 10, ear)
        await first.close()
        # The first connection was the last to close.
        assert abs(first.counted_s() - (ear.closed[1] - ear.opened[0])) < CLOSE_S
        assert abs(second.counted_s() - (ear.closed[0] - ear.opened[1])) < CLOSE_S

    run(call)


def test_a_hand_off_to_another_recogniser_ends_one_stream_and_opens_another() -> None:
    """Each is counted under its own model."""

    async def call() -> None:
        line = Line(before := ConnectedSTT("AssemblyAI", model="before"))
        after = ConnectedSTT("livekit", model="after")
        await line.start()
        await line.open()
        await talk(line.microphone, 5, before)
        await silence(10)
        line.session.update_agent(Agent(instructions="y", stt=after))
        await until(lambda: not before.is_open)
        await skip(after.connects_s)
        await until(lambda: after.is_open)
        await silence(20)
        await line.close()
        seconds = {
            meter.model: sum(
                it.totals.audio_us
                for it in line.recorder.ends()[-1].meters
                if it.model == meter.model
            )
            for meter in line.recorder.ends()[-1].meters
        }
        assert abs(seconds["before"] / 1e6 - before.billed_s) < CLOSE_S
        assert abs(seconds["after"] / 1e6 - after.billed_s) < CLOSE_S

    run(call)


def test_a_worker_that_is_killed_has_published_what_was_open() -> None:
    """With each report the rest so far is published, but for five seconds that may be reported yet."""

    async def call() -> None:
        line = Line(ear := ConnectedSTT("AssemblyAI"))
        await line.start()
        await line.open()
        for _ in range(4):
            await silence(25)
            await talk(line.microphone, 5, ear)
            open_s = asyncio.get_running_loop().time() - ear.opened[0]
            assert open_s - 6 - CLOSE_S < line.counted_s() < open_s
        assert len(line.readings(estimated=True)) == 4
        await line.close()
        line.check()

    run(call)


def test_silence_that_is_sent_at_once_is_not_claimed_before() -> None:
    """LiveKit ends a turn with two seconds of silence in a moment: the claims before stay true."""

    async def call() -> None:
        line = Line(ear := ConnectedSTT("AssemblyAI"))
        await line.start()
        await line.open()
        await silence(7)
        await talk(line.microphone, 13, ear)
        line.microphone.say(2)
        await until(lambda: ear.read_s > 14.9)
        await line.close()
        line.check()

    run(call)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("silence"), st.integers(1, 40)),
        st.tuples(st.just("talk"), st.integers(1, 8)),
        st.tuples(st.just("commit"), st.integers(2, 10)),
        st.tuples(st.just("drop"), st.integers(1, 3)),
    ),
    max_size=8,
)
CALLS = st.tuples(
    st.sampled_from(["AssemblyAI", "livekit", "Deepgram"]), st.booleans(), st.booleans(), STEPS
)


@given(CALLS)
@settings(max_examples=12, phases=[Phase.generate])
def test_of_a_random_call_what_was_open_is_counted(call: Any) -> None:
    """Muted, spoken, committed, dropped and connected again in any order: the bill, and no more."""
    play_random(*call)


@pytest.mark.slow
@given(CALLS)
@settings(max_examples=150, phases=[Phase.generate])
def test_of_hundreds_of_random_calls_what_was_open_is_counted(call: Any) -> None:
    """The long form of the rule above."""
    play_random(*call)


def play_random(
    provider: str,
    reports: bool,  # noqa: FBT001 - as drawn
    reports_rest: bool,  # noqa: FBT001 - same
    steps: list[tuple[str, int]],
) -> None:
    """Play a call, and compare what was counted with the provider's book."""

    async def call() -> None:
        ear = ConnectedSTT(
            provider, reports=reports, reports_rest=reports_rest and provider == "Deepgram"
        )
        line = Line(ear)
        await line.start()
        await line.open()
        for do, seconds in steps:
            if do == "talk":
                await talk(line.microphone, seconds, ear)
                continue
            if do == "commit":  # two seconds of silence at once, and the agent's answer
                was = ear.read_s
                line.microphone.say(2)
                await until(lambda was=was: ear.read_s > was + 1.9)  # type: ignore[misc]  # bound here
            if do == "drop":
                ear.drops.set()
                await until(lambda: not ear.is_open)
                await skip(5)
                await line.open()
            await silence(seconds)
        await line.close()
        more_s = max(0.0, line.seconds(estimated=False) - ear.billed_s)
        assert -CLOSE_S < line.counted_s() - ear.billed_s < more_s + CLOSE_S
        totals = [it.totals.audio_us for it in line.readings(estimated=True)]
        assert totals == sorted(totals)

    run(call)
    for attachment in list(PROCESS.attachments.values()):
        attachment.detach()


def test_a_stream_that_outlives_the_end_of_its_job_is_counted_when_it_closes() -> None:
    """The end of the job finalises a session that runs; what comes later is a later reading."""

    async def call() -> None:
        with job("call-1"):
            line = Line(ear := ConnectedSTT("livekit"))
            await line.start()
            await line.open()
            await silence(30)
            await talk(line.microphone, 5, ear)
            line.attachment.finalise(status="cancelled", reason="job shutdown")
            assert line.counted_s() > 29
            await silence(5)
            await line.close()
        line.check()
        assert line.readings(estimated=True)[-1].number > line.recorder.ends()[-1].number

    run(call)


def test_a_session_that_starts_again_has_the_streams_of_its_new_life() -> None:
    """The stream of each life is counted to that life."""

    async def call() -> None:
        line = Line(ear := ConnectedSTT("livekit"))
        await line.start()
        await line.open()
        await silence(20)
        await line.close()
        await line.start()
        await line.open()
        await silence(30)
        await line.close()
        ids = [it.session_id for it in line.recorder.ends()]
        lives = [
            line.recorder.totals(each, estimated=True)["stt"]["audio_us"] / 1e6 for each in ids
        ]
        booked = [closed - opened for opened, closed in zip(ear.opened, ear.closed, strict=True)]
        assert len(booked) == 2
        for life, bill in zip(lives, booked, strict=True):
            assert abs(life - bill) < CLOSE_S

    run(call)


def test_nothing_is_held_of_a_stream_that_nobody_attached() -> None:
    """A session that is not metered works as ever; what is noted of it goes with it."""

    async def call() -> None:
        line = Line(ear := ConnectedSTT("livekit"))
        await line.session.start(Agent(instructions="x"))
        await line.open()
        await talk(line.microphone, 5, ear)
        (stream,) = open_streams._OF_SESSION[line.session]
        await line.session.aclose()
        await skip(0.1)
        assert ear.billed_s > 5
        assert stream.has_ended
        assert stream._recogniser is None
        assert stream.owner is None

    run(call)


def test_the_error_of_a_stream_reaches_its_caller_and_the_wrappers_are_taken_away() -> None:
    """A recogniser that fails does so as without us."""

    class Broken(ConnectedSTT):
        def stream(self, **options: Any) -> Any:
            class Stream(recognition.RecognizeStream):
                async def _run(self) -> None:
                    raise ZeroDivisionError("scripted")

            return Stream(stt=self, conn_options=options["conn_options"])

    async def call() -> None:
        ear = Broken("livekit")
        stream = ear.stream(conn_options=DEFAULT_API_CONNECT_OPTIONS)
        assert "_run" in vars(stream)
        with pytest.raises(ZeroDivisionError, match="scripted"):
            async for _ in stream:
                pass
        assert "_run" not in vars(stream)
        assert "recv" not in vars(stream._input_ch)
        assert "send_nowait" not in vars(stream._event_ch)
        await stream.aclose()

    run(call)


def test_every_entry_of_the_table_has_a_source_and_a_normalised_name() -> None:
    """What is claimed beyond the reported audio can be looked up."""
    for name, terms in BY_CONNECTION.items():
        assert normalise_provider(name) == name
        assert terms.source.startswith("https://")
