"""What every fault test needs."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """Return the folder of the outboxes of one host."""
    return tmp_path / "outbox"
