"""Groups of messages from a real broker, through everything that can happen to a connection."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nkeys
import pytest
from msgspec.structs import replace

from tests.support.books import MemoryBooks
from tests.support.broker import Broker
from tests.support.raw_wire import RawMessage, raw_publisher
from tests.support.slow_network import slow_network
from tests.support.stream import jetstream
from tests.support.waiting import until
from voicecosts.consumer.broker.connection import GROUP_MESSAGES, Connection, Group, Waits
from voicecosts.consumer.broker.feed import Feed
from voicecosts.consumer.broker.requests import Api
from voicecosts.consumer.broker.stream import DURABLE, declaration, ensure
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import (
    BrokerFailed,
    BrokerRefuses,
    BrokerUnreachable,
    MissingExtra,
    StreamDrift,
)
from voicecosts.producer.subjects import STREAM

SUBJECT = "costs.v1.p.a.00"
QUICK = Waits(group_s=0.1, answer_s=1.0)


def config_of(broker: Broker, *, user: str = "") -> LedgerConfig:
    """What a ledger of this broker is told."""
    url = broker.url.replace("//", f"//{user}@") if user else broker.url
    return LedgerConfig(data_dir=Path("unused"), servers=(url,), stream_max_bytes=64 * 2**20)


@asynccontextmanager
async def feeding(
    config: LedgerConfig,
    *,
    booked: int = 0,
    waits: Waits = QUICK,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Feed]:
    """An open feed for the time of a block; it says it has booked so many messages."""
    stop = stop or asyncio.Event()
    feed = Feed(config, MemoryBooks(booked), stop, waits=waits, jitter=lambda: 0.0)
    try:
        await feed.open(deadline_s=10)
        yield feed
    finally:
        await feed.close()


async def group_with(feed: Feed, wanted: Callable[[Group], bool]) -> Group:
    """Take groups until one is as wanted."""
    async with asyncio.timeout(30):
        while True:
            if wanted(group := await feed.next_group()):
                return group


async def bodies(feed: Feed, count: int) -> list[bytes]:
    """Take and acknowledge until `count` different messages came."""
    seen: list[bytes] = []
    async with asyncio.timeout(40):
        while len(set(seen)) < count:
            group = await feed.next_group()
            seen += [message.data for message in group.messages]
            feed._books.book(message.sequence for message in group.messages)  # type: ignore[attr-defined]  # of MemoryBooks
            await feed.acknowledge(group)
    return seen


class TestGroups:
    async def test_a_quiet_stream_answers_with_an_empty_group(self, broker: Broker) -> None:
        """Nothing to read is an answer too: it proves that nothing waits."""
        async with feeding(config_of(broker)) as feed:
            group = await feed.next_group()
            assert group == Group(waiting=0, asked_at=group.asked_at)
            assert group.asked_at is not None

    async def test_what_trickles_in_is_one_group(self, broker: Broker) -> None:
        """Messages that come while a pull is open are committed together, in one transaction."""
        stop = asyncio.Event()
        long = Waits(group_s=60)
        async with (
            feeding(config_of(broker), waits=long, stop=stop) as feed,
            jetstream(broker.url) as js,
        ):
            taken = asyncio.create_task(feed.next_group())
            for number in range(10):
                await js.publish(SUBJECT, b"%d" % number)
            await until(lambda: feed._link is not None and len(feed._link._arrived) == 10)
            stop.set()
            group = await taken
        assert [message.sequence for message in group.messages] == list(range(1, 11))
        assert (group.messages[3].subject, group.messages[3].data) == (SUBJECT, b"3")
        assert group.waiting == 0

    async def test_a_backlog_comes_in_full_groups_and_says_what_waits(self, broker: Broker) -> None:
        """A ledger that is behind takes big groups and knows how far behind it is."""
        async with jetstream(broker.url) as js:
            await ensure(Api(js._nc), declaration(config_of(broker)))
            await asyncio.gather(*(js.publish(SUBJECT, b"x") for _ in range(GROUP_MESSAGES + 100)))
            async with feeding(config_of(broker)) as feed:
                first = await feed.next_group()
                feed._books.book(message.sequence for message in first.messages)  # type: ignore[attr-defined]  # of MemoryBooks
                await feed.acknowledge(first)
                second = await feed.next_group()
        assert (len(first.messages), first.waiting) == (GROUP_MESSAGES, 100)
        assert (len(second.messages), second.waiting) == (100, 0)

    async def test_what_was_acknowledged_does_not_come_again(self, broker: Broker) -> None:
        """After a restart the stream goes on behind the last acknowledged message."""
        async with jetstream(broker.url) as js:
            async with feeding(config_of(broker)) as feed:
                await js.publish(SUBJECT, b"1")
                assert await bodies(feed, 1) == [b"1"]
            await js.publish(SUBJECT, b"2")
            async with feeding(config_of(broker), booked=1) as feed:
                assert await bodies(feed, 1) == [b"2"]

    async def test_what_was_not_acknowledged_comes_again_at_once(self, broker: Broker) -> None:
        """A ledger that died with a group in hand has a successor that gets this group."""
        async with jetstream(broker.url) as js:
            async with feeding(config_of(broker)) as feed:
                await js.publish(SUBJECT, b"1")
                await group_with(feed, lambda group: bool(group.messages))
            async with feeding(config_of(broker)) as feed:
                assert await bodies(feed, 1) == [b"1"]

    async def test_stopping_ends_the_wait(self, broker: Broker) -> None:
        """A ledger that is told to stop does not sit out the time of its pull."""
        stop = asyncio.Event()
        long = Waits(group_s=60)
        async with feeding(config_of(broker), waits=long, stop=stop) as feed:
            taken = asyncio.create_task(feed.next_group())
            await asyncio.sleep(0)
            stop.set()
            assert await asyncio.wait_for(taken, 20) == Group()


class TestAccidents:
    async def test_a_deleted_consumer_is_made_again(self, broker: Broker) -> None:
        """Somebody removes the durable consumer: the ledger makes it again and misses nothing."""
        async with feeding(config_of(broker)) as feed, jetstream(broker.url) as js:
            await js.publish(SUBJECT, b"1")
            await bodies(feed, 1)
            taken = asyncio.create_task(feed.next_group())
            await js.delete_consumer(STREAM, DURABLE)
            await js.publish(SUBJECT, b"2")
            await taken
            assert set(await bodies(feed, 2)) == {b"1", b"2"}

    async def test_a_deleted_stream_is_made_again(self, broker: Broker) -> None:
        """Even an emptied broker is taken into use again, without a restart of the ledger."""
        async with feeding(config_of(broker), booked=7) as feed, jetstream(broker.url) as js:
            await js.delete_stream(STREAM)
            await group_with(feed, lambda group: group.waiting == 0)
            await js.publish(SUBJECT, b"1")
            assert await bodies(feed, 1) == [b"1"]

    async def test_a_killed_broker_is_waited_for(self, broker: Broker) -> None:
        """An outage shows as groups whose waiting count is unknown, and ends by itself."""
        async with feeding(config_of(broker)) as feed:
            async with jetstream(broker.url) as js:
                await js.publish(SUBJECT, b"1")
            await bodies(feed, 1)
            broker.kill()
            outage = await group_with(feed, lambda group: group.waiting is None)
            assert outage == Group()
            broker.start()
            async with jetstream(broker.url) as js:
                await js.publish(SUBJECT, b"2")
            back = await group_with(feed, lambda group: bool(group.messages))
            assert back.messages[-1].data == b"2"

    async def test_an_acknowledgement_that_cannot_be_sent_is_harmless(self, broker: Broker) -> None:
        """A commit whose acknowledgement is lost is offered again, which books nothing."""
        async with feeding(config_of(broker)) as feed:
            async with jetstream(broker.url) as js:
                await js.publish(SUBJECT, b"1")
            group = await group_with(feed, lambda group: bool(group.messages))
            broker.kill()
            await feed.acknowledge(group)
            broker.start()
            assert await bodies(feed, 1) == [b"1"]

    async def test_an_outage_is_one_line_in_the_log(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One line when it starts and one when it ends, however long it lasts."""
        caplog.set_level(logging.INFO, "voicecosts.consumer.broker.feed")
        async with feeding(config_of(broker)) as feed:
            broker.kill()
            for _ in range(4):
                await feed.next_group()
            broker.start()
            await group_with(feed, lambda group: group.waiting == 0)
        lines = [record.getMessage() for record in caplog.records]
        assert [line.partition(" ")[0] for line in lines] in (
            ["reading", "no", "reading"],
            ["reading", "no", "no", "reading"],  # first the lost connection, then the refused one
        )

    async def test_a_slow_network_is_no_outage(self, broker: Broker) -> None:
        """A group that takes long to arrive is waited for: given up, it would be fetched for ever."""
        async with jetstream(broker.url) as js, slow_network(broker.port) as port:
            await ensure(Api(js._nc), declaration(config_of(broker)))
            for number in range(6):
                await js.publish(SUBJECT, b"%d" % number * 500_000)
            config = replace(config_of(broker), servers=(f"nats://127.0.0.1:{port}",))
            async with feeding(config) as feed:
                group = await group_with(feed, lambda group: bool(group.messages))
        assert len(group.messages) == 6
        assert group.waiting == 0

    async def test_drift_during_an_outage_stops_the_ledger(self, broker: Broker) -> None:
        """Somebody who changed the limits meanwhile is told, not ignored."""
        async with feeding(config_of(broker)) as feed, jetstream(broker.url) as js:
            config = (await js.stream_info(STREAM)).config
            await js.update_stream(config.evolve(max_age=3600.0))
            await js.delete_consumer(STREAM, DURABLE)
            with pytest.raises(StreamDrift, match=r"max_age=3600\.0"):
                await group_with(feed, lambda group: False)

    @pytest.mark.parametrize("bytes_", [128 * 2**20, 32 * 2**20])
    async def test_a_stream_that_is_resized_while_it_is_read_goes_on(
        self, broker: Broker, bytes_: int
    ) -> None:
        """Larger is used as it is, smaller is made as large as it should be; no restart is needed."""
        async with feeding(config_of(broker)) as feed, jetstream(broker.url) as js:
            config = (await js.stream_info(STREAM)).config
            await js.update_stream(config.evolve(max_bytes=bytes_))
            await js.delete_consumer(STREAM, DURABLE)
            await js.publish(SUBJECT, b"1")
            assert await bodies(feed, 1) == [b"1"]
            found = (await js.stream_info(STREAM)).config.max_bytes
        assert found == max(bytes_, 64 * 2**20)

    async def test_a_second_ledger_on_the_same_consumer_is_reported(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two ledgers would share the messages out between them, and both books would be wrong."""
        async with feeding(config_of(broker)) as feed, jetstream(broker.url) as js:
            await js.publish(SUBJECT, b"1")
            await bodies(feed, 1)
            other = await js.pull_subscribe_bind(DURABLE, stream=STREAM)
            await js.publish(SUBJECT, b"2")
            await (await other.fetch(1, timeout=5))[0].ack()
            await js.publish(SUBJECT, b"3")
            await bodies(feed, 1)
            assert caplog.text.count("messages delivered to another reader: 1") == 1
            for number in range(
                4, 8
            ):  # another reader gets one each time: it is said once a minute
                await js.publish(SUBJECT, b"%d" % number)
                await (await other.fetch(1, timeout=5))[0].ack()
                await js.publish(SUBJECT, b"x")
                await bodies(feed, 1)
        assert caplog.text.count("messages delivered to another reader") == 1

    async def test_a_connection_that_cannot_be_closed_in_order_leaves_no_socket(
        self, broker: Broker
    ) -> None:
        """The server has stopped and takes nothing more: what is on its way is given up."""
        link = Connection(asyncio.Event(), Waits(answer_s=0.1))
        await link.open(config_of(broker))
        broker.send(signal.SIGSTOP)
        link.client._transport.write(b" " * 2**25)  # more than the system buffers
        await link.client.publish(SUBJECT, b"1")
        await link.close()
        assert link.client._transport._io_writer.transport.is_closing()

    @pytest.mark.faults
    async def test_a_stalled_broker_is_noticed_and_waited_for(self, broker: Broker) -> None:
        """A broker that keeps the connection but does not answer is an outage like any other."""
        async with feeding(config_of(broker)) as feed:
            broker.send(signal.SIGSTOP)
            await group_with(feed, lambda group: group.waiting is None)
            broker.send(signal.SIGCONT)
            async with jetstream(broker.url) as js:
                await js.publish(SUBJECT, b"1")
            assert await bodies(feed, 1) == [b"1"]


class TestStart:
    async def test_no_broker_is_an_error_after_the_deadline(self, broker: Broker) -> None:
        """A wrong address shows at the start, with the address but never with its password."""
        broker.stop()
        feed = Feed(
            config_of(broker, user="ledger:s3cret"), MemoryBooks(), asyncio.Event(), waits=QUICK
        )
        with pytest.raises(BrokerUnreachable) as caught:
            await feed.open(deadline_s=0.2)
        assert f"nats://***@127.0.0.1:{broker.port}" in str(caught.value)
        assert "s3cret" not in str(caught.value)

    async def test_a_broker_that_comes_up_in_time_is_used(self, broker: Broker) -> None:
        """Containers start in any order: a broker may come up after its ledger."""
        broker.stop()
        feed = Feed(
            config_of(broker), MemoryBooks(), asyncio.Event(), waits=QUICK, jitter=lambda: 0.0
        )
        opened = asyncio.create_task(feed.open(deadline_s=30))
        await until(lambda: feed._failures > 0)
        assert feed._failures < 4  # each failure makes the pause longer, and the first one a little
        broker.start()
        await opened
        assert (await feed.next_group()).waiting == 0
        await feed.close()

    @pytest.mark.parametrize(
        ("extra", "user", "reason"),
        [
            ("authorization { user: u, password: p }", "u:wrong", "Authorization"),
            (
                'authorization { users = [{ user: u, password: p, permissions: { publish: "x" } }] }',
                "u:p",
                "permissions violation",
            ),
        ],
    )
    async def test_a_refusal_is_named(
        self, broker: Broker, extra: str, user: str, reason: str
    ) -> None:
        """A wrong password and a missing right look different from a dead host."""
        broker.stop()
        broker.extra = extra
        broker.start()
        feed = Feed(config_of(broker, user=user), MemoryBooks(), asyncio.Event(), waits=QUICK)
        with pytest.raises(BrokerRefuses, match=f"refuses: .*{reason}"):
            await feed.open(deadline_s=0.1)

    async def test_a_server_without_jetstream_is_named(self, tmp_path: Path) -> None:
        """A plain NATS server answers, but it cannot keep a stream."""
        extra = "accounts { A { users: [{ user: u, password: p }] } }"  # no JetStream in here
        with Broker(tmp_path, extra=extra) as plain:
            feed = Feed(config_of(plain, user="u:p"), MemoryBooks(), asyncio.Event(), waits=QUICK)
            with pytest.raises(BrokerFailed, match="JetStream not enabled"):
                await feed.open(deadline_s=0.1)

    async def test_a_broker_with_too_little_room_is_named(self, tmp_path: Path) -> None:
        """The stream reserves its limit; a broker that cannot hold it says so at the start."""
        # A second block replaces the first one, with its folder.
        extra = f'jetstream {{ store_dir: "{tmp_path / "small"}", max_file_store: 1MB }}'
        with Broker(tmp_path, extra=extra) as small:
            feed = Feed(config_of(small), MemoryBooks(), asyncio.Event(), waits=QUICK)
            with pytest.raises(BrokerFailed, match="insufficient storage"):
                await feed.open(deadline_s=0.1)

    async def test_credentials_that_may_only_pull_are_enough(self, broker: Broker) -> None:
        """Least privilege: pulling and acknowledging are the only rights a ledger needs.

        Also for a message between the others that is no text.
        """
        broker.stop()
        broker.extra = """authorization { users = [
          { user: all, password: all }
          { user: ledger, password: ledger, permissions: {
              publish: ["$JS.API.CONSUMER.MSG.NEXT.COSTS.ledger", "$JS.ACK.COSTS.ledger.>"]
              subscribe: ["_INBOX_c.>"] } } ] }"""
        broker.start()
        async with jetstream(*config_of(broker, user="all:all").servers) as js:
            await ensure(Api(js._nc), declaration(config_of(broker)))
            with raw_publisher(config_of(broker, user="all:all").servers[0]) as publisher:
                publisher.send(RawMessage(b"costs.v1.p.\xff.\x0b", b"0", b"NATS/1.0 \xff"))
            await js.publish(SUBJECT, b"1")
            async with feeding(config_of(broker, user="ledger:ledger")) as feed:
                assert await bodies(feed, 2) == [b"0", b"1"]
                async with asyncio.timeout(10):  # acknowledgements take effect a moment later
                    while (await js.consumer_info(STREAM, DURABLE)).num_ack_pending:  # noqa: ASYNC110 - of the broker
                        await asyncio.sleep(0.01)

    async def test_credentials_without_the_library_for_them_name_the_extra(
        self, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Signing with nkeys needs a library; without it the ledger says what to install."""
        monkeypatch.setitem(sys.modules, "nkeys", None)
        seed = tmp_path / "ledger.nk"
        seed.write_text("SU" + "A" * 56)
        config = LedgerConfig(data_dir=tmp_path, servers=(broker.url,), credentials=seed)
        with pytest.raises(MissingExtra, match="consumer"):
            await Feed(config, MemoryBooks(), asyncio.Event(), waits=QUICK).open(deadline_s=1)

    async def test_an_nkey_signs_in(self, broker: Broker, tmp_path: Path) -> None:
        """A seed file proves who the ledger is without sending a secret."""
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        public = nkeys.from_seed(bytearray(seed)).public_key.decode()
        broker.stop()
        broker.extra = f"authorization {{ users = [{{ nkey: {public} }}] }}"
        broker.start()
        (tmp_path / "ledger.nk").write_bytes(seed)
        config = replace(config_of(broker), credentials=tmp_path / "ledger.nk")
        async with feeding(config) as feed:
            assert (await feed.next_group()).waiting == 0

    async def test_a_message_of_another_sender_in_the_inbox_is_ignored(
        self, broker: Broker
    ) -> None:
        """What did not come from the stream is not a message, even with somewhere to reply to."""
        async with feeding(config_of(broker)) as feed, jetstream(broker.url) as js:
            assert feed._link is not None
            client = js._nc
            for reply in ("somewhere", "$JS.ACK.COSTS.ledger.a.b.c.d.e"):
                await client.publish(f"{feed._link._inbox}.x", b"junk", reply=reply)
            await client.flush()
            await js.publish(SUBJECT, b"1")
            assert await bodies(feed, 1) == [b"1"]
