"""How a worker is configured: an argument wins over its variable, a variable over the default.

The only place of this package that reads the environment. All problems are reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.producer import settings
from voicecosts.producer.errors import ConfigError, shown
from voicecosts.producer.names import MAX_NAME
from voicecosts.producer.providers import normalise_provider
from voicecosts.producer.tls import Tls, resolve_tls

OUTBOX_MAX_BYTES: Final = 256 * 2**20
"""What the outboxes of one host may hold together by default, in bytes."""

LOCAL_LEDGER: Final = "the ledger of this host"
"""Where messages go when there is no server."""

CONNECTIONS: Final = ("auto", "on", "off")
"""Whether connected time is counted: where it has a known price, everywhere, or not at all."""

_LEAST_OUTBOX_BYTES: Final = 2**20


class BufferLimits(Struct, frozen=True, kw_only=True):
    """How many events a process holds in memory before they are packed into messages.

    Up to `detail` events are kept one by one; beyond that the newest reading of each meter replaces
    the older one, for up to `meters` meters. Totals stay exact.
    """

    detail: int = 20_000
    meters: int = 20_000


class ProducerConfig(Struct, frozen=True, kw_only=True):
    """Where and how a process publishes.

    Without `servers` nothing is published: the outbox is the log, and a ledger of this host books
    what is in it. `credentials` is the path of a NATS `.creds` file or of a file with an nkey seed.
    `tls` is whom to trust, and a client certificate.
    `linger_s` is how long events are collected before they are packed; `flush_timeout_s` is how long
    the end of a session may wait for the acknowledgement of its last events. `outbox_dir` is the
    folder in which the processes of a host keep what is not acknowledged, together at most
    `outbox_max_bytes` bytes of messages; without a folder it is kept in memory only, and lost with
    the process. What processes that have ended left there for the same servers is published too;
    with `adopts_all`, also what they left for others.
    `connections` is one of `CONNECTIONS`, `carrier` who carries telephone calls whose attributes do
    not tell, and `livekit_url` where LiveKit is, for jobs that do not say so.
    """

    project: str
    servers: tuple[str, ...]
    credentials: str | None = None
    tls: Tls = Tls()
    linger_s: float = 0.1
    flush_timeout_s: float = 2.0
    limits: BufferLimits = BufferLimits()
    outbox_dir: Path | None = None
    outbox_max_bytes: int = OUTBOX_MAX_BYTES
    adopts_all: bool = False
    connections: str = "auto"
    carrier: str = ""
    livekit_url: str = ""

    @property
    def is_embedded(self) -> bool:
        """Whether a ledger of this host reads the outbox itself, with no server in between."""
        return not self.servers

    @property
    def destination(self) -> str:
        """Where messages go, in words and without secrets."""
        return ", ".join(map(settings.mask, self.servers)) or LOCAL_LEDGER

    def __repr__(self) -> str:
        return f"ProducerConfig(project={self.project!r}, servers=({self.destination}))"


def resolve(
    *,
    project: str | None,
    servers: str | Sequence[str] | None,
    credentials: str | os.PathLike[str] | None,
    tls: Tls | None = None,
    outbox_dir: str | os.PathLike[str] | None = None,
    outbox_max_bytes: int | None = None,
    limits: BufferLimits | None = None,
    connections: str | None = None,
    carrier: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ProducerConfig:
    """Return the configuration from arguments, then the environment, then defaults.

    Without any server the worker is embedded: see `ProducerConfig`. `servers` as `parse_servers`.

    Raises:
        ConfigError: With all problems at once.
    """
    problems: list[str] = []
    project = _project(
        settings.said(environ, settings.PROJECT) if project is None else project, problems
    )
    urls, wrong = settings.named_servers(servers, environ)
    problems += wrong
    path = settings.named_credentials(credentials, environ, problems)
    if path is not None and not urls and not wrong:
        problems.append(
            f"the credentials {str(path)!r} are given, but no server: pass servers='{settings.EXAMPLE}' or set "
            f"{settings.SERVERS}, or leave the credentials out to keep everything on this host"
        )
    found_tls = resolve_tls(tls, environ, urls, problems)
    if found_tls != Tls() and not urls and not wrong:
        problems.append(
            f"files for TLS are given, but no server: pass servers='tls://host:4222' or set "
            f"{settings.SERVERS}, or leave them out to keep everything on this host"
        )
    folder = _folder(outbox_dir, environ, problems)
    said_bytes = settings.said(environ, settings.OUTBOX_MAX_BYTES)
    max_bytes = _max_bytes(outbox_max_bytes, said_bytes, problems)
    limits = _limits(limits, problems)
    counted = _connections(connections, settings.said(environ, settings.CONNECTIONS), problems)
    carrier = _carrier(
        settings.said(environ, settings.CARRIER) if carrier is None else carrier, problems
    )
    if problems:
        raise ConfigError(problems)
    return ProducerConfig(
        project=project,
        servers=urls,
        credentials=str(path) if path else None,
        tls=found_tls,
        limits=limits,
        outbox_dir=folder,
        outbox_max_bytes=max_bytes,
        connections=counted,
        carrier=carrier,
        livekit_url=settings.said(environ, settings.LIVEKIT_URL),
    )


def outbox_folder(
    environ: Mapping[str, str] = os.environ,
    *,
    given: str | os.PathLike[str] | None = None,
    data_dir: Path | None = None,
) -> Path:
    """Return the full path of the folder of the outboxes, whether or not it exists.

    The one that was given, or else `COSTS_OUTBOX_DIR`, or else `outbox` in the data directory. So a worker and a ledger that name the same data directory meet.

    Raises:
        NoHomeDirectory: It would be in a home directory, and that is not known.
    """
    if named := given or settings.said(environ, settings.OUTBOX_DIR):
        return settings.expanded(named, instead="give the full path of the outbox").absolute()
    return settings.data_dir(environ, data_dir).absolute() / "outbox"


def command_project(environ: Mapping[str, str] = os.environ) -> str:
    """Return the project in which a command reports on what it publishes for ended processes.

    `COSTS_PROJECT`, or `voicecosts`: unlike a worker, a command has no sessions of its own.

    Raises:
        ConfigError: No worker could have that project.
    """
    problems: list[str] = []
    project = _project(settings.said(environ, settings.PROJECT) or "voicecosts", problems)
    if problems:
        raise ConfigError([f"{settings.PROJECT}: {problem}" for problem in problems])
    return project


def _project(given: object, problems: list[str]) -> str:
    """Return the name of the project without the blanks around it; it is never shortened."""
    if not isinstance(given, str):
        problems.append(f"the project is {settings.of_type(given)}: give its name as text")
        return ""
    project = given.strip()
    if not project:
        problems.append(f"no project: pass project='…' or set {settings.PROJECT}")
    elif len(project) > MAX_NAME:
        problems.append(f"the project has {len(project)} characters: give at most {MAX_NAME}")
    elif problem := settings.text_problem("the project", project):
        problems.append(problem)
    elif not project.isprintable():
        problems.append(
            f"the project {project!a} has characters that cannot be seen: "
            "give letters, digits and dashes"
        )
    return project


def _limits(given: object, problems: list[str]) -> BufferLimits:
    if given is None:
        return BufferLimits()
    if not isinstance(given, BufferLimits):
        problems.append(f"the limits are {settings.of_type(given)}: pass BufferLimits(detail=…)")
        return BufferLimits()
    for name in given.__struct_fields__:
        value = getattr(given, name)
        if type(value) is not int or value < 1:  # True is an int as well
            problems.append(
                f"the limit {name} is {shown(value)}: give a whole number of at least 1"
            )
    return given


def _connections(given: object, text: str, problems: list[str]) -> str:
    value = (text if given is None else given) or CONNECTIONS[0]
    if isinstance(value, str) and value.strip().lower() in CONNECTIONS:
        return value.strip().lower()
    source = settings.CONNECTIONS if given is None else "connections"
    problems.append(f"{source} is {shown(value)}: give {', '.join(CONNECTIONS[:2])} or off")
    return CONNECTIONS[0]


def _carrier(given: object, problems: list[str]) -> str:
    """Return the name of a carrier as a provider's name is spelled; "" where none is given."""
    if not isinstance(given, str):
        problems.append(f"the carrier is {settings.of_type(given)}: give its name as text")
        return ""
    carrier = given.strip()
    if not carrier:
        return ""
    if len(carrier) > MAX_NAME or not carrier.isprintable():
        problems.append(
            f"the carrier {carrier[:40]!a} is no name: give one of at most {MAX_NAME} characters, "
            "such as twilio"
        )
        return ""
    return normalise_provider(carrier)


def _folder(given: object, environ: Mapping[str, str], problems: list[str]) -> Path | None:
    """Return the folder of the outboxes; `None` where nobody has named one and there is no home.

    A worker runs without a folder, from memory; one that was named has to be found.
    """
    named = settings.named_path("the outbox", given, environ, settings.OUTBOX_DIR, problems)
    if named is not None:
        return named.absolute()
    try:
        return outbox_folder({**environ, settings.OUTBOX_DIR: ""})
    except settings.NoHomeDirectory as error:
        if settings.said(environ, settings.DATA_DIR):
            problems.append(str(error))
        return None


def _max_bytes(given: int | None, text: str, problems: list[str]) -> int:
    if given is None and not text:
        return OUTBOX_MAX_BYTES
    try:
        value = int(text) if given is None else given
    except ValueError:
        problems.append(f"{settings.OUTBOX_MAX_BYTES} is {text!r}: give a whole number of bytes")
        return OUTBOX_MAX_BYTES
    if value < _LEAST_OUTBOX_BYTES:
        problems.append(f"the limit of the outbox is {value} bytes: give at least one mebibyte")
    return value
