"""The settings that both sides of the bus read: one rule each, shown on the worker and the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from voicecosts.analytics.config import names_servers
from voicecosts.consumer.config import from_env
from voicecosts.consumer.errors import InvalidConfig
from voicecosts.producer.config import resolve
from voicecosts.producer.errors import ConfigError
from voicecosts.producer.settings import credentials_kind, credentials_problem, data_dir, mask

SEED = "SU" + "A" * 56
CREDS = f"""-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.e30.c2ln
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""
NOT_ONE = "is not a NATS address: write nats://host:4222"
HALF = (
    "an address after a comma has a user or token and no scheme: write "
    "nats://user:password@host:4222, with no comma in the password"
)
NO_SERVER = "no NATS server is given: pass --servers nats://host:4222 or set COSTS_SERVERS"
OTHERS = [
    "COSTS_CREDENTIALS",
    "COSTS_TLS_CA",
    "COSTS_TLS_CERT",
    "COSTS_TLS_KEY",
    "COSTS_CONNECTIONS",
    "COSTS_CARRIER",
    "COSTS_OUTBOX_DIR",
    "COSTS_OUTBOX_MAX_BYTES",
    "COSTS_PRICES",
    "COSTS_MAX_READING",
    "LIVEKIT_URL",
]
NO_PORT = "is not a number from 1 to 65535: write nats://host:4222"


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("bus", ["nats://bus"]),
        ("bus:4222", ["nats://bus:4222"]),
        ("nats://bus", ["nats://bus"]),
        ("nats://bus:4222/", ["nats://bus:4222/"]),
        ("tls://bus:1", ["tls://bus:1"]),
        ("ws://bus/path", ["ws://bus/path"]),
        ("wss://bus:65535", ["wss://bus:65535"]),
        ("a, tls://b:4223 ,nats://c,", ["nats://a", "tls://b:4223", "nats://c"]),
        ("wss://a,wss://b", ["wss://a", "wss://b"]),
        ("user:password@bus:4222", ["nats://user:password@bus:4222"]),
        ("nats://user:p@ss@bus", ["nats://user:p@ss@bus"]),
        ("token@bus", ["nats://token@bus"]),
        ("nats://user:my pass@bus", ["nats://user:my pass@bus"]),
        ("token@a,nats://token@b", ["nats://token@a", "nats://token@b"]),
        ("NATS://bus,TLS://bus", ["nats://bus", "tls://bus"]),
        ("[::1]", ["nats://[::1]"]),
        ("[2001:db8::1]:4222", ["nats://[2001:db8::1]:4222"]),
        ("tls://token@[::1]:4222", ["tls://token@[::1]:4222"]),
    ],
)
def test_both_sides_take_the_same_addresses(text: str, servers: list[str]) -> None:
    """What runs the ledger runs the worker, with nats:// added where no scheme is written."""
    environ = {"COSTS_SERVERS": text, "COSTS_PROJECT": "p"}
    worker = resolve(project=None, servers=None, credentials=None, environ=environ)
    assert list(worker.servers) == servers
    assert list(from_env(environ=environ).servers) == servers


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("http://bus", [f"'http://bus' {NOT_ONE}"]),
        ("nats:/bus:4222", [f"'nats://nats:/bus:4222' {NOT_ONE}"]),
        ("nats://…", [f"'nats://…' {NOT_ONE}"]),
        ("nats://", [f"'nats://' {NOT_ONE}"]),
        (":4222", [f"'nats://:4222' {NOT_ONE}"]),
        ("my bus", [f"'nats://my bus' {NOT_ONE}"]),
        ("[bus]", [f"'nats://[bus]' {NOT_ONE}"]),
        ("[::1", [f"'nats://[::1' {NOT_ONE}"]),
        ("::1", [f"'nats://::1' {NOT_ONE}"]),
        ("http://user:secret@bus", [f"'http://***@bus' {NOT_ONE}"]),
        ("nats://user:secret/1@bus", [f"'nats://***@bus' {NOT_ONE}"]),
        ("user:12/secret@bus", [f"'nats://***@bus' {NOT_ONE}"]),
        ("bus:0", [f"the port of NATS server 'bus' {NO_PORT}"]),
        ("tls://bus:99999", [f"the port of NATS server 'bus' {NO_PORT}"]),
        ("nats://user:secret@bus:port", [f"the port of NATS server 'bus' {NO_PORT}"]),
        ("user:secret,1@bus", [HALF]),
        ("nats://secret,token@bus", [HALF]),
        ("http://user:secret,secret@bus", [HALF]),
        ("a,token-secret@b", [HALF]),
        ("bus:x,http://a", [f"the port of NATS server 'bus' {NO_PORT}", f"'http://a' {NOT_ONE}"]),
        ("ws://a,b", ["the servers mix websocket and plain NATS addresses: use one kind"]),
        (
            "ws://a,wss://b",
            ["the servers mix wss:// and ws://, which is never encrypted: write wss:// for all"],
        ),
    ],
)
def test_both_sides_refuse_the_same_addresses(text: str, problems: list[str]) -> None:
    """Every address that is none is named in one sentence, the same on both sides, and no secret."""
    environ = {"COSTS_SERVERS": text, "COSTS_PROJECT": "p"}
    with pytest.raises(ConfigError) as worker:
        resolve(project=None, servers=None, credentials=None, environ=environ)
    with pytest.raises(InvalidConfig) as ledger:
        from_env(environ=environ)
    assert worker.value.problems == list(ledger.value.problems) == problems
    assert "secret" not in f"{worker.value}{ledger.value}"


@pytest.mark.parametrize(
    ("variable", "what"),
    [
        ("COSTS_CREDENTIALS", "the credentials"),
        ("COSTS_TLS_CA", "the certificate authority"),
        ("COSTS_TLS_CERT", "the client certificate"),
        ("COSTS_DATA_DIR", None),
        ("COSTS_PRICES", "the prices"),
        ("COSTS_OUTBOX_DIR", "the outbox"),
    ],
)
def test_a_home_that_is_not_known_is_one_sentence_on_every_side(
    variable: str, what: str | None
) -> None:
    """Whoever reads the setting says it in the same words; who does not read it is not disturbed."""
    environ = {
        "COSTS_PROJECT": "p",
        "COSTS_SERVERS": "bus",
        "COSTS_DATA_DIR": "/srv/costs",
        variable: "~nobody-here/it",
    }
    instead = (
        f"give the full path of {what}" if what else f"set {variable} to a folder, as a full path"
    )
    sentence = f"there is no home directory for '~nobody-here/it': {instead}"
    said = {
        "worker": problems_of(resolve, environ, project=None, servers=None, credentials=None),
        "ledger": problems_of(from_env, environ),
    }
    if variable == "COSTS_PRICES":
        assert said == {"worker": [], "ledger": [sentence]}
    elif variable == "COSTS_OUTBOX_DIR":
        assert said == {"worker": [sentence], "ledger": []}
    else:
        assert said == {"worker": [sentence], "ledger": [sentence]}


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_a_blank_setting_is_an_unset_one(text: str) -> None:
    """The worker stays on its host, the ledger asks for a server, and a command knows of no stream."""
    environ = {"COSTS_SERVERS": text, "COSTS_DATA_DIR": "/srv/costs", "COSTS_PROJECT": "p"}
    blank = dict.fromkeys(OTHERS, " ")
    worker = resolve(project=None, servers=None, credentials=None, environ={**environ, **blank})
    assert worker == resolve(project="p", servers=(), credentials="", environ=environ)
    assert problems_of(from_env, {**environ, **blank}) == [NO_SERVER]
    assert not names_servers(environ)


def test_servers_that_are_given_win_over_the_variable_also_when_they_are_none() -> None:
    """On both sides `None` leaves it to the variable, and an empty text or list does not."""
    environ = {"COSTS_SERVERS": "bus", "COSTS_DATA_DIR": "/srv/costs", "COSTS_PROJECT": "p"}
    assert resolve(project=None, servers="", credentials=None, environ=environ).is_embedded
    assert problems_of(from_env, environ, servers="") == [NO_SERVER]
    assert names_servers(environ)
    assert names_servers({"COSTS_SERVERS": "http://bus"})  # wrong, which whoever reads it says


def problems_of(
    read: Callable[..., object], environ: Mapping[str, str], **given: object
) -> list[str]:
    """Return what a side says of its settings."""
    try:
        read(**given, environ=environ)
    except (ConfigError, InvalidConfig) as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://bus:4222", "nats://bus:4222"),
        ("nats://user:secret@bus:4222", "nats://***@bus:4222"),
        ("tls://token-secret@bus", "tls://***@bus"),
        ("nats://user:se@secret@bus", "nats://***@bus"),
        ("nats://user:p/secret@bus", "nats://***@bus"),
        ("user:secret@bus:4222", "***@bus:4222"),
        ("no answer from nats://secret@h:1, ws://h:2", "no answer from nats://***@h:1, ws://h:2"),
    ],
)
def test_a_user_a_password_and_a_token_are_masked(text: str, shown: str) -> None:
    """Whatever stands before the last at sign stays out of logs and errors; the host is shown."""
    assert mask(text) == shown


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (CREDS, "creds"),
        (SEED, "seed"),
        (f"\n{SEED}\n", "seed"),
        ("SA" + SEED, None),
        ("SUshort", None),
        ("", None),
        ("-----BEGIN NATS USER JWT-----", None),
    ],
)
def test_credentials_are_told_apart_by_their_contents(
    tmp_path: Path, text: str, kind: str | None
) -> None:
    """Both kinds come as a path, so the file itself says which it is, before anything connects."""
    assert credentials_kind(text) == kind
    (tmp_path / "c").write_text(text)
    problem = credentials_problem(tmp_path / "c")
    assert (problem is None) == (kind is not None)
    assert problem is None or "neither a NATS .creds file nor an nkey seed" in problem


def test_a_credentials_file_that_is_binary_or_missing_is_refused(tmp_path: Path) -> None:
    """Bytes that are no text are a wrong file, not a crash; a missing file is named."""
    (tmp_path / "c").write_bytes(b"\xff\xfe\x00")
    assert "neither" in (credentials_problem(tmp_path / "c") or "")
    assert f"{tmp_path / 'absent'} cannot be read" in (
        credentials_problem(tmp_path / "absent") or ""
    )


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"COSTS_DATA_DIR": "/srv/costs"}, "linux", Path("/srv/costs")),
        ({"COSTS_DATA_DIR": "~/costs"}, "linux", Path.home() / "costs"),
        ({"COSTS_DATA_DIR": " "}, "linux", Path.home() / ".local/share/voicecosts"),
        ({}, "linux", Path.home() / ".local/share/voicecosts"),
        ({"XDG_DATA_HOME": "/data"}, "linux", Path("/data/voicecosts")),
        ({"XDG_DATA_HOME": "data"}, "linux", Path.home() / ".local/share/voicecosts"),
        ({}, "darwin", Path.home() / "Library/Application Support/voicecosts"),
    ],
)
def test_the_data_directory(environ: dict[str, str], platform: str, expected: Path) -> None:
    """The variable decides, then the platform; a relative XDG path would depend on where one is."""
    assert data_dir(environ, platform=platform) == expected
