"""Where the ledger is. The only place of this package that reads the environment.

`COSTS_DATA_DIR` names the data directory; without it the platform's user data folder is meant.
`COSTS_DEBUG=1` makes the command show where an unexpected error came from. Workers and the ledger
find the data directory by the same rule, so it is imported from the settings they share: with a
copy here, a query could look into another folder than the ledger writes to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from voicecosts.producer import settings


class Config(Struct, frozen=True, kw_only=True):
    """What this package takes from the environment."""

    data_dir: Path
    debug: bool = False


def from_env(environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that the environment asks for; an empty variable is an unset one.

    Raises:
        NoHomeDirectory: See `settings.data_dir`.
    """
    return Config(data_dir=settings.data_dir(environ), debug=is_debug(environ))


def names_servers(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names the servers of a stream."""
    return bool(environ.get(settings.SERVERS, "").strip())


def is_debug(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the command shows where an unexpected error came from."""
    return environ.get(settings.DEBUG, "") not in ("", "0")
