"""Requests that no speech makes: by tools, by the entrypoint, by nobody's code, on other threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from livekit.agents import Agent, llm, stt

from tests.producer.capture.livekit_metrics import llm as reported
from tests.support.conservation import assert_within
from tests.support.jobs import job
from tests.support.scripted import Hearing
from tests.support.situation import Host, Providers, Situation, ask, planned, together
from tests.support.waiting import until
from tests.support.wrappers import DelegatingLLM
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedTTS
from voicecosts.producer.process import PROCESS

in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in jobs", "without jobs"])
sharing = pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])


async def speak(voice: ScriptedTTS, call: int) -> None:
    """Have a voice say something without a session."""
    async with voice.synthesize(f"#{call}# something aside") as stream:
        async for _ in stream:
            pass


@in_jobs
@sharing
async def test_a_tool_that_asks_the_sessions_own_model(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """A request that a tool makes belongs to the session whose tool it is."""
    common = Providers()

    async def run(number: int) -> str:
        providers = common if shared else Providers()

        async def work() -> None:
            await ask(providers.llm, number)
            await asyncio.gather(ask(providers.llm, number), ask(providers.llm, number))
            await asyncio.create_task(speak(providers.tts, number))

        return await situation.observed(
            number, providers, "work", "and now", agent=Host(work), in_job=in_job
        )

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


async def test_a_tool_that_asks_the_model_of_another_session(situation: Situation) -> None:
    """The call whose tool asks has caused it, whoever's model it is."""
    other = situation.call(2)

    async def work() -> None:
        await ask(other.session.llm, 1)

    with job("job-2"):
        two = situation.attach(other)
        await other.start()
    one = await situation.observed(1, None, "work", agent=Host(work))
    await other.turn()
    await other.close()
    situation.assert_booked({one: 1, two: 2})


async def test_a_tool_that_asks_a_model_of_its_own(situation: Situation) -> None:
    """A model that a call's tool asks is used by the call, whether or not it is the session's."""
    model = ScriptedLLM()
    situation.keep(model)

    async def work() -> None:
        await ask(model, 1)

    session = await situation.observed(1, None, "work", agent=Host(work))
    situation.assert_booked({session: 1})
    assert model.billed[1]["requests"] == 1


class Own(Agent):
    """Works with models that are neither the session's nor its own by name."""

    def __init__(self, providers: Providers) -> None:
        super().__init__(instructions="own")
        self._parts = providers

    async def llm_node(self, chat_ctx: Any, tools: Any, model_settings: Any) -> Any:
        """Ask a model of its own."""
        async with self._parts.llm.chat(chat_ctx=chat_ctx, tools=tools) as stream:
            async for chunk in stream:
                yield chunk

    async def tts_node(self, text: Any, model_settings: Any) -> Any:
        """Speak with a voice of its own."""
        async with self._parts.tts.stream() as stream:
            async for piece in text:
                stream.push_text(piece)
            stream.end_input()
            async for audio in stream:
                yield audio.frame

    async def stt_node(self, audio: Any, model_settings: Any) -> Any:
        """Listen with a recogniser of its own."""

        async def feed(stream: Any) -> None:
            async for frame in audio:
                stream.push_frame(frame)
            stream.end_input()

        async with self._parts.stt.stream() as stream:
            feeding = asyncio.create_task(feed(stream))
            async for event in stream:
                yield event
            await feeding


@in_jobs
async def test_an_agent_whose_nodes_have_models_of_their_own(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """LiveKit lets an agent work with any model in its nodes; the call that uses it pays."""
    own = Providers(tts=ScriptedTTS())
    situation.keep(*own.keepers())
    session = await situation.observed(1, None, "hello", "again", agent=Own(own), in_job=in_job)
    situation.assert_booked({session: 1})
    assert own.llm.billed[1]["requests"] == 2
    assert own.tts.billed[1]["characters"] > 0
    assert own.stt.billed[1]["samples"] > 0


async def test_a_task_that_a_tool_left_behind(situation: Situation) -> None:
    """What a tool began belongs to its session also when the tool has ended."""
    shared, tasks = Providers(), []

    async def run(number: int) -> str:
        asked = asyncio.Event()

        async def later() -> None:
            await asked.wait()
            await ask(shared.llm, number)

        async def work() -> None:
            tasks.append(asyncio.create_task(later()))

        call = situation.call(number, shared)
        session = situation.attach(call)
        await call.start(Host(work))
        await call.turn("work")
        await call.turn("and now")
        asked.set()
        await asyncio.gather(*tasks)
        await call.close()
        return session

    one = await asyncio.create_task(run(1))
    tasks.clear()
    two = await asyncio.create_task(run(2))
    situation.assert_booked({one: 1, two: 2})


async def test_a_request_from_outside_of_a_sessions_own_model(situation: Situation) -> None:
    """One user of a model: its session's, though no context says so."""
    call = situation.call(1)
    task = asyncio.create_task(asyncio.sleep(0))
    asking = asyncio.Event()

    async def outside() -> None:
        await asking.wait()
        await ask(call.session.llm, 1)

    outsider = asyncio.create_task(outside())
    await task
    session = situation.attach(call)
    await call.start()
    await call.turn()
    asking.set()
    await outsider
    await call.close()
    situation.assert_booked({session: 1})


@in_jobs
async def test_a_request_from_outside_of_a_shared_model(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Nobody can tell whose it is: it is counted in amounts, and booked to no session."""
    shared, asking, done = Providers(), asyncio.Event(), asyncio.Event()

    async def outside() -> None:
        await asking.wait()
        await ask(shared.llm, 9, "a question from outside of all of them")
        await speak(shared.tts, 9)
        done.set()

    async def run(number: int) -> str:
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number, shared)
            session = situation.attach(call)
            await call.start()
            await call.turn()
            if number == 2:
                asking.set()
            await done.wait()
            await call.close()
        return session

    outsider = asyncio.create_task(outside())
    one, two = await together(run(1), run(2))
    await outsider
    situation.assert_booked({one: 1, two: 2})
    assert situation.recorder.unattributed_totals() == situation.billed(9)


async def test_requests_of_entrypoints_are_of_their_jobs_sessions(situation: Situation) -> None:
    """Before the first turn and between turns, an entrypoint asks the shared model itself."""
    shared = Providers()

    async def run(number: int) -> str:
        with job(f"job-{number}"):
            call = situation.call(number, shared)
            session = situation.attach(call)
            await ask(shared.llm, number, "before the start")
            await call.start()
            await ask(shared.llm, number, "between the turns")
            await call.turn()
            await asyncio.create_task(ask(shared.llm, number, "in a task"))
            await call.close()
        return session

    sessions = await together(run(1), run(2), run(3))
    situation.assert_booked(dict(zip(sessions, (1, 2, 3), strict=True)))


async def test_a_job_that_shares_a_model_without_a_session(situation: Situation) -> None:
    """A job without a session asks a model that two calls share: it is neither call's."""
    shared, begun, done = Providers(), asyncio.Event(), asyncio.Event()

    async def run(number: int) -> str:
        with job(f"job-{number}"):
            call = situation.call(number, shared)
            session = situation.attach(call)
            await call.start()
            await call.turn()
            if number == 2:
                begun.set()
            await done.wait()
            await call.close()
        return session

    async def another() -> None:
        with job("job-9"):
            await begun.wait()
            await ask(shared.llm, 9, "a question of a job of its own")
            done.set()

    one, two, _ = await together(run(1), run(2), another())
    situation.assert_booked({one: 1, two: 2})
    assert situation.recorder.unattributed_totals() == situation.billed(9)


async def test_a_console_call(situation: Situation) -> None:
    """A fake job, as the console makes it: the call is booked as any other, and marked as fake."""
    with job("mock-job-1") as context:
        assert context.is_fake_job()
        call = situation.call(1)
        session = situation.attach(call, job=context)
        await call.run("hello", "again")
    situation.assert_booked({session: 1})


def test_jobs_in_threads_that_share_their_providers(situation: Situation) -> None:
    """Two loops in two threads on one set of providers: each call has its own share."""
    shared, ids = Providers(), {}
    both = threading.Barrier(2, timeout=30)

    async def run(number: int) -> None:
        with job(f"job-{number}"):
            call = situation.call(number, shared)
            ids[number] = situation.attach(call)
            await call.start()
            await asyncio.to_thread(both.wait)
            for turn in range(5):
                await call.turn(f"turn {turn}", audio_s=0.3 * number)
            await asyncio.to_thread(both.wait)
            await call.close()

    threads = [threading.Thread(target=lambda n=n: asyncio.run(run(n))) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    situation.assert_booked({ids[1]: 1, ids[2]: 2})


async def test_a_shared_model_behind_an_adapter_asked_in_a_tool(situation: Situation) -> None:
    """A tool asks the child of its session's adapter: an object that the session uses."""
    child = ScriptedLLM(plan=planned)

    async def run(number: int) -> str:
        async def work() -> None:
            await ask(child, number)

        providers = Providers(llm=llm.FallbackAdapter([child]), behind=(child,))
        return await situation.observed(number, providers, "work", agent=Host(work), in_job=False)

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


async def test_a_request_that_ends_when_its_session_is_closed(situation: Situation) -> None:
    """A tool's request outlives the close: it is still the session's."""
    shared = Providers()
    slow = ScriptedLLM(plan=planned, pause_s=0.05)

    async def run(number: int) -> str:
        tasks: list[asyncio.Task[Any]] = []

        async def work() -> None:
            tasks.append(asyncio.create_task(ask(slow, number, "slowly")))

        providers = Providers(llm=slow, stt=shared.stt, tts=shared.tts)
        call = situation.call(number, providers)
        session = situation.attach(call)
        await call.start(Host(work))
        await call.turn("work")
        await call.close()
        await asyncio.gather(*tasks)
        return session

    one, two = await together(run(1), run(2))
    await until(lambda: slow.billed[2]["requests"] >= 3)
    situation.assert_booked({one: 1, two: 2})


@in_jobs
async def test_a_tool_that_makes_another_session_speak(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What a supervisor's tool has another call say and answer is that call's."""
    shared = Providers()
    with job("job-1") if in_job else contextlib.nullcontext():
        first, second = situation.call(1, shared), situation.call(2, shared)

        async def work() -> None:
            await second.session.say("#2# said by another one's tool")
            await second.session.generate_reply(user_input="#2# and answered")
            await second.turn("a turn of the other")

        one = situation.attach(first)
        await first.start(Host(work))
        two = situation.attach(second)
        await second.start()
        await first.turn("work")
        await second.turn()
        await first.turn()
        await second.close()
        await first.close()
    situation.assert_booked({one: 1, two: 2})


class Looking(Host):
    """Asks a model before each turn is answered, as retrieval does, and when it goes."""

    def __init__(self, model: llm.LLM[Any], number: int) -> None:
        super().__init__()
        self._model, self._number = model, number

    async def on_user_turn_completed(self, turn_ctx: Any, new_message: Any) -> None:
        """Ask."""
        await ask(self._model, self._number, "rewrite this")

    async def on_exit(self) -> None:
        """Ask."""
        await ask(self._model, self._number, "a last note")


@in_jobs
@sharing
async def test_retrieval_before_a_turn_is_answered(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """What an agent's own hooks ask is the session's."""
    common = Providers()

    async def run(number: int) -> str:
        hearing, own = Hearing(), Providers()
        model = common.llm if shared else own.llm
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(
                number,
                Providers(llm=model, stt=hearing, tts=own.tts),
                turn_handling={
                    "turn_detection": "stt",
                    "endpointing": {"min_delay": 0.01, "max_delay": 0.02},
                    "preemptive_generation": {"enabled": False},
                },
            )
            session = situation.attach(call)
            await call.start(Looking(model, number))
            hearing.understand(f"#{number}# a question", stt.SpeechEventType.FINAL_TRANSCRIPT)
            hearing.understand("", stt.SpeechEventType.END_OF_SPEECH)
            await until(lambda: situation.billed(number).get("tts", {}).get("requests", 0) == 1)
            await call.close()
        return session

    one, two = await together(run(1), run(2))
    assert situation.billed(1)["llm"]["requests"] == 3
    situation.assert_booked({one: 1, two: 2})


async def test_a_wrappers_own_report_from_another_thread(situation: Situation) -> None:
    """A thread without a loop has a context all the same: it tells whose call the report is of."""
    inner = ScriptedLLM(plan=planned)
    wrapper = DelegatingLLM(inner)
    none_cached = {"prompt_cached_tokens": 0, "cache_creation_tokens": 0}
    metrics = reported(label=wrapper.label, prompt_tokens=7, completion_tokens=3, **none_cached)

    async def work() -> None:
        await asyncio.to_thread(wrapper.emit, "metrics_collected", metrics)

    async def run(number: int, agent: Host | None, *lines: str) -> str:
        providers = Providers(llm=wrapper, behind=(inner,))
        return await situation.observed(number, providers, *lines, agent=agent)

    one, two = await together(run(1, Host(work), "work"), run(2, None, "hello", "again"))
    expected = situation.billed(1)["llm"]["input_tokens"] + 7
    await until(lambda: _input_tokens(situation, one) == expected)
    assert _input_tokens(situation, two) == situation.billed(2)["llm"]["input_tokens"]


def _input_tokens(situation: Situation, session_id: str) -> int:
    return situation.recorder.totals(session_id)["llm"]["input_tokens"]


async def test_a_tool_that_asks_from_another_thread(situation: Situation) -> None:
    """A request that comes back from a thread has no context: it is unattributed, not lost."""
    common = Providers()

    async def run(number: int) -> str:
        loop = asyncio.get_running_loop()

        def blocking() -> None:
            asyncio.run_coroutine_threadsafe(ask(common.llm, 9), loop).result(10)

        async def work() -> None:
            await loop.run_in_executor(None, blocking)

        return await situation.observed(number, common, "work", "and now", agent=Host(work))

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})
    assert situation.recorder.unattributed_totals() == situation.billed(9)


class Router(Host):
    """Answers with a model that no session has told it of."""

    def __init__(self, model: llm.LLM[Any]) -> None:
        super().__init__()
        self._model = model

    async def llm_node(self, chat_ctx: Any, tools: Any, model_settings: Any) -> Any:
        """Ask that model."""
        async with self._model.chat(chat_ctx=chat_ctx, tools=tools) as stream:
            async for chunk in stream:
                yield chunk


@in_jobs
async def test_an_agent_whose_node_asks_the_model_of_another_call(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """That another call has a model for its own does not make it pay for who else asks it."""
    theirs = Providers()
    agent = Router(theirs.llm)
    _, two = await together(
        situation.observed(1, None, "hello", "and now", agent=agent, in_job=in_job),
        situation.observed(2, theirs, "hello", "again", "bye", in_job=in_job),
    )
    assert situation.recorder.totals(two) == situation.billed(2)
    situation.assert_conserved()


async def test_an_agent_whose_node_asks_the_model_of_another_call_of_its_job(
    situation: Situation,
) -> None:
    """The call whose agent asks has caused it, whoever's model it is."""
    theirs = Providers()
    with job("job-1"):
        first, second = situation.call(1), situation.call(2, theirs)
        one = situation.attach(first)
        await first.start(Router(theirs.llm))
        two = situation.attach(second)
        await second.start()
        await first.turn()
        await second.turn()
        await first.turn("again")
        await first.close()
        await second.close()
    situation.assert_booked({one: 1, two: 2})


@pytest.mark.parametrize(
    "in_job",
    [
        pytest.param(True, id="in jobs"),
        pytest.param(False, id="without jobs"),
    ],
)
async def test_a_late_request_of_a_call_whose_model_is_another_ones_now(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A call that has ended asks its model once more, which the next call has alone meanwhile."""
    common, gone, going, asked = Providers(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first() -> str:
        call = situation.call(1, common)
        session = situation.attach(call)
        await call.run()
        for attachment in list(PROCESS.attachments.values()):
            attachment.detach()  # as its linger does
        gone.set()
        await going.wait()
        await ask(common.llm, 1, "a late summary")
        asked.set()
        return session

    async def second() -> str:
        await gone.wait()
        with job("job-2") if in_job else contextlib.nullcontext():
            call = situation.call(2, common)
            session = situation.attach(call)
            await call.start()
            await call.turn()
            going.set()
            await asked.wait()
            await call.turn("again")
            await call.close()
        return session

    async def first_in_its_job() -> str:
        with job("job-1") if in_job else contextlib.nullcontext():
            return await first()

    one, two = await together(first_in_its_job(), second())
    assert situation.recorder.totals(two) == situation.billed(2)
    assert_within(situation.recorder, one, 1, *situation.keepers)
    situation.assert_conserved()


async def test_a_task_of_another_job_that_makes_a_session_speak(situation: Situation) -> None:
    """Who drives a session does not matter: what its speech uses is its own."""
    common, calls = Providers(), {}

    async def first() -> str:
        with job("job-1"):
            calls[1] = situation.call(1, common)
            session = situation.attach(calls[1])
            await calls[1].start()
        return session

    async def second() -> str:
        with job("job-2"):
            call = situation.call(2, common)
            session = situation.attach(call)
            await call.start()
            await calls[1].turn("asked from another job")
            await calls[1].session.say("#1# said from another job")
            await call.turn()
            await call.close()
            await calls[1].close()
        return session

    one = await asyncio.create_task(first())
    two = await asyncio.create_task(second())
    situation.assert_booked({one: 1, two: 2})
