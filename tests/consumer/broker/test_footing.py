"""What the ledger stands on: gaps are noted, what is there is read again, one ledger reads."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace
from nats.js.errors import NotFoundError

from tests.support.books import MemoryBooks
from tests.support.broker import Broker
from tests.support.stream import jetstream
from voicecosts.consumer.booking.progress import Gap, Mark, Progress, Why
from voicecosts.consumer.broker.claim import KEY
from voicecosts.consumer.broker.connection import Group, Waits
from voicecosts.consumer.broker.feed import Feed
from voicecosts.consumer.broker.footing import PATIENCE, REMOVED_AFTER_S
from voicecosts.consumer.broker.requests import Api
from voicecosts.consumer.broker.room import find_cut
from voicecosts.consumer.broker.stream import ACK_WAIT_S, DURABLE, stream_info
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import LedgerBehind, StreamClaimed
from voicecosts.producer import settings
from voicecosts.producer.subjects import STREAM

SUBJECT: Final = "costs.v1.p.a.00"
QUICK: Final = Waits(group_s=0.05, answer_s=1.0, renew_s=0.3)
MAY_NOT_REWIND: Final = """
authorization { users = [
  { user: all, password: all }
  { user: ledger, password: ledger, permissions: {
      publish: ["$JS.API.CONSUMER.MSG.NEXT.COSTS.ledger", "$JS.ACK.COSTS.ledger.>",
                "$JS.API.STREAM.INFO.COSTS", "$JS.API.CONSUMER.INFO.COSTS.ledger" %s]
      subscribe: ["_INBOX_c.>"] } }
] }
"""


def config_of(broker: Broker, name: str = "d", *, user: str = "") -> LedgerConfig:
    """What the ledger in a folder of that name is told."""
    url = broker.url.replace("//", f"//{user}@") if user else broker.url
    return LedgerConfig(data_dir=Path(name), servers=(url,), stream_max_bytes=2**20)


@asynccontextmanager
async def reading(
    config: LedgerConfig, books: MemoryBooks, *, waits: Waits = QUICK, take_over: bool = False
) -> AsyncIterator[Feed]:
    """A feed for the time of a block; killed ones give nothing up, so `close` is the test's."""
    feed = Feed(
        config, books, asyncio.Event(), waits=waits, jitter=lambda: 0.0, take_over=take_over
    )
    try:
        await feed.open(deadline_s=10)
        yield feed
    finally:
        await feed.close()


async def book(feed: Feed, books: MemoryBooks) -> Group:
    """Take a group, book it and acknowledge it, as the ledger's loop does."""
    group = await feed.next_group()
    newest = Mark.newest((message.sequence, message.stored_us) for message in group.messages)
    books.book((message.sequence for message in group.messages), newest)
    await feed.acknowledge(group)
    return group


async def booked_to(feed: Feed, books: MemoryBooks, floor: int) -> list[bytes]:
    """Book until everything up to `floor` is booked or noted; return what came."""
    came: list[bytes] = []
    async with asyncio.timeout(30):
        while books.progress.floor < floor:
            came += [message.data for message in (await book(feed, books)).messages]
    return came


async def filled(broker: Broker, *numbers: int) -> None:
    """Publish a message for each number."""
    async with jetstream(broker.url) as js:
        for number in numbers:
            await js.publish(SUBJECT, b"%d" % number)


class TestGaps:
    async def test_what_left_the_stream_before_it_was_booked_is_a_gap(self, broker: Broker) -> None:
        """Messages that were purged or expired while the ledger was away are named for ever."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1)
            await booked_to(feed, books, 1)
        await filled(broker, *range(2, 13))
        async with jetstream(broker.url) as js:
            await js.purge_stream(STREAM, seq=10)
        async with reading(config_of(broker), books) as feed:
            assert await booked_to(feed, books, 12) == [b"10", b"11", b"12"]
        [gap] = books.gaps
        assert (gap.first, gap.last, gap.why) == (2, 9, Why.LEFT_THE_STREAM)
        assert str(gap) == "messages 2 to 9 (8 of them)"

    async def test_what_left_while_it_reads_is_a_gap_as_well(self, broker: Broker) -> None:
        """A ledger that is slow notices while it runs, also when nothing new comes."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1)
            await booked_to(feed, books, 1)
            async with jetstream(broker.url) as js:
                await js.publish("costs.v1.other.a.00", b"2")
                await js.publish(SUBJECT, b"3")
                await js.purge_stream(STREAM, subject="costs.v1.other.>")
            assert b"2" not in await booked_to(feed, books, 3)
            assert [(gap.first, gap.last) for gap in books.gaps] == [(2, 2)]
            await filled(broker, 4)
            async with jetstream(broker.url) as js:
                await js.purge_stream(STREAM)
            await booked_to(feed, books, 4)

    async def test_what_is_booked_may_leave_the_stream(self, broker: Broker) -> None:
        """Only what is above the floor counts: expiry and trimming are no gap."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1, 2, 3)
            await booked_to(feed, books, 3)
        async with jetstream(broker.url) as js:
            await js.purge_stream(STREAM)
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 4)
            await booked_to(feed, books, 4)
        assert books.gaps == []

    async def test_a_stream_made_anew_is_read_from_its_start(self, broker: Broker) -> None:
        """Its numbers mean other messages: what the old one still had is a gap of a stream that is gone."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1, 2)
            await booked_to(feed, books, 2)
        books.progress = replace(books.progress, last=5)  # three more were waiting
        async with jetstream(broker.url) as js:
            await js.delete_stream(STREAM)
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 11, 12, 13)
            assert await booked_to(feed, books, 3) == [b"11", b"12", b"13"]
        assert [(gap.first, gap.last) for gap in books.gaps] == [(3, 5), (6, None)]
        assert {gap.why for gap in books.gaps} == {Why.STREAM_GONE}

    async def test_a_stream_that_is_gone_is_made_again_when_its_files_are_gone(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server that still removes them would damage the new one; to stop, nobody waits for that."""
        books, stop, moments = MemoryBooks(), asyncio.Event(), [0.0]
        feed = Feed(config_of(broker), books, stop, waits=QUICK, clock=lambda: moments[0])
        await feed.open()
        async with jetstream(broker.url) as js:
            first = await stream_info(Api(js._nc))
            await js.delete_stream(STREAM)
            while "is gone, and is made again" not in caplog.text:
                await feed.next_group()
            for now in (REMOVED_AFTER_S / 2, REMOVED_AFTER_S * 0.99):
                moments[0] = now
                await feed.next_group()
                with pytest.raises(NotFoundError):
                    await stream_info(Api(js._nc))
            moments[0] = REMOVED_AFTER_S
            await feed.next_group()
            assert (await stream_info(Api(js._nc))).created_us > first.created_us
        await feed.close()

    async def test_waiting_is_not_zero_while_something_is_missing(self, broker: Broker) -> None:
        """Nobody is told that nothing waits while a message below the newest has not come."""
        books = MemoryBooks()
        waits = replace(QUICK, renew_s=60)
        async with reading(config_of(broker), books, waits=waits) as feed:
            await filled(broker, 1, 2)
            async with jetstream(broker.url) as js:
                other = await js.pull_subscribe_bind(DURABLE, stream=STREAM)
                await (await other.fetch(1, timeout=5))[0].ack_sync()
            group = await feed.next_group()
        assert [message.data for message in group.messages] == [b"2"]
        assert (group.waiting, group.asked_at) == (None, None)


class TestLostByTheServer:
    @pytest.mark.parametrize("new", [1, 6])
    async def test_an_end_that_was_lost_and_grew_again_is_booked_and_never_trimmed(
        self, broker: Broker, new: int
    ) -> None:
        """The server lost messages that were booked, and others have their numbers: they count."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1, 2)
            await booked_to(feed, books, 2)
        broker.stop()
        shutil.copytree(broker.directory / "store", broker.directory / "before")
        broker.start()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 3, 4, 5)
            await booked_to(feed, books, 5)
        broker.stop()
        shutil.rmtree(broker.directory / "store")
        shutil.copytree(broker.directory / "before", broker.directory / "store")
        broker.start()
        await filled(broker, *range(10, 10 + new))
        async with jetstream(broker.url) as js:
            ask = Api(js._nc)
            assert await find_cut(ask, await stream_info(ask), books.kept, keep_s=0) is None
        async with reading(config_of(broker), books) as feed:
            came = await booked_to(feed, books, 2 + new)
            assert set(came) >= {b"%d" % number for number in range(10, 10 + new)}
        assert books.gaps == []
        async with jetstream(broker.url) as js:
            ask = Api(js._nc)
            cut = await find_cut(ask, await stream_info(ask), books.kept, keep_s=0)
        assert cut is not None
        assert cut.upto == 2 + new

    @pytest.mark.parametrize("user", ["all:all", "ledger:ledger"])
    async def test_a_message_that_the_server_cannot_read_is_a_gap_in_the_end(
        self, broker: Broker, caplog: pytest.LogCaptureFixture, user: str
    ) -> None:
        """Also where nobody may ask for it: what is behind it is read a few times, not for ever."""
        books = MemoryBooks()
        async with reading(config_of(broker), books):
            await filled(broker, 1, 2, 3, 4)
        broker.stop()
        [block] = (broker.directory / "store").rglob("*.blk")
        stored = bytearray(block.read_bytes())
        stored[len(stored) * 5 // 8] ^= 0x5A  # in the third of four
        block.write_bytes(stored)
        broker.extra = MAY_NOT_REWIND % ', "$JS.API.CONSUMER.RESET.COSTS.ledger"'
        broker.start()
        async with reading(config_of(broker, user=user), books) as feed:
            came = await booked_to(feed, books, 4)
            async with asyncio.timeout(20):
                while (await book(feed, books)).asked_at is None:
                    pass
        assert set(came) == {b"1", b"2", b"4"}
        assert [(gap.first, gap.last, gap.why) for gap in books.gaps] == [(3, 3, Why.UNREADABLE)]
        assert caplog.text.count("message 3 never reached this ledger (unreadable)") == 1


class TestReadingAgain:
    async def test_a_ledger_behind_the_consumer_gets_the_rest(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A restored backup is filled from the message after its last one."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1, 2, 3, 4)
            await booked_to(feed, books, 4)
        backup = MemoryBooks()
        backup.progress = replace(books.progress, floor=2)
        async with reading(config_of(broker), backup) as feed:
            assert await booked_to(feed, backup, 4) == [b"3", b"4"]
        assert "messages 3 to 4 of the stream are not in the ledger" in caplog.text

    async def test_what_another_reader_took_is_read_again_while_it_runs(
        self, broker: Broker
    ) -> None:
        """A reader that claims nothing shows by the hole that it leaves, and the hole is filled."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1, 2, 3)
            async with jetstream(broker.url) as js:
                other = await js.pull_subscribe_bind(DURABLE, stream=STREAM)
                await (await other.fetch(1, timeout=5))[0].ack_sync()
            await booked_to(feed, books, 3)
        assert books.gaps == []

    async def test_a_hole_in_the_books_is_filled_after_a_restart(self, broker: Broker) -> None:
        """What was booked above a hole does not hide it: the floor counts, not the highest number."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed:
            await filled(broker, 1, 2, 3)
            await booked_to(feed, books, 3)
        books.progress = replace(books.progress, floor=0, above=((2, 3),))
        async with reading(config_of(broker), books) as feed:
            assert b"1" in await booked_to(feed, books, 3)

    async def test_without_the_right_to_rewind_it_refuses_and_says_what_to_do(
        self, broker: Broker
    ) -> None:
        """A restored backup that cannot read on is no ledger: what it says helps when it is done."""
        await _restart(broker, MAY_NOT_REWIND % "")
        async with jetstream(config_of(broker, user="all:all").servers[0]) as js:
            books = MemoryBooks()
            async with reading(config_of(broker, user="all:all"), books) as feed:
                for number in range(1, 5):
                    await js.publish(SUBJECT, b"%d" % number)
                await booked_to(feed, books, 4)
        backup = MemoryBooks()
        backup.progress = replace(books.progress, floor=1)
        with pytest.raises(LedgerBehind) as caught:
            async with reading(config_of(broker, user="ledger:ledger"), backup):
                pass
        said = str(caught.value)
        assert "messages 2 to 4" in said
        subject = said.partition("may not publish to ")[2].partition(". Allow it")[0]
        await _restart(broker, MAY_NOT_REWIND % f', "{subject}"')
        async with reading(config_of(broker, user="ledger:ledger"), backup) as feed:
            assert await booked_to(feed, backup, 4) == [b"2", b"3", b"4"]

    async def test_or_the_consumer_is_deleted_as_it_says(self, broker: Broker) -> None:
        """The other half of the sentence helps as well."""
        await _restart(broker, MAY_NOT_REWIND % ', "$JS.API.CONSUMER.DURABLE.CREATE.COSTS.ledger"')
        async with jetstream(config_of(broker, user="all:all").servers[0]) as js:
            books = MemoryBooks()
            async with reading(config_of(broker, user="all:all"), books) as feed:
                for number in range(1, 5):
                    await js.publish(SUBJECT, b"%d" % number)
                await booked_to(feed, books, 4)
            backup = MemoryBooks()
            backup.progress = replace(books.progress, floor=1)
            with pytest.raises(LedgerBehind, match="or delete the consumer ledger of stream COSTS"):
                async with reading(config_of(broker, user="ledger:ledger"), backup):
                    pass
            await js.delete_consumer(STREAM, DURABLE)
        async with reading(config_of(broker, user="ledger:ledger"), backup) as feed:
            await booked_to(feed, backup, 4)

    async def test_a_hole_that_cannot_be_asked_about_is_refused_in_the_end(
        self, broker: Broker
    ) -> None:
        """Credentials that may only pull read on; a message that does not come in time is named."""
        extra = MAY_NOT_REWIND
        for right in ("$JS.API.STREAM.INFO.COSTS", "$JS.API.CONSUMER.INFO.COSTS.ledger"):
            extra = extra.replace(f'"{right}"', '"none"')
        await _restart(broker, extra % "")
        url = config_of(broker, user="all:all").servers[0]
        everything = MemoryBooks()
        async with reading(config_of(broker, user="all:all"), everything) as feed:
            async with jetstream(url) as js:
                for number in range(1, 4):
                    await js.publish(SUBJECT, b"%d" % number)
            await booked_to(feed, everything, 3)
        async with jetstream(url) as js:
            await js.publish(SUBJECT, b"4")
        now = [0.0]
        backup = MemoryBooks(1)
        user = config_of(broker, user="ledger:ledger")
        feed = Feed(user, backup, asyncio.Event(), waits=QUICK, clock=lambda: now[0])
        await feed.open(deadline_s=10)
        async with asyncio.timeout(20):
            while backup.progress.highest < 4:
                await book(feed, backup)
        await book(feed, backup)
        now[0] += PATIENCE * ACK_WAIT_S
        with pytest.raises(LedgerBehind, match="messages 2 to 3") as caught:
            await book(feed, backup)
        await feed.close()
        assert "Allow this ledger to publish to $JS.API.STREAM.INFO.COSTS and" in str(caught.value)


class TestClaim:
    async def test_a_second_ledger_is_refused_and_takes_no_message(self, broker: Broker) -> None:
        """The refusal names the other ledger, since when it reads, and what to do."""
        first, second = MemoryBooks(ledger_id="one"), MemoryBooks(ledger_id="two")
        async with reading(config_of(broker, "first"), first) as feed:
            with pytest.raises(StreamClaimed) as caught:
                async with reading(config_of(broker, "second"), second):
                    pass
            await filled(broker, 1, 2, 3)
            await booked_to(feed, first, 3)
        assert "the ledger one in first on host" in str(caught.value)
        assert "costs consume --take-over" in str(caught.value)
        assert caught.value.since is not None

    async def test_a_copy_of_a_ledger_in_another_place_is_refused(self, broker: Broker) -> None:
        """A backup that is restored elsewhere while the ledger runs has its id, and is not it."""
        async with reading(config_of(broker, "first"), MemoryBooks()):
            with pytest.raises(StreamClaimed, match="a copy of this ledger in first"):
                async with reading(config_of(broker, "second"), MemoryBooks()):
                    pass

    async def test_a_clone_of_the_host_is_refused(
        self, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has the same name, folder and number of the folder, but was started by itself."""
        async with reading(config_of(broker), MemoryBooks()):
            (tmp_path / "boot").write_text("another")
            monkeypatch.setattr(settings, "_BOOT_ID", tmp_path / "boot")
            with pytest.raises(StreamClaimed):
                async with reading(config_of(broker), MemoryBooks()):
                    pass

    async def test_it_takes_over_on_purpose_and_the_first_one_ends(self, broker: Broker) -> None:
        """The first ledger notices at its next group, books nothing of it, and says by whom."""
        first, second = MemoryBooks(ledger_id="one"), MemoryBooks(ledger_id="two")
        async with reading(config_of(broker, "first"), first) as feed:
            await filled(broker, 1, 2)
            await booked_to(feed, first, 2)
            async with reading(config_of(broker, "second"), second, take_over=True) as other:
                await filled(broker, 3)
                with pytest.raises(StreamClaimed, match="was taken over by the ledger two"):
                    await booked_to(feed, first, 3)
                async with jetstream(broker.url) as js:
                    last = (await js.stream_info(STREAM)).state.last_seq
                await booked_to(other, second, last)
        assert (first.progress.highest, second.gaps) == (2, [])

    async def test_a_claim_that_was_given_up_is_free(self, broker: Broker) -> None:
        """A ledger that ended in order keeps nobody out."""
        async with reading(config_of(broker, "first"), MemoryBooks(ledger_id="one")):
            pass
        async with reading(config_of(broker, "second"), MemoryBooks(ledger_id="two")):
            pass

    async def test_a_dead_ledger_is_followed_at_once_in_its_place_and_elsewhere_after_a_while(
        self, broker: Broker
    ) -> None:
        """One data directory has one ledger; elsewhere the claim must have run out first."""
        dead = Feed(config_of(broker, "first"), MemoryBooks(), asyncio.Event(), waits=QUICK)
        await dead.open(deadline_s=10)
        await dead._close_link()  # as a kill: the claim stays
        async with reading(config_of(broker, "first"), MemoryBooks()) as again:
            await again._close_link()
        async with asyncio.timeout(20):
            while True:
                try:
                    async with reading(config_of(broker, "second"), MemoryBooks(ledger_id="two")):
                        return
                except StreamClaimed as error:
                    await asyncio.sleep(error.free_in_s or 0)

    async def test_a_claim_is_renewed_and_leaves_other_metadata_alone(self, broker: Broker) -> None:
        """The durable's metadata is the operator's; one key of it is ours."""
        async with jetstream(broker.url) as js:
            async with reading(config_of(broker), MemoryBooks()):
                pass
            found = (await js.consumer_info(STREAM, DURABLE)).config
            metadata = {**(found.metadata or {}), "team": "voice"}
            await js.add_consumer(STREAM, found.evolve(metadata=metadata))
            async with reading(config_of(broker), MemoryBooks()) as feed:
                first = await _claim(js)
                async with asyncio.timeout(20):
                    while (await _claim(js))["renewed"] == first["renewed"]:
                        await feed.next_group()
            assert (await js.consumer_info(STREAM, DURABLE)).config.metadata["team"] == "voice"
            assert (await _claim(js))["released"]

    async def test_credentials_that_may_not_claim_read_on_and_say_so(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without the right to write metadata nobody is kept out, but a claim of others counts."""
        await _restart(broker, MAY_NOT_REWIND % "")
        url = config_of(broker, user="all:all").servers[0]
        async with reading(config_of(broker, user="all:all"), MemoryBooks()), jetstream(url) as js:
            with pytest.raises(StreamClaimed):
                async with reading(config_of(broker, "e", user="ledger:ledger"), MemoryBooks()):
                    pass
            await js.publish(SUBJECT, b"1")
        books = MemoryBooks()
        async with reading(config_of(broker, "e", user="ledger:ledger"), books) as feed:
            assert await booked_to(feed, books, 1) == [b"1"]
        assert "a second ledger on the stream would not be refused" in caplog.text


class TestRoom:
    async def test_booked_messages_make_room(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nearly full, the stream loses what is booked and published, and takes new messages."""
        books = MemoryBooks()
        waits = replace(QUICK, renew_s=0.05)
        async with (
            reading(config_of(broker), books, waits=waits) as feed,
            jetstream(broker.url) as js,
        ):
            for _ in range(30):
                for _ in range(5):
                    await js.publish(SUBJECT, b"x" * 20_000)
                last = (await js.stream_info(STREAM)).state.last_seq
                await booked_to(feed, books, last)
                async with asyncio.timeout(20):
                    before = len(books.rooms)
                    while len(books.rooms) == before:
                        await book(feed, books)
            state = (await js.stream_info(STREAM)).state
        assert state.last_seq == 150
        assert state.bytes >= 0.3 * 2**20  # half of the bound stays for a restored ledger
        assert max(room.percent for room in books.rooms) < 100
        assert books.trims
        assert books.gaps == []
        assert "removed" in caplog.text

    async def test_what_is_not_published_stays(self, broker: Broker) -> None:
        """A message goes only when a snapshot on disk holds it, and then its number is exact."""
        books = MemoryBooks()
        async with reading(config_of(broker), books) as feed, jetstream(broker.url) as js:
            for _ in range(45):
                await js.publish(SUBJECT, b"x" * 20_000)
            async with asyncio.timeout(20):
                while books.progress.floor < 45:
                    group = await feed.next_group()
                    books.progress = books.progress.booked(m.sequence for m in group.messages)
                    await feed.acknowledge(group)
                before = len(books.rooms)
                while len(books.rooms) < before + 2:
                    await feed.next_group()
            assert (await js.stream_info(STREAM)).state.first_seq == 1
            books.kept = replace(books.progress, floor=7)
            async with asyncio.timeout(20):
                while not books.trims:
                    await feed.next_group()
            assert (await js.stream_info(STREAM)).state.first_seq == 8

    async def test_without_the_right_to_it_says_what_to_do_from_seventy_percent_on(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A stream that fills is told of before it is full, with the subject that is missing."""
        rights = ', "$JS.API.CONSUMER.DURABLE.CREATE.COSTS.ledger"'
        await _restart(broker, MAY_NOT_REWIND % rights)
        url = config_of(broker, user="all:all").servers[0]
        async with reading(config_of(broker, user="all:all"), MemoryBooks()), jetstream(url) as js:
            for _ in range(38):
                await js.publish(SUBJECT, b"x" * 20_000)
        caplog.clear()
        caplog.set_level(logging.WARNING)
        async with reading(config_of(broker, user="ledger:ledger"), MemoryBooks()):
            pass
        assert "the stream COSTS is 72 % full, and cannot be trimmed" in caplog.text
        assert "may not publish to $JS.API.STREAM.MSG.GET.COSTS" in caplog.text


async def _claim(js: object) -> dict[str, object]:
    info = await js.consumer_info(STREAM, DURABLE)  # type: ignore[attr-defined]  # of JetStream
    found: dict[str, object] = json.loads(info.config.metadata[KEY])
    return found


async def _restart(broker: Broker, extra: str) -> None:
    broker.stop()
    broker.extra = extra
    broker.start()


def test_a_gap_of_one_message_and_one_without_an_end_are_said() -> None:
    """The sentence names numbers, how many they are, or that nobody knows."""
    one = Gap(stream_us=1, first=3, last=3, why=Why.LEFT_THE_STREAM)
    assert str(one) == "message 3"
    rest = Gap(stream_us=1, first=4, last=None, why=Why.STREAM_GONE)
    assert str(rest) == "whatever came after message 3 of the stream that is gone"
    assert Progress(floor=3).unbooked(3) == ()
