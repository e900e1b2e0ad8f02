"""Questions to JetStream: a late answer, none at all, and one that is denied are three things."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from tests.support.broker import Broker
from voicecosts.consumer.broker.connection import Connection, Waits
from voicecosts.consumer.broker.requests import Api, Denied
from voicecosts.consumer.config import LedgerConfig


async def test_a_late_answer_is_asked_for_again(broker: Broker) -> None:
    """One answer that takes longer than usual is no reason to take the stream for uninspectable."""
    asked: list[bytes] = []

    async def answer_late(message: Msg) -> None:
        asked.append(message.data)
        if len(asked) > 1:
            await message.respond(json.dumps({"ok": True}).encode())

    client = await nats.connect(broker.url)
    await client.subscribe("$JS.API.TEST", cb=answer_late)  # the server has no such question
    found = await Api(client, answer_s=0.5).ask("TEST", {"a": 1})
    await client.close()
    assert found == {"ok": True}
    assert asked == [b'{"a": 1}'] * 2


async def test_no_answer_at_all_is_a_timeout(broker: Broker) -> None:
    """A server that stays silent is an outage, and never a missing right."""

    async def ignore(message: Msg) -> None:
        pass

    client = await nats.connect(broker.url)
    await client.subscribe("$JS.API.TEST", cb=ignore)
    with pytest.raises(TimeoutError):
        await Api(client, answer_s=0.05).ask("TEST")
    await client.close()


async def test_a_denied_question_is_told_at_once_with_its_subject(broker: Broker) -> None:
    """The server's error names the subject: nobody waits for an answer that cannot come."""
    broker.stop()
    broker.extra = (
        'authorization { users = [{ user: u, password: p, permissions: {publish: "x"}}] }'
    )
    broker.start()
    url = broker.url.replace("//", "//u:p@")
    link = Connection(asyncio.Event(), Waits(answer_s=30))
    await link.open(LedgerConfig(data_dir=Path("unused"), servers=(url,)))
    began = time.monotonic()
    with pytest.raises(Denied, match=r"may not publish to \$JS\.API\.STREAM\.INFO\.COSTS"):
        await link.api.ask("STREAM.INFO.COSTS")
    assert time.monotonic() - began < 30
    await link.close()


async def test_an_error_of_the_server_is_its_own(broker: Broker) -> None:
    """What is missing is not found, and that is no outage."""
    client = await nats.connect(broker.url)
    with pytest.raises(NotFoundError):
        await Api(client).ask("STREAM.INFO.COSTS")
    await client.close()
