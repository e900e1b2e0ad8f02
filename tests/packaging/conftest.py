"""The distributions of this checkout, built by its own build backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Build = Callable[..., Path]
"""Builds the distributions that the options name; returns the wheel."""


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """What builds distributions, each time into a folder of its own."""

    def run(*options: str) -> Path:
        folder = tmp_path_factory.mktemp("dist")
        command = [sys.executable, "-m", "build", "--no-isolation", *options]
        command += ["--outdir", str(folder), str(ROOT)]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (wheel,) = folder.glob("*.whl")
        return wheel

    return run
