"""The ends of calls in one process, whatever the server and the outbox are like.

Each end is what the stock executor and OpenRTC make of it: the session closes, the end hook is
called, then the job's shutdown callbacks; after the last call the process exits. The time that each
of these takes is what a caller, or whoever drains the worker, waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from livekit.agents import Agent, AgentSession
from msgspec.structs import replace

from tests.support import stream
from tests.support.broker import Broker, free_port
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.publishing import orphan
from voicecosts import CostObserver
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.process import PROCESS

SERVERS: Final = ("up", "away", "silent", "frozen", "none")
"""`silent` accepts and says nothing, `frozen` stands still once it is connected."""

OUTBOXES: Final = ("fine", "full", "impossible", "shared")
"""`full` by what a neighbour holds; `shared` with a living neighbour, and an orphan to adopt."""

_BOUND: Final = 1 << 20


@contextlib.asynccontextmanager
async def server(kind: str, folder: Path) -> AsyncIterator[tuple[str, Broker | None]]:
    """Yield the address of a server, and the broker if it is one."""
    with contextlib.ExitStack() as stack:
        if kind == "none":
            yield "", None
        elif kind == "away":
            yield f"nats://127.0.0.1:{free_port()}", None
        elif kind == "silent":
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            yield f"nats://127.0.0.1:{listener.getsockname()[1]}", None
        else:
            broker = stack.enter_context(Broker(folder / "broker"))
            await stream.declare(broker.url)
            yield broker.url, broker


@contextlib.contextmanager
def outbox(kind: str, folder: Path, url: str) -> Iterator[Path]:
    """Yield the folder of an outbox."""
    place = folder / "outbox"
    if kind == "impossible":
        (folder / "file").touch()
        yield folder / "file" / "outbox"
    elif kind == "fine":
        yield place
    else:
        neighbour = Outbox.create(place / "elsewhere-neighbour.sqlite3")
        if kind == "full":
            neighbour.lock.write_label(2 * _BOUND, 0)
        else:
            orphan(place, url or "nats://elsewhere:4222", readings=20)
        try:
            yield place
        finally:
            neighbour.close()


async def end_a_call(observer: CostObserver, number: int) -> dict[str, float]:
    """Run a call of one turn; return how many seconds each hook of its end took."""
    took: dict[str, float] = {}
    info = SimpleNamespace(agent_name="x", tenant="t", job_id=f"j-{number}", room_name="r")
    outcome = SimpleNamespace(status=SimpleNamespace(value="success"), is_final=True)
    with job(info.job_id) as context:
        session: AgentSession[Any] = AgentSession(llm=ScriptedLLM(), **QUIET)
        assert observer.attach(session, agent_id="x", job=context) is not None
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()
        began = time.monotonic()
        await observer.on_session_end(info, outcome)
        took[f"end hook {number}"] = time.monotonic() - began
        began = time.monotonic()
        for callback in context._shutdown_callbacks:
            await callback("hang-up")
        took[f"shutdown {number}"] = time.monotonic() - began
    return took


async def ends(
    server_kind: str, outbox_kind: str, folder: Path, *, deadline_s: float, calls: int = 2
) -> dict[str, float]:
    """Return how many seconds each hook took at the ends of some calls, and the process's exit.

    `folder` is an empty one.
    """
    async with server(server_kind, folder) as (url, broker):
        with outbox(outbox_kind, folder, url) as place:
            observer = CostObserver(project="prod", servers=url, outbox_dir=place)
            observer._config = replace(
                observer.config, flush_timeout_s=deadline_s, outbox_max_bytes=_BOUND
            )
            if server_kind == "frozen":
                assert broker is not None
                await end_a_call(observer, 0)
                assert await observer.flush(30)
                broker.send(signal.SIGSTOP)
            took: dict[str, float] = {}
            for number in range(1, calls + 1):
                took |= await end_a_call(observer, number)
            publishers = PROCESS.publishers()
            began = time.monotonic()
            await asyncio.to_thread(PROCESS.close)
            took["exit"] = time.monotonic() - began
            if broker is not None:
                broker.send(signal.SIGCONT)
            for publisher in publishers:
                await asyncio.to_thread(publisher._thread.join, 30)
                assert not publisher._thread.is_alive()
    return took
