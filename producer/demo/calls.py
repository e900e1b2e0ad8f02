"""The demo's calls: dispatched to a pool of three agents and observed as in any other worker.

The calls differ in agent, tenant and length; some use a tool, some are handed over, some callers
interrupt. All calls of an agent share its providers, as pools share them. What the providers billed
for each is returned beside it, counted by the providers themselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from livekit.agents import AgentSession
from livekit.agents.ipc.mock_room import create_mock_room
from msgspec import Struct

from voicecosts.producer.demo.cast import AGENTS, LINES, TENANTS, Providers, shared_providers
from voicecosts.producer.demo.devices import Handset, Loudspeaker, Microphone
from voicecosts.producer.demo.jobs import fake_job_context
from voicecosts.producer.demo.providers import SAMPLE_RATE, ScriptedTTS
from voicecosts.producer.observer import CostObserver
from voicecosts.producer.pool.agent_pool import AgentPool
from voicecosts.producer.process import PROCESS
from voicecosts.producer.settings import CREDENTIALS
from voicecosts.producer.tls import TLS_CA, TLS_CERT, TLS_KEY

AT_ONCE: Final = 10
"""Calls that run at the same time."""

_INTERRUPTED_EVERY: Final = 7
_CALL_TIMEOUT_S: Final = 40.0


class Call(Struct, frozen=True):
    """One call of the script. `number` is how the providers recognise it."""

    number: int
    agent_id: str
    tenant: str | None

    def metadata(self) -> str:
        """Return what the call is dispatched with: all that the pool knows of it."""
        asked = {"agent": self.agent_id, "tenant": self.tenant}
        return json.dumps({key: value for key, value in asked.items() if value is not None})


class Billed(Struct, frozen=True, kw_only=True):
    """What one provider billed for the calls of one tenant to one agent."""

    tenant: str | None
    agent_id: str
    modality: str
    provider: str
    model: str
    quantities: dict[str, int]


def script(calls: int) -> list[Call]:
    """Return the calls: agents and tenants in turn, and the last one without a tenant."""
    agents = list(AGENTS)
    return [
        Call(
            number=number,
            agent_id=agents[number % len(agents)],
            tenant=TENANTS[number % len(TENANTS)] if number < calls else None,
        )
        for number in range(1, calls + 1)
    ]


async def run_calls(
    observer: CostObserver, calls: int, *, on_finished: Callable[[int], None]
) -> list[Billed]:
    """Run the script and return what the providers billed.

    `on_finished` is told after each call how many are over. All events are flushed at the end.

    Raises:
        TimeoutError: A call did not end in 40 s, or the events were not stored in 30 s.
    """
    providers = shared_providers()
    pool = pool_of(observer, providers)
    gate = asyncio.Semaphore(AT_ONCE)
    finished = 0

    async def one(call: Call) -> None:
        nonlocal finished
        async with gate, asyncio.timeout(_CALL_TIMEOUT_S):
            await _run(pool, call)
        finished += 1
        on_finished(finished)

    planned = script(calls)
    async with asyncio.TaskGroup() as group:
        for call in planned:
            group.create_task(one(call))
    if not await observer.flush(timeout=30.0):
        raise TimeoutError("the events of the calls were not stored within 30 s")
    return _billed(planned, providers)


def pool_of(observer: CostObserver, providers: dict[str, Providers]) -> AgentPool:
    """Return the pool of the demo's agents; each caller brings a handset."""
    pool = AgentPool(observers=[observer, Handset()])
    for name, agent in AGENTS.items():
        shared = providers[name]
        pool.add(
            name,
            agent,
            llm=shared.llm,
            stt=shared.stt,
            tts=shared.tts,
            session_kwargs={"vad": None, "turn_handling": {"turn_detection": "manual"}},
        )
    return pool


async def _run(pool: AgentPool, call: Call) -> None:
    with fake_job_context(
        job_id=f"demo-{call.number}", job_metadata=call.metadata(), room=create_mock_room()
    ) as job:
        async with pool.session(job) as session:
            for turn, line in enumerate(LINES[call.agent_id]):
                microphone = session.input.audio
                if isinstance(microphone, Microphone):
                    microphone.say(0.8 + 0.1 * ((call.number + turn) % 5))
                await session.run(user_input=f"#{call.number}# {line}")
            if call.number % _INTERRUPTED_EVERY == 0:
                await _interrupt(session, call.number)


async def _interrupt(session: AgentSession[Any], number: int) -> None:
    """Read the terms and conditions, and be interrupted when the part that there is was heard."""
    terms = (
        f"#{number}# These are our terms and conditions. The first one is about the price that you "
        "pay for each of your calls. The second one is about the time in which you pay it. The "
        "third one is about what happens if you do not. And there are more of them."
    )

    async def endless() -> AsyncIterator[str]:
        yield terms
        await asyncio.Event().wait()  # so that the speech cannot end before it is interrupted

    voice, loudspeaker = session.tts, session.output.audio
    assert isinstance(voice, ScriptedTTS)  # noqa: S101 - narrows the type
    assert isinstance(loudspeaker, Loudspeaker)  # noqa: S101 - same
    said = voice.said[number] + len(voice.sentences.tokenize(terms)) - 1  # the last one may go on
    speech = session.say(endless())
    while voice.said[number] < said or not loudspeaker.played_s():  # noqa: ASYNC110 - a clock plays
        await asyncio.sleep(0.005)
    speech.interrupt(force=True)
    await speech.wait_for_playout()


def _billed(calls: list[Call], providers: dict[str, Providers]) -> list[Billed]:
    """Sum the providers' books by tenant and agent."""
    sums: dict[tuple[str | None, str, str, str, str], Counter[str]] = {}
    for call in calls:
        for modality, provider, model, books in providers[call.agent_id].books():
            group = (call.tenant, call.agent_id, modality, provider, model)
            used = Counter(books[call.number])
            samples = used.pop("samples", 0)
            if samples:
                used["audio_us"] = samples * 1_000_000 // SAMPLE_RATE
            sums.setdefault(group, Counter()).update(used)
    return [
        Billed(
            tenant=tenant,
            agent_id=agent_id,
            modality=modality,
            provider=provider,
            model=model,
            quantities=dict(quantities),
        )
        for (tenant, agent_id, modality, provider, model), quantities in sums.items()
    ]


async def run(
    servers: str, calls: int, on_finished: Callable[[int], None], *, outbox_dir: Path
) -> list[Billed]:
    """Run the script in this process as a worker would, with the worker's outbox in `outbox_dir`.

    LiveKit's warnings about the stand-in for a room are not shown. Afterwards, or when it was
    interrupted, call `close`.
    """
    logging.getLogger("livekit").setLevel(logging.ERROR)
    for name in (CREDENTIALS, TLS_CA, TLS_CERT, TLS_KEY):
        os.environ.pop(name, None)  # what the shell has for other servers is not for this one
    observer = CostObserver(project="demo", servers=servers, outbox_dir=outbox_dir)
    return await run_calls(observer, calls, on_finished=on_finished)


def close() -> None:
    """End the threads that `run` started."""
    PROCESS.close()
