"""What one ledger needs to know, as one value, and the only place that reads the environment.

An explicit argument wins over its variable, a variable over the default. Every problem is reported
at once, so that a wrong set-up is corrected in one go. The `repr` never shows a password or token:
configurations end up in logs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from voicecosts.consumer.errors import InvalidConfig

SERVERS: Final = "COSTS_SERVERS"
CREDENTIALS: Final = "COSTS_CREDENTIALS"
DATA_DIR: Final = "COSTS_DATA_DIR"

DEFAULT_PORT: Final = 4222
DEFAULT_SNAPSHOT_INTERVAL_S: Final = 5.0
DEFAULT_STREAM_MAX_BYTES: Final = 4 * 2**30
"""Two weeks of about 15 events a second, packed; the broker reserves this much of its disk."""

_SCHEMES = ("nats", "tls", "ws", "wss")
_USERINFO = re.compile(r"(?<=://)[^/,\s]+(?=@)")


class LedgerConfig(Struct, frozen=True, kw_only=True):
    """One ledger: which broker it reads, where it keeps its books, how the stream is declared.

    `servers` is empty only until `costs up` has started its own broker. `stream_max_bytes` and
    `replicas` are part of the stream's declaration: another value on the server is drift.
    """

    data_dir: Path
    servers: tuple[str, ...] = ()
    credentials: Path | None = None
    snapshot_interval_s: float = DEFAULT_SNAPSHOT_INTERVAL_S
    replicas: int = 1
    stream_max_bytes: int = DEFAULT_STREAM_MAX_BYTES

    def __repr__(self) -> str:
        return (
            f"LedgerConfig(data_dir={str(self.data_dir)!r}, servers={mask(', '.join(self.servers))!r}, "
            f"credentials={str(self.credentials) if self.credentials else None!r}, "
            f"snapshot_interval_s={self.snapshot_interval_s}, replicas={self.replicas}, "
            f"stream_max_bytes={self.stream_max_bytes})"
        )


def from_env(
    *,
    servers: str | None = None,
    credentials: Path | None = None,
    data_dir: Path | None = None,
    snapshot_interval_s: float | None = None,
    replicas: int | None = None,
    stream_max_bytes: int | None = None,
    own_broker: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> LedgerConfig:
    """Return the configuration from arguments, then the environment, then defaults.

    `servers` is a comma-separated list. With `own_broker` the servers and credentials of the
    environment are left alone: `costs up` starts the broker it talks to.

    Raises:
        InvalidConfig: With everything that is wrong.
    """
    problems: list[str] = []
    urls: tuple[str, ...] = ()
    secret: Path | None = None
    if not own_broker:
        urls = _servers(servers or environ.get(SERVERS, ""), problems)
        secret = credentials or _path(environ.get(CREDENTIALS, ""))
        if secret is not None:
            _check_credentials(secret, problems)
    interval_s = DEFAULT_SNAPSHOT_INTERVAL_S if snapshot_interval_s is None else snapshot_interval_s
    copies = 1 if replicas is None else replicas
    max_bytes = DEFAULT_STREAM_MAX_BYTES if stream_max_bytes is None else stream_max_bytes
    if not interval_s > 0:
        problems.append(f"the snapshot interval is {interval_s} s: give a number above zero")
    if copies not in (1, 3, 5):
        problems.append(f"replicas is {copies}: JetStream keeps 1, 3 or 5 copies")
    if max_bytes < 2**20:
        problems.append(f"the stream's limit is {max_bytes} bytes: give at least one mebibyte")
    folder = data_dir or _path(environ.get(DATA_DIR, "")) or default_data_dir(environ)
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        problems.append(f"the data directory {folder} is a file: name a folder")
    if problems:
        raise InvalidConfig(problems)
    return LedgerConfig(
        data_dir=folder,
        servers=urls,
        credentials=secret,
        snapshot_interval_s=interval_s,
        replicas=copies,
        stream_max_bytes=max_bytes,
    )


def default_data_dir(environ: Mapping[str, str], *, platform: str = sys.platform) -> Path:
    """Return the platform's folder for user data, with `voicecosts` in it."""
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "voicecosts"
    share = environ.get("XDG_DATA_HOME", "")
    # The XDG rules say to ignore a path that is not absolute.
    base = Path(share) if Path(share).is_absolute() else Path.home() / ".local" / "share"
    return base / "voicecosts"


def mask(text: str) -> str:
    """Return `text` with the user, password or token of every URL in it replaced by `***`."""
    return _USERINFO.sub("***", text)


def credentials_kind(text: str) -> Literal["creds", "seed"] | None:
    """Tell a NATS .creds file from an nkey seed by its contents; `None` for anything else."""
    if "-----BEGIN NATS USER JWT-----" in text and "-----BEGIN USER NKEY SEED-----" in text:
        return "creds"
    return "seed" if re.fullmatch(r"SU[A-Z2-7]{56}", text.strip()) else None


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text.strip() else None


def _servers(text: str, problems: list[str]) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        problems.append(
            f"no NATS server is named: give --servers nats://host:{DEFAULT_PORT} or set {SERVERS}"
        )
    urls = tuple(part if "://" in part else f"nats://{part}" for part in parts)
    usable = [url for url in urls if _is_server(url, problems)]
    if len({urlsplit(url).scheme.startswith("ws") for url in usable}) > 1:
        problems.append("the servers mix websocket and plain NATS addresses: use one kind")
    return urls


def _is_server(url: str, problems: list[str]) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        usable = False
    if not usable:
        problems.append(f"{mask(url)!r} is no NATS address: write nats://host:{DEFAULT_PORT}")
    return usable


def _check_credentials(path: Path, problems: list[str]) -> None:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        problems.append(f"the credentials file {path} cannot be read ({reason}): check the path")
        return
    if credentials_kind(text) is None:
        problems.append(
            f"{path} holds neither NATS credentials nor an nkey seed: "
            "give a .creds file, or a file with one seed that starts with SU"
        )
