"""Tests of where the ledger is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicecosts.analytics.config import from_env

HOME = Path.home()


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"COSTS_DATA_DIR": "/srv/costs"}, "linux", Path("/srv/costs")),
        ({"COSTS_DATA_DIR": "~/costs"}, "linux", HOME / "costs"),
        ({"COSTS_DATA_DIR": ""}, "linux", HOME / ".local/share/voicecosts"),
        ({}, "linux", HOME / ".local/share/voicecosts"),
        ({"XDG_DATA_HOME": "/data"}, "linux", Path("/data/voicecosts")),
        ({"XDG_DATA_HOME": "data"}, "linux", HOME / ".local/share/voicecosts"),
        ({}, "darwin", HOME / "Library/Application Support/voicecosts"),
    ],
)
def test_the_data_directory(environ: dict[str, str], platform: str, expected: Path) -> None:
    """The variable wins, then the platform's folder; a relative XDG path is ignored."""
    assert from_env(environ, platform=platform).data_dir == expected


def test_debug_is_off_unless_asked_for() -> None:
    """Empty and 0 mean no."""
    assert not from_env({}).debug
    assert not from_env({"COSTS_DEBUG": "0"}).debug
    assert from_env({"COSTS_DEBUG": "1"}).debug
