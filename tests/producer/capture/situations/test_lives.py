"""Sessions that start again, start late, never start, and do something after their end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession

from tests.support.conservation import assert_one_end, assert_within
from tests.support.jobs import job
from tests.support.situation import (
    Host,
    Providers,
    Situation,
    ask,
    numbered,
    together,
)
from tests.support.waiting import until
from voicecosts.producer.capture.attribution import ATTRIBUTION, REMEMBERED
from voicecosts.producer.demo.providers import ScriptedTTS
from voicecosts.producer.events import SessionStarted
from voicecosts.producer.process import PROCESS

in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in a job", "without a job"])


@in_jobs
@pytest.mark.parametrize("again", [True, False], ids=["attached again", "not attached again"])
async def test_a_session_that_starts_again_at_once(
    situation: Situation,
    again: bool,  # noqa: FBT001 - a parameter of the test
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """Each start is a session of its own with an end of its own, whether attached again or not."""
    with job("job-1") if in_job else contextlib.nullcontext():
        first = situation.call(1)
        situation.attach(first)
        await first.run("hello", "again")
        second = numbered(first, 2)
        if again:
            situation.attach(second)
        await second.run("hello", "a longer question", "bye")
        third = numbered(first, 3)
        if again:
            situation.attach(third)
        await third.run()
    one, two, three = situation.session_ids()
    situation.assert_booked({one: 1, two: 2, three: 3})


async def test_a_session_that_is_attached_again_after_its_start(situation: Situation) -> None:
    """A late attachment of a second start counts what that start used, and nothing of the first."""
    call = situation.call(1)
    situation.attach(call)
    await call.run("hello", "again")
    second = numbered(call, 2)
    await second.start()
    await second.turn()
    situation.attach(second)
    await second.turn("a longer question")
    await second.close()
    one, two = situation.session_ids()
    situation.assert_booked({one: 1, two: 2})


@pytest.mark.parametrize("again", [True, False], ids=["attached again", "not attached again"])
async def test_a_session_that_starts_again_after_its_linger_in_a_busy_process(
    situation: Situation,
    again: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What the process has heard of others meanwhile brings nothing of the first start back."""
    call, busy = situation.call(1), situation.call(9)
    situation.attach(call)
    others = situation.attach(busy)
    await busy.start()
    await call.run("hello", "again")
    for attachment in list(PROCESS.attachments.values()):
        if attachment.session is call.session:
            attachment.detach()  # as its linger does
    async with asyncio.TaskGroup() as group:
        for _ in range(REMEMBERED + 10):
            group.create_task(ask(busy.session.llm, 9, "x"))
    second = numbered(call, 2)
    if again:
        situation.attach(second)
    await second.run("hello", "a longer question", "bye")
    await busy.close()
    one, two = (each for each in situation.session_ids() if each != others)
    situation.assert_booked({one: 1, others: 9, two: 2})


async def test_a_session_that_starts_again_in_another_job(situation: Situation) -> None:
    """The new session is of the new job: what that job's entrypoint asks is its own."""
    common = Providers()

    async def entrypoint(number: int) -> None:
        with job(f"job-{number}"):
            again = numbered(call, number)
            if number == 1:
                situation.attach(again)
            await again.start()
            await again.turn()
            await ask(common.llm, number)
            await again.close()

    call, other = situation.call(1, common), situation.call(9, common)
    with job("job-9"):
        nine = situation.attach(other)
        await other.start()
    await asyncio.create_task(entrypoint(1))
    await asyncio.create_task(entrypoint(2))
    await other.close()
    one, two = (each for each in situation.session_ids() if each != nine)
    situation.assert_booked({nine: 9, one: 1, two: 2})
    started = {e.session_id: e for e in situation.recorder.events if isinstance(e, SessionStarted)}
    assert (started[one].job_id, started[two].job_id) == ("job-1", "job-2")


@in_jobs
async def test_a_summary_by_the_sessions_model_after_the_end(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A model that the session alone uses is listened to after the close: until the job's end."""
    with job("job-1") if in_job else contextlib.nullcontext() as context:
        call = situation.call(1)
        session = situation.attach(call)

        async def summarise() -> None:
            if in_job:
                await asyncio.sleep(1.3)  # longer than the linger of a session without a job
            await ask(call.session.llm, 1, "a summary of the whole call")

        if context is not None:
            context.add_shutdown_callback(summarise)
        await call.run("hello", "again")
        if context is None:
            await summarise()
        else:
            await asyncio.gather(*(each("over") for each in context._shutdown_callbacks))
    situation.assert_booked({session: 1})


async def test_a_summary_by_a_shared_model_after_the_end_of_two_calls(
    situation: Situation,
) -> None:
    """In a job's shutdown callback the job tells whose summary it is."""
    shared = Providers()

    async def run(number: int) -> str:
        with job(f"job-{number}") as context:
            call = situation.call(number, shared)
            session = situation.attach(call)

            async def summarise() -> None:
                await ask(shared.llm, number, "a summary of the whole call")

            context.add_shutdown_callback(summarise)
            await call.run("hello")
            await asyncio.gather(*(each("over") for each in context._shutdown_callbacks))
        return session

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


@in_jobs
async def test_a_greeting_before_a_late_attachment(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What a session used in its start is caught up with, as a pool attaches it after that."""

    async def greet(session: AgentSession[Any]) -> None:
        await session.generate_reply(user_input="#1# say hello")

    with job("job-1") if in_job else contextlib.nullcontext():
        call = situation.call(1)
        await call.start(Host(entering=greet))
        await until(lambda: situation.billed(1).get("tts", {}).get("requests", 0) == 1)
        session = situation.attach(call)
        await call.turn()
        await call.close()
    situation.assert_booked({session: 1})


async def test_greetings_before_late_attachments_on_shared_providers(situation: Situation) -> None:
    """Of shared providers, each late session catches up with its own greeting."""
    shared = Providers()

    async def run(number: int) -> str:
        async def greet(session: AgentSession[Any]) -> None:
            await session.generate_reply(user_input=f"#{number}# say hello")

        with job(f"job-{number}"):
            call = situation.call(number, shared)
            await call.start(Host(entering=greet))
            await asyncio.sleep(0.01 * number)
            session = situation.attach(call)
            await call.turn()
            await call.close()
        return session

    one, two, three = await together(run(1), run(2), run(3))
    situation.assert_booked({one: 1, two: 2, three: 3})


@in_jobs
async def test_attaching_twice(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session that is attached before and after its start is one session."""
    with job("job-1") if in_job else contextlib.nullcontext():
        call = situation.call(1)
        session = situation.attach(call)
        assert situation.attach(call) == session
        await call.start()
        await call.turn()
        assert situation.attach(call, "another", tenant="other") == session
        await call.turn("again")
        await call.close()
    situation.assert_booked({session: 1})


async def test_a_session_that_was_attached_and_never_started(situation: Situation) -> None:
    """It takes nothing of the next session of its task, on the same providers or on others."""
    shared = Providers()
    never = situation.call(1, shared)
    situation.attach(never)
    call = situation.call(2, shared)
    session = situation.attach(call)
    await call.run("hello", "again")
    situation.attach(situation.call(3, shared))
    totals = situation.recorder.totals(session)
    assert totals == situation.billed(2)
    situation.assert_conserved()


class Endless(ScriptedTTS):
    """Says the beginning of a long speech, and then goes on without a sound."""

    spoken = 0

    def speak(self, emitter: Any, text: str) -> int:
        """Speak, and halt when it was much."""
        self.spoken += len(text)
        self.pause_s = 3600.0 if self.spoken > 200 else 0.0
        return super().speak(emitter, text)


async def test_a_session_that_is_closed_in_mid_speech(situation: Situation) -> None:
    """No more is booked than the providers received, and what they billed is measured."""
    call = situation.call(1, Providers(tts=Endless(samples_per_character=160)))
    session = situation.attach(call)
    await call.start()
    await call.turn()
    measured = situation.billed(1)["tts"]["characters"]
    call.session.say("#1# " + "one two three four five six. " * 40)
    heard = call.session.output.audio
    await until(lambda: call.session.agent_state == "speaking" and heard.played_s() > 0.2)
    await call.close()
    situation.assert_conserved(interrupted=True)
    assert situation.recorder.totals(session)["tts"]["characters"] == measured
    assert situation.recorder.totals(session)["stt"] == situation.billed(1)["stt"]
    assert situation.recorder.totals(session)["llm"] == situation.billed(1)["llm"]


async def test_a_very_late_attachment_in_a_busy_process(situation: Situation) -> None:
    """What was counted as unattributed meanwhile is not counted again in the session."""
    shared = Providers()

    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(REMEMBERED + 10):
                group.create_task(ask(shared.llm, 1, "x"))

    first, second = situation.call(1, shared), situation.call(2, shared)
    situation.attach(first)
    await first.start(Host(many))
    await second.start()
    await second.turn()
    ATTRIBUTION.held.release()  # as after a while
    await first.turn("work")
    situation.attach(second)
    await second.turn()
    await second.close()
    await first.close()
    situation.assert_conserved()


@in_jobs
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
async def test_a_session_that_is_attached_in_its_own_tool(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """What it used of its own before is caught up with; what cannot be told apart is counted."""
    common, ids = Providers(), {}

    async def run(number: int) -> None:
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number, common if shared else None)

            async def work() -> None:
                ids[number] = situation.attach(call)

            await call.run("hello", "work", "and now", agent=Host(work))

    await together(run(1), run(2))
    assert_caught_up(situation, ids, shared=shared)


async def test_late_attachments_without_jobs_on_shared_providers(situation: Situation) -> None:
    """The same, where each session is attached by its own task after a turn."""
    common, ids = Providers(), {}

    async def run(number: int) -> None:
        async def greet(session: AgentSession[Any]) -> None:
            await session.generate_reply(user_input=f"#{number}# say hello")

        call = situation.call(number, common)
        await call.start(Host(entering=greet))
        await call.turn("before", audio_s=1.1)
        ids[number] = situation.attach(call)
        await call.turn()
        await call.close()

    await together(run(1), run(2), run(3))
    assert_caught_up(situation, ids, shared=True)


def assert_caught_up(situation: Situation, ids: dict[int, str], *, shared: bool) -> None:
    """Late sessions have all that is surely theirs; of a shared recogniser not more than that."""
    for number, session in ids.items():
        totals, expected = situation.recorder.totals(session), situation.billed(number)
        if shared:
            assert totals.pop("stt")["audio_us"] <= expected.pop("stt")["audio_us"]
        assert totals == expected
    assert_one_end(situation.recorder, *ids.values())
    situation.assert_conserved()


class Unlucky(Agent):
    """Cannot be started."""

    @property
    def label(self) -> str:
        """Fail where the start asks for it."""
        raise RuntimeError("scripted failure")


async def test_a_start_that_fails_and_is_tried_again(situation: Situation) -> None:
    """A session whose start failed is booked whole when it has started."""
    call = situation.call(1)
    situation.attach(call)
    with pytest.raises(RuntimeError, match="scripted"):
        await call.start(Unlucky(instructions="x"))
    await call.run("hello", "again")
    assert situation.recorder.totals(situation.session_ids()[-1]) == situation.billed(1)
    situation.assert_conserved()


@in_jobs
async def test_a_session_that_judges_a_call_after_its_end(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session that nobody attached, after the call and beside it, is not booked to the call."""
    common = Providers()
    with job("job-1") if in_job else contextlib.nullcontext():
        call = situation.call(1, common)
        session = situation.attach(call)
        await call.run()
        await situation.call(2, common).run("how was it?")
    situation.assert_booked({session: 1})
    assert situation.recorder.unattributed_totals() == situation.billed(2)


async def test_an_attachment_after_more_than_can_wait_for_it(situation: Situation) -> None:
    """Of very much usage before a late attachment a part is unattributed; none is lost."""
    common = Providers()

    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(300):
                group.create_task(ask(common.llm, 2, "x"))

    first, second = situation.call(1, common), situation.call(2, common)
    one = situation.attach(first)
    await first.start()
    await second.start(Host(many))
    await second.turn("work")
    two = situation.attach(second)
    await second.turn()
    await first.turn()
    await second.close()
    await first.close()
    assert situation.recorder.totals(one) == situation.billed(1)
    assert_within(situation.recorder, two, 2, *situation.keepers)
    situation.assert_conserved()


async def test_a_session_that_is_detached_while_it_runs(situation: Situation) -> None:
    """What it uses then is unattributed where others share its providers, and not theirs."""
    common = Providers()
    first, second = situation.call(1, common), situation.call(2, common)
    attachment = situation.observer.attach(first.session, agent_id="front")
    assert attachment is not None
    two = situation.attach(second)
    await first.start()
    await second.start()
    await first.turn()
    attachment.detach()
    await first.turn("again")
    await second.turn()
    await first.close()
    await second.close()
    assert situation.recorder.totals(two) == situation.billed(2)
    assert_within(situation.recorder, attachment.session_id, 1, *situation.keepers)
    situation.assert_conserved()
