"""No test of this folder may leave anything in the user's own outbox."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def outbox_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An outbox of this test alone, for the observers that it makes and their processes."""
    folder = tmp_path / "outbox"
    monkeypatch.setenv("COSTS_OUTBOX_DIR", str(folder))
    return folder
