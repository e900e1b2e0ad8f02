"""Whatever happens in a room, what is counted is what was connected: no second twice, none lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit import rtc

from tests.support.rooms import CALLER, PERSON, SIP, Clock, ScriptedRoom, own_clock, room_job
from tests.support.script_run import SkippingLoop
from voicecosts.producer.capture.connected import Connections, Rules
from voicecosts.producer.counts import Usage

WHO: Final = st.sampled_from(["a", "b", "c"])
STATUS: Final = st.sampled_from(["dialing", "active", "automation", "hangup"])
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 200)),
        st.tuples(st.just("person"), WHO),
        st.tuples(st.just("call"), WHO, STATUS),
        st.tuples(st.just("status"), WHO, STATUS),
        st.tuples(st.just("leave"), WHO),
        st.tuples(st.sampled_from(["connect", "disconnect", "reconnecting", "reconnected"])),
        st.tuples(st.just("start"), st.booleans()),
    ),
    max_size=25,
).flatmap(lambda steps: st.sampled_from([[("connect",), *steps], steps]))


class Session:
    """What a session says of itself, before its start and after."""

    _closing = False
    is_started = False

    @property
    def current_agent(self) -> object:
        """Return the agent, as `AgentSession` does."""
        if not self.is_started:
            raise RuntimeError
        return self


class Script:
    """Plays steps in a room, and adds up by itself who was connected for how long."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.room = ScriptedRoom()
        self.is_connected = False
        self.session = Session()
        self.there: dict[str, str] = {}  # who: "" for a person, else the status of a call
        self.expected: defaultdict[str, int] = defaultdict(int)

    def listeners(self) -> int:
        """Return how many functions listen to the room."""
        return sum(map(len, self.room.room._events.values()))

    async def step(self, do: str, *given: Any) -> None:
        """Do a step, where it is possible."""
        if do == "pass":
            self._add(given[0])
            await self.clock.skip(given[0])
        elif do in ("person", "call"):
            self._join(do, *given)
        elif do == "status" and self.there.get(given[0]) and self.room.room._local_participant:
            self.room.change(given[0], callStatus=given[1])
            self.there[given[0]] = given[1]
        elif do == "leave" and given[0] in self.there:
            self.room.leave(given[0])
            del self.there[given[0]]
        elif do == "connect":
            self.room.connect()
            self.is_connected = True
        elif do == "disconnect":
            self.room.disconnect()
            self.is_connected = False
        elif do == "reconnecting" and self.is_connected:
            self.room.state(rtc.ConnectionState.CONN_RECONNECTING)
            self.room.state(rtc.ConnectionState.CONN_CONNECTED)
        elif do == "reconnected":
            self.room.tell("reconnected")

    def _join(self, kind: str, who: str, status: str = "") -> None:
        if who in self.there or not self.is_connected:
            return
        if kind == "person":
            self.room.join(who, PERSON)
        else:
            self.room.join(who, SIP, {**CALLER, "sip.callStatus": status})
        self.there[who] = status

    def _add(self, seconds: int) -> None:
        if not self.is_connected:
            return
        self.expected["agent_session"] += seconds
        for status in self.there.values():
            if not status:
                self.expected["participant"] += seconds
            elif status in ("active", "automation"):
                self.expected["telephony"] += seconds


async def played(steps: list[tuple[Any, ...]], clock: Clock) -> tuple[Script, dict[str, float]]:
    """Play steps; return the script and what was counted by modality, in seconds."""
    script, counted = Script(clock), defaultdict[str, float](float)

    def count(usage: Usage, _label: str) -> None:
        counted[usage.modality] += usage.session_s

    def failed() -> None:
        pytest.fail("a listener failed")

    with room_job(script.room.room) as context:
        before = script.listeners()
        connections = Connections(script.session, Rules("auto"), count, job=context, failed=failed)
        connections.open()
        for step in steps:
            if step[0] == "start":
                script.session.is_started = True
                if step[1]:  # else nobody tells
                    connections.look()
            else:
                await script.step(*step)
            assert script.session.is_started or not counted
        connections.close()
        script.room.connect()
        await clock.skip(100)  # what comes after the end is not counted
        assert script.listeners() == before
    return script, dict(counted)


def check(steps: list[tuple[Any, ...]]) -> None:
    """Fail unless what is counted is what was connected."""
    with own_clock() as clock, asyncio.Runner(loop_factory=SkippingLoop) as runner:
        script, counted = runner.run(played(steps, clock))
    expected = script.expected if script.session.is_started else {}
    assert {key: it for key, it in counted.items() if it} == expected


@settings(max_examples=25)
@given(STEPS)
def test_what_is_counted_is_what_was_connected(steps: list[tuple[Any, ...]]) -> None:
    """Joining, leaving, answering, hanging up and reconnecting in any order lose no second."""
    check(steps)


@pytest.mark.slow
@settings(max_examples=500)
@given(STEPS)
def test_what_is_counted_is_what_was_connected_long(steps: list[tuple[Any, ...]]) -> None:
    """The long form of the rule."""
    check(steps)
