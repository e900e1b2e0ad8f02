"""The broker does not let the worker in, or no longer, or not everywhere: nothing is lost by it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.load import Load, totals
from tests.support.outcome import assert_exact, stored
from tests.support.publishing import flushed, publishing
from tests.support.reloading import reload, users, with_user
from tests.support.waiting import until
from voicecosts.producer.publishing import sender
from voicecosts.producer.publishing.reports import ConnectionState

pytestmark = [
    pytest.mark.faults,
    # nats-py leaves the socket of a connection that was refused to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collect those sockets here, and not in whatever test comes later."""
    yield
    gc.collect()


async def test_a_worker_that_is_denied_publishes_when_it_is_granted(
    tmp_path: Path, outbox: Path
) -> None:
    """Wrong credentials keep everything on disk until the server accepts them."""
    with Broker(tmp_path / "guarded", extra=users(admin="secret")) as broker:
        admin = with_user(broker.url, "admin", "secret")
        await stream.declare(admin)
        with publishing(with_user(broker.url, "worker", "word"), outbox) as publisher:
            load = Load(publisher.put)
            await load.offer_for(1000)
            await until(lambda: "Authorization" in publisher.stats().connection_problem)
            await load.offer_for(200)
            assert (await stored(admin)).messages == []
            reload(broker, users(admin="secret", worker="word"))
            load.end()
            await flushed(publisher)
            await assert_exact("auth denied, then granted", admin, tmp_path, load)


async def test_one_forbidden_subject_does_not_hold_up_the_others(
    tmp_path: Path, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may not be published is kept and said; what may be published goes on."""
    monkeypatch.setattr(sender, "_DENIED_S", 1.0)  # instead of half a minute
    limited = (
        "authorization { users: [ { user: admin, password: secret }, { user: worker, password: word,"
        ' permissions: { publish: "costs.v1.faults.agent-1.>", subscribe: "_INBOX_w.faults.>" } } ] }'
    )
    with Broker(tmp_path / "guarded", extra=limited) as broker:
        admin = with_user(broker.url, "admin", "secret")
        await stream.declare(admin)
        with publishing(with_user(broker.url, "worker", "word"), outbox) as publisher:
            load = Load(publisher.put, sessions=2)
            await load.offer_for(100)
            load.end()
            allowed = {
                key: value for key, value in load.expected.items() if "1" in load.agent(key[0])
            }
            await until(lambda: publisher.stats().published >= 52)
            assert totals((await stored(admin)).events) == allowed
            assert publisher.stats().waiting > 0
            reload(broker, users(admin="secret", worker="word"))
            await flushed(publisher)
            await assert_exact("one agent's subject denied, then granted", admin, tmp_path, load)


def seed() -> tuple[str, str]:
    """Return a new nkey seed of a user, and its public key."""
    made = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return made.decode(), nkeys.from_seed(made).public_key.decode()


def guarded(public: str) -> str:
    """Return a configuration that lets in one nkey, and the test."""
    return f"authorization {{ users: [ {{ nkey: {public} }}, {{ user: a, password: b }} ] }}"


async def test_credentials_that_are_rotated_by_reload_are_taken_up(
    tmp_path: Path, outbox: Path
) -> None:
    """A reload throws the client out for good; a new one reads the new credentials."""
    (first, first_public), (second, second_public) = seed(), seed()
    secret = tmp_path / "user.nk"
    secret.write_text(first)
    with Broker(tmp_path / "guarded", extra=guarded(first_public)) as broker:
        admin = with_user(broker.url, "a", "b")
        await stream.declare(admin)
        with publishing(broker.url, outbox, credentials=str(secret)) as publisher:
            load = Load(publisher.put)
            async with load.going_on():
                await until(lambda: publisher.stats().published > 200)
                reload(broker, guarded(second_public))
                await until(lambda: publisher.stats().connection is ConnectionState.NOT_CONNECTED)
                before = len((await stored(admin)).readings)
                secret.write_text(second)
                published = publisher.stats().published
                await until(lambda: publisher.stats().published > published)
            load.end()
            await flushed(publisher)
            assert 0 < before < load.offered
            more = f"{before} with the first key"
            await assert_exact("credentials rotated by reload", admin, tmp_path, load, more=more)
