"""Attribution is exact under OpenRTC: its real pool, shared providers, concurrent tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import openrtc_pool
from tests.support.booked import ledger, until_ended
from tests.support.broker import Broker
from tests.support.waiting import until
from voicecosts import CostObserver, connect
from voicecosts.analytics.text.costs import as_table
from voicecosts.producer.process import PROCESS


@pytest.fixture
async def books(broker: Broker, tmp_path: Path) -> AsyncIterator[Path]:
    """A ledger that books the test's broker; no publisher is left behind."""
    async with ledger(broker.url, tmp_path / "data") as data_dir:
        yield data_dir
        PROCESS.close()


async def test_concurrent_tenants_on_shared_providers_each_get_their_own(
    broker: Broker, books: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`costs query --by tenant,agent` gives each tenant its own, and absent stays absent."""
    openrtc_pool.stand_in(monkeypatch)
    driver = openrtc_pool.Driver({"AJ-1": 3, "AJ-2": 5, "AJ-3": 2}, hang_up=True)
    observer = CostObserver(project="prod", servers=broker.url)
    async with openrtc_pool.running_pool([observer, driver]) as server:
        await openrtc_pool.launch(server, 1, '{"agent": "dental", "tenant": "acme"}')
        await openrtc_pool.launch(server, 2, '{"agent": "dental", "tenant": "default"}')
        await openrtc_pool.launch(server, 3, '{"agent": "dental"}')
        report = await until_ended(books, 3, modality="llm")
    rows = {(row.group["tenant"], row.group["agent"]): row for row in report.rows}
    assert {key: row.requests for key, row in rows.items()} == {
        ("acme", "dental"): 3,
        ("default", "dental"): 5,
        (None, "dental"): 2,
    }
    assert all(row.sessions == 1 for row in rows.values())
    billed = openrtc_pool.shared_llm().billed
    assert rows["acme", "dental"].input_tokens == billed[1]["input_tokens"]
    assert rows["default", "dental"].input_tokens == billed[2]["input_tokens"]
    assert rows[None, "dental"].input_tokens == billed[3]["input_tokens"]
    assert "(none)" in as_table(report, now=report.as_of)  # type: ignore[arg-type]  # it has one
    with connect(books) as reader:
        unnamed = reader.execute(
            "SELECT count(*) FROM usage WHERE tenant IS NULL AND modality = 'llm'"
        ).fetchone()
        rooms = reader.execute("SELECT room_name, job_id FROM sessions ORDER BY 1").fetchall()
    assert unnamed == (2,)
    assert rooms == [("dental-1", "AJ-1"), ("dental-2", "AJ-2"), ("dental-3", "AJ-3")]


async def test_a_pool_that_closes_with_calls_in_flight_finalises_each_once(
    broker: Broker, books: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that are live when the pool closes have one end each, from the end hook alone."""
    openrtc_pool.stand_in(monkeypatch)
    driver = openrtc_pool.Driver({"AJ-1": 3, "AJ-2": 5}, hang_up=False)
    observer = CostObserver(project="prod", servers=broker.url)
    async with openrtc_pool.running_pool([observer, driver]) as server:
        await openrtc_pool.launch(server, 1, '{"agent": "dental", "tenant": "acme"}')
        await openrtc_pool.launch(server, 2, '{"agent": "dental", "tenant": "beta"}')
        await until(lambda: driver.talked == {"AJ-1", "AJ-2"})
    report = await until_ended(books, 2, modality="llm")
    assert {row.group["tenant"]: row.requests for row in report.rows} == {"acme": 3, "beta": 5}
    with connect(books) as reader:
        ends = reader.execute("SELECT count(*), count(DISTINCT session_id) FROM session_ends")
        assert ends.fetchone() == (2, 2)
