"""`record` and `usage_so_far`: what LiveKit does not report is counted by the code that knows it.

Real sessions with scripted models; the events are kept where a publisher would send them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, RunContext, function_tool

from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.situation import KeptEvents, RecordingObserver
from voicecosts import MeterTotals, Quantities
from voicecosts.producer import observer as observing
from voicecosts.producer import process
from voicecosts.producer.capture import meters, recorded
from voicecosts.producer.demo.providers import ScriptedLLM, tool_call
from voicecosts.producer.events import MeterReading, SessionEnded, decode_event, encode_event
from voicecosts.producer.process import PROCESS

AVATAR: dict[str, Any] = {"modality": "avatar", "provider": "tavus", "model": "phoenix-3"}


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a process says once is said once a test, and no session is left behind."""
    monkeypatch.setattr(recorded, "_SAID", set())
    monkeypatch.setattr(meters, "_SAID", set())
    yield
    for attachment in list(PROCESS.attachments.values()):
        attachment.finalise(status="cancelled", reason="test")
        attachment.detach()


class Kept:
    """An observer whose events are kept, and a session of it."""

    def __init__(self, llm: Any = None) -> None:
        self.recorder = KeptEvents()
        self.observer = RecordingObserver(self.recorder)
        self.session: AgentSession[Any] = AgentSession(llm=llm or ScriptedLLM(), **QUIET)
        attachment = self.observer.attach(self.session, agent_id="dental")
        assert attachment is not None
        self.attachment = attachment

    def avatar(self) -> list[MeterReading]:
        """Return the readings of the avatar, as they travel."""
        found = [it for it in self.recorder.readings() if it.modality == "avatar"]
        assert [decode_event(encode_event(it)) for it in found] == found
        return found

    def end(self) -> SessionEnded:
        """Return the last end."""
        return self.recorder.ends()[-1]


async def test_what_is_recorded_adds_to_a_meter_of_its_own() -> None:
    """Amounts of each call are added; readings and the end carry the totals, under the agent."""

    class Greeter(Agent):
        pass

    kept = Kept()
    await kept.session.start(Greeter(instructions="x"))
    for seconds in (0.1, Decimal("0.2"), 59.7000001):
        kept.observer.record(kept.session, **AVATAR, session_seconds=seconds, reported_cost="0.01")
    assert [it.totals.session_us for it in kept.avatar()] == [100_000, 300_000, 60_000_000]
    assert [it.reported_cost for it in kept.avatar()] == [
        "0.010000000",
        "0.020000000",
        "0.030000000",
    ]
    (named,) = {(it.provider, it.model, it.agent_label, it.estimated) for it in kept.avatar()}
    assert named == ("tavus", "phoenix-3", "greeter", False)
    await kept.session.aclose()
    (final,) = kept.end().meters
    assert (final.modality, final.totals) == ("avatar", Quantities(session_us=60_000_000))
    assert (kept.end().readings, kept.end().unmeasured) == (3, 0)


async def test_a_tool_records_what_it_paid_for() -> None:
    """In a tool of a call: under the agent that is active, beside what LiveKit reports."""
    kept = Kept(
        ScriptedLLM(
            plan=lambda text, _: ("", [tool_call("find")]) if "find" in text else (text, [])
        )
    )

    class Finder(Agent):
        @function_tool
        async def find(self, context: RunContext[Any]) -> str:
            """Find."""
            kept.observer.record(
                context.session, modality="tool", provider="serp", model="web-search", requests=1
            )
            return "found"

    await kept.session.start(Finder(instructions="x", id="finder"))
    await kept.session.run(user_input="#1# find it")
    await kept.session.aclose()
    totals = {it.modality: it for it in kept.end().meters}
    assert totals["tool"].totals == Quantities(requests=1)
    assert totals["tool"].agent_label == "finder"
    assert totals["llm"].totals.requests == 2


@pytest.mark.parametrize("by", ["session", "attachment", "id"])
async def test_a_session_is_meant_by_itself_its_attachment_or_its_id(by: str) -> None:
    """All three count to the same session, also when it has ended and is not listened to any more."""
    kept = Kept()
    meant = {
        "session": kept.session, "attachment": kept.attachment, "id": kept.attachment.session_id
    }[by]  # fmt: skip
    kept.observer.record(meant, **AVATAR, requests=1)
    await kept.session.start(Agent(instructions="x"))
    kept.observer.record(meant, **AVATAR, agent_label="unknown", requests=1)
    await kept.session.aclose()
    kept.attachment.detach()
    kept.observer.record(meant, **AVATAR, agent_label="unknown", requests=1)
    assert [it.totals.requests for it in kept.avatar()] == [1, 2, 3]
    assert kept.avatar()[-1].number > kept.end().number
    assert [it.totals.requests for it in kept.observer.usage_so_far(meant)] == [3]


def test_a_session_that_is_gone_is_meant_by_its_id() -> None:
    """Its counts outlive the object: a judge may know the id alone, and be wrong about an amount."""

    async def call() -> tuple[KeptEvents, str]:
        kept = Kept()
        await kept.session.start(Agent(instructions="x"))
        kept.observer.record(kept.session, **AVATAR, requests=1)
        await kept.session.aclose()
        kept.attachment.detach()
        return kept.recorder, kept.attachment.session_id

    recorder, session_id = asyncio.run(call())
    gc.collect()
    observer = RecordingObserver(KeptEvents())
    record: Any = observer.record
    record(session_id, **AVATAR, requests=1, session_seconds="long")
    assert [it.totals.requests for it in observer.usage_so_far(session_id)] == [2]
    assert [(it.number, it.agent_label) for it in recorder.readings()] == [
        (1, "default_agent"),
        (3, "default_agent"),
    ]
    assert [(it.number, it.unmeasured) for it in recorder.ends()] == [(2, 0), (4, 1)]


def test_the_last_sessions_of_a_process_are_known_by_their_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So many that a worker does not grow over months; what comes later is not lost silently."""
    monkeypatch.setattr(process, "_KNOWN_BY_ID", 3)

    async def idle() -> str:
        kept = Kept()
        kept.attachment.finalise(status="cancelled", reason="never started")
        return kept.attachment.session_id

    ids = [asyncio.run(idle()) for _ in range(5)]
    gc.collect()
    recorder = KeptEvents()
    observer = RecordingObserver(recorder)
    for session_id in ids:
        observer.record(session_id, **AVATAR, requests=1)
    assert [bool(observer.usage_so_far(it)) for it in ids] == [False, False, True, True, True]
    assert recorder.unattributed_totals() == {"avatar": {"requests": 2}}


@pytest.mark.parametrize("by", ["attachment", "id"])
async def test_an_attachment_and_an_id_mean_one_session_also_when_it_starts_again(by: str) -> None:
    """The session object is whichever it is now; its second life may be another tenant's."""
    kept = Kept()
    first = kept.attachment
    await kept.session.start(Agent(instructions="x"))
    await kept.session.aclose()
    second = kept.observer.attach(kept.session, agent_id="dental", tenant="other")
    assert second is not None
    await kept.session.start(Agent(instructions="x"))
    for attachment in (first, second):
        meant = attachment if by == "attachment" else attachment.session_id
        kept.observer.record(meant, **AVATAR, requests=1)
        assert [it.totals.requests for it in kept.observer.usage_so_far(meant)] == [1]
    assert [it.session_id for it in kept.avatar()] == [first.session_id, second.session_id]
    await kept.session.aclose()


def test_a_log_handler_that_records_does_not_wait_for_itself() -> None:
    """After the end of the loop, on another thread: what is said while recording may record."""
    kept: list[Kept] = []

    async def call() -> None:
        kept.append(Kept())
        await kept[0].session.start(Agent(instructions="x"))
        await kept[0].session.run(user_input="#1# hello")
        await kept[0].session.aclose()

    asyncio.run(call())

    class Recording(logging.Handler):
        def emit(self, _record: Any) -> None:
            kept[0].observer.record(kept[0].attachment, **AVATAR, requests=1)

    (measured,) = kept[0].observer.usage_so_far(kept[0].session)
    names: Any = {"modality": "llm", "provider": measured.provider, "model": measured.model}
    handler, logger = Recording(), logging.getLogger("voicecosts")
    thread = threading.Thread(
        target=lambda: kept[0].observer.record(kept[0].session, **names, requests=1), daemon=True
    )
    logger.addHandler(handler)
    try:
        thread.start()
        thread.join(10)
    finally:
        logger.removeHandler(handler)
    assert not thread.is_alive()
    assert [it.totals.requests for it in kept[0].avatar()] == [1]


async def test_an_argument_whose_own_code_fails_costs_itself_alone() -> None:
    """Whatever it raises: the rest is counted, and the session is short."""

    class Odd:
        def __index__(self) -> int:
            raise RuntimeError

    kept = Kept()
    record: Any = kept.observer.record
    record(kept.session, **AVATAR, requests=Odd(), input_tokens=7)
    assert [it.totals for it in kept.avatar()] == [Quantities(input_tokens=7)]
    kept.attachment.finalise(status="cancelled", reason="test")
    assert kept.end().unmeasured == 1


async def test_a_recording_that_cannot_be_read_makes_its_session_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of our own costs what was recorded, and it is known that something is missing."""
    kept = Kept()

    def broken(*_given: Any, **_named: Any) -> Any:
        raise LookupError

    with monkeypatch.context() as patch:
        patch.setattr(observing, "read", broken)
        for session in (kept.session, "nobody"):
            kept.observer.record(session, **AVATAR, requests=1)
    kept.attachment.finalise(status="cancelled", reason="test")
    assert (kept.end().unmeasured, kept.recorder.unmeasured) == (1, 2)


async def test_no_telephone_number_leaves_the_worker_in_a_name() -> None:
    """Names are masked as those of rooms are: each of the five, of a session and of none."""
    kept = Kept()
    number = "+1 (415) 555-0199"
    names: Any = dict.fromkeys(
        ("modality", "provider", "model", "agent_label", "service_tier"), f"a {number}"
    )
    kept.observer.record(kept.session, **names, requests=1)
    (reading,) = kept.recorder.readings()
    assert {getattr(reading, name) for name in names} == {"a #", "a_#"}
    assert reading.provider_raw == "a #"
    kept.observer.record("nobody", **names, requests=1)
    (usage,) = kept.recorder.unattributed_usage
    assert (usage.modality, usage.provider_raw, usage.model) == ("a #", "a #", "a #")


async def test_any_observer_of_the_process_records() -> None:
    """An agent's module may have an observer of its own; the usage goes where the session's goes."""
    kept, other = Kept(), RecordingObserver(KeptEvents(), project="other")
    other.record(kept.session, **AVATAR, requests=1)
    assert [it.project for it in kept.avatar()] == ["tests"]
    assert other.usage_so_far(kept.session) == kept.observer.usage_so_far(kept.session)
    assert not other._recorder.events


async def test_threads_record_at_once_and_nothing_is_lost() -> None:
    """What eight threads record while the call goes on is all counted, in readings that rise."""
    kept = Kept()
    await kept.session.start(Agent(instructions="x"))

    def work() -> None:
        for _ in range(50):
            kept.observer.record(kept.session, **AVATAR, requests=1, characters=3)
            for it in kept.observer.usage_so_far(kept.session):
                assert it.modality != "avatar" or it.totals.characters == 3 * it.totals.requests

    threads = [asyncio.to_thread(work) for _ in range(8)]
    await asyncio.gather(*threads, kept.session.run(user_input="#1# hello"))
    await kept.session.aclose()
    totals = {it.modality: it.totals for it in kept.end().meters}
    assert totals["avatar"] == Quantities(requests=400, characters=1200)
    numbers = [it.number for it in kept.recorder.readings()]
    assert numbers == sorted(set(numbers))


def test_what_is_recorded_after_the_loop_has_ended_is_counted() -> None:
    """A worker that runs its calls in threads may learn what one used when its loop is gone."""
    kept: list[Kept] = []

    async def call() -> None:
        kept.append(Kept())
        await kept[0].session.start(Agent(instructions="x"))
        await kept[0].session.aclose()

    thread = threading.Thread(target=lambda: asyncio.run(call()))
    thread.start()
    thread.join()
    for _ in range(2):
        kept[0].observer.record(kept[0].session, **AVATAR, session_seconds=30)
    assert [it.totals.session_us for it in kept[0].avatar()] == [30_000_000, 60_000_000]


async def test_what_is_recorded_in_a_session_that_starts_again_is_of_its_new_life() -> None:
    """After a new start the same object is another session of the ledger."""
    kept = Kept()
    await kept.session.start(Agent(instructions="x"))
    await kept.session.aclose()
    await kept.session.start(Agent(instructions="x"))
    kept.observer.record(kept.session, **AVATAR, requests=1)
    (reading,) = kept.avatar()
    assert reading.session_id != kept.attachment.session_id
    await kept.session.aclose()


async def test_a_bad_amount_makes_the_session_short_and_loses_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names the cure once, the rest is counted, and the end says that something is missing."""
    kept = Kept()
    await kept.session.start(Agent(instructions="x"))
    record: Any = kept.observer.record
    for _ in range(2):
        record(kept.session, **AVATAR, session_seconds=60, minutes=1)
    await kept.session.aclose()
    assert [it.totals.session_us for it in kept.avatar()] == [60_000_000, 120_000_000]
    assert kept.end().unmeasured == 2
    errors = [it.getMessage() for it in caplog.records if it.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "avatar tavus/phoenix-3: minutes is no amount: give one of" in errors[0]


async def test_a_total_that_no_event_can_carry_is_not_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One amount too many spoils no reading of its meter; the session is short."""
    kept = Kept()
    for _ in range(9):
        kept.observer.record(kept.session, **AVATAR, requests=1, reported_cost=111_111_111)
    kept.observer.record(kept.session, **AVATAR, requests=1, reported_cost="0.000000001")
    assert kept.avatar()[-1].reported_cost == "999999999.000000000"
    assert kept.avatar()[-1].totals.requests == 9
    kept.attachment.finalise(status="cancelled", reason="test")
    assert kept.end().unmeasured == 1
    assert "more than can be counted" in caplog.text


@pytest.mark.parametrize("session", [None, "01980000-0000-7000-8000-000000000000", object(), "own"])
async def test_what_belongs_to_no_attached_session_is_unattributed(
    session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its amounts are reported, the log says what to give, and nothing is raised."""
    recorder = KeptEvents()
    observer = RecordingObserver(recorder)
    if session == "own":
        session = AgentSession(llm=ScriptedLLM(), **QUIET)
    observer.record(session, **AVATAR, session_seconds=60)
    record: Any = observer.record
    record(session)
    assert recorder.unattributed_totals() == {"avatar": {"session_us": 60_000_000}}
    assert recorder.unmeasured == 1
    assert "give the AgentSession that was attached" in caplog.text
    assert observer.usage_so_far(session) == []
    if isinstance(session, AgentSession):
        await session.aclose()


async def test_a_forked_child_has_no_session_of_its_parents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it records is counted by itself, where the parent's publisher would send nothing."""
    kept = Kept()
    kept.observer.record(kept.session, **AVATAR, requests=1)
    monkeypatch.setattr(PROCESS, "_pid", -1)
    kept.observer.record(kept.session, **AVATAR, requests=1)
    assert kept.observer.usage_so_far(kept.session) == []
    assert len(kept.avatar()) == 1
    assert kept.recorder.unattributed_totals() == {"avatar": {"requests": 1}}


async def test_an_outlet_that_raises_never_reaches_the_caller() -> None:
    """Recording costs the metering at worst, never the call."""

    class Broken(Recorder):
        def count_unattributed(self, usage: Any) -> None:
            raise TypeError

    observer = RecordingObserver(Broken())  # type: ignore[arg-type]  # it is to fail
    observer.record("nobody", **AVATAR, requests=1)
    kept = Kept()
    kept.attachment.account.outlet = None  # type: ignore[assignment]  # same
    kept.observer.record(kept.session, **AVATAR, requests=1)
    kept.attachment.account.outlet = kept.recorder


async def test_recording_what_is_metered_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A model that LiveKit reports and the worker records as well may be counted twice."""
    kept = Kept()
    await kept.session.start(Agent(instructions="x"))
    await kept.session.run(user_input="#1# hello")
    (measured,) = kept.observer.usage_so_far(kept.session)
    names = {"modality": "llm", "provider": measured.provider, "model": measured.model}
    kept.observer.record(kept.session, **names, agent_label="judge", requests=1)  # type: ignore[arg-type]  # names
    assert "counted twice" not in caplog.text
    for _ in range(2):
        kept.observer.record(kept.session, **names, requests=1)  # type: ignore[arg-type]  # names
        kept.observer.record(kept.session, **AVATAR, requests=1)
    warnings = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    (said,) = [text for text in warnings if "counted twice" in text]
    assert said.startswith(f"llm of {measured.model} by {measured.provider} was recorded, and is ")
    await kept.session.aclose()


async def test_usage_so_far_is_what_the_newest_readings_say() -> None:
    """At any moment, and after the end; nothing has a price."""
    kept = Kept()
    assert kept.observer.usage_so_far(kept.session) == []
    await kept.session.start(Agent(instructions="x"))
    for turn in range(3):
        await kept.session.run(user_input=f"#1# hello {turn}")
        kept.observer.record(kept.session, **AVATAR, session_seconds=20, service_tier="Priority")
        so_far = kept.observer.usage_so_far(kept.session)
        newest = {it.modality: it for it in kept.recorder.readings()}
        assert {it.modality: it.totals for it in so_far} == {
            modality: it.totals for modality, it in newest.items()
        }
        assert all(isinstance(it, MeterTotals) for it in so_far)
    assert {it.modality: it.service_tier for it in so_far} == {"llm": "", "avatar": "priority"}
    await kept.session.aclose()
    assert kept.observer.usage_so_far(kept.session) == kept.end().meters == so_far


def test_nothing_is_kept_of_a_session_that_nobody_holds() -> None:
    """That late usage can be recorded by its id does not keep a session that is over alive."""

    async def call() -> tuple[Any, Any]:
        kept = Kept()
        kept.attachment.finalise(status="cancelled", reason="never started")
        assert PROCESS.attachment_of(kept.session) is kept.attachment
        return weakref.ref(kept.session), weakref.ref(kept.attachment)

    session, attachment = asyncio.run(call())
    gc.collect()
    assert session() is None
    assert attachment() is None
