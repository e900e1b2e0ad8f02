"""The stream COSTS and its consumer: created when missing, compared when there, never bent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from nats.js import JetStreamContext, api
from nats.js.errors import APIError

from tests.support.broker import Broker
from tests.support.stream import jetstream
from voicecosts.consumer.broker import stream
from voicecosts.consumer.broker.connection import Connection, Waits, failure
from voicecosts.consumer.broker.requests import Api
from voicecosts.consumer.broker.stream import Declaration, Standing, ensure
from voicecosts.consumer.config import LedgerConfig
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


async def ensured(js: JetStreamContext, declared: Declaration = DECLARED) -> Standing:
    """Declare stream and consumer, and return how they stand."""
    return await ensure(Api(js._nc), declared)


class TestEnsure:
    async def test_it_creates_what_is_missing(self, broker: Broker) -> None:
        """The first ledger of a fresh broker finds a stream with limits and a durable consumer."""
        async with jetstream(broker.url) as js:
            info = (await ensured(js)).consumer
            assert info is not None
            config = (await js.stream_info(STREAM)).config
        assert (info.config.ack_policy, info.config.max_deliver) == ("explicit", -1)
        assert (config.discard, config.storage, config.subjects) == ("new", "file", ["costs.v1.>"])
        assert (config.max_age, config.duplicate_window) == (14 * 86400, 600)
        assert (config.deny_delete, config.allow_direct) == (True, True)
        assert (config.max_msg_size or 0) in range(512_000, 2**20)

    async def test_it_leaves_what_agrees_alone(self, broker: Broker) -> None:
        """A restart changes nothing, and says where the consumer stands."""
        async with jetstream(broker.url) as js:
            await ensured(js)
            before = await js.stream_info(STREAM)
            for number in range(3):
                await js.publish("costs.v1.p.a.00", b"%d" % number)
            info = (await ensured(js)).consumer
            assert info is not None
            after = await js.stream_info(STREAM)
        assert info.num_pending == 3
        assert (after.config, after.created) == (before.config, before.created)

    async def test_an_operators_own_additions_are_no_drift(self, broker: Broker) -> None:
        """Only what the ledger declares is compared: a description or metadata is free."""
        async with jetstream(broker.url) as js:
            wanted = stream.stream_config(DECLARED)
            await js.add_stream(wanted.evolve(description="ours", metadata={"team": "voice"}))
            assert (await ensured(js)).consumer is not None

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
                await ensured(js)
            assert (await js.stream_info(STREAM)).config == before.config
        assert field in str(caught.value)
        assert len(caught.value.differences) == 1

    async def test_all_differences_are_named_with_both_values(self, broker: Broker) -> None:
        """One run of the ledger is enough to see everything that must be corrected."""
        async with jetstream(broker.url) as js:
            await js.add_stream(stream.stream_config(DECLARED).evolve(max_age=3600.0))
            other = Declaration(replicas=3, max_bytes=64 * 2**20)
            with pytest.raises(StreamDrift) as caught:
                await ensured(js, other)
        text = str(caught.value)
        assert len(caught.value.differences) == 2
        assert "num_replicas=1 and should have 3, or run with --replicas 1" in text
        assert "max_age=3600.0 and should have 1209600.0" in text

    async def test_a_consumer_that_gives_up_is_refused(self, broker: Broker) -> None:
        """With a delivery limit the broker would skip a message for good after some failures."""
        async with jetstream(broker.url) as js:
            await js.add_stream(stream.stream_config(DECLARED))
            await js.add_consumer(STREAM, stream.consumer_config().evolve(max_deliver=3))
            with pytest.raises(StreamDrift, match=r"consumer ledger has max_deliver=3 .* -1"):
                await ensured(js)

    async def test_another_client_that_was_faster_with_another_declaration_is_drift(
        self, broker: Broker
    ) -> None:
        """Two ledgers that start together with different limits do not overwrite each other."""

        class Slow(Api):
            async def ask(self, method: str, request: dict[str, Any] | None = None) -> Any:
                if method.startswith("STREAM.CREATE"):
                    await faster.add_stream(stream.stream_config(DECLARED).evolve(max_age=3600.0))
                return await super().ask(method, request)

        async with jetstream(broker.url) as faster:
            with pytest.raises(StreamDrift, match=r"max_age=3600\.0"):
                await ensure(Slow(faster._nc), DECLARED)

    async def test_credentials_that_may_only_pull_are_enough(self, broker: Broker) -> None:
        """Where a bootstrap role owns the stream, the ledger takes it as it is."""
        broker.extra = PULL_ONLY
        broker.stop()
        broker.start()
        where = broker.url.removeprefix("nats://")
        async with jetstream(f"nats://all:all@{where}") as js:
            await ensured(js)
        link = Connection(asyncio.Event(), Waits())
        servers = (f"nats://ledger:ledger@{where}",)
        await link.open(LedgerConfig(data_dir=Path("unused"), servers=servers))
        standing = await ensure(link.api, DECLARED)
        await link.close()
        assert (standing.stream, standing.consumer) == (None, None)
        assert standing.denied == (
            "$JS.API.STREAM.INFO.COSTS",
            "$JS.API.CONSUMER.INFO.COSTS.ledger",
        )

    async def test_more_room_is_no_drift(self, broker: Broker) -> None:
        """An operator made the stream larger: it is used as it is, and its size is said."""
        larger = DECLARED.max_bytes * 2
        async with jetstream(broker.url) as js:
            await js.add_stream(stream.stream_config(DECLARED).evolve(max_bytes=larger))
            standing = await ensured(js)
            assert (await js.stream_info(STREAM)).config.max_bytes == larger
        assert standing.remarks == (
            f"the stream may grow up to {larger} bytes, and {DECLARED.max_bytes} were asked for",
        )

    async def test_a_larger_setting_is_applied_and_a_smaller_one_is_not(
        self, broker: Broker
    ) -> None:
        """Room is given by itself, and never taken away."""
        async with jetstream(broker.url) as js:
            await ensured(js)
            larger = replace(DECLARED, max_bytes=DECLARED.max_bytes * 2)
            assert "may now grow" in (await ensured(js, larger)).remarks[0]
            assert (await js.stream_info(STREAM)).config.max_bytes == larger.max_bytes
            await ensured(js)
            assert (await js.stream_info(STREAM)).config.max_bytes == larger.max_bytes

    async def test_a_server_without_room_for_a_larger_stream_goes_on_with_it(
        self, tmp_path: Path
    ) -> None:
        """What cannot be made larger is said, and used."""
        store = json.dumps(str(tmp_path / "store"))
        extra = f"jetstream {{ store_dir: {store}, max_file_store: 100MB }}"
        with Broker(tmp_path, extra=extra) as small:
            async with jetstream(small.url) as js:
                await ensured(js)
                standing = await ensured(js, replace(DECLARED, max_bytes=2**30))
        assert "could not be made larger: insufficient storage" in standing.remarks[0]
        assert standing.consumer is not None

    @pytest.mark.parametrize("kept", list(api.StoreCompression))
    async def test_compression_is_left_to_the_operator(
        self, broker: Broker, kept: api.StoreCompression
    ) -> None:
        """We ask for none; earlier versions asked for s2, and their streams go on as they are."""
        async with jetstream(broker.url) as js:
            await js.add_stream(stream.stream_config(DECLARED).evolve(compression=kept))
            await ensured(js)
            found = (await js.stream_info(STREAM)).config.compression
            assert (found or "none") == kept.value
            await js.delete_stream(STREAM)
            await ensured(js)
            assert (await js.stream_info(STREAM)).config.compression in {None, "none"}


@pytest.mark.parametrize("code", [10023, 10028, 10047])
def test_a_server_without_room_for_the_stream_is_told_with_the_cure(
    tmp_path: Path, code: int
) -> None:
    """An account may allow less than the default of the ledger: the option is named."""
    config = LedgerConfig(data_dir=tmp_path, servers=("nats://h:1",), stream_max_bytes=2**30)
    error = APIError(
        code=503, err_code=code, description="insufficient storage resources available"
    )
    said = str(failure(config, error, ""))
    assert "no room for a stream of 1073741824 bytes" in said
    assert "--stream-max-bytes" in said
