"""What the notebooks show in a real browser, as `marimo run` serves them: at three widths, and on any ledger."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.analytics.conftest import ROOT
from tests.analytics.pages.ledgers import MAKING_S, ledger_of
from tests.support.browser import WIDTHS, Reader, reader
from tests.support.hostile_names import NAMES, write_hostile
from tests.support.waiting import wait_until
from voicecosts import query

pytestmark = pytest.mark.slow

LAST: dict[str, str] = {
    "first_look": "A query of your own",
    "one_call": "Every reading",
    "choosing_a_model": "What another would have cost",
}
"""The heading of the last part of each."""


@contextlib.contextmanager
def served(name: str, data_dir: Path, home: Path) -> Iterator[str]:
    """Run a notebook as an app of its own; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    notebook = ROOT / "analytics" / "notebooks" / f"{name}.py"
    command = [
        *(sys.executable, "-m", "marimo", "-q", "run", str(notebook), "--headless", "--no-token"),
        *("--host", "127.0.0.1", "--port", str(port), "--", "--data-dir", str(data_dir)),
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=env, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: answers(port))
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.kill()


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def whole(page: Reader, name: str, address: str) -> str:
    """Open a notebook; return what it shows when all of its cells have run."""
    page.page.goto(address)
    page.page.get_by_role("heading", name=LAST[name]).wait_for()
    page.page.wait_for_function(
        "!document.querySelector('[data-status=running], [data-status=queued]')"
    )
    return page.page.inner_text("body")


@pytest.mark.parametrize(
    "size", [("empty", [400]), ("small", [*WIDTHS]), ("large", [800])], ids=lambda size: size[0]
)
@pytest.mark.timeout(MAKING_S)
@pytest.mark.parametrize("name", LAST)
def test_a_notebook_at_every_width(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
    name: str,
    size: tuple[str, list[int]],
) -> None:
    """Its figures are on the page, which is no wider than the screen; an empty ledger is no error."""
    kind, widths = size
    directory = ledger_of(kind, tmp_path_factory, worker_id)
    home = tmp_path_factory.mktemp("home")
    with served(name, directory, home) as address, reader(browser, widths[0]) as page:
        looks_right(page, name, address, kind, directory)
        for width in widths[1:]:
            page.resize(width)
            page.reads(LAST[name])


def looks_right(page: Reader, name: str, address: str, kind: str, directory: Path) -> None:
    """Look for the figures of a notebook, and for errors."""
    if kind == "empty" and name == "one_call":
        page.page.goto(address)
        page.reads("no call")
        return
    shown = whole(page, name, address)
    assert "Traceback" not in shown
    assert page.touching() == []
    if kind == "empty":
        page.reads("the ledger holds no usage yet")
    elif name == "first_look":
        page.reads(f"{query(data_dir=directory).total.cost:f} USD")
    else:
        page.reads("llama" if kind == "small" else "gpt-4.1-mini")


@pytest.mark.parametrize("name", LAST)
def test_a_name_is_text_in_a_notebook(browser: Browser, tmp_path: Path, name: str) -> None:
    """Whatever somebody is called: nothing of it is run, loaded or made a link."""
    directory = write_hostile(tmp_path / "home")
    with served(name, directory, tmp_path) as address, reader(browser, 1400) as page:
        whole(page, name, address)
        if name == "first_look":
            page.reads(*(each[:20] for each in NAMES if each.isprintable()))
        assert page.page.locator("iframe, img[src*=elsewhere], a[href*=elsewhere]").count() == 0
        assert "owned" not in page.page.title()
