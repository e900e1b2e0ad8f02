"""Everybody asks, again and again, while broker, stream, disk and ledger fail: nobody may be misled.

A round has parts of its own: a broker, a ledger (`costs consume`), a worker's publisher under calls
that come and end. `query()`, `costs query`, `costs audit --strict` and the notebook ask in loops.
Each fault happens once in a round, in an order by chance; the stream is made anew at the end, as its
gap is never closed. After each fault somebody must be told the whole again, as of a moment after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.support import stream
from tests.support.broker import Broker
from tests.support.load import MODELS, Load
from tests.support.oracle import LIST_PRICES
from tests.support.processes import ROOT, CostsProcess
from tests.support.publishing import flushed, publishing
from tests.support.witness import Answer, Witness, by_meter, by_model, by_session
from voicecosts import query
from voicecosts.producer.publishing.publisher import Publisher
from voicecosts.producer.subjects import STREAM

SHORT_S: Final = 2.0
LONG_S: Final = 13.0
"""How long a fault lasts: what waits on a host for longer than ten seconds is told of. Two faults of
a round are long."""

RECOVERED_S: Final = 90.0

_PRICED: Final = tuple(name for name in MODELS if name in LIST_PRICES)
_CALLS_S: Final = 4.0
_BLOCKED: Final = 100


class Round:
    """One round. `lies` is what was claimed and is not so; `refused` are answers that failed."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.data_dir = folder / "data"
        self.broker = Broker(folder / "broker")
        self.witness = Witness()
        self.lies: list[str] = []
        self.refused: list[str] = []
        self.faults: list[str] = []
        self._latest: Answer | None = None
        arguments = ["consume", "--servers", self.broker.url, "--data-dir", str(self.data_dir)]
        self._ledger = CostsProcess([*arguments, "--snapshot-interval", "0.2"], folder / "ledger")

    async def run(self) -> None:
        """Run all of it, and see the end told in full."""
        outbox = self.data_dir / "outbox"
        with (
            self.broker,
            self._ledger,
            self.witness.listening(),
            publishing(self.broker.url, outbox) as publisher,
        ):
            await asyncio.to_thread(self._ledger.wait_ready)
            async with self._calls(publisher), self._asking():
                await self._until_told(self._is_whole)
                faults = [
                    self._broker_killed,
                    self._broker_stopped,
                    self._stream_full,
                    self._ledger_killed,
                    self._no_snapshots,
                ]
                self.chance.shuffle(faults)
                long = self.chance.sample(faults, 2)
                for fault in faults:
                    lasts_s = LONG_S if fault in long else SHORT_S
                    self.faults.append(f"{_name(fault)} ({lasts_s:.0f} s)")
                    await fault(lasts_s)
                    await self._until_told(self._is_whole)
                self.faults.append(_name(self._stream_made_anew))
                await self._stream_made_anew()
                await self._until_told(lambda answer: "stream_gone" in answer.gaps)
            await flushed(publisher)
            await self._until_told(lambda _: True, ask=self._query)

    async def _broker_killed(self, lasts_s: float) -> None:
        self.broker.kill()
        with self.witness.silent():
            await asyncio.sleep(lasts_s)
        await asyncio.to_thread(self.broker.start)

    async def _broker_stopped(self, lasts_s: float) -> None:
        self.broker.send(signal.SIGSTOP)
        with self.witness.silent():
            await asyncio.sleep(lasts_s)
        self.broker.send(signal.SIGCONT)

    async def _ledger_killed(self, lasts_s: float) -> None:
        self._ledger.kill()
        with self.witness.silent():
            await asyncio.sleep(lasts_s)
        self._ledger.start()
        await asyncio.to_thread(self._ledger.wait_ready)

    async def _stream_full(self, lasts_s: float) -> None:
        async with stream.jetstream(self.broker.url) as js:
            info = await js.stream_info(STREAM)
            full = info.config.evolve(max_bytes=info.state.bytes + 2000)
            await js.update_stream(full)
            await asyncio.sleep(lasts_s)
            await js.update_stream(info.config)

    async def _no_snapshots(self, lasts_s: float) -> None:
        """The folder takes no new file: folders stand where the drafts would be."""
        current = int((self.data_dir / "costs.duckdb").readlink().stem.partition("-")[2])
        names = [f"costs-{number}.duckdb.tmp" for number in range(current, current + _BLOCKED)]
        if self.chance.random() < 1 / 2:
            names.append("ledger.json.tmp")
        made = [path for name in names if _made(path := self.data_dir / name)]
        await asyncio.sleep(lasts_s)
        for path in made:
            path.rmdir()

    async def _stream_made_anew(self) -> None:
        async with stream.jetstream(self.broker.url) as js:
            self.witness.stream_goes()
            await js.delete_stream(STREAM)
            async with asyncio.timeout(RECOVERED_S):
                while True:
                    with contextlib.suppress(Exception):
                        created = (await js.stream_info(STREAM)).created
                        assert created is not None
                        break
                    await asyncio.sleep(0.05)
        self.witness.stream_is_anew(created)

    async def _until_told(
        self,
        condition: Callable[[Answer], bool],
        *,
        ask: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Wait for an answer as of a moment after now."""
        now = datetime.now(UTC)
        try:
            async with asyncio.timeout(RECOVERED_S):
                while True:
                    if ask is not None:
                        await ask()
                    told = self._latest
                    if told and told.as_of and told.as_of > now and condition(told):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.faults}: not told the whole again; last: {told}") from None

    @staticmethod
    def _is_whole(answer: Answer) -> bool:
        return answer.claims_whole

    @contextlib.asynccontextmanager
    async def _calls(self, publisher: Publisher) -> AsyncIterator[None]:
        """Calls come and end all the while, about two hundred readings a second."""

        def put(event: Any) -> None:
            self.witness.offered(event)
            publisher.put(event)

        async def talk() -> None:
            while True:
                load = Load(put, sessions=4, models=_PRICED)
                try:
                    async with asyncio.timeout(_CALLS_S):
                        while True:
                            load.offer(5)
                            await asyncio.sleep(0.025)
                except TimeoutError:
                    pass
                finally:
                    load.end()

        async with _tasks(talk):
            yield

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        asked = (self._query, self._costs_query, self._costs_audit, self._notebook)
        async with _tasks(*(partial(_again, ask) for ask in asked)):
            yield

    async def _query(self) -> None:
        began = datetime.now(UTC)
        asked = partial(query, ("session", "model"), data_dir=self.data_dir)
        try:
            report = await asyncio.to_thread(asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody was answered
            self._refuse("query()", str(error))
            return
        missing = report.completeness
        self._judge(
            Answer(
                by="query()",
                began=began,
                ended=datetime.now(UTC),
                as_of=report.as_of,
                answered_at=missing.answered_at,
                claims_whole=missing.whole is True,
                costs={
                    (str(row.group["session"]), str(row.group["model"])): row.cost or Decimal(0)
                    for row in report.rows
                },
                grouped=by_meter,
                found=frozenset(it.source.value for it in missing.findings),
                gaps=frozenset(gap.why for gap in missing.gaps or ()),
            )
        )

    async def _costs_query(self) -> None:
        began = datetime.now(UTC)
        command = await self._command("query", "--by", "session,model")
        if command is None:
            return
        said = json.loads(command.output)
        costs = {(row["session"], row["model"]): Decimal(row["cost"]) for row in said["rows"]}
        self._judge(_answer("costs query", began, said, costs, by_meter))

    async def _costs_audit(self) -> None:
        began = datetime.now(UTC)
        states = "short,abandoned,open,repaired,complete"
        command = await self._command("audit", "--strict", "--state", states, "--top", "100000")
        if command is None:
            return
        said = json.loads(command.output)
        costs = {(row["session"],): Decimal(row["cost"] or 0) for row in said["sessions"]}
        answer = _answer("costs audit", began, said, costs, by_session)
        passed = command.wait() == 0
        if passed and not answer.claims_whole:
            self.lies.append(f"{began}: costs audit --strict exits with 0, and has findings")
        self._judge(answer)

    async def _notebook(self) -> None:
        began = datetime.now(UTC)
        command = [sys.executable, "-m", "tests.support.notebook_answer", str(self.data_dir)]
        running = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            output, problem = await running.communicate()
        except asyncio.CancelledError:
            running.kill()
            await running.wait()
            raise
        if running.returncode:
            self._refuse("notebook", problem.decode()[-500:])
            return
        said = json.loads(output)
        costs = {(model,): Decimal(cost) for model, cost in said["costs"].items()}
        answer = _answer("notebook", began, said, costs, by_model)
        if said["says_whole"] != answer.claims_whole:
            self.lies.append(f"{began}: the notebook says in its page what its answer does not")
        self._judge(answer)

    async def _command(self, *arguments: str) -> CostsProcess | None:
        arguments = (*arguments, "--format", "json", "--data-dir", str(self.data_dir))
        command = CostsProcess(arguments, self.folder / f"asked-{arguments[0]}")
        with command:
            await asyncio.to_thread(command.wait)
        if not command.output:
            self._refuse(f"costs {arguments[0]}", command.log[-500:])
            return None
        return command

    def _refuse(self, by: str, why: str) -> None:
        if self._latest is not None:  # before there is a snapshot nobody can be answered
            self.refused.append(f"{datetime.now(UTC):%H:%M:%S} {by}: {why}")

    def _judge(self, answer: Answer) -> None:
        self.lies += self.witness.lies(answer)
        if answer.by == "query()":
            self._latest = answer


def _answer(
    by: str,
    began: datetime,
    said: dict[str, Any],
    costs: dict[tuple[str, ...], Decimal],
    grouped: Callable[[tuple[str, str]], tuple[str, ...]],
) -> Answer:
    missing = said["completeness"]
    return Answer(
        by=by,
        began=began,
        ended=datetime.now(UTC),
        as_of=_moment(said["as_of"]),
        answered_at=_moment(missing["answered_at"]),
        claims_whole=missing["whole"] is True,
        costs=costs,
        grouped=grouped,
        found=frozenset(finding["source"] for finding in missing["findings"]),
        gaps=frozenset(gap["why"] for gap in missing["gaps"] or ()),
    )


async def trial(folder: Path, *, seconds: float, seed: int) -> list[Round]:
    """Run rounds until the time is over, at least one."""
    end = asyncio.get_running_loop().time() + seconds
    chance = random.Random(seed)  # noqa: S311 - the order of faults
    done: list[Round] = []
    while not done or asyncio.get_running_loop().time() < end:
        round_ = Round(folder / f"round-{len(done)}", chance)
        done.append(round_)
        await round_.run()
    return done


async def _again(ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        await ask()
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _tasks(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do these while the body runs; when one fails, so does the body."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_as_coroutine(work)) for work in works]
        yield
        for task in running:
            task.cancel()


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _name(fault: Callable[..., object]) -> str:
    return fault.__name__.strip("_").replace("_", " ")


def _made(path: Path) -> bool:
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        return True
    return False


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def outcome(rounds: list[Round]) -> Iterator[str]:
    """Yield what a trial came to, in lines."""
    for round_ in rounds:
        judged, whole = round_.witness.judged, round_.witness.whole
        counts = ", ".join(
            f"{by} {count} ({whole.get(by, 0)} whole)" for by, count in judged.items()
        )
        yield f"{'; '.join(round_.faults)}: {counts}"
        yield from (f"NOT SO: {lie}" for lie in round_.lies)
        yield from (f"REFUSED: {why}" for why in round_.refused)
