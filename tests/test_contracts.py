"""The import contracts of `pyproject.toml`: each of them fails on the import that it forbids."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("producer", "consumer", "analytics")
CONTRACTS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"][
    "importlinter"
]["contracts"]

MOST_FLOORS: Final = {"producer": 8, "consumer": 8, "analytics": 5}

PLANTED: Final = {
    "No imports in a circle": ("consumer/store/layout.py", "voicecosts.consumer.store.ledger"),
    "Floors of the house": ("consumer/errors.py", "voicecosts.analytics.errors"),
    "Floors of the producer": ("producer/outbox/row.py", "voicecosts.producer.observer"),
    "Floors of the consumer": ("consumer/a_new_room.py", "json"),
    "Floors of the own prices": (
        "consumer/pricing/own/units.py",
        "voicecosts.consumer.pricing.own.entries",
    ),
    "Floors of the analytics": ("analytics/question/times.py", "voicecosts.analytics.text.grid"),
    "Of the producer, others know the contract and the settings": (
        "consumer/consume.py",
        "voicecosts.producer.outbox.file",
    ),
    "Of the consumer, the commands alone know": (
        "analytics/answers/report.py",
        "voicecosts.consumer.errors",
    ),
    "livekit": ("producer/publishing/buffer.py", "livekit.agents"),
    "nats": ("producer/publishing/publisher.py", "nats"),
    "duckdb": ("analytics/text/costs.py", "duckdb"),
    "sqlite3": ("consumer/local.py", "sqlite3"),
    "voice_prices": ("consumer/pricing/units.py", "voice_prices"),
    "typer": ("analytics/errors.py", "typer"),
    "rich": ("analytics/commands/query.py", "rich.table"),
    "openrtc": ("producer/pool/routing.py", "openrtc"),
    "Pure rooms and the voice loop do no I/O": ("producer/capture/tap.py", "socket"),
    "Pure rooms have no event loop": ("consumer/pricing/rating.py", "asyncio"),
    "The outbox has no network and no event loop": ("producer/outbox/bound.py", "asyncio"),
}
"""Contract → a file, and the module that it must not import."""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Contract → KEPT or BROKEN, in a copy of the tree that holds every planted import."""
    copy = tmp_path_factory.mktemp("planted")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copytree(ROOT / "voicecosts", copy / "voicecosts", symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file, module in PLANTED.values():
        with (copy / file).open("a", encoding="utf-8") as source:
            source.write(f"\n\ndef _planted() -> None:\n    import {module}\n")
    ran = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return dict(re.findall(r"^(.+?) (KEPT|BROKEN)", ran.stdout, flags=re.MULTILINE))


@pytest.mark.parametrize("contract", [contract["name"] for contract in CONTRACTS])
def test_a_contract_fails_on_the_import_that_it_forbids(
    contract: str, verdicts: dict[str, str]
) -> None:
    """A contract that nothing can break would protect nothing."""
    assert contract in PLANTED, "plant an import that breaks it"
    assert verdicts[contract] == "BROKEN"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_few_floors(package: str) -> None:
    """Imports only go down, so the number of floors bounds how deep they go."""
    (floors,) = (
        contract["layers"]
        for contract in CONTRACTS
        if contract.get("containers") == [f"voicecosts.{package}"]
    )
    assert len(floors) <= MOST_FLOORS[package]
