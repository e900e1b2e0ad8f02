"""Runs a script on real sessions, and knows from the tags alone whose usage is whose.

Every session has a tag of its own, and so has every direct call of a model. What a provider counted
under a tag may be in the sessions that `Verdict.owners` names; if there is one owner, it must be.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from livekit.agents import (
    Agent,
    AgentSession,
    AgentTask,
    function_tool,
    get_job_context,
    llm,
    stt,
    tts,
)
from livekit.agents.llm import ChatContext

from tests.support.conservation import Amounts, added
from tests.support.counted_providers import (
    HALT,
    CountedLLM,
    CountedRealtime,
    CountedSTT,
    CountedTTS,
)
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.scripts import Call, Entry, Script, Step
from tests.support.waiting import until
from voicecosts import CostObserver
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.events import SessionStarted
from voicecosts.producer.process import PROCESS

NOBODY: Final = 0
"""The owner of what is counted as unattributed."""

_DEADLINE_S: Final = 20.0
_SETTLES_WITHIN_S: Final = 2.0
_LINGER_S: Final = 0.5  # less than the second for which a closed session without a job is heard


@dataclass(frozen=True)
class Verdict:
    """Who may have been counted what a tag used of a provider; nobody need be, if not `certain`."""

    owners: frozenset[int]
    certain: bool = True


@dataclass(eq=False)
class Live:
    """A session of a running script, from one start to its end."""

    tag: int
    call: Call
    parent: Live | None
    job: Any
    session: Any
    providers: list[Any]
    leaves: dict[int, Any]
    microphone: Any = None
    attachment: Any = None
    is_open: bool = False
    was_open: bool = False
    is_over: bool = False  # its session was started again
    closed_at: float = 0.0
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)  # on_enter is over

    @property
    def observed(self) -> bool:
        """Whether it is attached."""
        return self.call.observed

    def observed_ancestors(self) -> list[Live]:
        """Return the observed sessions that this one was opened inside of, the innermost first."""
        if self.parent is None:
            return []
        above = self.parent.observed_ancestors()
        return [self.parent, *above] if self.parent.observed else above


class Actor(Agent):
    """Does what the script says; its one tool runs what is waiting under a number."""

    def __init__(self, run: Run, live: Live, name: str = "actor") -> None:
        super().__init__(instructions="act", id=name)
        self._run, self._live = run, live

    @function_tool
    async def act(self, number: int) -> Any:
        """Act."""
        try:
            return await self._run.acts[number]()
        except BaseException as error:  # LiveKit would only log it
            self._run.failures.append(error)
            raise

    async def on_enter(self) -> None:
        """Do what comes first, once."""
        first = self._live.call.first
        try:
            if first is not None and self.id == "actor":
                await self._run.do_first(self._live, first)
        except BaseException as error:  # LiveKit would only log it
            self._run.failures.append(error)
            raise
        finally:
            self._live.has_begun.set()


class Asking(AgentTask[bool]):
    """Asks one question."""

    def __init__(self, tag: int) -> None:
        super().__init__(instructions="ask")
        self._tag = tag

    async def on_enter(self) -> None:
        """Ask, and be done."""
        await self.session.generate_reply(user_input=f"#{self._tag}# do you agree?")
        self.complete(result=True)


@dataclass(eq=False)
class Run:
    """One run of a script."""

    script: Script
    recorder: Recorder = field(default_factory=Recorder)
    lives: list[Live] = field(default_factory=list)
    acts: dict[int, Callable[[], Awaitable[Any]]] = field(default_factory=dict)
    verdicts: dict[tuple[int, int], Verdict] = field(default_factory=dict)
    books: dict[int, Any] = field(default_factory=dict)
    borrowed: set[int] = field(
        default_factory=set
    )  # models that a speech asked without having them
    failures: list[BaseException] = field(default_factory=list)
    is_void: bool = False
    _tags: int = 0

    def __post_init__(self) -> None:
        self.observer = RecordingObserver(self.recorder)
        self.shared: dict[str, Any] = {}
        self._outside: asyncio.Queue[Any] = asyncio.Queue()

    # ---- running ------------------------------------------------------------------------------

    async def play(self) -> None:
        """Run the script to its end; no session is attached afterwards."""
        outside = asyncio.create_task(self._from_outside())
        try:
            await self._bounded(self._play())
            # LiveKit cancels a tool while its agent gives way; what was open in it stays open.
            self.is_void = any(isinstance(e, asyncio.CancelledError) for e in self.failures)
            if self.failures and not self.is_void:
                raise self.failures[0]
            await self._settle()
        finally:
            self._outside.put_nowait(None)
            await outside
            for live in self.lives:
                if live.attachment is not None:
                    live.attachment.detach()
            PROCESS.attachments.clear()
            for candidate in list(ATTRIBUTION._candidates.values()):
                ATTRIBUTION.exit(candidate)

    async def _bounded(self, play: Any) -> None:
        """Give up after the deadline, in time that is not skipped."""
        task = asyncio.ensure_future(play)
        end = time.monotonic() + _DEADLINE_S
        while not task.done():
            await asyncio.wait([task], timeout=1.0)
            if time.monotonic() > end:
                task.cancel()
        await task

    async def _play(self) -> None:
        rounds = 1 + max(len(call.steps) for entry in self.script.entries for call in entry.calls)
        entries = [_Stage(self, entry) for entry in self.script.entries]
        async with asyncio.TaskGroup() as group:
            for entry in entries:
                group.create_task(entry.run())
                await entry.is_ready.wait()
            for number in range(rounds):
                for half in ("steps", "asks", "summaries"):
                    await asyncio.gather(
                        *(
                            entry.play_round(number, half, last=number == rounds - 1)
                            for entry in entries
                        )
                    )
            for entry in entries:
                entry.end()

    async def _from_outside(self) -> None:
        while (asked := await self._outside.get()) is not None:
            act, done = asked
            try:
                done.set_result(await act())
            except Exception as error:  # noqa: BLE001 - raised where it was asked for
                done.set_exception(error)

    async def outside(self, act: Callable[[], Awaitable[Any]]) -> None:
        """Have something done by a task that was started before any session."""
        done = asyncio.get_running_loop().create_future()
        self._outside.put_nowait((act, done))
        await done

    # ---- sessions -----------------------------------------------------------------------------

    def new_tag(self) -> int:
        """Return a tag that nothing has."""
        self._tags += 1
        return self._tags

    async def open(self, call: Call, parent: Live | None = None) -> Live:
        """Make a session, attach and start it as the script says."""
        live = self.make(call, parent)
        if call.attach == "before":
            await self.attach(live)
        await self.start(live)
        return live

    def make(self, call: Call, parent: Live | None = None, *, again: Live | None = None) -> Live:
        """Make a session, or the next life of one that is started again."""
        job_ = get_job_context(required=False)
        if again is not None:
            session, providers, leaves = again.session, again.providers, again.leaves
        else:
            providers, leaves = self._providers(call)
            session = AgentSession(llm=providers[0], tts=providers[1], stt=providers[2], **QUIET)
        live = Live(self.new_tag(), call, parent, job_, session, providers, leaves)
        self.lives.append(live)
        return live

    async def attach(self, live: Live) -> None:
        """Attach a session that the script says is observed, if it is not yet."""
        if not live.observed or live.attachment is not None:
            return

        async def hook() -> None:
            live.attachment = self.observer.attach(live.session, agent_id=name_of(live.session))

        if live.call.by_hook:
            await asyncio.create_task(hook())
        else:
            await hook()

    async def start(self, live: Live) -> None:
        """Start a session, with a microphone of its own."""
        live.microphone = session_io(live.session, live.tag, speed=1000.0)
        live.is_open = live.was_open = True
        for leaf in live.leaves.values():
            self.verdicts[id(leaf), live.tag] = self._of_session(live, leaf)
        await live.session.start(Actor(self, live))
        await self.attach(live)
        live.microphone.say(0.016)  # the recogniser learns the tag
        await self._heard(live)

    async def close(self, live: Live) -> None:
        """End a session."""
        await live.session.aclose()
        live.is_open, live.closed_at = False, asyncio.get_running_loop().time()

    async def _heard(self, live: Live) -> None:
        ears = [leaf for leaf in live.leaves.values() if isinstance(leaf, CountedSTT)]
        for ear in ears:
            await until(lambda ear=ear: ear.received[live.tag]["audio_us"] > 0, deadline_s=5.0)  # type: ignore[misc]

    def _providers(self, call: Call) -> tuple[list[Any], dict[int, Any]]:
        leaves = [
            self._leaf("llm", call.llm, self._new_llm),
            self._leaf("tts", call.tts, CountedTTS),
            self._leaf("stt", call.stt, CountedSTT),
        ]
        model, voice, ear = leaves
        for _ in range(_count(call.llm)):
            model = llm.FallbackAdapter([model], max_retry_per_llm=0)
        if "stream" in call.tts:
            voice = tts.StreamAdapter(tts=voice)
        if "fallback" in call.tts:
            voice = tts.FallbackAdapter([voice])
        if "fallback" in call.stt:
            ear = stt.FallbackAdapter([ear])
        return [model, voice, ear], {id(leaf): leaf for leaf in leaves}

    def _new_llm(self, kind: str = "") -> Any:
        return CountedLLM()

    def _leaf(self, what: str, kind: str, make: Callable[[], Any]) -> Any:
        if "realtime" in kind:
            what, make = "realtime", CountedRealtime
        leaf = self.shared.get(what) if "shared" in kind else None
        if leaf is None:
            leaf = make()
            self.books[id(leaf)] = leaf
        if "shared" in kind:
            self.shared[what] = leaf
        return leaf

    # ---- whose it is --------------------------------------------------------------------------

    def _of_session(self, live: Live, leaf: Any) -> Verdict:
        if live.observed:
            return Verdict(frozenset({live.tag}))
        above = live.observed_ancestors()
        users = [each for each in above if id(leaf) in each.leaves]
        if not above:
            # Nobody listens to a realtime connection of a session that is not attached.
            is_heard = leaf.modality != "realtime" and self._is_surely_heard(leaf)
            return Verdict(frozenset({NOBODY}), certain=is_heard)
        if above[0] in users and (above[0].call.attach == "after" or above[0].call.by_hook):
            # It may be opened, and report, before the session around it is attached or known.
            owners = frozenset({NOBODY, *(each.tag for each in above)})
            return Verdict(owners, certain=leaf.modality != "realtime")
        if above[0] in users:
            return Verdict(frozenset({above[0].tag}), certain=leaf.modality != "realtime")
        # Nobody listens, or the rule says nothing: but it is no other session's.
        return Verdict(frozenset({*(each.tag for each in above), NOBODY}), certain=False)

    def _is_surely_heard(self, leaf: Any) -> bool:
        """Whether an observed session listens to a provider from now on, to the end."""
        return any(
            each.attachment is not None
            and each.parent is None
            and id(leaf) in each.leaves
            and not each.is_over
            and not any(step.do.startswith("restart") for step in each.call.steps)
            for each in self.lives
        )

    def _opened_in(self, leaf: Any) -> set[int]:
        """Return the observed sessions in which one that nobody attached uses a provider."""
        return {
            above.tag
            for each in self.lives
            if not each.observed and id(leaf) in each.leaves
            for above in each.observed_ancestors()
        }

    def _of_context(self, live: Live, users: list[Live]) -> set[int]:
        """Return whose a call may be that no speech makes."""
        of_job = [each.tag for each in users if each.job is live.job]
        possible = set(of_job if len(of_job) == 1 and live.job is not None else [])
        if live in users:
            possible.add(live.tag)
        return {NOBODY, *possible}

    def _of_asker(self, leaf: Any, live: Live) -> Verdict:
        """Return whose a request of a speech or tool is: who asks has used it."""
        if id(leaf) in live.leaves:
            return self._of_session(live, leaf)
        self.borrowed.add(id(leaf))
        above = {each.tag for each in live.observed_ancestors()}
        if live.observed and live.attachment is not None:
            return Verdict(frozenset({live.tag}))
        # It is not attached yet, or never will be: it asks for the one that opened it, or nobody.
        own = {live.tag} if live.observed else set()
        return Verdict(frozenset({NOBODY, *own, *above}), certain=False)

    def of_call(self, leaf: Any, live: Live, place: str) -> Verdict:
        """Return whose a direct call of a model is."""
        if place == "entry" and live.parent is not None:
            live, place = live.parent, "tool"  # that is where the nested session is driven
        users = [
            each
            for each in self.lives
            if each.attachment is not None
            and each.was_open
            and not each.is_over
            and id(leaf) in each.leaves
        ]
        if place == "tool":
            return self._of_asker(leaf, live)
        if id(leaf) in self.borrowed:
            return Verdict(frozenset({NOBODY, live.tag, *(u.tag for u in users)}), certain=False)
        # What a session that nobody attached uses may be heard for the one that it was opened in.
        opened_in = self._opened_in(leaf)
        if opened_in:
            return Verdict(frozenset({NOBODY, *opened_in, *(u.tag for u in users)}), certain=False)
        possible = {NOBODY}
        if len(users) == 1:
            possible = {users[0].tag}
            if not users[0].is_open and users[0] is not live:
                return Verdict(frozenset({*possible, NOBODY}), certain=False)
            others = [e for e in self.lives if e is not users[0] and id(leaf) in e.leaves]
            if others or (place != "outside" and users[0].job is not live.job):
                possible.add(NOBODY)
        elif place != "outside":
            possible = self._of_context(live, users)
        return Verdict(frozenset(possible), certain=any(each.is_open for each in users))

    # ---- steps --------------------------------------------------------------------------------

    async def do_first(self, live: Live, step: Step) -> None:
        """Do what an agent does when it enters."""
        match step.do:
            case "say":
                await live.session.say(f"#{live.tag}# welcome")
            case "turn":
                await live.session.generate_reply(user_input=f"#{live.tag}# greet")
            case "nest":
                await self._nest(live, step)
            case "cut voice":
                await self._do(live, step)
            case _:
                await self._ask(live, step.do, "tool")

    async def do(self, live: Live, step: Step) -> None:
        """Do one step of a session, where the script says."""
        try:
            if step.place == "tool":
                await self._in_tool(live, step)
            elif step.place == "outside":
                await self.outside(lambda: self._do(live, step))
            else:
                await self._do(live, step)
        except RuntimeError as error:
            if "cannot schedule new speech" not in str(error):  # while an agent takes over
                raise

    async def _in_tool(self, live: Live, step: Step) -> None:
        number = self.new_tag()

        async def act() -> Any:
            match step.do:
                case "hand off":
                    return Actor(self, live, "other")
                case "task":
                    return await Asking(live.tag)
                case "nest":
                    await self._nest(live, step)
                case _:
                    await self._ask(live, step.do, "tool")
            return "done"

        self.acts[number] = act
        await live.session.run(user_input=f"#{live.tag}# act {number}")
        await until(lambda: _speaks(live.session), deadline_s=5.0)

    async def _nest(self, live: Live, step: Step) -> None:
        assert step.call is not None
        inner = await self.open(step.call, parent=live)
        await inner.has_begun.wait()
        for each in step.call.steps:
            await self.do(inner, each)
        await self.close(inner)

    async def _do(self, live: Live, step: Step) -> None:
        session, tag = live.session, live.tag
        match step.do:
            case "say":
                await session.say(f"#{tag}# a word")
            case "turn":
                await session.run(user_input=f"#{tag}# something")
            case "hear":
                live.microphone.say(1.2)
            case "swap":
                await self._swap(live)
            case "pause":
                await skip(1.5)
            case "cut model":
                await self._cut(
                    live,
                    live.providers[0],
                    lambda: session.generate_reply(user_input=f"#{tag}# long {HALT}"),
                )
            case "cut voice":
                await self._cut(
                    live, live.providers[1], lambda: session.say(f"#{tag}# {HALT} and so on")
                )
            case "ask own" | "ask shared" | "ask nobody":
                await self._ask(live, step.do, step.place)
            case _:
                raise AssertionError(step)

    async def _swap(self, live: Live) -> None:
        fresh = CountedTTS(model="swapped-tts")
        self.books[id(fresh)] = fresh
        live.leaves[id(fresh)] = fresh
        self.verdicts[id(fresh), live.tag] = self._of_session(live, fresh)
        live.providers[1] = fresh
        live.session.current_agent.update_options(tts=fresh)

    async def _cut(self, live: Live, provider: Any, begin: Callable[[], Any]) -> None:
        leaves = [leaf for leaf in live.leaves.values() if not isinstance(leaf, CountedSTT)]
        for leaf in leaves:
            leaf.halted.discard(live.tag)
        handle = begin()
        await until(
            lambda: handle.done() or any(live.tag in leaf.halted for leaf in leaves), deadline_s=5.0
        )
        handle.interrupt(force=True)
        await handle

    async def _ask(self, live: Live, do: str, place: str) -> None:
        model = live.providers[0] if do == "ask own" else self._model("shared" in do)
        if isinstance(model, llm.RealtimeModel):
            return
        own = [leaf for leaf in live.leaves.values() if isinstance(leaf, CountedLLM)]
        leaf = own[0] if do == "ask own" else model
        tag = self.new_tag()
        before = self.of_call(leaf, live, place)
        self.verdicts[id(leaf), tag] = Verdict(before.owners, certain=False)
        await ask(model, tag)
        after = self.of_call(leaf, live, place)  # other sessions may have come meanwhile
        certain = before == after and before.certain
        verdict = Verdict(before.owners | after.owners, certain=certain)
        self.verdicts[id(leaf), tag] = verdict
        if live.closed_at:  # a summary: heard until the job's end, without a job for a second
            after_s = asyncio.get_running_loop().time() - live.closed_at
            certain = live.observed and (live.job is not None or after_s < _LINGER_S)
            self.verdicts[id(leaf), tag] = Verdict(verdict.owners, certain=certain)

    async def summarise(self, live: Live) -> None:
        """Ask the model of a session that has ended."""
        if live.call.summary == "late":
            await skip(1.6)
        await self._ask(live, "ask own", "entry")

    def _model(self, shared: bool) -> Any:  # noqa: FBT001
        return self._leaf("llm", "shared" if shared else "own", self._new_llm)

    async def restart(self, live: Live, how: str) -> Live:
        """Close a session and start it again; return its next life."""
        await self.close(live)
        if how == "restart late":
            await skip(1.5)
        again = self.make(live.call, live.parent, again=live)
        live.is_over = True
        if how == "restart only":
            again.attachment = live.attachment
        elif live.call.attach == "before":
            await self.attach(again)
        await self.start(again)
        await again.has_begun.wait()
        return again

    # ---- what came of it ----------------------------------------------------------------------

    async def _settle(self) -> None:
        await skip(1.5)  # what an interruption left unreported is estimated after a second
        await skip(6.0)  # what waits for its session to be attached is given up after five
        with contextlib.suppress(AssertionError):  # the caller says what is wrong
            await until(lambda: not self.problems(), deadline_s=_SETTLES_WITHIN_S)

    def session_ids(self) -> dict[int, str]:
        """Return the tag of each observed session's life → its id in the readings."""
        started: dict[str, list[str]] = defaultdict(list)
        for event in self.recorder.events:
            if isinstance(event, SessionStarted):
                started[event.agent_id].append(event.session_id)
        found: dict[int, str] = {}
        for live in self.lives:
            ids = started.get(name_of(live.session), [])
            if live.observed and ids:
                found[live.tag] = ids.pop(0)
        return found

    def problems(self) -> list[str]:
        """Return what is wrong with the readings, nothing when all is right."""
        wrong: list[str] = []
        if self.is_void:
            return wrong
        ids = self.session_ids()
        started = [e for e in self.recorder.events if isinstance(e, SessionStarted)]
        observed = [live.tag for live in self.lives if live.observed]
        if len(ids) != len(observed) or len(started) != len(observed):
            wrong.append(f"{len(observed)} lives of observed sessions, {len(started)} starts")
        ends = Counter(end.session_id for end in self.recorder.ends())
        wrong += [
            f"session #{tag}# has {ends[ids[tag]]} ends" for tag in ids if ends[ids[tag]] != 1
        ]
        for tag, session_id in ids.items():
            measured = self.recorder.totals(session_id)
            estimated = self.recorder.totals(session_id, estimated=True)
            low, high = self._bounds(tag)
            wrong += _outside(f"session #{tag}#", measured, estimated, low, high)
        unattributed = self.recorder.unattributed_totals()
        low, high = self._bounds(NOBODY)
        wrong += _outside("unattributed", unattributed, {}, low, high)
        total = added(*(self.recorder.totals(each) for each in ids.values()), unattributed)
        guesses = added(*(self.recorder.totals(e, estimated=True) for e in ids.values()))
        low, high = self._bounds(None)
        wrong += _outside("in all", total, guesses, low, high)
        return wrong

    def _bounds(self, owner: int | None) -> tuple[Amounts, Amounts]:
        """Return the least and the most that an owner may have been counted; `None`: all together."""
        low, high = [], []
        for leaf in self.books.values():
            for tag, received in list(leaf.received.items()):
                verdict = self.verdicts.get((id(leaf), tag), Verdict(frozenset()))
                if owner is None or owner in verdict.owners:
                    high.append({leaf.modality: dict(received)})
                is_its = verdict.owners == {owner} if owner is not None else bool(verdict.owners)
                if verdict.certain and is_its:
                    low.append({leaf.modality: dict(leaf.billed[tag])})
        return added(*low), added(*high)


class _Stage:
    """One entrypoint of a running script."""

    def __init__(self, run: Run, entry: Entry) -> None:
        self.entry, self.is_ready = entry, asyncio.Event()
        self._run, self._over = run, asyncio.Event()
        self._lives: list[Live] = []
        self._turns: list[asyncio.Queue[Any]] = []

    async def run(self) -> None:
        """Open the sessions, keep them until the end, and be the job around them."""
        number = self._run.new_tag()
        with job(f"job-{number}") if self.entry.in_job else contextlib.nullcontext() as context:
            async with asyncio.TaskGroup() as group:
                for live in await self._opened():
                    self._lives.append(live)
                    turns: asyncio.Queue[Any] = asyncio.Queue()
                    self._turns.append(turns)
                    group.create_task(self._act(turns))
                for live in self._lives:
                    await live.has_begun.wait()
                self.is_ready.set()
                await self._over.wait()
                for turns in self._turns:
                    turns.put_nowait(None)
            if context is not None:
                for callback in context._shutdown_callbacks:
                    await callback("")

    async def _opened(self) -> list[Live]:
        run, calls = self._run, self.entry.calls
        if not self.entry.attach_first:
            return [await run.open(call) for call in calls]
        lives = [run.make(call) for call in calls]
        for live in lives:
            if live.call.attach == "before":
                await run.attach(live)
        for live in lives:
            await run.start(live)
        return lives

    async def _act(self, turns: asyncio.Queue[Any]) -> None:
        while (turn := await turns.get()) is not None:
            act, done = turn
            try:
                done.set_result(await act())
            except Exception as error:  # noqa: BLE001 - raised where the round is played
                done.set_exception(error)

    async def play_round(self, number: int, half: str, *, last: bool) -> None:
        """Have each session do its next step; direct calls come when all others have ended."""
        waiting = []
        for index, (live, turns) in enumerate(zip(self._lives, self._turns, strict=True)):
            act = self._next(index, live, number, half, last=last)
            if act is not None:
                done = asyncio.get_running_loop().create_future()
                turns.put_nowait((act, done))
                waiting.append(done)
        await asyncio.gather(*waiting)

    def _next(
        self, index: int, live: Live, number: int, half: str, *, last: bool
    ) -> Callable[[], Awaitable[Any]] | None:
        run, steps = self._run, live.call.steps
        if last and half == "steps":
            return lambda: run.close(live)
        if last and half == "summaries" and live.call.summary:
            return lambda: run.summarise(live)
        step = steps[number] if number < len(steps) else None
        if step is None or half != ("asks" if step.do.startswith("ask") else "steps"):
            return None
        if not step.do.startswith("restart"):
            return lambda: run.do(live, step)

        async def again() -> None:
            self._lives[index] = await run.restart(live, step.do)

        return again

    def end(self) -> None:
        """Let the entrypoint return."""
        self._over.set()


class RecordingObserver(CostObserver):
    """An observer whose events go to a recorder instead of a publisher."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(project="tests")
        self._recorder = recorder

    def _publisher(self) -> Any:
        return _Stored(self._recorder)


class _Stored:
    """What an observer asks of a publisher: everything is safe at once."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder, name)

    async def wait_until_safe(self, *_arguments: Any, **_options: Any) -> bool:
        """Return at once."""
        return True


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on, so that nothing waits for a second to pass."""

    skipped_s = 0.0

    def time(self) -> float:
        """Return the time, with what was skipped."""
        return super().time() + self.skipped_s


async def skip(seconds: float) -> None:
    """Have so many seconds pass, and let everything that was due in them happen."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.skipped_s += seconds
    for _ in range(5):
        await asyncio.sleep(0)


def _speaks(session: Any) -> bool:
    """Whether an agent of the script is active: after a task or a hand-off, once it took over."""
    activity = session._activity
    is_paused = activity is None or activity._scheduling_paused
    return isinstance(session.current_agent, Actor) and not is_paused


def name_of(session: Any) -> str:
    """Return the agent's id under which a session object is attached."""
    return f"session-{id(session):x}"


async def ask(model: Any, tag: int) -> None:
    """Call a model directly."""
    context = ChatContext.empty()
    context.add_message(role="user", content=f"#{tag}# a question")
    async with model.chat(chat_ctx=context) as stream:
        async for _ in stream:
            pass


def _count(kind: str) -> int:
    return 2 if "twice" in kind else int("fallback" in kind)


def _outside(
    who: str, measured: Amounts, estimated: Amounts, low: Amounts, high: Amounts
) -> list[str]:
    """Return the quantities that are less than is certain, or more than there was."""
    keys = {
        (modality, quantity)
        for amounts in (measured, estimated, low, high)
        for modality in amounts
        for quantity in amounts[modality]
    }
    wrong = []
    for modality, quantity in sorted(keys):
        got, guessed, least, most = (
            amounts.get(modality, {}).get(quantity, 0)
            for amounts in (measured, estimated, low, high)
        )
        if got < least or got + guessed > most:
            wrong.append(
                f"{who}: {modality} {quantity} measured {got}, estimated {guessed}; "
                f"{least} to {most} can be"
            )
    return wrong


def play(script: Script) -> None:
    """Run a script; fail with what is wrong, and with the script in a form that runs again."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        run = Run(script)
        runner.run(run.play())
    wrong = run.problems()
    assert not wrong, "\n  ".join(
        ["usage is not where it belongs:", *wrong, "", f"SCRIPT = {script!r}"]
    )
