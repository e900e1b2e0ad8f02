"""A headless Chromium that reads pages, and reports whatever they ask of another host."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS: Final = (400, 800, 1400)
HEIGHT: Final = 900
DEADLINE_MS: Final = 120_000
_LOOK_MS: Final = 50

_CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; skip where there is none."""
    if _CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        sandbox = os.geteuid() != 0  # it refuses to have one for root
        browser = playwright.chromium.launch(
            executable_path=_CHROMIUM, chromium_sandbox=sandbox, args=["--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


_TOUCHING: Final = """() => {
    const box = (cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getBoundingClientRect();
    };
    const found = [];
    for (const row of document.querySelectorAll("table tr")) {
        const cells = [...row.cells].filter((cell) => cell.innerText.trim());
        cells.slice(1).forEach((cell, at) => {
            if (box(cell).left - box(cells[at]).right < 8)
                found.push(`${cells[at].innerText}|${cell.innerText}`);
        });
    }
    return found;
}"""
"""The cells of tables whose text begins less than eight pixels after that of the cell before."""


class Reader:
    """One page. What it asks of others, and what goes wrong in it, is kept."""

    def __init__(self, browser: Browser, width: int) -> None:
        context = browser.new_context(viewport={"width": width, "height": HEIGHT})
        context.set_default_timeout(DEADLINE_MS)
        self.page: Page = context.new_page()
        self.elsewhere: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("websocket", lambda socket: self._asked(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _asked(self, url: str) -> None:
        found = urlsplit(url)
        if found.scheme not in ("data", "blob") and found.hostname != "127.0.0.1":
            self.elsewhere.append(url)

    def reads(self, *texts: str, none_of: Collection[str] = ()) -> str:
        """Wait until the page shows all of some texts, and none of others; return all that it shows.

        Its parts are drawn one after the other, so a text may be there before, or after, what belongs to it.
        """
        end = time.monotonic() + DEADLINE_MS / 1000
        while True:
            shown = self.page.inner_text("body")
            missing = [text for text in texts if text not in shown and not self._has(text)]
            left = [text for text in none_of if text in shown]
            if not missing and not left:
                return shown
            assert time.monotonic() < end, f"missing {missing}, still there {left}, in:\n{shown}"
            self.page.wait_for_timeout(_LOOK_MS)

    def _has(self, text: str) -> bool:
        """Return whether a text is in a part that is drawn apart, which `inner_text` leaves out."""
        return self.page.get_by_text(text).first.is_visible()

    def until(self, selector: str, text: str) -> None:
        """Wait until an element has a text."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def touching(self) -> list[str]:
        """Return cells of tables that stand too near to the one before."""
        found: list[str] = self.page.evaluate(_TOUCHING)
        return found

    def resize(self, width: int) -> None:
        """Check it as it is, and give it another width."""
        self.check()
        self.page.set_viewport_size({"width": width, "height": HEIGHT})

    def check(self) -> None:
        """Fail where anything was asked of another host, went wrong, or is wider than the page."""
        assert self.elsewhere == []
        assert self.errors == []
        wide, width = self.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= width


@contextlib.contextmanager
def reader(browser: Browser, width: int) -> Iterator[Reader]:
    """Open a page, and check it at the end."""
    found = Reader(browser, width)
    try:
        yield found
        found.check()
    finally:
        found.page.context.close()
