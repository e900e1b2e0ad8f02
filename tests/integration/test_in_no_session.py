"""From a real session to the answers: what no call has is a number, an amount and a sentence."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextvars import Context
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from livekit.agents import Agent, AgentSession
from livekit.agents.llm import ChatContext

from tests.support import stream
from tests.support.broker import Broker
from tests.support.conservation import books
from tests.support.pool_agents import QUIET
from tests.support.processes import CostsProcess, costs
from tests.support.waiting import until
from voicecosts import CostObserver
from voicecosts.producer.capture.listener import METRICS
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.events import QUANTITIES, ProducerReport, SessionEnded
from voicecosts.producer.process import PROCESS


async def request(model: ScriptedLLM) -> None:
    """Ask a model outside of every session."""
    context = ChatContext.empty()
    context.add_message(role="user", content="#0# a question outside of every session")
    async with model.chat(chat_ctx=context) as answer:
        async for _ in answer:
            pass


class Worker:
    """Sessions that share a model, on a host without a server."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.model = ScriptedLLM(model="gpt-4o", provider="openai")
        self._observer = CostObserver(project="prod", outbox_dir=home / "outbox")

    async def call(self, number: int, tenant: str, *odd: str) -> None:
        """Run a call of one turn, in which empty metrics of the `odd` types are reported."""
        session: AgentSession[Any] = AgentSession(llm=self.model, **QUIET)
        assert self._observer.attach(session, agent_id="dental", tenant=tenant)
        await session.start(Agent(instructions="x"))
        await session.run(user_input=f"#{number}# hello")
        for kind in odd:
            event: Any = SimpleNamespace(metrics=SimpleNamespace(type=kind))
            session.emit(METRICS, event)
            await asyncio.sleep(0)
        await session.aclose()

    async def two_calls_and_a_stranger(self) -> None:
        """Two calls run while somebody else asks their model."""
        sessions = [AgentSession(llm=self.model, **QUIET) for _ in range(2)]
        for session in sessions:
            assert self._observer.attach(session, agent_id="dental", tenant="acme")
            await session.start(Agent(instructions="x"))
        for number, session in enumerate(sessions, 1):
            await session.run(user_input=f"#{number}# hello")
        await asyncio.create_task(request(self.model), context=Context())
        for session in sessions:
            await session.aclose()

    async def stop(self) -> None:
        """End the process's metering."""
        await asyncio.to_thread(PROCESS.close)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker that leaves nothing behind."""
    made = Worker(tmp_path / "home")
    yield made
    await made.stop()


async def asked(home: Path, *arguments: str) -> Any:
    """Return an answer as a program reads it."""
    return json.loads(await asyncio.to_thread(costs, home, *arguments, "--format", "json"))


async def strictly(home: Path, *more: str) -> int:
    """Return the exit code of `costs audit --strict`."""
    audit = CostsProcess(
        ["audit", "--strict", *more], home.parent / "run", {"COSTS_DATA_DIR": str(home)}
    )
    return await asyncio.to_thread(audit.start().wait)


async def test_what_providers_counted_is_in_the_ledger_to_the_last_token(worker: Worker) -> None:
    """Booked and unattributed usage are together the provider's own count, in every quantity."""
    await worker.two_calls_and_a_stranger()
    await worker.stop()
    answer = await asked(worker.home, "query")
    sums = ", ".join(f"sum({quantity})::BIGINT" for quantity in QUANTITIES)
    with duckdb.connect(
        worker.home / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as reader:
        [booked] = reader.execute(f"SELECT {sums} FROM usage").fetchall()  # noqa: S608 - constants
        [others] = reader.execute(f"SELECT {sums} FROM unattributed").fetchall()  # noqa: S608 - same
    bill = books(worker.model)["llm"]
    for quantity, mine, other in zip(QUANTITIES, booked, others, strict=True):
        counts = {call: amounts[quantity] for call, amounts in bill.items()}
        assert (mine, other) == (counts.get(1, 0) + counts.get(2, 0), counts.get(0, 0)), quantity
    missing = answer["completeness"]
    assert (missing["unattributed"], missing["unmeasured"]) == (1, 0)
    [used] = missing["unattributed_usage"]
    assert used["input_tokens"] == bill[0]["input_tokens"] > 0


async def test_a_call_with_usage_that_could_not_be_measured_is_short(worker: Worker) -> None:
    """It ends in success, every reading arrives, and the answers still say that it lacks something.

    One event is of a class that nobody knows, one lacks the fields of its class.
    """
    await worker.call(1, "acme", "made_up_metrics", "llm_metrics")
    await worker.call(2, "globex")
    await worker.stop()
    answer = await asked(worker.home, "query")
    assert answer["completeness"]["short_sessions"] == 1
    assert answer["completeness"]["unmeasured"] == 0  # the call says it
    [warning] = answer["warnings"]
    assert warning.startswith(
        "the numbers may lack something: 1 call is short (how much is unknown)"
    )
    with duckdb.connect(worker.home / "costs.duckdb", read_only=True) as reader:
        ask = (
            "SELECT tenant, state, cause, missing_at_most, unmeasured FROM completeness ORDER BY 1"
        )
        assert reader.execute(ask).fetchall() == [
            ("acme", "short", "unmeasured", None, 2),
            ("globex", "complete", None, Decimal(0), 0),
        ]
    assert await strictly(worker.home) == 1
    assert await strictly(worker.home, "--where", "tenant=globex") == 0


@pytest.mark.slow
async def test_unattributed_usage_is_told_in_amounts_and_fails_a_strict_audit(
    worker: Worker,
) -> None:
    """Every call is complete, and something is in none of them."""
    await worker.two_calls_and_a_stranger()
    await worker.stop()
    bill = books(worker.model)["llm"][0]
    said = (
        "not in these costs: 1 usage event that could not be attributed to a call (openai/gpt-4o "
        f"llm: 1 request, {bill['input_tokens']:,} input tokens, {bill['output_tokens']:,} output "
        "tokens); the log of the worker says how to avoid it"
    )
    assert said in (await asked(worker.home, "query"))["warnings"]
    table = await asyncio.to_thread(costs, worker.home, "audit")
    assert f"! {said}" in table
    assert "nothing is known to be missing" not in table
    assert await strictly(worker.home) == 1
    # A CSV has no place for it, so it is told beside it.
    command = CostsProcess(
        ["query", "--format", "csv"],
        worker.home.parent / "run",
        {"COSTS_DATA_DIR": str(worker.home)},
    )
    assert await asyncio.to_thread(command.start().wait) == 0
    assert f"warning: {said}" in command.log
    assert [row["tenant"] for row in csv.DictReader(io.StringIO(command.output))] == ["acme"]


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.1", "localhost")])
async def test_unattributed_amounts_are_reported_live_and_once_in_a_process(
    broker: Broker, hosts: tuple[str, ...]
) -> None:
    """Observers that share a publisher, or have one each, report an event once, while calls run."""
    await stream.declare(broker.url)
    model = ScriptedLLM()
    observers = [
        CostObserver(project="prod", servers=broker.url.replace("127.0.0.1", host))
        for host in (*hosts, hosts[-1])
    ]
    sessions: list[AgentSession[Any]] = [AgentSession(llm=model, **QUIET) for _ in observers]
    for observer, session in zip(observers, sessions, strict=True):
        assert observer.attach(session, agent_id="dental")
        await session.start(Agent(instructions="x"))
    try:
        for count in (1, 2):
            await asyncio.create_task(request(model), context=Context())
            await until(lambda number=count: published(observers) == number)
            bill = model.billed[0]
            told = (count, bill["input_tokens"], bill["output_tokens"])
            assert await reported(broker.url) == told
        stored = await stream.events(broker.url)
        assert not [event for event in stored if isinstance(event, SessionEnded)]
    finally:
        for session in sessions:
            await session.aclose()
        await asyncio.to_thread(PROCESS.close)
    assert (await reported(broker.url))[0] == 2


def published(observers: list[CostObserver]) -> int:
    """Return how many reports have left: each session has sent its start, and nothing else."""
    return sum(it.stats().published for it in PROCESS.publishers()) - len(observers)


async def reported(url: str) -> tuple[int, int, int]:
    """Return events, input and output tokens that all producers have reported as unattributed."""
    newest: dict[str, ProducerReport] = {}
    for event in await stream.events(url):
        if isinstance(event, ProducerReport):
            newest[event.producer_id] = event
    totals = [meter.totals for report in newest.values() for meter in report.unattributed_usage]
    return (
        sum(report.unattributed for report in newest.values()),
        sum(each.input_tokens for each in totals),
        sum(each.output_tokens for each in totals),
    )
