"""docs/security.md: its configurations let a call through, and nothing else, on a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import nats
import pytest
from livekit.agents import Agent, AgentSession
from msgspec.structs import replace
from nats.aio.client import Client

from tests.support.accounts import Operator
from tests.support.booked import QUICK, consuming
from tests.support.broker import Broker
from tests.support.certificates import Authority
from tests.support.pool_agents import QUIET
from tests.support.processes import ROOT
from tests.support.stream import jetstream
from tests.support.waiting import until
from voicecosts import CostObserver
from voicecosts.consumer.broker.stream import DURABLE, consumer_config, declaration, stream_config
from voicecosts.consumer.config import LedgerConfig, from_env
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.process import PROCESS
from voicecosts.producer.publishing.connection import credential_options
from voicecosts.producer.subjects import STREAM
from voicecosts.producer.tls import Tls, context

PAGE: Final = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.DOTALL)
CONFIG: Final = next(text for kind, text in BLOCKS if not kind)
PYTHON: Final = next(text for kind, text in BLOCKS if kind == "python")
ADDED: Final = [
    shlex.split(line)
    for kind, text in BLOCKS
    if kind == "console"
    for line in text.splitlines()
    if "nsc add user" in line
]
ATTACKS: Final = re.findall(
    r"^\| ([^|]+) \| ((?:publish|subscribe) [^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE
)

PINNED: Final = (
    '"costs.v1.prod.*.*"',
    str(re.findall(r"`(costs\.v1\.<project>[^`]+)`", PAGE))
    .replace("'", '"')
    .replace("<project>", "prod")
    .replace("<agent>", "dental"),
)
"""The worker's permission, and the narrower one that the page names."""

NEEDED: Final = (
    f"STREAM.INFO.{STREAM}",
    f"STREAM.CREATE.{STREAM}",
    f"CONSUMER.INFO.{STREAM}.{DURABLE}",
    f"CONSUMER.DURABLE.CREATE.{STREAM}.{DURABLE}",
    f"CONSUMER.RESET.{STREAM}.{DURABLE}",
    f"CONSUMER.MSG.NEXT.{STREAM}.{DURABLE}",
    f"STREAM.UPDATE.{STREAM}",
)
"""What a ledger asks JetStream for that starts, loses its folder, and starts with a larger stream."""

TO_MAKE_ROOM: Final = (f"STREAM.PURGE.{STREAM}", f"STREAM.MSG.GET.{STREAM}")


class Site:
    """A server as the page configures it, and the two credentials."""

    def __init__(self, broker: Broker, trust: Tls, folder: Path) -> None:
        self.broker = broker
        self.trust = trust
        self.worker = str(folder / "worker")
        self.ledger = str(folder / "ledger")

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.broker.url.replace("nats://", "tls://")

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.broker.directory / "server.log").read_text()


def with_nkeys(folder: Path, tls: Tls, patch: pytest.MonkeyPatch) -> str:
    """Make the keys as the page does, and return its configuration."""
    made = subprocess.run(
        [sys.executable, "-c", PYTHON],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for line in made.stdout.splitlines():
        name, public = line.split()
        patch.setenv(name.upper(), public)
        (folder / f"{name}.nk").rename(folder / name)
    patch.setenv("NATS_CERT", json.dumps(tls.cert))
    patch.setenv("NATS_KEY", json.dumps(tls.key))
    return CONFIG


def with_accounts(folder: Path, tls: Tls, patch: pytest.MonkeyPatch) -> str:
    """Sign users with the permissions of the page's `nsc` commands."""
    operator = Operator()
    for words in ADDED:
        given = dict(zip(words[4::2], words[5::2], strict=True))
        name = given["--name"].partition("-")[0]
        allowed = (given[option].split(",") for option in ("--allow-pub", "--allow-sub"))
        (folder / name).write_text(operator.user(name, *allowed))
    files = f"tls {{ cert_file: {json.dumps(tls.cert)}, key_file: {json.dumps(tls.key)} }}\n"
    return files + operator.block


@contextlib.contextmanager
def site(folder: Path, kind: str, patch: pytest.MonkeyPatch, *, more: str = "") -> Iterator[Site]:
    """Run the server of the page for the time of a block."""
    tls = Authority(folder / "ca").issue()
    make = with_accounts if kind == "accounts" else with_nkeys
    extra = make(folder, tls, patch)
    if kind == "nkeys for one agent":
        assert PINNED[0] in extra
        extra = extra.replace(*PINNED)
    with Broker(folder / "broker", extra=extra + more) as broker:
        yield Site(broker, Tls(ca=tls.ca), folder)


async def until_booked(home: Path, billed: dict[str, int]) -> None:
    """Return when readers of a ledger see these tokens of each tenant."""
    seen: set[Path] = set()

    def is_booked() -> bool:
        snapshot = (home / "costs.duckdb").resolve()
        if snapshot in seen or not snapshot.exists():
            return False
        seen.add(snapshot)
        options = {"threads": 1}
        with contextlib.closing(
            duckdb.connect(str(snapshot), read_only=True, config=options)
        ) as it:
            rows = it.execute(
                "SELECT tenant, sum(input_tokens)::BIGINT FROM usage WHERE project = 'prod' GROUP BY ALL"
            ).fetchall()
        return dict(rows) == billed

    await until(is_booked)


@pytest.mark.parametrize(
    "kind",
    [
        "nkeys",
        pytest.param("accounts", marks=pytest.mark.slow),
        pytest.param("nkeys for one agent", marks=pytest.mark.slow),
    ],
)
async def test_a_call_goes_through_with_the_permissions_of_the_page(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker and ledger need what the page grants, and ask for nothing else."""
    home = tmp_path / "home"
    with site(tmp_path, kind, monkeypatch, more="\ntrace: true\n") as place:
        ledger = from_env(
            data_dir=home,
            credentials=Path(place.ledger),
            servers=place.url,
            tls=place.trust,
            snapshot_interval_s=0.05,
            stream_max_bytes=2**24,
            environ={},
        )
        async with consuming(ledger, waits=QUICK):
            billed = await call(place, tmp_path / "outbox")
            await until_booked(home, billed)
        shutil.rmtree(home)
        async with consuming(replace(ledger, stream_max_bytes=2**25), waits=QUICK):
            await until_booked(home, billed)
        assert "Violation" not in place.log
        for subject in NEEDED:
            assert f"[PUB $JS.API.{subject} " in place.log


def test_both_configurations_grant_the_same_and_no_more() -> None:
    """What the ledger is granted is what it asks for, by nkeys and by accounts."""
    asked = {f"$JS.API.{subject}" for subject in (*NEEDED, *TO_MAKE_ROOM)}
    asked.add(f"$JS.ACK.{STREAM}.{DURABLE}.>")
    by_nkeys = re.findall(r'"(\$JS[^"]+)"', CONFIG)
    [by_nsc] = (
        words[words.index("--allow-pub") + 1].split(",") for words in ADDED if "ledger" in words
    )
    assert set(by_nkeys) == set(by_nsc) == asked


async def call(place: Site, outbox: Path) -> dict[str, int]:
    """Hold a real call on a worker, and return what its model billed: tokens by tenant."""
    llm = ScriptedLLM(model="gpt-4.1-mini", provider="openai")
    observer = CostObserver(
        project="prod",
        servers=place.url,
        credentials=place.worker,
        tls=place.trust,
        outbox_dir=outbox,
    )
    session: AgentSession[Any] = AgentSession(llm=llm, **QUIET)
    observer.attach(session, agent_id="dental", tenant="acme")
    await session.start(Agent(instructions="Be brief."))
    await session.run(user_input="#1# when are you open?")
    await session.aclose()
    assert await observer.flush(30)
    await asyncio.to_thread(PROCESS.close)
    return {"acme": llm.billed[1]["input_tokens"]}


@contextlib.asynccontextmanager
async def attacker(place: Site) -> AsyncIterator[tuple[Client, list[str]]]:
    """A client with the worker's credential, and what the server says to it."""
    said: list[str] = []

    async def note(error: Exception) -> None:
        said.append(str(error))

    client = await nats.connect(
        place.url,
        tls=context(place.trust),
        error_cb=note,
        inbox_prefix="_INBOX_w.prod",
        allow_reconnect=False,
        **credential_options(place.worker),
    )
    try:
        yield client, said
    finally:
        await client.close()


def test_the_page_lists_enough_attacks() -> None:
    """Each row of its table is tried below."""
    assert len(ATTACKS) >= 16


async def test_a_stolen_worker_credential_is_refused_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attack of the table is made with the worker's credential, and changes nothing."""
    declared = declaration(LedgerConfig(data_dir=tmp_path, stream_max_bytes=2**24))
    wrong = []
    with site(tmp_path, "nkeys", monkeypatch) as place:
        owner = {"tls": context(place.trust), **credential_options(place.ledger)}
        async with (
            jetstream(place.url, inbox_prefix="_INBOX_c", **owner) as js,
            attacker(place) as (client, said),
        ):
            await js.add_stream(stream_config(declared))
            await js.add_consumer(STREAM, consumer_config())
            mine = client.jetstream(timeout=10)
            for _ in range(3):
                await mine.publish("costs.v1.prod.dental.00", b"x")
            for name, what, refusal in ATTACKS:
                verb, subject, *rest = _words(what)
                said.clear()
                refused = refusal.strip("`")
                if verb == "subscribe":
                    await client.subscribe(subject)
                elif "header" in rest:
                    key, _, value = rest[-1].partition(": ")
                    with pytest.raises(nats.js.errors.APIError) as caught:
                        await mine.publish(subject, b"x", headers={key: value})
                    said.append(f"error {caught.value.err_code} of the stream")
                else:
                    await client.publish(subject, b"{}", reply=rest[-1] if rest else "")
                await client.flush()
                if not await is_said(place, said, refused):
                    wrong.append((name, refusal, list(said)))
            state = (await js.stream_info(STREAM)).state
            standing = await js.consumer_info(STREAM, DURABLE)
        assert wrong == []
        assert (state.first_seq, state.num_deleted or 0, standing.num_ack_pending) == (1, 0, 0)
        refusals = re.findall(r"(?:Publish|Subscription) Violation", place.log)
        assert len(refusals) == len([it for it in ATTACKS if "Violation" in it[2]])


async def is_said(place: Site, said: list[str], refusal: str) -> bool:
    """Return whether the server says these words: to the client, or else in its log."""
    in_log, _, words = refusal.lower().rpartition("`")
    try:
        await until(lambda: words in (place.log if in_log else str(said)).lower(), deadline_s=5)
    except AssertionError:
        return False
    return True


def _words(what: str) -> list[str]:
    """Return the words of an attack; what stands in back-quotes is one."""
    return [quoted or plain for quoted, plain in re.findall(r"`([^`]+)`|(\w+)", what)]
