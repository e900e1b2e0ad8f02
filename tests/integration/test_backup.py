"""Backing up a ledger that runs, and restoring it: the commands of docs/operations.md, to the letter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.broker import Broker
from tests.support.oracle import booked
from tests.support.processes import ROOT, CostsProcess, costs
from tests.support.stream import jetstream, publish, settled
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts.consumer.store.backup import backups, check
from voicecosts.producer.subjects import STREAM

PAGE: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
MADE: Final = calls(61, 8)
PARTS: Final = list(batches(MADE, seed=61))


def commands(text: str) -> list[str]:
    """Return the commands of the first block of a text, without what is said of them."""
    [block] = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)[:1]
    lines = [line.removeprefix("$ ").partition("#")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line]


BACKUP: Final = commands(PAGE[PAGE.index("## Backups") :])
RESTORE: Final = commands(PAGE[PAGE.index("<!-- restore -->") :])


class Site:
    """A host with the directories that the page names, in a folder of a test."""

    def __init__(self, root: Path, broker: Broker) -> None:
        self.data_dir = root / "srv" / "costs"
        self.backups = root / "backup" / "costs"
        self.run = root / "run"
        tools = root / "bin"
        tools.mkdir()
        costs = tools / "costs"
        costs.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m voicecosts "$@"\n')
        costs.chmod(0o700)
        self.environ = {
            **{name: it for name, it in os.environ.items() if not name.startswith("COSTS_")},
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COSTS_SERVERS": broker.url,
            "COSTS_DATA_DIR": str(self.data_dir),
        }

    def here(self, line: str, name: str = "") -> str:
        """Return a line of the page with the directories of this site, and the name of a backup."""
        line = line.replace("/srv/costs", str(self.data_dir))
        line = line.replace("/backup/costs", str(self.backups))
        return re.sub(r"\d{4}-\d\d-\d\dT[\d-]+Z", name, line)

    def shell(self, lines: list[str]) -> str:
        """Run lines in one shell, and return what they print."""
        done = subprocess.run(
            ["bash"],
            input="\n".join(lines),
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ledger(self) -> CostsProcess:
        """Return the ledger as the last line of the page starts it, with quick snapshots."""
        words = self.here(RESTORE[-1]).split()
        assert words[0] == "costs"
        return CostsProcess([*words[1:], "--snapshot-interval", "0.1"], self.run, self.environ)

    def restore(self, backup: Path) -> None:
        """Do what the page says, up to the start of the ledger."""
        self.shell([self.here(line, backup.name) for line in RESTORE[:-1]])

    def figures(self) -> Any:
        """Return what is answered, without the moment of it."""
        answer = json.loads(costs(self.data_dir, "query", "--by", "session", "--format", "json"))
        return {name: answer[name] for name in ("rows", "total")}


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Site:
    """A host whose ledger reads the stream of a broker."""
    return Site(tmp_path, broker)


@pytest.mark.slow
async def test_a_ledger_is_restored_as_the_page_says(site: Site, broker: Broker) -> None:
    """On an empty host the figures are those of before; what left the stream is said, as the page does."""
    half = len(PARTS) // 2
    with site.ledger() as ledger:
        ledger.wait_ready()
        await publish(broker.url, PARTS[:half])
        await settled(broker.url)
        await until(lambda: len(booked(site.data_dir)) > 0)
        said = site.shell([site.here(line) for line in BACKUP])
        [backup] = backups(site.backups)
        assert f"backed up in {backup}" in said
        assert f"{backup.name}  whole: " in said
        [checked] = check(site.backups)
        assert checked.manifest is not None
        assert 0 < checked.manifest.sequence <= half
        await publish(broker.url, PARTS[half:])
        await until(lambda: booked(site.data_dir) == bill(MADE))
        assert ledger.stop() == 0
    before = site.figures()

    shutil.rmtree(site.data_dir)  # its disk is gone
    site.data_dir.mkdir()
    site.restore(backup)
    assert site.figures() != before
    with site.ledger() as ledger:
        ledger.wait_ready()
        await until(lambda: booked(site.data_dir) == bill(MADE))
        assert "are not in the ledger, and are read again" in ledger.log
        assert ledger.stop() == 0
    assert site.figures() == before
    shutil.rmtree(site.data_dir / "before-restore")

    kept = checked.manifest.sequence + 5
    async with jetstream(broker.url) as js:
        await js.purge_stream(STREAM, seq=kept)
    site.restore(backup)  # what was there is moved away
    with site.ledger() as ledger:
        ledger.wait_ready()
        await settled(broker.url)
        first = checked.manifest.sequence + 1
        told = (
            f"never reached this ledger: messages {first} to {kept - 1} of the stream (4 of them)"
        )
        await until(lambda: told in costs(site.data_dir, "query"))
        assert ledger.stop() == 0
    assert (site.data_dir / "before-restore" / "ledger" / "ledger.duckdb").is_file()
    assert check(site.backups) == [checked]
