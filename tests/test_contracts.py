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

from tests.support.imports import PACKAGES, ROOT, reached_from, within

CONTRACTS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"][
    "importlinter"
]["contracts"]

DEEPEST: Final = {"producer": 8, "consumer": 7, "analytics": 5}
"""Package → how many rooms the longest way down through it may lead through."""

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
    "Of the consumer's own prices, others know the book": (
        "consumer/store/price_file.py",
        "voicecosts.consumer.pricing.own.matching",
    ),
    "The outbox is for the publisher and the commands": (
        "producer/pool/routing.py",
        "voicecosts.producer.outbox.file",
    ),
    "The way to a server is for publisher and broker": (
        "producer/capture/tap.py",
        "voicecosts.producer.transport",
    ),
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


@pytest.mark.parametrize(("package", "rooms"), DEEPEST.items())
def test_imports_are_not_deep(package: str, rooms: int) -> None:
    """The longest way down through the rooms of a package, and the files beside them, has a bound."""
    imports = within(package)
    assert max(reached_from(imports, start) for start in imports) <= rooms
