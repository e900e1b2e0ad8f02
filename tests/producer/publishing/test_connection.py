"""The connection: every way in which nats-py dies or hangs is noticed from outside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.reloading import with_user
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import NeverAccepted, NotNow, TooLarge
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.publishing import connection as supervised
from voicecosts.producer.publishing.connection import Connection
from voicecosts.producer.publishing.reports import ConnectionState

MESSAGE = Packed(
    subject="costs.v1.tests.dental.00", message_id="id-1", data=b"x", events=1, batch_number=1
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the deadlines, so that the test is quick."""
    monkeypatch.setattr(supervised, "ACK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(supervised, "_GRACE_S", 0.1)


@contextlib.asynccontextmanager
async def connected(broker: Broker) -> AsyncIterator[Connection]:
    """A connection that has published once."""
    await stream.declare(broker.url)
    connection = Connection(ProducerConfig(project="tests", servers=(broker.url,)))
    await connection.publish(MESSAGE)
    try:
        yield connection
    finally:
        await connection.close()


async def published_after_all(connection: Connection, *, tries: int = 8) -> int:
    """Publish until it works; return how often it did not."""
    for failed in range(tries):
        try:
            await connection.publish(MESSAGE)
        except NotNow:
            continue
        return failed
    raise AssertionError(f"not published in {tries} tries: {connection!r}")


async def test_a_client_that_ended_quietly_is_replaced(broker: Broker) -> None:
    """A closed client never comes back by itself; the next publish makes a new one."""
    async with connected(broker) as connection:
        assert connection._client is not None
        await connection._client.close()
        assert await published_after_all(connection) == 0


async def test_a_client_whose_reader_is_gone_is_given_up(broker: Broker, quick: None) -> None:
    """After an exception in a callback it reports that it is connected, and reads nothing more."""
    async with connected(broker) as connection:
        deaf = connection._client
        assert deaf is not None
        assert deaf._reading_task is not None
        deaf._reading_task.cancel()
        failed = await published_after_all(connection)
        assert 1 <= failed <= 3
        assert connection._client is not deaf


async def test_a_call_that_swallows_its_cancellation_is_not_waited_for(
    broker: Broker, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py may hang inside a flush and ignore being cancelled; the publisher does not."""
    released = asyncio.Event()

    async def stuck(*_arguments: object, **_options: object) -> None:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async with connected(broker) as connection:
        assert connection._stream is not None
        monkeypatch.setattr(connection._stream, "publish", stuck)
        assert await published_after_all(connection) == 3
        released.set()


async def test_a_message_that_would_end_the_connection_is_found_before_it_is_sent(
    tmp_path: Path,
) -> None:
    """nats-py forgets the headers when it compares; the server would close the connection."""
    with Broker(tmp_path / "small", max_payload="2048") as small:
        async with connected(small) as connection:
            client = connection._client
            for size in (2000, 2048, 5000):
                large = Packed(
                    subject=MESSAGE.subject,
                    message_id=f"id-{size}",
                    data=b"x" * size,
                    events=1,
                    batch_number=2,
                )
                with pytest.raises(TooLarge, match="2048"):
                    await connection.publish(large)
            await connection.publish(MESSAGE)
            assert connection._client is client


async def test_a_worker_that_may_not_hear_acknowledgements_says_what_to_grant(
    tmp_path: Path, quick: None
) -> None:
    """What it sends is stored, it does not know, and a person must be told."""
    extra = (
        "authorization { users: [ { user: admin, password: secret }, { user: worker, password: word,"
        ' permissions: { publish: "costs.v1.tests.>", subscribe: "elsewhere.>" } } ] }'
    )
    with Broker(tmp_path / "guarded", extra=extra) as guarded:
        await stream.declare(with_user(guarded.url, "admin", "secret"))
        url = with_user(guarded.url, "worker", "word")
        connection = Connection(ProducerConfig(project="tests", servers=(url,)))
        with pytest.raises(NotNow, match=r"no permission to subscribe to _INBOX_w\.tests\.>"):
            await connection.publish(MESSAGE)
        await connection.close()


async def test_the_limit_of_the_stream_is_a_limit_too(broker: Broker) -> None:
    """What `max_msg_size` refuses is refused every time."""
    await stream.declare(broker.url, max_msg_size=1000)
    connection = Connection(ProducerConfig(project="tests", servers=(broker.url,)))
    large = Packed(
        subject=MESSAGE.subject, message_id="id-2", data=b"x" * 2000, events=1, batch_number=2
    )
    with pytest.raises(TooLarge, match="max_msg_size"):
        await connection.publish(large)
    await connection.close()


@pytest.mark.parametrize(
    "subject",
    ["", "costs.v1.a", "costs.v1.a.b.00\r\nPUB x 1", "costs.v1.*.b.00", "other.v1.a.b.00"],
)
async def test_a_subject_that_is_not_ours_is_never_sent(broker: Broker, subject: str) -> None:
    """A damaged or long subject would end the connection of all others."""
    bad = Packed(subject=subject, message_id="id-3", data=b"x", events=1, batch_number=3)
    connection = Connection(ProducerConfig(project="tests", servers=(broker.url,)))
    with pytest.raises(NeverAccepted, match="not a subject of ours"):
        await connection.publish(bad)
    assert connection.state is ConnectionState.UNTRIED


async def test_a_state_is_logged_when_it_changes_and_not_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of hours is some lines in the log, without the password in any of them."""
    caplog.set_level(logging.INFO, logger="voicecosts.producer.publishing.connection")
    late = Broker(tmp_path / "late")
    servers = (late.url.replace("//", "//user:secret@"),)
    connection = Connection(ProducerConfig(project="tests", servers=servers))
    for _ in range(3):
        with pytest.raises(NotNow):
            await connection.publish(MESSAGE)
    with late:
        for _ in range(3):
            with pytest.raises(NotNow, match="no stream"):
                await connection.publish(MESSAGE)
        await stream.declare(late.url)
        for _ in range(3):
            await connection.publish(MESSAGE)
        await connection.close()
    states = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert [state.split(" (")[0] for state in states] == [
        "not connected",
        "connected",
        "connected, but nothing is accepted",
        "connected",
    ]
    assert "secret" not in caplog.text


async def test_credentials_that_cannot_be_read_are_not_now(broker: Broker, tmp_path: Path) -> None:
    """A secret that is being replaced at this moment is read again at the next try."""
    config = ProducerConfig(
        project="tests", servers=(broker.url,), credentials=str(tmp_path / "user.nk")
    )
    connection = Connection(config)
    with pytest.raises(NotNow):
        await connection.publish(MESSAGE)
    (tmp_path / "user.nk").write_text("SU")
    with pytest.raises(NotNow):
        await connection.publish(MESSAGE)
    assert connection.state is ConnectionState.NOT_CONNECTED


async def test_a_connect_that_is_cancelled_leaves_no_socket_open() -> None:
    """A publisher that ends while it connects to a silent server closes what it opened."""
    accepted, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload": 1048576, "headers": true}\r\n')
        await reader.readuntil(b"PING\r\n")
        accepted.set()
        await reader.read()
        closed.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = ProducerConfig(project="tests", servers=(f"nats://127.0.0.1:{port}",))
        publishing = asyncio.create_task(Connection(config).publish(MESSAGE))
        async with asyncio.timeout(20):
            await accepted.wait()
            publishing.cancel()
            await asyncio.wait({publishing})
            await closed.wait()


async def test_messages_in_flight_share_one_try_to_connect() -> None:
    """A server that is away or silent costs one deadline, not one for each message in flight."""
    tries: list[asyncio.StreamWriter] = []

    async def goodbye(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(writer)
        writer.close()

    async with await asyncio.start_server(goodbye, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        connection = Connection(ProducerConfig(project="tests", servers=(f"nats://{host}:{port}",)))
        results = await asyncio.gather(
            *(connection.publish(MESSAGE) for _ in range(8)), return_exceptions=True
        )
        first = len(tries)
        with pytest.raises(NotNow):
            await connection.publish(MESSAGE)
        await connection.close()
    assert [type(result) for result in results] == [NotNow] * 8
    assert len(tries) == 2 * first
