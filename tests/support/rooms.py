"""A real `rtc.Room` without a server: the events that one sends are handed to it by a script."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import pytest
from livekit import rtc
from livekit.agents import JobContext
from livekit.rtc._proto import participant_pb2, room_pb2
from livekit.rtc._utils import BroadcastQueue

from tests.support.jobs import job
from tests.support.script_run import skip
from voicecosts.producer.capture import connected

PERSON: Final = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD
SIP: Final = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
AGENT: Final = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
EGRESS: Final = rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS

CLOUD: Final = "wss://shop-x1.livekit.cloud"

CALLER: Final = {
    "sip.callID": "SCL_1",
    "sip.ruleID": "SDR_1",
    "sip.trunkID": "PN_PPN_1",
    "sip.trunkPhoneNumber": "+15105550123",
    "sip.phoneNumber": "+14155550199",
    "sip.callStatus": "active",
}
"""What LiveKit says of somebody who called a number that was bought there."""


class ScriptedRoom:
    """Hands events to a real room, as LiveKit's native part does."""

    def __init__(self) -> None:
        self.room: Any = rtc.Room()

    def connect(self) -> None:
        """Connect the agent; whoever joined before is there."""
        me = participant_pb2.OwnedParticipant()
        me.info.sid, me.info.identity, me.info.name, me.info.metadata = "PA_me", "agent", "", ""
        self.room._connection_state = rtc.ConnectionState.CONN_CONNECTED
        self.room._local_participant = rtc.LocalParticipant(BroadcastQueue(), me)
        self.state(rtc.ConnectionState.CONN_CONNECTED)

    def state(self, state: Any) -> None:
        """Change the state of the agent's own connection."""
        event = room_pb2.RoomEvent()
        event.connection_state_changed.state = state
        self.room._on_room_event(event)

    def disconnect(self) -> None:
        """End the agent's connection."""
        self.state(rtc.ConnectionState.CONN_DISCONNECTED)

    def join(self, identity: str, kind: Any = PERSON, attributes: Any = None) -> None:
        """Let somebody join."""
        event = room_pb2.RoomEvent()
        info = event.participant_connected.info.info
        info.sid, info.identity, info.name, info.metadata = f"PA_{identity}", identity, "", ""
        info.kind = kind
        info.attributes.update(attributes or {})
        event.participant_connected.info.handle.id = 0
        self.room._on_room_event(event)

    def change(self, identity: str, **changed: str) -> None:
        """Change SIP attributes of somebody, by their names behind `sip.`."""
        new = {f"sip.{name}": value for name, value in changed.items()}
        before = self.room.remote_participants[identity].attributes
        event = room_pb2.RoomEvent()
        told = event.participant_attributes_changed
        told.participant_identity = identity
        for key, value in {**before, **new}.items():
            told.attributes.add(key=key, value=value)
        for key, value in new.items():
            told.changed_attributes.add(key=key, value=value)
        self.room._on_room_event(event)

    def leave(self, identity: str) -> None:
        """Let somebody leave."""
        event = room_pb2.RoomEvent()
        event.participant_disconnected.participant_identity = identity
        event.participant_disconnected.disconnect_reason = 1
        self.room._on_room_event(event)

    def tell(self, name: str) -> None:
        """Send an event that says no more than its name."""
        event = room_pb2.RoomEvent()
        getattr(event, name).SetInParent()
        self.room._on_room_event(event)


class Clock:
    """The clock of connected time, which a script moves on; the loop's timers go with it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    async def skip(self, seconds: float) -> None:
        """Have so many seconds pass, in a `SkippingLoop`."""
        self.now += seconds
        await skip(seconds)


@contextlib.contextmanager
def own_clock() -> Iterator[Clock]:
    """Count connected time by a clock of the body's own, so that no machine is too slow for it."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connected, "monotonic", clock)
        yield clock


@contextlib.contextmanager
def room_job(
    room: Any, *, job_id: str = "job", url: str = CLOUD, is_fake: bool = False
) -> Iterator[JobContext]:
    """Run the body inside a job that was dispatched to a room."""
    with job(job_id, room=room) as context:
        context._info.url, context._info.fake_job = url, is_fake
        yield context
