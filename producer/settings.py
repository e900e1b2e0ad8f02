"""What both sides of the bus must read alike: NATS addresses, credentials and the data folder.

A worker, a ledger and a query that are given the same settings must meet, so each rule stands here
once. Needs the standard library only, and never reads the environment: the config module of each
package hands it in. The analytics' config imports this module for the data folder, and nothing else
of the producer.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

PROJECT: Final = "COSTS_PROJECT"
SERVERS: Final = "COSTS_SERVERS"
CREDENTIALS: Final = "COSTS_CREDENTIALS"
DATA_DIR: Final = "COSTS_DATA_DIR"
OUTBOX_DIR: Final = "COSTS_OUTBOX_DIR"
OUTBOX_MAX_BYTES: Final = "COSTS_OUTBOX_MAX_BYTES"
CONNECTIONS: Final = "COSTS_CONNECTIONS"
CARRIER: Final = "COSTS_CARRIER"
LIVEKIT_URL: Final = "LIVEKIT_URL"
"""LiveKit's own variable: where its server is."""
DEBUG: Final = "COSTS_DEBUG"
PREFIX: Final = "COSTS_"
"""What every setting of ours begins with."""

EXAMPLE: Final = "nats://host:4222"
"""An address as messages recommend it."""

_SCHEMES: Final = ("nats", "tls", "ws", "wss")
_HOST: Final = re.compile(r"[\w.-]+|[0-9a-f:.]+(%\w+)?")
_HALF: Final = (
    "an address after a comma has a user or token and no scheme: write "
    "nats://user:password@host:4222, with no comma in the password"
)
# Greedy, because a password may hold an at sign: hiding too much of a text is better than a secret.
_SECRET: Final = re.compile(r"^((?:.*?://)?).*@", re.DOTALL)
_CREDS: Final = ("-----BEGIN NATS USER JWT-----", "-----BEGIN USER NKEY SEED-----")
_SEED: Final = re.compile(r"SU[A-Z2-7]{56}")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def said(environ: Mapping[str, str], variable: str) -> str:
    """Return what a variable says, without the blanks around it; a blank one is as good as unset."""
    return environ.get(variable, "").strip()


def named_servers(
    given: str | Sequence[str] | None, environ: Mapping[str, str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the servers that were given, or else those of `COSTS_SERVERS`, as `parse_servers` does.

    An argument that names no server is an answer, too: only `None` leaves it to the variable.
    """
    return parse_servers(said(environ, SERVERS) if given is None else given)


def parse_servers(given: str | Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the URLs of NATS servers, and what is wrong with them, without secrets.

    `given` is a text with commas, or a sequence. An address is `host` or `host:port`, to which
    nats:// is added, or a URL with nats://, tls://, ws:// or wss://, which may hold
    `user:password@` or `token@`; after a comma it needs the scheme then. An IPv6 address stands in
    brackets. A password with a comma, slash, question mark or hash cannot stand in an address.
    Where one address has tls://, TLS is a must at all of them, so ws:// cannot stand beside wss://.
    """
    parts, wrong = _parts(given)
    if wrong:
        return (), wrong
    stripped = [part.strip() for part in parts if part.strip()]
    if isinstance(given, str) and any("@" in it and "://" not in it for it in stripped[1:]):
        # Half a secret that holds a comma looks like this, so nothing of it is shown.
        return (), [_HALF]
    urls = tuple(map(_url, stripped))
    problems = [problem for url in urls if (problem := _address_problem(url))]
    if not problems and len({url.lower().startswith("ws") for url in urls}) > 1:
        problems.append("the servers mix websocket and plain NATS addresses: use one kind")
    elif not problems and len({url.partition(":")[0].lower() for url in urls} & {"ws", "wss"}) > 1:
        problems.append(
            "the servers mix wss:// and ws://, which is never encrypted: write wss:// for all"
        )
    return urls, problems


def _url(part: str) -> str:
    """Return an address as a URL; nats-py knows schemes in small letters only."""
    scheme, mark, rest = part.partition("://")
    return f"{scheme.lower()}://{rest}" if mark else f"nats://{part}"


def _parts(given: object) -> tuple[list[str], list[str]]:
    """Return the addresses in what was given; a wrong value is told by its type, not to show secrets."""
    if isinstance(given, str):
        return given.split(","), []
    if isinstance(given, bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        return [], [f"the servers are {of_type(given)}: give {EXAMPLE}, or a list of addresses"]
    parts = list(given)
    wrong = {of_type(part) for part in parts if not isinstance(part, str)}
    if wrong:
        return [], [f"an entry of the servers is {it}: write {EXAMPLE}" for it in sorted(wrong)]
    return parts, []


def of_type(value: object) -> str:
    """Return in words of what type a wrong value is."""
    return "None" if value is None else f"of type {type(value).__name__}"


def _address_problem(url: str) -> str | None:
    not_one = f"{mask(url)!r} is not a NATS address: write {EXAMPLE}"
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no IPv6 address
        return not_one
    is_cut = "@" in parts.path + parts.query + parts.fragment  # in the middle of a password
    is_half_a_scheme = url.startswith(tuple(f"nats://{scheme}:/" for scheme in _SCHEMES))
    is_host = _HOST.fullmatch(parts.hostname or "") is not None and url.isprintable()
    if parts.scheme not in _SCHEMES or not is_host or is_cut or is_half_a_scheme:
        return not_one
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        # The port itself is not shown: it may be half of a password with a comma.
        return (
            f"the port of NATS server {parts.hostname!r} is not a number from 1 to 65535: "
            f"write {EXAMPLE}"
        )
    return None


def mask(text: str) -> str:
    """Return a URL, or a text with a URL in it, with its user, password or token as `***`."""
    return _SECRET.sub(r"\1***@", text)


def credentials_kind(text: str) -> Literal["creds", "seed"] | None:
    """Tell a NATS .creds file from an nkey seed of a user by its contents; `None` if neither."""
    if all(marker in text for marker in _CREDS):
        return "creds"
    return "seed" if _SEED.fullmatch(text.strip()) else None


def named_credentials(
    given: object, environ: Mapping[str, str], problems: list[str]
) -> Path | None:
    """Return the credentials file that was given, or else that of `COSTS_CREDENTIALS`.

    What is wrong with it is appended.
    """
    path = named_path("the credentials", given, environ, CREDENTIALS, problems)
    if path is not None and (problem := credentials_problem(path)):
        problems.append(problem)
    return path


def credentials_problem(path: Path) -> str | None:
    """Return why a credentials file cannot be used, or `None`."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"the credentials file {path} cannot be read ({error.strerror}): check the path"
    except ValueError:  # a null byte
        return f"the path of the credentials file {str(path)!a} holds a null byte: correct it"
    if credentials_kind(text) is None:
        return (
            f"{path} is neither a NATS .creds file nor an nkey seed of a user: give a .creds file, "
            "or a file with one seed that starts with SU"
        )
    return None


class NoHomeDirectory(Exception):  # noqa: N818 - the name says what is wrong
    """A path starts in a home directory, and that is unknown; the message says what to set.

    That is so where `HOME` is not set and the user has no entry in the system's list of users, as
    in a container with a user id of its own.
    """


def expanded(path: str | os.PathLike[str], *, instead: str) -> Path:
    """Return a path with `~` replaced by the home directory.

    `instead` says what to do where there is none.

    Raises:
        NoHomeDirectory: It is needed and not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoHomeDirectory(
            f"there is no home directory for {os.fspath(path)!r}: {instead}"
        ) from None


def named_path(
    what: str, given: object, environ: Mapping[str, str], variable: str, problems: list[str]
) -> Path | None:
    """Return the path that was given, or else the one in a variable; `None` where neither names one.

    `~` is the home directory. What is wrong is appended; `what` says there what the path is of.
    """
    if given is not None and not isinstance(given, str | os.PathLike):
        problems.append(f"the path of {what} is {of_type(given)}: give it as text")
        return None
    path = os.fsdecode(given or "")
    path = path if path.strip() else said(environ, variable)
    try:
        return expanded(path, instead=f"give the full path of {what}") if path else None
    except NoHomeDirectory as error:
        problems.append(str(error))
        return None


def data_dir(
    environ: Mapping[str, str],
    given: str | os.PathLike[str] | None = None,
    *,
    platform: str = sys.platform,
) -> Path:
    """Return the data directory, whether or not it exists.

    The one that was given, or else `COSTS_DATA_DIR`, or else `voicecosts` in the platform's folder
    for user data.

    Raises:
        NoHomeDirectory: It would be in a home directory, and that is not known.
    """
    instead = f"set {DATA_DIR} to a folder, as a full path"
    if given is not None:
        return expanded(given, instead="give the full path of the data directory")
    if named := said(environ, DATA_DIR):
        return expanded(named, instead=instead)
    if platform == "darwin":
        return expanded("~/Library/Application Support/voicecosts", instead=instead)
    share = Path(environ.get("XDG_DATA_HOME", ""))
    # The XDG rules say to ignore a path that is not absolute.
    base = share if share.is_absolute() else expanded("~/.local/share", instead=instead)
    return base / "voicecosts"


def boot_id() -> str:
    """Return which start of this host it is; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def text_problem(what: str, value: str) -> str | None:
    """Return why a text cannot travel in events, or `None`; `what` names it.

    An environment may hold any bytes; Python hands over those that are not UTF-8 as half surrogate
    pairs, which no event can carry.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"{what} is not UTF-8 text ({value!a}): give letters, digits and dashes"
    return None
