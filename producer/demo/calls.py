"""The demo's calls: real sessions on shared providers, observed like any other worker's calls.

The calls differ in agent, tenant and length; some use a tool, some are handed over, some callers
interrupt. What the providers billed for each is returned beside it, counted by the providers
themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from livekit.agents import AgentSession
from livekit.agents.testing import fake_job_context
from msgspec import Struct

from producer.demo.cast import AGENTS, LINES, TENANTS, Providers, shared_providers
from producer.demo.devices import Loudspeaker, session_io
from producer.demo.providers import SAMPLE_RATE
from producer.observer import CostObserver
from producer.process import PROCESS

AT_ONCE: Final = 10
"""Calls that run at the same time."""

_INTERRUPTED_EVERY: Final = 7
_CALL_TIMEOUT_S: Final = 40.0


class Call(Struct, frozen=True):
    """One call of the script. `number` is how the providers recognise it."""

    number: int
    agent_id: str
    tenant: str | None


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
    gate = asyncio.Semaphore(AT_ONCE)
    finished = 0

    async def one(call: Call) -> None:
        nonlocal finished
        async with gate, asyncio.timeout(_CALL_TIMEOUT_S):
            await _run(observer, call, providers[call.agent_id])
        finished += 1
        on_finished(finished)

    planned = script(calls)
    async with asyncio.TaskGroup() as group:
        for call in planned:
            group.create_task(one(call))
    if not await observer.flush(timeout=30.0):
        raise TimeoutError("the events of the calls were not stored within 30 s")
    return _billed(planned, providers)


async def _run(observer: CostObserver, call: Call, providers: Providers) -> None:
    with fake_job_context(job_id=f"demo-{call.number}") as job:
        session: AgentSession[Any] = AgentSession(
            llm=providers.llm,
            stt=providers.stt,
            tts=providers.tts,
            vad=None,
            turn_handling={"turn_detection": "manual"},
        )
        microphone = session_io(session, call.number)
        observer.attach(session, agent_id=call.agent_id, tenant=call.tenant, job=job)
        await session.start(AGENTS[call.agent_id]())
        for turn, line in enumerate(LINES[call.agent_id]):
            microphone.say(0.8 + 0.1 * ((call.number + turn) % 5))
            await session.run(user_input=f"#{call.number}# {line}")
        if call.number % _INTERRUPTED_EVERY == 0:
            await _interrupt(session, call.number)
        await session.aclose()


async def _interrupt(session: AgentSession[Any], number: int) -> None:
    """Begin to read something long, and be interrupted once it is heard."""
    speech = session.say(f"#{number}# These are our terms and conditions. " * 8)
    loudspeaker = session.output.audio
    while isinstance(loudspeaker, Loudspeaker) and not loudspeaker.played_s():
        if speech.done():
            return
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


def run(servers: str, calls: int, on_finished: Callable[[int], None]) -> list[Billed]:
    """Run the script in this process as a worker would, and leave no thread behind.

    LiveKit's own warnings about sessions without a room are not shown.
    """
    logging.getLogger("livekit").setLevel(logging.ERROR)
    observer = CostObserver(project="demo", servers=servers)
    try:
        return asyncio.run(run_calls(observer, calls, on_finished=on_finished))
    finally:
        PROCESS.close()
