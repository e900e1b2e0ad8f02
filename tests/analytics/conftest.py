"""One sample ledger for all tests that only read, and the command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.asked import write_asked
from tests.support.sample_ledger import write_ledger, write_status

ROOT = Path(__file__).parents[2]

Costs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _outbox_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question looks into the outbox of the ledger that it asks, not into that of all tests."""
    monkeypatch.delenv("COSTS_OUTBOX_DIR", raising=False)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the sample rows and a running ledger. Nobody may change it."""
    directory = write_ledger(tmp_path_factory.mktemp("ledger"))
    write_status(directory)
    return directory


@pytest.fixture(scope="session")
def empty_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose ledger runs and holds nothing."""
    directory = write_ledger(tmp_path_factory.mktemp("empty"), [])
    write_status(directory)
    return directory


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory for questions of every kind, with all of its single rows. Nobody may change it."""
    return write_asked(tmp_path_factory.mktemp("asked"))


@pytest.fixture
def costs(tmp_path: Path) -> Costs:
    """Run `costs` in a process of its own, with none of this machine's settings."""

    def run(*arguments: str, code: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        program = f"{code}\nfrom voicecosts.analytics.commands.app import main; main()"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            **variables,
        }
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=env,
            cwd=tmp_path,
            timeout=60,
        )

    return run
