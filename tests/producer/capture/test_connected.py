"""Connected time is counted once, by its own clock, and nothing about a person leaves the worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession

from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.rooms import (
    AGENT,
    CALLER,
    CLOUD,
    EGRESS,
    PERSON,
    SIP,
    Clock,
    ScriptedRoom,
    own_clock,
    room_job,
)
from tests.support.script_run import SkippingLoop, _Stored
from voicecosts import CostObserver
from voicecosts.producer.capture import connected
from voicecosts.producer.capture.connected import Connections, Rules, is_cloud
from voicecosts.producer.capture.lines import PACE_S
from voicecosts.producer.counts import Usage
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.events import MeterReading, SessionEnded, encode_event
from voicecosts.producer.process import PROCESS

TWILIO = {
    **CALLER,
    "sip.trunkID": "ST_1",
    "sip.twilio.callSid": "CA1234567890",
    "sip.twilio.accountSid": "AC1234567890",
}


class Observer(CostObserver):
    """An observer whose events go to a recorder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(project="tests", **options)
        self.recorder = Recorder()

    def _publisher(self) -> Any:
        return _Stored(self.recorder)

    def lines(self, session_id: str) -> dict[tuple[str, str, str, str], tuple[float, int]]:
        """Return seconds and connections of a session by label, modality, provider and model."""
        newest = {
            (it.agent_label, it.modality, it.provider, it.model): it.totals
            for it in self.recorder.readings(session_id)
            if it.totals.session_us or it.modality in ("agent_session", "participant", "telephony")
        }
        return {key: (it.session_us / 1e6, it.requests) for key, it in newest.items()}


def runs(test: Callable[[Clock], Awaitable[None]]) -> None:
    """Run a test in time that is skipped, and leave no session behind."""
    with own_clock() as clock, asyncio.Runner(loop_factory=SkippingLoop) as runner:
        try:
            runner.run(test(clock))  # type: ignore[arg-type]
        finally:
            for attachment in list(PROCESS.attachments.values()):
                attachment.detach()
            PROCESS.attachments.clear()
            assert not connected._OWNERS
            assert not connected._WAITING


def a_session() -> AgentSession[Any]:
    """Make a session that only writes."""
    return AgentSession(llm=ScriptedLLM(), **QUIET)


@contextlib.asynccontextmanager
async def call(
    observer: Observer, room: ScriptedRoom, *, job_id: str = "job", url: str = CLOUD, **job: Any
) -> Any:
    """Run a session in a room from its attachment to its close."""
    with room_job(room.room, job_id=job_id, url=url, **job) as context:
        session = a_session()
        attachment = observer.attach(session, agent_id="dental", job=context)
        assert attachment is not None
        await session.start(Agent(instructions="x"))
        yield attachment
        await session.aclose()


def test_a_call_has_the_time_of_its_agent_its_people_and_its_legs() -> None:
    """Each connection runs from when it is there to when it is gone, or the session ends."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.join("early")
        room.connect()
        async with call(observer, room) as attachment:
            await clock.skip(5)
            room.join("sip_+14155550199", SIP, CALLER)
            await clock.skip(10)
            room.join("avatar", AGENT)
            room.join("recorder", EGRESS)
            room.join("late", PERSON)
            room.leave("early")
            await clock.skip(20)
            room.leave("sip_+14155550199")
            await clock.skip(7)
        assert observer.lines(attachment.session_id) == {
            ("session", "agent_session", "livekit", "agent-session"): (42, 1),
            ("participant 1", "participant", "livekit", "webrtc"): (15, 1),
            ("participant 2", "participant", "livekit", "webrtc"): (27, 1),
            ("leg 1", "telephony", "livekit", "us-local-inbound"): (30, 1),
        }

    runs(test)


def test_the_end_carries_the_last_totals() -> None:
    """What a reading said last of a meter is what the session's end says of it."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room):
            room.join("caller", SIP, CALLER)
            await clock.skip(90)
        (end,) = observer.recorder.ends()
        last = {(it.agent_label, it.modality): it.totals for it in observer.recorder.readings()}
        assert {(it.agent_label, it.modality): it.totals for it in end.meters} == last
        assert end.number > max(it.number for it in observer.recorder.readings())

    runs(test)


def test_a_killed_worker_loses_at_most_a_minute() -> None:
    """While it lasts a connection is counted once a minute, and no oftener."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room) as attachment:
            for _ in range(3):
                await clock.skip(PACE_S)
            (line,) = observer.lines(attachment.session_id).values()
            assert line == (180, 1)
            assert len(observer.recorder.readings()) == 3
            await clock.skip(30)
            assert len(observer.recorder.readings()) == 3

    runs(test)


def test_a_leg_runs_from_its_answer_to_its_hangup() -> None:
    """Ringing and dialling are not talked through; dialling digits after the answer is."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        callee = {"sip.trunkID": "ST_1", "sip.phoneNumber": "+12125550100"}
        async with call(observer, room) as attachment:
            room.join("a", SIP, {**callee, "sip.callStatus": "dialing"})
            room.join("b", SIP, {**callee, "sip.callStatus": "dialing"})
            await clock.skip(10)
            room.change("a", callStatus="automation")
            await clock.skip(3)
            room.change("a", callStatus="active")
            room.leave("b")  # nobody answered
            await clock.skip(20)
            room.change("a", callStatus="hangup")
            await clock.skip(9)
            room.leave("a")
        lines = observer.lines(attachment.session_id)
        assert {k: v for k, v in lines.items() if k[1] == "telephony"} == {
            ("leg 1", "telephony", "livekit", "sip-thirdparty"): (23, 1)
        }

    runs(test)


def test_two_legs_are_two_meters() -> None:
    """Each is rounded up by itself, so their times are not added up."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room) as attachment:
            for who in ("a", "b"):
                room.join(who, SIP, CALLER)
                await clock.skip(10)
                room.leave(who)
        legs = [key[0] for key in observer.lines(attachment.session_id) if key[1] == "telephony"]
        assert legs == ["leg 1", "leg 2"]

    runs(test)


def test_a_leg_over_a_carrier_is_counted_at_both() -> None:
    """LiveKit and the carrier charge for the same minutes, each by its own class."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room) as attachment:
            room.join("caller", SIP, TWILIO)
            await clock.skip(61)
        lines = observer.lines(attachment.session_id)
        assert lines["leg 1", "telephony", "livekit", "sip-thirdparty"] == (61, 1)
        assert lines["leg 1", "telephony", "twilio", "us-local-inbound"] == (61, 1)

    runs(test)


def test_no_number_and_no_name_of_a_person_leaves_the_worker() -> None:
    """Of telephone numbers, identities and ids of a call there is nothing in any event."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(carrier="telnyx"), ScriptedRoom()
        room.connect()
        async with call(observer, room):
            room.join("sip_+14155550199", SIP, TWILIO)
            room.join("ada@example.com")
            await clock.skip(61)
        sent = b"".join(
            encode_event(it)
            for it in observer.recorder.events
            if isinstance(it, MeterReading | SessionEnded)
        )
        for secret in ("5550", "415", "ada", "sip_", "CA12", "AC12", "SCL_", "SDR_", "ST_1", "PA_"):
            assert secret.encode() not in sent

    runs(test)


@pytest.mark.parametrize(
    ("options", "url", "modalities"),
    [
        ({}, CLOUD, {"agent_session", "participant", "telephony livekit", "telephony twilio"}),
        ({}, "wss://rtc.shop.example", {"telephony twilio"}),
        ({}, "", {"telephony twilio"}),
        ({"connections": "off"}, CLOUD, set()),
        (
            {"connections": "on"},
            "wss://rtc.shop.example",
            {"agent_session", "participant", "telephony livekit-self-hosted", "telephony twilio"},
        ),
    ],
)
def test_what_is_counted_depends_on_whose_room_it_is(
    options: dict[str, str], url: str, modalities: set[str]
) -> None:
    """By itself only what LiveKit Cloud or a known carrier charges for.

    A server of one's own is another provider, so that it never costs what LiveKit Cloud costs.
    """

    async def test(clock: Clock) -> None:
        observer, room = Observer(**options), ScriptedRoom()
        room.connect()
        async with call(observer, room, url=url) as attachment:
            room.join("person")
            room.join("caller", SIP, TWILIO)
            await clock.skip(61)
        found = {
            f"{modality} {provider}" if modality == "telephony" else modality
            for _, modality, provider, _ in observer.lines(attachment.session_id)
        }
        assert found == modalities

    runs(test)


def test_a_fake_job_has_no_minutes() -> None:
    """The console and a simulated job are in no room at LiveKit, whatever is asked for."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(connections="on", carrier="twilio"), ScriptedRoom()
        room.connect()
        async with call(observer, room, is_fake=True) as attachment:
            room.join("caller", SIP, CALLER)
            await clock.skip(61)
        assert observer.lines(attachment.session_id) == {}

    runs(test)


def test_an_agent_that_connects_later_is_counted_from_then_on() -> None:
    """A session is often attached before its job connects; who is there already is counted too."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        async with call(observer, room) as attachment:
            await clock.skip(30)
            room.join("early")
            room.connect()
            await clock.skip(12)
            room.disconnect()
            await clock.skip(30)
        assert observer.lines(attachment.session_id) == {
            ("session", "agent_session", "livekit", "agent-session"): (12, 1),
            ("participant 1", "participant", "livekit", "webrtc"): (12, 1),
        }

    runs(test)


def test_a_connection_that_is_mended_goes_on() -> None:
    """A reconnect is no new connection; who left meanwhile is not counted any more."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room) as attachment:
            room.join("a")
            room.join("b")
            await clock.skip(10)
            room.state(rtc.ConnectionState.CONN_RECONNECTING)
            await clock.skip(10)
            del room.room._remote_participants["b"]
            room.state(rtc.ConnectionState.CONN_CONNECTED)
            room.tell("reconnected")
            await clock.skip(10)
        assert observer.lines(attachment.session_id) == {
            ("session", "agent_session", "livekit", "agent-session"): (30, 1),
            ("participant 1", "participant", "livekit", "webrtc"): (30, 1),
            ("participant 2", "participant", "livekit", "webrtc"): (20, 1),
        }

    runs(test)


def test_a_room_is_counted_by_one_session_of_its_job() -> None:
    """The first that started counts; when it is over, another one goes on where it ended."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        room.join("caller", SIP, CALLER)
        with room_job(room.room) as context:
            first, second = a_session(), a_session()
            one = observer.attach(first, agent_id="dental", job=context)
            two = observer.attach(second, agent_id="dental", job=context)
            assert one is not None
            assert two is not None
            for session in (first, second):
                await session.start(Agent(instructions="x"))
            await clock.skip(90)
            assert observer.lines(two.session_id) == {}
            await first.aclose()
            await clock.skip(PACE_S)
            await clock.skip(40)
            await second.aclose()
        leg = ("leg 1", "telephony", "livekit", "us-local-inbound")
        assert observer.lines(one.session_id)[leg] == (90, 1)
        assert observer.lines(two.session_id)[leg] == (100, 1)

    runs(test)


@pytest.mark.parametrize(("lasts", "expected"), [(30, [(30, 1)]), (5, [(5, 1)]), (4, [])])
def test_the_minutes_after_anothers_end_are_the_next_ones(
    lasts: int, expected: list[tuple[int, int]]
) -> None:
    """Of a session that lives on for less than a minute too; two that end together end as one."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        with room_job(room.room) as context:
            sessions = [a_session(), a_session()]
            found = [observer.attach(it, agent_id="dental", job=context) for it in sessions]
            for session in sessions:
                await session.start(Agent(instructions="x"))
            await clock.skip(57)
            await sessions[0].aclose()
            await clock.skip(lasts)
            await sessions[1].aclose()
        first, second = found
        assert first is not None
        assert second is not None
        assert list(observer.lines(first.session_id).values()) == [(57, 1)]
        assert list(observer.lines(second.session_id).values()) == expected

    runs(test)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            [{}, CALLER],
            {("leg 1", "telephony", "livekit", "us-local-inbound"): (6, 1)},
        ),
        (
            [{"sip.callStatus": "active"}, {**CALLER, "sip.ruleID": ""}, CALLER],
            {("leg 1", "telephony", "livekit", "us-local-inbound"): (9, 1)},
        ),
        (
            [{}, {"sip.callStatus": "dialing"}, {"sip.callStatus": "active"}],
            {("leg 1", "telephony", "livekit", "sip-thirdparty"): (3, 1)},
        ),
        ([{}, {"sip.callStatus": "dialing"}, {"sip.callStatus": "hangup"}], {}),
        ([{}], {("leg 1", "telephony", "livekit", "sip-thirdparty"): (3, 1)}),
    ],
)
def test_a_leg_is_what_its_attributes_say_in_the_end(
    told: list[dict[str, str]], expected: dict[Any, tuple[float, int]]
) -> None:
    """They may come after the participant: its class waits for them, and so does its answer."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room) as attachment:
            await clock.skip(PACE_S - 1)
            room.join("a", SIP, told[0])
            await clock.skip(3)  # a minute is counted meanwhile
            for attributes in told[1:]:
                names = {key.removeprefix("sip."): it for key, it in attributes.items()}
                room.change("a", **names)
                await clock.skip(3)
        lines = observer.lines(attachment.session_id)
        assert {key: it for key, it in lines.items() if key[1] == "telephony"} == expected

    runs(test)


def test_a_leg_that_never_tells_its_state_is_up() -> None:
    """Not at once, because its attributes may be on their way; from its beginning, after a minute."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room) as attachment:
            await clock.skip(30)
            room.join("a", SIP)
            for seconds, counted in ((30.0, []), (PACE_S, [(90, 1)])):
                await clock.skip(seconds)
                lines = observer.lines(attachment.session_id)
                assert [it for key, it in lines.items() if key[0] == "leg 1"] == counted

    runs(test)


@pytest.mark.parametrize("first", [0, 1])
def test_a_session_that_never_started_owns_no_room(first: int) -> None:
    """Whoever was attached first: the call is the session's that ran, from its attachment on."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        room.join("caller", SIP, CALLER)
        with room_job(room.room) as context:
            sessions = [a_session(), a_session()]
            found = [observer.attach(it, agent_id="dental", job=context) for it in sessions]
            await clock.skip(4)
            await sessions[first].start(Agent(instructions="x"))
            await clock.skip(PACE_S)
            await sessions[first].aclose()
            await clock.skip(2 * PACE_S)
            for attachment in found:
                assert attachment is not None
                attachment.finalise(status="cancelled", reason="job shutdown")
        ran, idle = found[first], found[1 - first]
        assert ran is not None
        assert idle is not None
        assert observer.lines(idle.session_id) == {}
        assert observer.lines(ran.session_id) == {
            ("session", "agent_session", "livekit", "agent-session"): (64, 1),
            ("leg 1", "telephony", "livekit", "us-local-inbound"): (64, 1),
        }

    runs(test)


def test_what_was_before_the_start_is_not_lost_with_a_killed_worker() -> None:
    """A start after minutes of waiting counts them at once, not a minute later."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        with room_job(room.room) as context:
            session = a_session()
            attachment = observer.attach(session, agent_id="dental", job=context)
            assert attachment is not None
            await clock.skip(170)
            await session.start(Agent(instructions="x"))
            (line,) = observer.lines(attachment.session_id).values()
            assert line == (170, 1)
            await session.aclose()

    runs(test)


def test_who_left_before_the_start_is_counted_from_the_attachment() -> None:
    """A caller who tries, hangs up and calls again has two legs, and a crowd shares its meter."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        with room_job(room.room) as context:
            session = a_session()
            attachment = observer.attach(session, agent_id="dental", job=context)
            assert attachment is not None
            for number in range(53):
                room.join(f"p{number}")
                await clock.skip(2)
                room.leave(f"p{number}")
            assert observer.recorder.readings() == []
            room.join("late")
            await session.start(Agent(instructions="x"))
            await clock.skip(10)
            await session.aclose()
        lines = observer.lines(attachment.session_id)
        assert lines["participant 1", "participant", "livekit", "webrtc"] == (2, 1)
        assert lines["participant (more)", "participant", "livekit", "webrtc"] == (16, 4)
        assert lines["session", "agent_session", "livekit", "agent-session"] == (116, 1)

    runs(test)


def test_a_session_that_starts_after_another_counts_from_when_the_room_was_free() -> None:
    """What one has counted, the next does not count again, however long it was attached."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        room.join("caller", SIP, CALLER)
        with room_job(room.room) as context:
            sessions = [a_session(), a_session()]
            found = [observer.attach(it, agent_id="dental", job=context) for it in sessions]
            for session in sessions:
                await session.start(Agent(instructions="x"))
                await clock.skip(20)
                await session.aclose()
        leg = ("leg 1", "telephony", "livekit", "us-local-inbound")
        assert [observer.lines(it.session_id)[leg] for it in found if it] == [(20, 1), (20, 1)]

    runs(test)


def test_a_start_that_was_not_told_is_found_within_a_minute_or_at_the_end() -> None:
    """A session that says nothing of its state is counted by what it is."""

    async def test(clock: Clock) -> None:
        for waits in (0, PACE_S):
            observer, room = Observer(), ScriptedRoom()
            room.connect()
            with room_job(room.room) as context:
                session = a_session()
                attachment = observer.attach(session, agent_id="dental", job=context)
                assert attachment is not None
                session.off("agent_state_changed", attachment._on_state)
                await session.start(Agent(instructions="x"))
                await clock.skip(waits)
                assert len(observer.recorder.readings()) == (waits > 0)
                await clock.skip(7)
                attachment.finalise(status="cancelled", reason="test")
                (line,) = observer.lines(attachment.session_id).values()
                assert line == (waits + 7, 1)
                await session.aclose()

    runs(test)


def test_a_session_that_starts_again_counts_from_its_new_start() -> None:
    """It is a session of its own, and its caller, who stayed, is a leg of both for its time."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        room.join("caller", SIP, CALLER)
        with room_job(room.room) as context:
            session = a_session()
            observer.attach(session, agent_id="dental", job=context)
            for length in (20, 30):
                await session.start(Agent(instructions="x"))
                await session.run(user_input="#1# hello")
                await clock.skip(length)
                await session.aclose()
        sessions = dict.fromkeys(it.session_id for it in observer.recorder.readings())
        leg = ("leg 1", "telephony", "livekit", "us-local-inbound")
        assert [observer.lines(it)[leg] for it in sessions] == [(20, 1), (30, 1)]
        agent = ("session", "agent_session", "livekit", "agent-session")
        assert [observer.lines(it)[agent] for it in sessions] == [(20, 1), (30, 1)]

    runs(test)


def test_sessions_that_end_with_their_job_do_not_count_each_others_callers() -> None:
    """At the end of a job the second session does not begin with what the first one counted."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        room.join("caller", SIP, CALLER)
        with room_job(room.room) as context:
            sessions = [a_session(), a_session()]
            found = [observer.attach(it, agent_id="dental", job=context) for it in sessions]
            for session in sessions:
                await session.start(Agent(instructions="x"))
            await clock.skip(30)
            for attachment in found:
                assert attachment is not None
                attachment.finalise(status="cancelled", reason="job shutdown")
            assert found[1] is not None
            assert observer.lines(found[1].session_id) == {}
            for session in sessions:
                await session.aclose()

    runs(test)


def test_a_session_without_a_job_finds_the_room_that_it_was_started_in() -> None:
    """Without a job the room is known when the session has started, by its RoomIO."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(connections="on"), ScriptedRoom()
        room.connect()
        session = a_session()
        attachment = observer.attach(session, agent_id="dental")
        assert attachment is not None
        session._room_io = SimpleNamespace(room=room.room)  # type: ignore[assignment]
        attachment._state_changed(None)
        await clock.skip(10)
        attachment.finalise(status="success", reason="")
        (line,) = observer.lines(attachment.session_id).values()
        assert line == (10, 1)

    runs(test)


@pytest.mark.parametrize("room", [None, SimpleNamespace(), SimpleNamespace(on=print)])
def test_an_odd_room_costs_no_call(room: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Without a room nothing is counted; one that is none is said, and counted as unmeasured."""

    async def test(clock: Clock) -> None:
        observer = Observer(connections="on")
        session = a_session()
        context = SimpleNamespace(
            job=SimpleNamespace(
                id="j", room=SimpleNamespace(name="r", sid="s", metadata=""), metadata=""
            ),
            room=room,
            worker_id="w",
            is_fake_job=lambda: False,
            add_shutdown_callback=lambda _callback: None,
        )
        attachment = observer.attach(session, agent_id="dental", job=hashable(context))
        assert attachment is not None
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()
        (end,) = observer.recorder.ends()
        assert [it.modality for it in end.meters] == ["llm"]
        assert (end.unmeasured > 0) is (room is not None)

    runs(test)
    assert ("a usage listener failed" in caplog.text) is (room is not None)


def test_an_odd_job_costs_its_connected_time_alone(caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot say whether it is fake: the call is metered, and it is said once."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(connections="on"), ScriptedRoom()
        room.connect()
        with room_job(room.room) as context:
            context.is_fake_job = None  # type: ignore[assignment,method-assign]  # odd
            session = a_session()
            assert observer.attach(session, agent_id="dental", job=context) is not None
            await session.start(Agent(instructions="x"))
            await session.run(user_input="#1# hello")
            await session.aclose()
        (end,) = observer.recorder.ends()
        assert ([it.modality for it in end.meters], end.unmeasured) == (["llm"], 1)

    runs(test)
    assert caplog.text.count("a usage listener failed") == 1


def hashable(namespace: Any) -> Any:
    """Return an object with the attributes of a namespace that can be a key."""

    class Job:
        pass

    made = Job()
    made.__dict__.update(vars(namespace))
    return made


def test_a_crowd_shares_a_meter() -> None:
    """Beyond fifty participants of a session they are counted together, so its end stays small."""

    async def test(clock: Clock) -> None:
        observer, room = Observer(), ScriptedRoom()
        room.connect()
        async with call(observer, room) as attachment:
            for number in range(60):
                room.join(f"p{number}")
            await clock.skip(30)
        lines = observer.lines(attachment.session_id)
        assert len(lines) == 52
        more = ("participant (more)", "participant", "livekit", "webrtc")
        assert lines[more] == (300, 10)

    runs(test)


def test_a_counter_that_fails_stops_nothing() -> None:
    """Whatever goes wrong in a room's event, the emitter goes on and the loss is counted."""

    async def test(clock: Clock) -> None:
        failures: list[int] = []

        def count(_usage: Usage, _label: str) -> None:
            raise TypeError("full")

        room = ScriptedRoom()
        room.connect()
        with room_job(room.room) as context:
            started = SimpleNamespace(current_agent=object(), _closing=False)
            counted = Connections(
                started, Rules("on"), count, job=context, failed=lambda: failures.append(1)
            )
            counted.open()
            room.join("a")
            room.leave("a")
            await clock.skip(61)
            counted.close()
        assert len(failures) == 3

    runs(test)


@pytest.mark.parametrize(
    ("url", "is_clouds"),
    [
        ("wss://shop-x1.livekit.cloud", True),
        ("https://shop-x1.LiveKit.cloud:443/rtc", True),
        ("shop-x1.livekit.cloud", True),
        ("wss://livekit.cloud.example.com", False),
        ("wss://evil-livekit.cloud", False),
        ("ws://localhost:7880", False),
        ("", False),
        ("http://[", False),
        (None, False),
    ],
)
def test_a_room_is_at_livekit_cloud_by_the_host_of_its_server(url: Any, *, is_clouds: bool) -> None:
    """Only a host below livekit.cloud has LiveKit Cloud's prices."""
    assert is_cloud(url) is is_clouds
