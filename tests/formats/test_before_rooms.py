"""Files that the code wrote before it moved into rooms: today's code opens them and goes on.

`before-rooms.tar.xz` holds a data directory of a single host: a ledger with six calls and its
snapshot; the outbox of a worker that was killed, with three calls in its write-ahead log; the outbox
of a dead worker of nats://127.0.0.1:4222, with two calls; a quarantine with one message.
`expected.json` beside it is what `costs query` of that time answered.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.oracle import booked
from tests.support.processes import costs
from tests.support.traffic import bill, calls
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.events import Event, MeterReading, SessionEnded, SessionStarted
from voicecosts.producer.publishing.publisher import Publisher

ARCHIVE: Final = Path(__file__).with_name("before-rooms.tar.xz")
GROUPS: Final = ("--by", "session,agent_label,modality,model", "--format", "json")
SERVER: Final = "nats://127.0.0.1:4222"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The data directory, as it was left."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "data"


def expected(home: Path, answer: str) -> Any:
    """Return an answer of the code of that time."""
    return json.loads((home.parent / "expected.json").read_text())[answer]


def asked(home: Path) -> dict[str, Any]:
    """Return rows and total of `costs query`, in the columns that it had then."""
    answer = json.loads(costs(home, "query", *GROUPS))
    then = expected(home, "booked")
    rows = [{name: row[name] for name in then["rows"][0]} for row in answer["rows"]]
    return {"rows": rows, "total": {name: answer["total"][name] for name in then["total"]}}


def waiting(home: Path) -> list[tuple[str, int, int]]:
    """Return destination, messages and events of each outbox, as `costs outbox status` lists them."""
    status = json.loads(costs(home, "outbox", "status", "--json"))
    assert status["quarantine"]["messages"] == status["quarantine"]["events"] == 1
    assert status["quarantine"]["reasons"] == ["maximum payload exceeded"]
    assert status["damaged"] == []
    assert all(outbox["problem"] is None and not outbox["held"] for outbox in status["outboxes"])
    return [
        (outbox["target"], outbox["messages"], outbox["events"]) for outbox in status["outboxes"]
    ]


def test_the_ledger_answers_as_it_did(home: Path) -> None:
    """Without what waits, every amount of every group is the one of that time."""
    shutil.rmtree(home / "outbox")
    assert asked(home) == expected(home, "booked")


def test_what_waited_is_listed_and_booked(home: Path) -> None:
    """The killed worker's calls are booked into the old ledger; the server's and the quarantine stay."""
    server = (SERVER, 2, 28)
    assert waiting(home) == [server, ("the ledger of this host", 3, 42)]
    assert asked(home) == expected(home, "with_what_waited")
    assert waiting(home) == [server]


@pytest.mark.slow
async def test_what_waited_for_a_server_is_published(home: Path, broker: Broker) -> None:
    """Both calls reach the stream whole, from their start to their end, and leave the outbox."""
    await stream.declare(broker.url)
    asked(home)  # books what is the ledger's
    drained = costs(home, "outbox", "drain", "--servers", broker.url, "--all")
    assert drained.startswith("published 28 events")
    assert waiting(home) == []
    found: dict[str, list[Event]] = {}
    for event in await stream.events(broker.url):
        if isinstance(event, SessionStarted | MeterReading | SessionEnded):
            found.setdefault(event.session_id, []).append(event)
    assert len(found) == 2
    for started, *readings, ended in found.values():
        assert isinstance(started, SessionStarted)
        assert isinstance(ended, SessionEnded)
        last = {it.model: it.totals for it in readings if isinstance(it, MeterReading)}
        assert last == {meter.model: meter.totals for meter in ended.meters}
        assert len(readings) == ended.readings == 12


def test_the_ledger_goes_on(home: Path) -> None:
    """A further call, of a worker of today, is booked exactly, and what was there stays as it was."""
    (call,) = calls(2026, 1)
    publisher = Publisher(ProducerConfig(project="test", servers=(), outbox_dir=home / "outbox"))
    for event in call.events:
        publisher.put(event)
    publisher.close(20)
    rows = asked(home)["rows"]
    before = expected(home, "with_what_waited")["rows"]
    assert [row for row in rows if row in before] == before
    assert len(rows) - len(before) == len(bill([call]))
    assert bill([call]).items() <= booked(home).items()
