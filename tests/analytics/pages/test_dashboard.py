"""What `costs dashboard` shows in a real browser: at three widths, on ledgers of all kinds, and of none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Error

from tests.analytics.pages.ledgers import LEDGERS, MAKING_S, ledger_of
from tests.support.browser import WIDTHS, Reader, reader
from tests.support.dashboard import Served, dashboard
from tests.support.hostile_names import NAMES, write_hostile
from tests.support.sample_ledger import (
    ACME,
    ACME_OLD,
    AS_OF,
    SAMPLE,
    VERSION,
    Booking,
    day,
    write_ledger,
    write_snapshot,
    write_status,
)
from voicecosts import call, calls, query
from voicecosts.analytics.numbers import money
from voicecosts.analytics.text.names import in_cell

pytestmark = pytest.mark.slow

COST = ".tile:has-text('cost USD') b"


@pytest.fixture(scope="module")
def served(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard of the sample ledger."""
    with dashboard(data_dir, tmp_path_factory.mktemp("run")) as served:
        yield served


def open_all(page: Reader, served: Served) -> None:
    """Open the page, and ask for all time."""
    page.page.goto(served.address)
    page.page.get_by_label("period").select_option(label="all time")
    page.page.locator("p", has_text="as of").first.wait_for()
    page.page.wait_for_function("!document.body.innerText.includes('period: from')")


def pick(page: Reader, what: str, name: str) -> None:
    """Choose one of the tenants, or of the agents, or take the choice back."""
    page.page.get_by_text(what, exact=True).locator("xpath=following::button[1]").click()
    page.page.get_by_role("option", name=name, exact=True).click()
    page.page.keyboard.press("Escape")


def test_it_shows_what_the_commands_say(browser: Browser, served: Served, data_dir: Path) -> None:
    """Cost, days, agents, tenants, what has no price, states, and calls; what is missing in the same words."""
    with reader(browser, 800) as page:
        open_all(page, served)
        page.until(COST, "4.032000003")
        answer = query(data_dir=data_dir)
        shown = page.reads(
            "the ledger has all of it",
            "Something is missing from these numbers.",
            *(in_cell(row.group["tenant"] or "(none)") for row in answer.rows),
            *(str(each.session)[:13] for each in calls(data_dir=data_dir).calls),
            "unbilled",
        )
        for sentence in answer.warnings:
            assert re.sub(r"\d+ days", "", sentence) in re.sub(r"\d+ days", "", shown)
        assert "access_token" not in page.page.url
        assert page.page.locator(".vega-embed canvas, .vega-embed svg").count() == 1


@pytest.mark.timeout(MAKING_S)
@pytest.mark.parametrize("kind", LEDGERS)
def test_a_ledger_of_every_size_at_every_width(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, worker_id: str, kind: str
) -> None:
    """Nothing is cut, nothing is wider than the page, and the cost is that of the query."""
    directory = ledger_of(kind, tmp_path_factory, worker_id)
    total = query(data_dir=directory).total
    run_dir = tmp_path_factory.mktemp("run")
    with dashboard(directory, run_dir) as served, reader(browser, WIDTHS[0]) as page:
        open_all(page, served)
        for width in WIDTHS:
            page.resize(width)
            page.until(COST, money(total.cost or 0))
            page.reads("One call", f"\n{total.sessions:,}\n")
            if kind == "empty":
                page.reads("the ledger holds no usage yet", "no rows")
            else:
                page.until("td", str(call(data_dir=directory).call.session))


def test_what_is_chosen_is_what_is_shown(browser: Browser, served: Served, data_dir: Path) -> None:
    """A tenant, an agent, a call of the list, and a call by its name."""
    with reader(browser, 1400) as page:
        open_all(page, served)
        pick(page, "tenants", "acme")
        page.until(COST, "1.132000003")
        page.reads("One call", none_of=["2.500000"])
        pick(page, "tenants", "(none)")
        page.until(COST, "1.532000003")
        pick(page, "agents", "sales")
        page.until(COST, "0.400000")
        pick(page, "agents", "sales")
        pick(page, "tenants", "(none)")
        page.until(COST, "1.132000003")
        name = page.page.get_by_label("or another")
        name.fill(str(ACME_OLD))
        name.press("Enter")
        page.until("td", str(ACME_OLD))
        page.until("td", "0.100000001 USD")
        name.fill("nobody-knows-it")
        name.press("Enter")
        page.until("[role=alert]", "nobody-knows-it")


def test_two_in_one_browser_leave_each_other_alone(
    browser: Browser, served: Served, data_dir: Path, tmp_path: Path
) -> None:
    """What is chosen on the first is shown there when the second one was opened, and no other port is sent a cookie."""
    sent: list[str | None] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers["Cookie"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with (
        dashboard(data_dir, tmp_path / "run") as second,
        HTTPServer(("127.0.0.1", 0), Other) as other,
        reader(browser, 800) as page,
    ):
        Thread(target=other.serve_forever, daemon=True).start()
        open_all(page, served)
        page.until(COST, "4.032000003")
        beside = page.page.context.new_page()
        beside.goto(second.address)
        beside.locator("p", has_text="as of").first.wait_for()
        pick(page, "tenants", "acme")
        page.until(COST, "1.132000003")
        with suppress(Error):  # there is nothing to show
            beside.goto(f"http://127.0.0.1:{other.server_port}/")
        page.page.reload()
        page.until("p", "as of")
        other.shutdown()
        assert sent
        assert set(sent) == {None}


def test_it_looks_again_when_there_is_something_new(browser: Browser, tmp_path: Path) -> None:
    """No ledger, then one, a newer snapshot, one of a newer version, and one that is no ledger: each in words."""
    home = tmp_path / "home"
    late = Booking(occurred_at=day(21), session_id=ACME, cost="1.000000000")
    with dashboard(home, tmp_path / "run") as served, reader(browser, 800) as page:
        page.page.goto(served.address)
        page.until("[role=alert]", "no ledger at")
        page.page.get_by_label("period").select_option(label="all time")
        write_ledger(home)
        write_status(home)
        page.until(COST, "4.032000003")
        pick(page, "tenants", "acme")
        page.until(COST, "1.132000003")
        write_ledger(home, [*SAMPLE, late], number=2, as_of=AS_OF + timedelta(seconds=9))
        write_status(home, snapshot=2, as_of=AS_OF + timedelta(seconds=9))
        page.until(COST, "2.132000003")
        write_snapshot(home / "costs-3.duckdb", version=VERSION + 1)
        publish(home, "costs-3.duckdb")
        page.until("[role=alert]", "this version reads up to")
        (home / "costs-4.duckdb").write_bytes(b"no database" * 1000)
        publish(home, "costs-4.duckdb")
        page.until("[role=alert]", "costs-4.duckdb")
        publish(home, "costs-2.duckdb")
        page.until(COST, "2.132000003")


def publish(home: Path, name: str) -> None:
    """Have the link lead to another snapshot."""
    (home / "next").symlink_to(name)
    (home / "next").rename(home / "costs.duckdb")


def test_a_name_is_text(browser: Browser, tmp_path: Path) -> None:
    """Whatever somebody is called: nothing of it is run, loaded or formatted, also where one chooses."""
    directory = write_hostile(tmp_path / "home")
    with dashboard(directory, tmp_path / "run") as served, reader(browser, WIDTHS[0]) as page:
        open_all(page, served)
        for width in WIDTHS:
            page.resize(width)
            page.reads("the ledger has all of it", *map(in_cell, NAMES))
        page.page.get_by_text("tenants", exact=True).locator("xpath=following::button[1]").click()
        for name in NAMES:
            page.page.get_by_role("option", name=in_cell(name), exact=True).wait_for()
        assert page.page.title() == "voicecosts"
        assert page.page.locator("iframe, img[src*=elsewhere]").count() == 0
