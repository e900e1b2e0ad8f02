"""The stream COSTS and its consumer: created when missing, compared when there, never bent."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js import JetStreamContext, api

from tests.support.broker import Broker
from tests.support.stream import jetstream
from voicecosts.consumer.broker import stream
from voicecosts.consumer.broker.stream import DURABLE, Declaration, ensure, rewind
from voicecosts.consumer.errors import StreamDrift
from voicecosts.producer.subjects import STREAM

DECLARED = Declaration(replicas=1, max_bytes=64 * 2**20)

PULL_ONLY = """
authorization { users = [
  { user: all, password: all }
  { user: ledger, password: ledger, permissions: {
      publish: ["$JS.API.CONSUMER.MSG.NEXT.COSTS.ledger", "$JS.ACK.COSTS.ledger.>"]
      subscribe: ["_INBOX_c.>"] } }
] }
"""


async def standing(js: JetStreamContext) -> api.ConsumerInfo:
    """Declare stream and consumer, and return where the consumer stands."""
    info = await ensure(js, DECLARED)
    assert info is not None
    return info


class TestEnsure:
    async def test_it_creates_what_is_missing(self, broker: Broker) -> None:
        """The first ledger of a fresh broker finds a stream with limits and a durable consumer."""
        async with jetstream(broker.url) as js:
            info = await standing(js)
            config = (await js.stream_info(STREAM)).config
        assert (info.config.ack_policy, info.config.max_deliver) == ("explicit", -1)
        assert (config.discard, config.storage, config.subjects) == ("new", "file", ["costs.v1.>"])
        assert (config.max_age, config.duplicate_window) == (14 * 86400, 600)
        assert (config.deny_delete, config.allow_direct) == (True, True)
        assert (config.max_msg_size or 0) in range(512_000, 2**20)

    async def test_it_leaves_what_agrees_alone(self, broker: Broker) -> None:
        """A restart changes nothing, and says where the consumer stands."""
        async with jetstream(broker.url) as js:
            await ensure(js, DECLARED)
            before = await js.stream_info(STREAM)
            for number in range(3):
                await js.publish("costs.v1.p.a.00", b"%d" % number)
            info = await standing(js)
            after = await js.stream_info(STREAM)
        assert info.num_pending == 3
        assert (after.config, after.created) == (before.config, before.created)

    async def test_an_operators_own_additions_are_no_drift(self, broker: Broker) -> None:
        """Only what the ledger declares is compared: a description or metadata is free."""
        async with jetstream(broker.url) as js:
            wanted = stream.stream_config(DECLARED)
            await js.add_stream(wanted.evolve(description="ours", metadata={"team": "voice"}))
            assert await ensure(js, DECLARED) is not None

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"discard": api.DiscardPolicy.OLD}, "discard='old'"),
            ({"max_age": 3600.0}, "max_age=3600.0"),
            ({"subjects": ["costs.>"]}, "subjects=['costs.>']"),
            ({"retention": api.RetentionPolicy.WORK_QUEUE}, "retention='workqueue'"),
            ({"max_msgs_per_subject": 1}, "max_msgs_per_subject=1"),
            ({"deny_delete": False}, "deny_delete=False"),
            ({"allow_rollup_hdrs": True}, "allow_rollup_hdrs=True"),
            ({"storage": api.StorageType.MEMORY}, "storage='memory'"),
        ],
    )
    async def test_a_stream_that_may_lose_events_is_refused(
        self, broker: Broker, change: dict[str, Any], field: str
    ) -> None:
        """A difference in anything declared is named with its value, and nothing is changed."""
        async with jetstream(broker.url) as js:
            await js.add_stream(stream.stream_config(DECLARED).evolve(**change))
            before = await js.stream_info(STREAM)
            with pytest.raises(StreamDrift) as caught:
                await ensure(js, DECLARED)
            assert (await js.stream_info(STREAM)).config == before.config
        assert field in str(caught.value)
        assert len(caught.value.differences) == 1

    async def test_all_differences_are_named_with_both_values(self, broker: Broker) -> None:
        """One run of the ledger is enough to see everything that must be corrected."""
        async with jetstream(broker.url) as js:
            await ensure(js, DECLARED)
            other = Declaration(replicas=3, max_bytes=128 * 2**20)
            with pytest.raises(StreamDrift) as caught:
                await ensure(js, other)
        text = str(caught.value)
        assert len(caught.value.differences) == 2
        assert "num_replicas=1 and should have 3, or run with --replicas 1" in text
        assert f"max_bytes={64 * 2**20} and should have {128 * 2**20}" in text

    async def test_a_consumer_that_gives_up_is_refused(self, broker: Broker) -> None:
        """With a delivery limit the broker would skip a message for good after some failures."""
        async with jetstream(broker.url) as js:
            await js.add_stream(stream.stream_config(DECLARED))
            await js.add_consumer(STREAM, stream.consumer_config().evolve(max_deliver=3))
            with pytest.raises(StreamDrift, match=r"consumer ledger has max_deliver=3 .* -1"):
                await ensure(js, DECLARED)

    async def test_another_client_that_was_faster_with_another_declaration_is_drift(
        self, broker: Broker
    ) -> None:
        """Two ledgers that start together with different limits do not overwrite each other."""

        class Slow(JetStreamContext):
            async def add_stream(self, config: Any = None, **params: Any) -> Any:
                await faster.add_stream(stream.stream_config(DECLARED).evolve(max_age=3600.0))
                return await super().add_stream(config, **params)

        async with jetstream(broker.url) as faster:
            with pytest.raises(StreamDrift, match=r"max_age=3600\.0"):
                await ensure(Slow(faster._nc, timeout=10), DECLARED)

    async def test_credentials_that_may_only_pull_are_enough(self, broker: Broker) -> None:
        """Where a bootstrap role owns the stream, the ledger takes it as it is."""
        broker.extra = PULL_ONLY
        broker.stop()
        broker.start()
        where = broker.url.removeprefix("nats://")
        async with jetstream(f"nats://all:all@{where}") as js:
            await ensure(js, DECLARED)
        async with jetstream(f"nats://ledger:ledger@{where}", inbox_prefix="_INBOX_c") as js:
            assert await ensure(js, DECLARED) is None


class TestRewind:
    async def test_messages_of_a_dead_ledger_come_back_at_once(self, broker: Broker) -> None:
        """What a killed ledger held is not withheld from its successor for the ack time."""
        async with jetstream(broker.url) as js:
            await ensure(js, DECLARED)
            await js.publish("costs.v1.p.a.00", b"1")
            dead = await js.pull_subscribe_bind(DURABLE, stream=STREAM)
            await dead.fetch(1, timeout=10)
            info = await standing(js)
            assert info.num_ack_pending == 1
            assert "1 unacknowledged" in (await rewind(js, info, 0) or "")
            successor = await js.pull_subscribe_bind(DURABLE, stream=STREAM)
            assert (await successor.fetch(1, timeout=10))[0].data == b"1"

    async def test_a_ledger_behind_the_consumer_gets_the_stream_again(self, broker: Broker) -> None:
        """A restored backup or an empty folder is filled from the message after its last one."""
        async with jetstream(broker.url) as js:
            await ensure(js, DECLARED)
            for number in range(1, 5):
                await js.publish("costs.v1.p.a.00", b"%d" % number)
            pull = await js.pull_subscribe_bind(DURABLE, stream=STREAM)
            for message in await pull.fetch(4, timeout=10):
                await message.ack_sync()
            info = await standing(js)
            assert "booked up to message 2" in (await rewind(js, info, 2) or "")
            again = [message.data for message in await pull.fetch(2, timeout=10)]
        assert again == [b"3", b"4"]

    async def test_a_ledger_that_is_up_to_date_reads_on(self, broker: Broker) -> None:
        """An ordinary restart repeats nothing."""
        async with jetstream(broker.url) as js:
            await ensure(js, DECLARED)
            await js.publish("costs.v1.p.a.00", b"1")
            pull = await js.pull_subscribe_bind(DURABLE, stream=STREAM)
            await (await pull.fetch(1, timeout=10))[0].ack_sync()
            info = await standing(js)
            assert await rewind(js, info, 1) is None
