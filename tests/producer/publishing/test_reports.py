"""What a publisher says about itself: reports at their pace, and metrics where they are wanted."""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY, CollectorRegistry

from voicecosts.producer.events import MeterTotals, Quantities
from voicecosts.producer.outbox.own import OutboxState
from voicecosts.producer.publishing import prometheus as metrics
from voicecosts.producer.publishing.reports import ConnectionState, Reports, Stats

ROOT = Path(__file__).parents[3]

QUIET = Stats(
    captured=10,
    published=10,
    retried=0,
    coalesced=0,
    dropped=0,
    refused=0,
    quarantined=0,
    unattributed=0,
    unmeasured=0,
    waiting=0,
    outbox_rows=0,
    outbox_bytes=0,
    oldest_age_us=0,
    outbox=OutboxState.ON_DISK,
    connection=ConnectionState.CONNECTED,
)


class Time:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.at


def reports(time: Time) -> Reports:
    """Return the reports of one producer."""
    return Reports("producer", "tests", monotonic=time, now_us=lambda: 7)


def test_nothing_is_reported_while_nothing_is_lost() -> None:
    """A healthy producer costs the ledger no row."""
    time = Time()
    told = reports(time)
    for second in range(100):
        time.at = second
        assert told.due(QUIET, own_age_us=0, urgent=second % 2 == 0) is None


def test_a_loss_is_reported_once_with_running_totals() -> None:
    """Every report replaces the ones before; what is refused counts as dropped."""
    time = Time()
    told = reports(time)
    lossy = replace(QUIET, coalesced=3, dropped=2, refused=1, unattributed=4, outbox_rows=5)
    report = told.due(lossy, own_age_us=0, urgent=False)
    assert report is not None
    assert (report.number, report.coalesced, report.dropped, report.unattributed) == (1, 3, 3, 4)
    assert (report.outbox_rows, report.reported_at, report.captured) == (5, 7, 10)
    assert told.due(lossy, own_age_us=0, urgent=True) is None


def test_what_is_in_no_session_is_reported_in_amounts() -> None:
    """An event that was not measured is news, and so is one that no session caused."""
    told = reports(Time())
    usage = MeterTotals(
        agent_label="unattributed",
        modality="llm",
        provider="openai",
        model="gpt-4o",
        totals=Quantities(requests=2),
    )
    for number, news in enumerate(
        [
            {"unmeasured": 1},
            {"unmeasured": 1, "unattributed": 2, "unattributed_usage": (usage,)},
        ],
        1,
    ):
        report = told.due(replace(QUIET, **news), own_age_us=0, urgent=True)
        assert report is not None
        assert (report.number, report.unmeasured) == (number, 1)
        assert report.unattributed_usage == list(news.get("unattributed_usage", ()))
        assert told.due(replace(QUIET, **news), own_age_us=0, urgent=True) is None


def test_reports_keep_a_pace_unless_it_is_urgent() -> None:
    """An outage does not fill the outbox with reports of itself."""
    time = Time()
    told = reports(time)
    given = 0
    for step in range(100):
        time.at = step / 10
        given += told.due(replace(QUIET, dropped=step + 1), own_age_us=0, urgent=False) is not None
    assert given == 10
    assert told.due(replace(QUIET, dropped=1000), own_age_us=0, urgent=True) is not None


def test_a_long_wait_is_reported_about_once_a_minute() -> None:
    """The ledger hears that a worker holds old messages as soon as it hears anything."""
    time = Time()
    told = reports(time)
    old = replace(QUIET, oldest_age_us=11_000_000, outbox_rows=3, outbox_bytes=900)
    given = []
    for second in range(180):
        time.at = second
        report = told.due(old, own_age_us=11_000_000, urgent=False)
        if report is not None:
            given.append((second, report.outbox_bytes, report.oldest_age_us))
    assert given == [(second, 900, 11_000_000) for second in (0, 60, 120)]


def test_the_age_of_adopted_messages_is_not_reported() -> None:
    """Messages of a dead process have always waited for long; that says nothing of this one."""
    time = Time()
    told = reports(time)
    old = replace(QUIET, oldest_age_us=11_000_000, outbox_rows=3, outbox_bytes=900)
    assert told.due(old, own_age_us=0, urgent=True) is None


def test_without_servers_long_waits_are_not_reported() -> None:
    """There everything waits until a ledger of this host books it."""
    told = Reports(
        "producer", "tests", monotonic=Time(), now_us=lambda: 7, tells_of_long_waits=False
    )
    assert told.due(QUIET, own_age_us=3_600_000_000, urgent=True) is None
    assert told.due(replace(QUIET, dropped=1), own_age_us=0, urgent=True) is not None


class Publishing:
    """Stands for a publisher: what a scrape asks it for."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def stats(self) -> Stats:
        """Return its counts."""
        return self._stats


def test_counts_of_all_publishers_are_offered_to_prometheus() -> None:
    """A scrape sees the sums, and one that is not connected."""
    stale = replace(
        QUIET,
        connection=ConnectionState.NOT_CONNECTED,
        waiting=4,
        unmeasured=3,
        oldest_age_us=2_500_000,
        outbox_bytes=50,
    )
    both = [Publishing(QUIET), Publishing(stale)]
    registry = CollectorRegistry()
    registry.register(metrics._Collector(lambda: both))  # type: ignore[arg-type,return-value]  # by their shapes
    value = registry.get_sample_value
    assert value("voicecosts_producer_captured_total") == 20
    assert value("voicecosts_producer_unmeasured_total") == 3
    assert value("voicecosts_producer_waiting") == 4
    assert value("voicecosts_producer_outbox_bytes") == 50
    assert value("voicecosts_producer_oldest_age_seconds") == 2.5
    assert value("voicecosts_producer_connected") == 0
    assert value("voicecosts_producer_outbox_on_disk") == 1


@pytest.mark.parametrize(
    ("connection", "outbox", "connected", "on_disk"),
    [
        (ConnectionState.CONNECTED, OutboxState.UNUSED, 1, 1),
        (ConnectionState.NO_SERVER, OutboxState.ON_DISK, 1, 1),
        (ConnectionState.CONNECTED, OutboxState.IN_MEMORY, 1, 0),
        (ConnectionState.CONNECTED, OutboxState.MEMORY_ONLY, 1, 0),
    ],
)
def test_a_gauge_falls_when_something_is_wrong_and_not_before(
    connection: ConnectionState, outbox: OutboxState, connected: int, on_disk: int
) -> None:
    """A worker without a server, or that had nothing to store yet, must not raise an alarm."""
    one = Publishing(replace(QUIET, connection=connection, outbox=outbox))
    registry = CollectorRegistry()
    registry.register(metrics._Collector(lambda: [one]))  # type: ignore[arg-type,return-value]  # by its shape
    assert registry.get_sample_value("voicecosts_producer_connected") == connected
    assert registry.get_sample_value("voicecosts_producer_outbox_on_disk") == on_disk


def registered_in_a_child(debugged: Any) -> None:
    """Register in a process of its own, and send what was logged and what a scrape would see."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]  # enough of one
    metrics.logger.addHandler(handler)
    metrics.logger.setLevel(logging.DEBUG)
    metrics.register(lambda: [Publishing(QUIET)])  # type: ignore[arg-type,return-value,list-item]  # by its shape
    debugged.put((said, REGISTRY.get_sample_value("voicecosts_producer_captured_total")))


def test_in_a_job_process_it_is_said_that_nobody_scrapes_it() -> None:
    """The counts are there in a child too, but only for whoever looks in that process."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=registered_in_a_child, args=(answers,))
    child.start()
    said, captured = answers.get(timeout=60)
    child.join(60)
    assert len(said) == 1
    assert "`costs audit` shows its losses" in said[0]
    assert captured == QUIET.captured


def test_without_prometheus_nothing_is_imported_and_nothing_fails() -> None:
    """The package is not ours to require."""
    program = """
import sys
sys.modules["prometheus_client"] = None
from importlib import util
real = util.find_spec
util.find_spec = lambda name: None if name == "prometheus_client" else real(name)
from voicecosts.producer.publishing import prometheus as metrics
metrics.register(lambda: [])
assert not metrics._registered
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_a_process_with_live_sessions_reports_every_five_minutes() -> None:
    """Silence then tells the ledger that it is gone; without a session there is nothing to tell."""
    time = Time()
    told = reports(time)
    said = []
    for second in range(1000):
        time.at = second
        live = 2 if second < 700 else 0
        report = told.due(QUIET, own_age_us=0, urgent=False, live_sessions=live)
        if report is not None:
            said.append((second, report.live_sessions))
    assert said == [(300, 2), (600, 2)]
