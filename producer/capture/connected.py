"""Connected time: of the agent, of the people in its room, and of telephone legs.

A room is counted by one session at a time, the first that started in it, so that two sessions of a
job do not both count its callers. Whoever is attached and has not started follows the room and holds
what it has seen: its own start makes it count, from the attachment on, and another's lets it go. So
one that never starts counts nothing. What is connected (`lines.py`) is counted when it ends, each
minute, and at the session's end. So a worker that is killed loses at most a minute, and of a leg that
was just answered five seconds more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from livekit import rtc
from msgspec.structs import replace

from voicecosts.producer.capture.components import is_started
from voicecosts.producer.capture.lines import PACE_S, Count, Lines
from voicecosts.producer.capture.listener import listener, report_failure
from voicecosts.producer.capture.telephony import LIVEKIT
from voicecosts.producer.counts import Usage

SELF_HOSTED: Final = "livekit-self-hosted"
"""The provider of a room on a LiveKit server that is not LiveKit Cloud: its list is not theirs."""

_CLOUD: Final = ".livekit.cloud"

_TOGETHER_S: Final = 5.0
"""Sessions of a room that end so soon after each other end as one: what is between is not counted."""

_CONNECTED: Final = rtc.ConnectionState.CONN_CONNECTED
_GONE: Final = rtc.ConnectionState.CONN_DISCONNECTED

_OWNERS: Final[dict[int, Connections]] = {}
"""Who counts a room, by the identity of the room object, which its owner keeps."""

_WAITING: Final[dict[int, list[Connections]]] = {}
"""The other sessions of a room, by the same identity: while nobody counts it, they follow it."""


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
        self._has_started = False
        self._follows = False
        self._goes_on_at = 0.0
        self._room: Any = None
        self._at_livekit = ""
        self._lines = Lines(self._tally, rules.carrier)
        self._held: dict[tuple[str, str, str, str], tuple[Usage, str]] = {}
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
        state = "owner" if self._owns else "waiting" if self._is_open else "closed"
        return f"<Connections {state}, {len(self._lines)} lines>"

    def open(self) -> None:
        """Begin to count, if there is anything to count and a room; else `look` may find one."""
        if self._rules.connections != "off":
            self._is_open = True
            self._look()

    def look(self) -> None:
        """The session runs: begin to count, in the room that one without a job has now."""
        if self._is_open and not (self._has_started and self._timer is not None):
            self._has_started = True
            self._look()

    def _look(self) -> None:
        try:
            if self._timer is None:
                self._begin()
            else:
                self._go_on()
        except Exception as error:  # noqa: BLE001 - an odd room costs no more than its own time
            if self._timer is None:
                self._is_open = False  # it would be no better the next time
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
        _WAITING.setdefault(id(self._room), []).append(self)
        self._go_on()

    def _go_on(self) -> None:
        """Unless another session counts the room: follow it, and count it from the start on."""
        if id(self._room) in _OWNERS:
            return
        if not self._follows:
            self._follow()
        if self._is_running():
            self._own()

    def _is_running(self) -> bool:
        self._has_started = self._has_started or is_started(self._session)
        return self._has_started

    def take_up(self) -> None:
        """Who counted the room has ended: go on there, unless this session ends with it."""
        try:
            self._goes_on_at = monotonic() + _TOGETHER_S
            self._follow()
        except Exception as error:  # noqa: BLE001 - it is not the other's fault
            report_failure(error, self._failed)

    def let_go(self) -> None:
        """Follow the room no longer, and forget what was not counted of it."""
        self._follows = False
        for event, function in self._listeners.items():
            with contextlib.suppress(Exception):
                self._room.off(event, function)
        self._lines.forget()
        self._held.clear()

    def _follow(self) -> None:
        self._follows = True
        for event, function in self._listeners.items():
            self._room.on(event, function)
        self._see_all()

    def _own(self) -> None:
        """Count the room, and what was held of it; nobody else holds anything of it any more.

        Who was there for a minute already is counted now, so that no more than one can be lost.
        """
        _OWNERS[id(self._room)] = self
        for other in _WAITING[id(self._room)]:
            if other is not self:
                other.let_go()
        held, self._held = self._held, {}
        for usage, label in held.values():
            self._count(usage, label)
        self._lines.count_overdue(monotonic())

    def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._room is None:
            return
        try:
            is_due = self._follows and monotonic() >= self._goes_on_at
            if is_due and not self._owns and self._is_running():
                self._own()
            if self._owns:
                self._lines.close_all(monotonic())
        finally:
            self._leave()

    def _leave(self) -> None:
        others = _WAITING.get(id(self._room), [])
        if self in others:
            others.remove(self)
        if not others:
            _WAITING.pop(id(self._room), None)
        self.let_go()
        if self._owns:
            del _OWNERS[id(self._room)]
            for other in list(others):
                other.take_up()

    def _pace(self, _nothing: Any) -> None:
        """Count the minute; a session whose room is counted no more begins to count it."""
        if not self._is_open:
            return
        self._timer = asyncio.get_running_loop().call_later(PACE_S, self._on_pace, None)
        now = monotonic()
        if self._owns:
            self._lines.count(now)
        elif now >= self._goes_on_at:
            self._go_on()

    # ---- what the room tells --------------------------------------------------------------------

    def _state_changed(self, state: Any) -> None:
        if state == _GONE:
            self._lines.close_all(monotonic())
        elif state == _CONNECTED:
            self._see_all()

    def _joined(self, participant: Any) -> None:
        self._lines.see(participant, monotonic())

    def _left(self, participant: Any) -> None:
        self._lines.left(participant, monotonic())

    def _attributes_changed(self, changed: Any) -> None:
        if "sip.callStatus" in changed:
            self._see_all()

    def _see_all(self) -> None:
        if self._room.connection_state == _CONNECTED:
            self._at_livekit = self._at_livekit or self._livekit()
            self._lines.see_all(self._room, self._at_livekit, monotonic())

    def _see_all_again(self, _nothing: Any) -> None:
        self._see_all()

    def _livekit(self) -> str:
        """Return the provider of the room's own minutes; "" where they are not counted."""
        info = getattr(self._job, "_info", None)
        url = getattr(info, "url", "") or getattr(self._room, "_server_url", "") or self._rules.url
        if is_cloud(url):
            return LIVEKIT
        return SELF_HOSTED if self._rules.connections == "on" else ""

    def _tally(self, usage: Usage, label: str) -> None:
        if self._owns:
            self._count(usage, label)
        else:
            self._hold(usage, label)

    def _hold(self, usage: Usage, label: str) -> None:
        """Keep what a meter is to be added when the session starts: one amount for each meter."""
        meter = (label, usage.modality, usage.provider_raw, usage.model)
        if meter in self._held:
            before, _ = self._held[meter]
            requests = before.quantities.get("requests", 0) + usage.quantities.get("requests", 0)
            usage = replace(
                usage,
                quantities={"requests": requests},
                session_s=before.session_s + usage.session_s,
            )
        self._held[meter] = usage, label


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
