"""Where the ledger is. The only place of this package that reads the environment.

Workers, the ledger and the commands find the data directory and the servers by the same rules, so
they are imported from the settings that all of them share: with a copy here, a query could look
into another folder than the ledger writes to.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from voicecosts.producer import settings


def data_dir(given: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the data directory that was given, or else that of the environment.

    Raises:
        NoHomeDirectory: See `settings.data_dir`.
    """
    return settings.data_dir(environ, given)


def names_servers(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says where the servers of a stream are, rightly or not."""
    return any(settings.named_servers(None, environ))


def is_debug(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the command shows where an unexpected error came from: `COSTS_DEBUG` is neither blank nor 0."""
    return settings.said(environ, settings.DEBUG) not in ("", "0")


def wants_colours(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the user of a terminal that may have colours wants them (no-color.org)."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def has_screen(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a terminal can be painted on: one that is dumb, or of which nothing is known, cannot."""
    return environ.get("TERM", "dumb") not in ("", "dumb")


def boot_id() -> str:
    """Return which start of this host it is; empty where the system does not say."""
    return settings.boot_id()


@contextlib.contextmanager
def without_settings(environ: MutableMapping[str, str] = os.environ) -> Iterator[list[str]]:
    """Take all settings but where the data is out of the environment for a while; yield their names."""
    kept = (settings.DATA_DIR, settings.DEBUG)
    found = {
        name: value
        for name, value in environ.items()
        if name.startswith(settings.PREFIX) and name not in kept
    }
    for name in found:
        del environ[name]
    try:
        yield sorted(name for name, value in found.items() if value.strip())
    finally:
        environ.update(found)
