"""Connected time: of the agent, of the people in its room, and of telephone legs.

A room is counted by one session at a time, the first that was attached for it, so that two sessions
of a job do not both count its callers. Every open connection is a line with a clock; what it has
run since it was last counted is added to its meter when it ends, each minute, and at the session's
end. So a worker that is killed loses at most a minute. Nothing about a person leaves this module:
a line has a number of its own and a class.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from livekit import rtc

from voicecosts.producer.capture.listener import listener, report_failure
from voicecosts.producer.capture.telephony import LIVEKIT, is_connected, leg_class
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import now_us

PACE_S: Final = 60.0
"""How often what is connected is counted while it lasts."""

SELF_HOSTED: Final = "livekit-self-hosted"
"""The provider of a room on a LiveKit server that is not LiveKit Cloud: its list is not theirs."""

_CLOUD: Final = ".livekit.cloud"

_LINES: Final = 50
"""Legs, and other participants, with a meter of their own; further ones of each share one."""

_PEOPLE: Final[Mapping[int, str]] = {
    rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD: "webrtc",
    **{
        getattr(rtc.ParticipantKind, f"PARTICIPANT_KIND_{kind}"): kind.lower()
        for kind in ("CONNECTOR", "BRIDGE")
        if hasattr(rtc.ParticipantKind, f"PARTICIPANT_KIND_{kind}")
    },
}
"""Models of connected people and devices. Agents are not counted, nor are what LiveKit bills as
something else: streams that it takes in (ingress) and out (egress)."""

_SIP: Final = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
_CONNECTED: Final = rtc.ConnectionState.CONN_CONNECTED
_GONE: Final = rtc.ConnectionState.CONN_DISCONNECTED

_OWNERS: Final[dict[int, Connections]] = {}
"""Who counts a room, by the identity of the room object, which its owner keeps."""

Count = Callable[[Usage, str], None]
"""Receives an increment, and the label of its meter."""


class Rules(NamedTuple):
    """What is counted: `connections` is `auto`, `on` or `off`.

    `auto` counts everything at LiveKit Cloud, and elsewhere only a leg's carrier, where it is
    known. `carrier` is who carries calls whose attributes do not tell. `url` is the address of the
    LiveKit server where neither the job nor the room knows it.
    """

    connections: str = "off"
    carrier: str = ""
    url: str = ""


NOTHING: Final = Rules()
"""Counts no connected time."""


class _Line:
    """One connection: the meters that it is counted on, and since when it was not counted."""

    __slots__ = ("is_new", "label", "meters", "participant", "since")

    def __init__(
        self, label: str, meters: list[tuple[str, str, str]], since: float, participant: Any
    ) -> None:
        self.label = label
        self.meters = meters
        self.since = since
        self.participant = participant  # kept, so that its identity is nobody else's
        self.is_new = True


class Connections:
    """The connected time of one session's room. Lives on the session's thread; never raises."""

    def __init__(
        self,
        session: Any,
        rules: Rules,
        count: Count,
        *,
        job: Any = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._rules = rules
        self._count = count
        self._job = job
        self._failed = failed
        self._is_open = False
        self._room: Any = None
        self._at_livekit = ""
        self._lines: dict[int, _Line] = {}
        self._opened = {"leg": 0, "participant": 0}
        self._timer: asyncio.TimerHandle | None = None
        self._listeners = {
            event: listener(function, failed)
            for event, function in (
                ("participant_connected", self._joined),
                ("participant_disconnected", self._left),
                ("participant_attributes_changed", self._attributes_changed),
                ("connection_state_changed", self._state_changed),
                ("reconnected", self._see_all_again),
                ("moved", self._see_all_again),
            )
        }
        self._on_pace = listener(self._pace, failed)

    def __repr__(self) -> str:
        state = "owner" if self._owns else "open" if self._is_open else "closed"
        return f"<Connections {state}, {len(self._lines)} lines>"

    def open(self) -> None:
        """Begin to count, if there is anything to count and a room; else `look` may find one."""
        if self._rules.connections != "off":
            self._is_open = True
            self.look()

    def look(self) -> None:
        """Look for the room, where it is not known yet: a session without a job has it later."""
        if not self._is_open or self._timer is not None:
            return
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - an odd room costs no more than its own time
            report_failure(error, self._failed)

    def close(self) -> None:
        """Count what is open for the last time; safe to call twice."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._end()
        except Exception as error:  # noqa: BLE001 - nothing may keep a session from its end
            report_failure(error, self._failed)

    @property
    def _owns(self) -> bool:
        return self._room is not None and _OWNERS.get(id(self._room)) is self

    def _begin(self) -> None:
        if _is_fake(self._job):
            self._is_open = False
            return
        self._room = _room_of(self._session, self._job)
        loop = _running_loop()
        if self._room is None or loop is None:
            return
        self._timer = loop.call_later(PACE_S, self._on_pace, None)
        self._own()

    def _own(self) -> None:
        """Count the room, unless another session does."""
        if _OWNERS.setdefault(id(self._room), self) is not self:
            return
        for event, function in self._listeners.items():
            self._room.on(event, function)
        self._see_all()

    def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not self._owns:
            return
        for event, function in self._listeners.items():
            with contextlib.suppress(Exception):
                self._room.off(event, function)
        del _OWNERS[id(self._room)]
        self._close_all()

    def _pace(self, _nothing: Any) -> None:
        """Count the minute; a session whose room is counted no more begins to count it."""
        if not self._is_open:
            return
        self._timer = asyncio.get_running_loop().call_later(PACE_S, self._on_pace, None)
        if not self._owns:
            self._own()
            return
        now = monotonic()
        for line in self._lines.values():
            self._add(line, now)

    # ---- what the room tells --------------------------------------------------------------------

    def _state_changed(self, state: Any) -> None:
        if state == _GONE:
            self._close_all()
        elif state == _CONNECTED:
            self._see_all()

    def _joined(self, participant: Any) -> None:
        self._see(participant, monotonic())

    def _left(self, participant: Any) -> None:
        self._close(id(participant), monotonic())

    def _attributes_changed(self, changed: Any) -> None:
        if "sip.callStatus" in changed:
            self._see_all()

    def _see_all(self) -> None:
        """Open a line for the agent and for everybody who is there; close those of who is not."""
        if self._room.connection_state != _CONNECTED:
            return
        now = monotonic()
        if not self._at_livekit:
            self._at_livekit = self._livekit()
        if self._at_livekit and id(self) not in self._lines:
            meters = [("agent_session", self._at_livekit, "agent-session")]
            self._lines[id(self)] = _Line("session", meters, now, None)
        there = list(self._room.remote_participants.values())
        for key in self._lines.keys() - {id(self), *map(id, there)}:
            self._close(key, now)
        for participant in there:
            self._see(participant, now)

    def _see_all_again(self, _nothing: Any) -> None:
        self._see_all()

    def _see(self, participant: Any, now: float) -> None:
        """Open or close the line of a participant, by what it is and whether it talks."""
        kind = participant.kind
        if kind == _SIP:
            attributes = participant.attributes
            if not is_connected(attributes):
                self._close(id(participant), now)
            elif id(participant) not in self._lines:
                self._open("leg", self._leg(attributes), now, participant)
        elif self._at_livekit and kind in _PEOPLE and id(participant) not in self._lines:
            meters = [("participant", self._at_livekit, _PEOPLE[kind])]
            self._open("participant", meters, now, participant)

    def _leg(self, attributes: Mapping[str, str]) -> list[tuple[str, str, str]]:
        leg = leg_class(attributes, self._rules.carrier)
        meters = []
        if self._at_livekit:
            meters.append(("telephony", self._at_livekit, leg.at_livekit))
        if leg.carrier:
            meters.append(("telephony", leg.carrier, leg.at_carrier))
        return meters

    def _livekit(self) -> str:
        """Return the provider of the room's own minutes; "" where they are not counted."""
        info = getattr(self._job, "_info", None)
        url = getattr(info, "url", "") or getattr(self._room, "_server_url", "") or self._rules.url
        if is_cloud(url):
            return LIVEKIT
        return SELF_HOSTED if self._rules.connections == "on" else ""

    # ---- lines ----------------------------------------------------------------------------------

    def _open(
        self, what: str, meters: list[tuple[str, str, str]], now: float, participant: Any
    ) -> None:
        if not meters:
            return
        self._opened[what] += 1
        number = self._opened[what]
        label = f"{what} {number}" if number <= _LINES else f"{what} (more)"
        self._lines[id(participant)] = _Line(label, meters, now, participant)

    def _close(self, key: int, now: float) -> None:
        if (line := self._lines.pop(key, None)) is not None:
            self._add(line, now)

    def _close_all(self) -> None:
        now = monotonic()
        for key in list(self._lines):
            self._close(key, now)

    def _add(self, line: _Line, now: float) -> None:
        """Add to each meter of a line what has passed since it was last counted."""
        passed = max(0.0, now - line.since)
        quantities = {"requests": 1} if line.is_new else {}
        line.since, line.is_new = now, False
        occurred_at = now_us()
        for modality, provider, model in line.meters:
            usage = Usage(
                modality=modality,
                provider_raw=provider,
                model=model,
                occurred_at=occurred_at,
                quantities=quantities,
                session_s=passed,
            )
            self._count(usage, line.label)


def is_cloud(url: object) -> bool:
    """Whether the address of a LiveKit server is one of LiveKit Cloud."""
    if not isinstance(url, str):
        return False
    try:
        host = urlsplit(url if "://" in url else f"wss://{url}").hostname
    except ValueError:
        return False
    return (host or "").endswith(_CLOUD)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _is_fake(job: Any) -> bool:
    """Whether a job has no room at LiveKit: in the console, in a test."""
    return job is not None and bool(job.is_fake_job())


def _room_of(session: Any, job: Any) -> Any:
    """Return the room of a job, else the one that a session was started in, `None` without."""
    room = getattr(job, "room", None)
    return room if room is not None else getattr(getattr(session, "_room_io", None), "room", None)
