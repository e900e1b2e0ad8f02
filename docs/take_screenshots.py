"""Take the pictures of the dashboard that the pages show: `python docs/take_screenshots.py DIR`.

DIR is the data directory of any ledger, and its name may be in the pictures; those in the repository are of one that
`benchmarks/large_ledgers.py` made in /srv/costs. It needs Chromium, and writes `docs/images/`, each file below `MOST` bytes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.browser import Reader, chromium
from tests.support.dashboard import dashboard

IMAGES: Final = Path(__file__).parent / "images"
WIDTHS: Final = {"dashboard": 1100, "dashboard-narrow": 400}
MOST: Final = 150_000


def main(data_dir: Path) -> None:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        dashboard(None, Path(folder), COSTS_DATA_DIR=str(data_dir)) as served,  # it names no folder
        chromium() as browser,
    ):
        for name, width in WIDTHS.items():
            reader = Reader(browser, width)
            reader.page.goto(served.address)
            reader.until("td", "the ledger has all of it")
            reader.page.locator(".vega-embed canvas, .vega-embed svg").first.wait_for()
            take(reader, name)
            if width == max(WIDTHS.values()):
                reader.page.get_by_role("heading", name="One call").scroll_into_view_if_needed()
                reader.page.mouse.wheel(0, 600)
                take(reader, "dashboard-call")
            reader.page.context.close()


def take(reader: Reader, name: str) -> None:
    """Take what is in sight."""
    path = IMAGES / f"{name}.png"
    reader.page.screenshot(path=path)
    if path.stat().st_size > MOST:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes: take it smaller")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
