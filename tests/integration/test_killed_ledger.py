"""A ledger that was killed is known by its lock, long before its silence says so."""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.events import ended, final, message, reading, started
from tests.support.oracle import rate
from voicecosts import query
from voicecosts.analytics.answers.report import Completeness, Source
from voicecosts.consumer.store import files
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.heartbeat import RunBy
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.settings import boot_id

RUN_BY = RunBy("consume", ("nats://bus:4222",))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger of a stream that has booked a call and knows that nothing waits."""
    monkeypatch.delenv("COSTS_OUTBOX_DIR", raising=False)
    clock = Clock(ticks=itertools.count(0.0, 10.0).__next__)
    running = Ledger.open(tmp_path, rate, clock=clock, has_source=True, run_by=RUN_BY)
    running.apply(
        [message(1, started(), reading(1, input_tokens=1), ended(2, final(input_tokens=1)))]
    )
    running.heard(datetime.now(UTC), 0)
    running.publish_snapshot()
    running.heartbeat(0)  # ten seconds later, by its clock
    return running


def kill(ledger: Ledger) -> None:
    """Let go of everything as a process does that is killed: nothing is written any more."""
    ledger._connection.close()
    ledger._lock.release()


def asked(data_dir: Path, *, seconds_after: float) -> tuple[Completeness, list[str]]:
    """Return what an answer claims so long after the last heartbeat, and what it says of the ledger."""
    at = time.time() - seconds_after
    os.utime(data_dir / "ledger.json", (at, at))
    missing = query(data_dir=data_dir).completeness
    return missing, [it.text for it in missing.findings if it.source is Source.LEDGER]


def test_a_killed_ledger_is_not_said_to_run(tmp_path: Path, ledger: Ledger) -> None:
    """Messages may wait in the stream, so the last answer of the broker must not be repeated."""
    kill(ledger)
    missing, said = asked(tmp_path, seconds_after=0)  # at once, on its own host
    assert (missing.whole, missing.running) == (None, False)
    assert Source.STREAM not in [it.source for it in missing.findings]
    [text] = said
    assert text.startswith("the ledger was ended and books nothing new")
    assert f"`costs consume --servers nats://bus:4222 --data-dir {tmp_path}`" in text


def test_a_ledger_that_holds_its_lock_runs(tmp_path: Path, ledger: Ledger) -> None:
    """A large snapshot may keep it from its heartbeat for some seconds."""
    missing, said = asked(tmp_path, seconds_after=6)
    kill(ledger)
    assert (missing.whole, missing.running, said) == (True, True, [])


def test_a_lock_that_this_host_does_not_see_is_no_death(tmp_path: Path, ledger: Ledger) -> None:
    """Through a network or a virtual machine a held lock may look free: a fresh heartbeat counts more."""
    kill(ledger)
    beat = tmp_path / "ledger.json"
    beat.write_text(beat.read_text().replace(boot_id(), "another-host"))
    missing, said = asked(tmp_path, seconds_after=0)
    assert (missing.whole, missing.running, said) == (True, True, [])
    assert asked(tmp_path, seconds_after=6)[0].running is False


def test_without_the_right_to_look_only_silence_tells(tmp_path: Path, ledger: Ledger) -> None:
    """What cannot be asked is not claimed."""
    kill(ledger)
    (tmp_path / "ledger" / "lock").rename(tmp_path / "ledger" / "gone")
    assert asked(tmp_path, seconds_after=6)[1] == []
    [text] = asked(tmp_path, seconds_after=61)[1]
    assert text.startswith("the ledger has not reported for")


def test_looking_at_the_lock_keeps_no_ledger_from_starting(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks holds it for a moment; a ledger that starts in that moment waits for it."""
    kill(ledger)
    reader = os.open(tmp_path / "ledger" / "lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        if not waits:
            os.close(reader)
        waits.append(seconds)

    # In this file alone: other threads of the process sleep as well.
    monkeypatch.setattr(files, "time", SimpleNamespace(sleep=wait))
    with Ledger.open(tmp_path, rate, has_source=True, run_by=RUN_BY) as again:
        assert again.snapshot > 0
    assert len(waits) == 1
