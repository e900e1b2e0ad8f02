"""The same calls cost the same, whichever pool and executor runs them: the ledger's rows are equal.

Our pool in threads and processes, OpenRTC's real pool in coroutines and processes; one observer, the
same agents, the providers shared wherever a process runs more than one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import JobExecutorType
from livekit.agents.ipc import job_proc_lazy_main

from tests.support import openrtc_pool
from tests.support.booked import ledger, until_ended
from tests.support.broker import Broker
from tests.support.dispatch import stand_in_room
from tests.support.pool_agents import Dental, Restaurant
from tests.support.pool_calls import Caller, Running, loopback_server
from voicecosts import AgentPool, CostObserver, connect
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS
from voicecosts.producer.events import QUANTITIES
from voicecosts.producer.process import PROCESS

MANUAL = {"turn_handling": {"turn_detection": "manual"}}
CALLS: list[dict[str, str]] = [
    {"room": "x", "metadata": '{"agent": "dental", "tenant": "acme"}'},
    {"room": "x", "room_metadata": '{"demo": "dental", "tenant": "globex"}'},
    {"room": "dental-3", "metadata": '{"tenant": "default"}'},
    {"room": "x"},
]
TURNS = {"AJ-1": 3, "AJ-2": 1, "AJ-3": 2, "AJ-4": 1}

ROWS = f"""
SELECT project, agent_id, agent_label, tenant, modality, provider, model, estimated,
       {", ".join(f"sum({name})::BIGINT" for name in QUANTITIES)}
FROM usage GROUP BY ALL ORDER BY ALL
"""  # noqa: S608 - names of our own contract

SESSIONS = """
SELECT project, agent_id, tenant, job_id, room_name, status FROM sessions ORDER BY ALL
"""


def ours(executor: JobExecutorType) -> Callable[[CostObserver], Any]:
    """Return how to make our own pool's server."""

    def make(observer: CostObserver) -> Any:
        caller = Caller(TURNS)
        pool = AgentPool(observers=[observer, caller], server=loopback_server(executor))
        providers: dict[str, Any] = {
            "stt": ScriptedSTT(),
            "llm": ScriptedLLM(),
            "tts": ScriptedTTS(),
        }
        for name, agent in (("restaurant", Restaurant), ("dental", Dental)):
            pool.add(name, agent, session_kwargs={**MANUAL, "vad": None}, **providers)
        return pool.server

    return make


def openrtcs(isolation: Any) -> Callable[[CostObserver], Any]:
    """Return how to make OpenRTC's server."""

    def make(observer: CostObserver) -> Any:
        from openrtc import AgentPool as OpenRTC  # noqa: PLC0415 - after the stand-in

        caller = Caller(TURNS, openrtc=True)
        pool = OpenRTC(
            observers=[observer, caller], isolation=isolation, enable_introspection=False
        )
        providers: dict[str, Any] = {
            "stt": ScriptedSTT(),
            "llm": ScriptedLLM(),
            "tts": ScriptedTTS(),
        }
        for name, agent in (("restaurant", Restaurant), ("dental", Dental)):
            pool.add(name, agent, session_kwargs=MANUAL, **providers)
        pool.server._port, pool.server._host = 0, "127.0.0.1"
        return pool.server

    return make


HOSTS = {
    "ours-threads": ours(JobExecutorType.THREAD),
    "ours-processes": ours(JobExecutorType.PROCESS),
    "openrtc-coroutines": openrtcs("coroutine"),
    "openrtc-processes": openrtcs("process"),
}
"""Each is a project of its own in one ledger."""


@pytest.fixture
async def books(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    """A ledger of this test; nothing of other tests is in it, and no publisher is left behind."""
    openrtc_pool.stand_in(monkeypatch)
    monkeypatch.setattr(job_proc_lazy_main, "rtc", None)
    stand_in_room()
    async with ledger(broker.url, tmp_path / "data") as data_dir:
        yield data_dir
        await asyncio.to_thread(PROCESS.close)


def expected_usage() -> dict[tuple[str | None, str, str], int]:
    """Return what each call used, as far as the script tells without a model: requests, seconds."""
    whose = [("acme", "dental"), ("globex", "dental"), ("default", "dental"), (None, "restaurant")]
    usage: dict[tuple[str | None, str, str], int] = {}
    for (tenant, agent), turns in zip(whose, TURNS.values(), strict=True):
        usage[tenant, agent, "llm"] = usage[tenant, agent, "tts"] = turns
        # the phrases, and the 2 s of silence with which LiveKit flushes the recogniser
        usage[tenant, agent, "stt"] = turns * 1_500_000 + 2_000_000
    return usage


@pytest.mark.slow
async def test_the_rows_are_the_same_in_every_pool_and_executor(
    broker: Broker, books: Path
) -> None:
    """Agent, label, tenant, model and every quantity of every call; absent tenants stay absent."""
    for ran, (project, server_for) in enumerate(HOSTS.items(), start=1):
        observer = CostObserver(project=project, servers=broker.url)
        async with Running.worker(server_for(observer)) as worker:
            for call in CALLS:
                assert (await worker.dispatcher.dispatch(**call)).accepted
            await until_ended(books, ran * len(CALLS), modality="llm", deadline_s=90)
    with connect(books) as reader:
        rows = by_project(reader.execute(ROWS).fetchall())
        sessions = by_project(reader.execute(SESSIONS).fetchall())
    assert set(rows) == set(sessions) == set(HOSTS)
    for project in HOSTS:
        assert used(rows[project]) == expected_usage(), project
        assert rows[project] == rows["ours-threads"], project
        assert sessions[project] == [
            ("dental", "acme", "AJ-1", "x", "success"),
            ("dental", "default", "AJ-3", "dental-3", "success"),
            ("dental", "globex", "AJ-2", "x", "success"),
            ("restaurant", None, "AJ-4", "x", "success"),
        ]


def by_project(rows: list[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return rows by their first column."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for project, *row in rows:
        found.setdefault(project, []).append(tuple(row))
    return found


def used(rows: list[tuple[Any, ...]]) -> dict[tuple[str | None, str, str], int]:
    """Return the seconds or the requests of each row, as `expected_usage` does."""
    requests, audio = 7 + QUANTITIES.index("requests"), 7 + QUANTITIES.index("audio_us")
    return {(row[2], row[0], row[3]): row[audio if row[3] == "stt" else requests] for row in rows}
