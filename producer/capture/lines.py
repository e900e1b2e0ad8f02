"""The connections in a room: what each is counted on, since when, and what it has run.

Every open connection is a line with a clock of its own. What it has run since it was last counted
is added to its meters when it ends, and whenever it is asked for. Nothing about a person leaves this
module: a line has a number of its own and a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from livekit import rtc

from voicecosts.producer.capture.telephony import is_connected, leg_class
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import now_us

PACE_S: Final = 60.0
"""How often what is connected is counted while it lasts."""

_TOLD_WITHIN_S: Final = 5.0
"""LiveKit may tell a leg's attributes after the participant: so long its class is not decided."""

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
Count = Callable[[Usage, str], None]
"""Receives an increment, and the label of its meter."""


class _Line:
    """One connection: the meters that it is counted on, and since when it was not counted.

    A leg's meters are found when it is counted first, because LiveKit may tell its attributes after
    the participant. Until they say whether it was answered, `is_sure` is false.
    """

    __slots__ = ("is_new", "is_sure", "label", "meters", "participant", "since")

    def __init__(
        self, meters: list[tuple[str, str, str]] | None, since: float, participant: Any
    ) -> None:
        self.label = ""
        self.meters = meters
        self.since = since
        self.participant = participant  # kept, so that its identity is nobody else's
        self.is_new = True
        self.is_sure = True


class Lines:
    """The connections of one room, of which somebody counts what they run."""

    def __init__(self, count: Count, carrier: str) -> None:
        self._count = count
        self._carrier = carrier
        self._at_livekit = ""
        self._lines: dict[int, _Line] = {}
        self._opened = {"leg": 0, "participant": 0}

    def __len__(self) -> int:
        return len(self._lines)

    def see_all(self, room: Any, at_livekit: str, now: float) -> None:
        """Open a line for the agent and for everybody who is there; close those of who is not.

        `at_livekit` is the provider of the room's own minutes, "" where they are not counted.
        """
        self._at_livekit = at_livekit
        if at_livekit and id(self) not in self._lines:
            agent = _Line([("agent_session", at_livekit, "agent-session")], now, None)
            agent.label = "session"
            self._lines[id(self)] = agent
        there = list(room.remote_participants.values())
        for key in self._lines.keys() - {id(self), *map(id, there)}:
            self._close(key, now)
        for participant in there:
            self.see(participant, now)

    def see(self, participant: Any, now: float) -> None:
        """Open or close the line of a participant, by what it is and whether it talks."""
        kind = participant.kind
        if kind == _SIP:
            self._see_leg(participant, now)
        elif self._at_livekit and kind in _PEOPLE and id(participant) not in self._lines:
            meters = [("participant", self._at_livekit, _PEOPLE[kind])]
            self._lines[id(participant)] = line = _Line(meters, now, participant)
            self._name(line)

    def left(self, participant: Any, now: float) -> None:
        """Close the line of a participant, if it has one."""
        self._close(id(participant), now)

    def count(self, now: float) -> None:
        """Count what is connected: a leg not before its attributes have told what it is."""
        for line in self._lines.values():
            told_within = _TOLD_WITHIN_S if line.is_sure else PACE_S
            if line.meters is not None or now - line.since >= told_within:
                self._add(line, now)

    def count_overdue(self, now: float) -> None:
        """Count what was not counted for a minute."""
        for line in self._lines.values():
            if now - line.since >= PACE_S:
                self._add(line, now)

    def close_all(self, now: float) -> None:
        """Close every line."""
        for key in list(self._lines):
            self._close(key, now)

    def forget(self) -> None:
        """Begin anew, with nothing counted."""
        self._lines.clear()
        self._opened = dict.fromkeys(self._opened, 0)

    def _see_leg(self, participant: Any, now: float) -> None:
        attributes, line = participant.attributes, self._lines.get(id(participant))
        if not is_connected(attributes):
            if line is not None and not line.is_sure and line.is_new:
                del self._lines[id(participant)]  # it was not up: that had not been told yet
            self._close(id(participant), now)
            return
        if line is None:
            line = self._lines[id(participant)] = _Line(None, now, participant)
        line.is_sure = bool(attributes.get("sip.callStatus"))
        if line.is_sure:
            self._name(line)

    def _leg(self, attributes: Mapping[str, str]) -> list[tuple[str, str, str]]:
        leg = leg_class(attributes, self._carrier)
        meters = []
        if self._at_livekit:
            meters.append(("telephony", self._at_livekit, leg.at_livekit))
        if leg.carrier:
            meters.append(("telephony", leg.carrier, leg.at_carrier))
        return meters

    def _name(self, line: _Line) -> None:
        """Give a line its label, once; beyond fifty of a kind they share one."""
        if not line.label:
            what = "participant" if line.meters else "leg"
            self._opened[what] += 1
            number = self._opened[what]
            line.label = f"{what} {number}" if number <= _LINES else f"{what} (more)"

    def _close(self, key: int, now: float) -> None:
        if (line := self._lines.pop(key, None)) is not None:
            self._add(line, now)

    def _add(self, line: _Line, now: float) -> None:
        """Add to each meter of a line what has passed since it was last counted."""
        self._name(line)
        if line.meters is None:
            line.meters = self._leg(line.participant.attributes)
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
