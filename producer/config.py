"""How an observer is configured: explicit arguments first, then the environment, read here only."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.producer.errors import ConfigError
from voicecosts.producer.names import MAX_NAME

_USERINFO = re.compile(r"^((?:[a-z]+://)?).*@")
_SEED = re.compile(r"SU[A-Z2-7]{56}")
_CREDS: Final = ("-----BEGIN NATS USER JWT-----", "-----BEGIN USER NKEY SEED-----")
_SCHEMES: Final = ("nats://", "tls://", "ws://", "wss://")

OUTBOX_MAX_BYTES: Final = 256 * 2**20
"""What the outboxes of one host may hold together, if nothing else is said."""

LOCAL_LEDGER: Final = "the ledger of this host"
"""Where messages go when there is no server."""

_LEAST_OUTBOX_BYTES: Final = 2**20


class BufferLimits(Struct, frozen=True, kw_only=True):
    """How much a process holds in memory for events that are not acknowledged yet, in events.

    Up to `detail` events are kept one by one; beyond that the newest reading of each meter replaces
    the older one, for up to `meters` meters. Totals stay exact.
    """

    detail: int = 20_000
    meters: int = 20_000


class ProducerConfig(Struct, frozen=True, kw_only=True):
    """Where and how a process publishes.

    Without `servers` nothing is published: the outbox is the log, and a ledger of this host books
    what is in it. `credentials` is the path of a NATS `.creds` file or of a file with an nkey seed.
    `linger_s` is how long events wait for company in a batch; `flush_timeout_s` is how long the end
    of a session may wait for the acknowledgement of its last events. `outbox_dir` is the folder in
    which the processes of a host keep what is not acknowledged, together at most `outbox_max_bytes`
    bytes of messages; without a folder it is kept in memory only, and lost with the process. What
    dead processes left there is published too, if it was meant for the same servers, or in any case
    with `adopts_all`.
    """

    project: str
    servers: tuple[str, ...]
    credentials: str | None = None
    linger_s: float = 0.1
    flush_timeout_s: float = 2.0
    limits: BufferLimits = BufferLimits()
    outbox_dir: Path | None = None
    outbox_max_bytes: int = OUTBOX_MAX_BYTES
    adopts_all: bool = False

    @property
    def is_embedded(self) -> bool:
        """Whether a ledger of this host reads the outbox itself, with no server in between."""
        return not self.servers

    @property
    def target(self) -> str:
        """Where messages go, in words and without secrets."""
        return ", ".join(map(mask, self.servers)) or LOCAL_LEDGER

    def __repr__(self) -> str:
        return f"ProducerConfig(project={self.project!r}, servers=({self.target}))"


def mask(server: str) -> str:
    """Return a server URL without its user, password or token."""
    return _USERINFO.sub(r"\1***@", server)


def resolve(
    *,
    project: str | None,
    servers: str | Sequence[str] | None,
    credentials: str | os.PathLike[str] | None,
    outbox_dir: str | os.PathLike[str] | None = None,
    outbox_max_bytes: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> ProducerConfig:
    """Return the configuration from arguments, completed by `COSTS_*` variables.

    Without any server the configuration is that of embedded mode.

    Raises:
        ConfigError: With all problems at once.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    project = (project if project is not None else environ.get("COSTS_PROJECT", "")).strip()
    if not project:
        problems.append("no project: pass project='…' or set COSTS_PROJECT")
    elif len(project) > MAX_NAME:
        problems.append(
            f"the project has {len(project)} characters; at most {MAX_NAME} are carried"
        )
    urls = _urls(servers if servers is not None else environ.get("COSTS_SERVERS", ""))
    problems += [
        f"{mask(url)!r} is no NATS address: write nats://host:port"
        for url in urls
        if not url.startswith(_SCHEMES)
    ]
    path = str(credentials or environ.get("COSTS_CREDENTIALS") or "") or None
    if path is not None and (problem := _credentials_problem(path)):
        problems.append(problem)
    if path is not None and not urls:
        problems.append(
            f"the credentials {path!r} are for no server: pass servers='nats://host:4222' or set "
            "COSTS_SERVERS (or leave the credentials out, to keep everything on this host)"
        )
    folder = Path(outbox_dir).expanduser() if outbox_dir else outbox_folder(environ)
    max_bytes = _max_bytes(outbox_max_bytes, environ.get("COSTS_OUTBOX_MAX_BYTES", ""), problems)
    if problems:
        raise ConfigError(problems)
    return ProducerConfig(
        project=project,
        servers=urls,
        credentials=path,
        outbox_dir=folder.absolute(),
        outbox_max_bytes=max_bytes,
    )


def outbox_folder(
    environ: Mapping[str, str],
    *,
    data_dir: Path | None = None,
    platform: str = sys.platform,
) -> Path:
    """Return the folder of the outboxes, whether or not it exists.

    `COSTS_OUTBOX_DIR`, or else `outbox` in the data directory: `data_dir`, `COSTS_DATA_DIR`, or the
    user's own data folder. So a worker and a ledger that name the same data directory meet.
    """
    if named := environ.get("COSTS_OUTBOX_DIR", "").strip():
        return Path(named).expanduser()
    if data_dir is None and (home := environ.get("COSTS_DATA_DIR", "").strip()):
        data_dir = Path(home).expanduser()
    return (data_dir or _user_data(environ, platform)) / "outbox"


def _user_data(environ: Mapping[str, str], platform: str) -> Path:
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "voicecosts"
    share = Path(environ.get("XDG_DATA_HOME", ""))
    # The XDG rules say to ignore a path that is not absolute.
    base = share if share.is_absolute() else Path.home() / ".local" / "share"
    return base / "voicecosts"


def is_seed(text: str) -> bool:
    """Whether the text of a credentials file is an nkey seed of a user."""
    return _SEED.fullmatch(text.strip()) is not None


def is_creds(text: str) -> bool:
    """Whether the text of a credentials file is that of a NATS `.creds` file."""
    return all(marker in text for marker in _CREDS)


def _credentials_problem(path: str) -> str | None:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"the credentials file {path!r} cannot be read ({error.strerror})"
    if is_seed(text) or is_creds(text):
        return None
    return f"{path!r} is neither a NATS .creds file nor an nkey seed of a user (SU…)"


def _max_bytes(given: int | None, text: str, problems: list[str]) -> int:
    if given is None and not text.strip():
        return OUTBOX_MAX_BYTES
    try:
        value = int(text) if given is None else given
    except ValueError:
        problems.append(f"COSTS_OUTBOX_MAX_BYTES is {text!r}: give a whole number of bytes")
        return OUTBOX_MAX_BYTES
    if value < _LEAST_OUTBOX_BYTES:
        problems.append(f"the outbox may hold {value} bytes: give at least one mebibyte")
    return value


def with_limits(config: ProducerConfig, limits: BufferLimits | None) -> ProducerConfig:
    """Return `config` with other buffer limits."""
    return config if limits is None else replace(config, limits=limits)


def _urls(servers: str | Sequence[str]) -> tuple[str, ...]:
    parts = servers.split(",") if isinstance(servers, str) else servers
    return tuple(part.strip() for part in parts if part.strip())
