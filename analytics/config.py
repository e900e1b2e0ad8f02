"""Where the ledger is. The only place of this package that reads the environment.

`COSTS_DATA_DIR` names the data directory; without it the platform's user data folder is meant.
`COSTS_DEBUG=1` makes the command show where an unexpected error came from.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping


class Config(Struct, frozen=True, kw_only=True):
    """What this package takes from its surroundings."""

    data_dir: Path
    debug: bool = False


def default_data_dir(environ: Mapping[str, str], platform: str) -> Path:
    """Return the user's own data folder for this project, whether or not it exists."""
    if platform == "darwin":
        return Path("~/Library/Application Support/voicecosts").expanduser()
    # The XDG specification says that a relative path there is to be ignored.
    root = Path(environ.get("XDG_DATA_HOME", ""))
    if not root.is_absolute():
        root = Path("~/.local/share").expanduser()
    return root / "voicecosts"


def from_env(environ: Mapping[str, str] | None = None, *, platform: str = sys.platform) -> Config:
    """Return the configuration that the environment asks for; an empty variable is an unset one."""
    env = os.environ if environ is None else environ
    named = env.get("COSTS_DATA_DIR", "")
    return Config(
        data_dir=Path(named).expanduser() if named else default_data_dir(env, platform),
        debug=env.get("COSTS_DEBUG", "") not in ("", "0"),
    )
