"""Configuration: all problems at once, no secret in any text, and the same in a child process."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from voicecosts import CostObserver
from voicecosts.consumer.config import from_env as ledger_from_env
from voicecosts.consumer.errors import InvalidConfig
from voicecosts.producer.config import (
    LOCAL_LEDGER,
    OUTBOX_MAX_BYTES,
    BufferLimits,
    ProducerConfig,
    command_project,
    outbox_folder,
    resolve,
)
from voicecosts.producer.errors import ConfigError, ProducerError
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.row import destination_id, file_of
from voicecosts.producer.settings import NoHomeDirectory

SERVER = "nats://bus:4222"
OUTBOX = outbox_folder({})


def problems_of(
    project: str | None = None,
    servers: str | tuple[str, ...] | None = None,
    credentials: str | None = None,
    **environ: str,
) -> list[str]:
    """Return the problems that a configuration is refused for."""
    with pytest.raises(ConfigError) as caught:
        resolve(project=project, servers=servers, credentials=credentials, environ=environ)
    assert str(caught.value) == "; ".join(caught.value.problems)
    assert isinstance(caught.value, ProducerError)
    return caught.value.problems


def test_arguments_are_enough() -> None:
    """What is passed needs no environment."""
    config = resolve(project=" prod ", servers=SERVER, credentials=None, environ={})
    assert config == ProducerConfig(project="prod", servers=(SERVER,), outbox_dir=OUTBOX)
    assert config.outbox_max_bytes == OUTBOX_MAX_BYTES == 256 * 2**20


def test_the_environment_fills_in_what_is_not_passed(tmp_path: Path) -> None:
    """A worker can be configured by its deployment alone."""
    seed = tmp_path / "seed"
    seed.write_text("SU" + "A" * 56)
    environ = {
        "COSTS_PROJECT": "prod",
        "COSTS_SERVERS": f"{SERVER}, tls://other:4222 ,",
        "COSTS_CREDENTIALS": str(seed),
        "COSTS_OUTBOX_DIR": str(tmp_path / "outbox"),
        "COSTS_OUTBOX_MAX_BYTES": "1048576",
    }
    config = resolve(project=None, servers=None, credentials=None, environ=environ)
    assert config == ProducerConfig(
        project="prod",
        servers=(SERVER, "tls://other:4222"),
        credentials=str(seed),
        outbox_dir=tmp_path / "outbox",
        outbox_max_bytes=2**20,
    )


def test_arguments_win_over_the_environment(tmp_path: Path) -> None:
    """What the program says is not changed by where it runs."""
    seed = tmp_path / "seed"
    seed.write_text("SU" + "A" * 56)
    environ = {
        "COSTS_PROJECT": "other",
        "COSTS_SERVERS": "nats://other:4222",
        "COSTS_CREDENTIALS": "/nowhere",
        "COSTS_OUTBOX_DIR": "/nowhere",
        "COSTS_OUTBOX_MAX_BYTES": "not looked at",
    }
    config = resolve(
        project="prod",
        servers=[SERVER],
        credentials=seed,
        outbox_dir=tmp_path,
        outbox_max_bytes=2**21,
        limits=BufferLimits(detail=3),
        environ=environ,
    )
    assert config == ProducerConfig(
        project="prod",
        servers=(SERVER,),
        credentials=str(seed),
        limits=BufferLimits(detail=3),
        outbox_dir=tmp_path,
        outbox_max_bytes=2**21,
    )


def test_connected_time_is_counted_where_it_has_a_price_unless_said_otherwise() -> None:
    """An argument wins over the variable; a carrier is spelled as providers are."""
    config = resolve(project="p", servers=SERVER, credentials=None, environ={})
    assert (config.connections, config.carrier, config.livekit_url) == ("auto", "", "")
    environ = {
        "COSTS_CONNECTIONS": " ON ",
        "COSTS_CARRIER": " Twilio ",
        "LIVEKIT_URL": "wss://x.livekit.cloud",
    }
    config = resolve(project="p", servers=SERVER, credentials=None, environ=environ)
    assert (config.connections, config.carrier) == ("on", "twilio")
    assert config.livekit_url == "wss://x.livekit.cloud"
    config = resolve(
        project="p",
        servers=SERVER,
        credentials=None,
        connections="off",
        carrier="",
        environ=environ,
    )
    assert (config.connections, config.carrier) == ("off", "")


def test_a_setting_of_connected_time_that_means_nothing_is_refused() -> None:
    """A mistyped word must neither count nor hide anything; a carrier is a name."""
    problems = problems_of("p", SERVER, COSTS_CONNECTIONS="yes", COSTS_CARRIER="a\nb")
    assert problems == [
        "COSTS_CONNECTIONS is 'yes': give auto, on or off",
        "the carrier 'a\\nb' is no name: give one of at most 128 characters, such as twilio",
    ]
    wrong: Any = 1
    with pytest.raises(ConfigError) as caught:
        resolve(
            project="p",
            servers=SERVER,
            credentials=None,
            connections=wrong,
            carrier=wrong,
            environ={},
        )
    assert caught.value.problems == [
        "connections is 1: give auto, on or off",
        "the carrier is of type int: give its name as text",
    ]


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a given environment the one of the process is read."""
    monkeypatch.setenv("COSTS_PROJECT", "prod")
    monkeypatch.setenv("COSTS_SERVERS", SERVER)
    for name in ("COSTS_CREDENTIALS", "COSTS_CONNECTIONS", "COSTS_CARRIER", "LIVEKIT_URL"):
        monkeypatch.delenv(name, raising=False)  # a worker that ran in this process may have set it
    monkeypatch.setenv("COSTS_OUTBOX_DIR", "/var/spool/costs")
    config = resolve(project=None, servers=None, credentials=None)
    assert config == ProducerConfig(
        project="prod", servers=(SERVER,), outbox_dir=Path("/var/spool/costs")
    )


def test_the_outbox_follows_the_data_directory() -> None:
    """A worker and a ledger that name the same data directory meet without more settings."""
    assert outbox_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/voicecosts/outbox")
    home = {"COSTS_DATA_DIR": "~/costs"}
    assert outbox_folder(home) == Path.home() / "costs/outbox"
    assert outbox_folder(home, data_dir=Path("/other")) == Path("/other/outbox")
    named = {**home, "COSTS_OUTBOX_DIR": "/spool"}
    assert outbox_folder(named, data_dir=Path("/other")) == Path("/spool")


def test_a_command_reports_in_the_project_of_the_environment_or_in_one_of_its_own() -> None:
    """Publishing what dead processes left must not fail because no project is set."""
    assert command_project({"COSTS_PROJECT": " prod "}) == "prod"
    assert command_project({"COSTS_PROJECT": " "}) == command_project({}) == "voicecosts"


def test_a_home_and_a_relative_folder_are_resolved_where_they_are_read() -> None:
    """A job process may run elsewhere, so the folder that it is told of is a full path."""
    environ = {"COSTS_OUTBOX_DIR": "~/box"}
    config = resolve(project="p", servers=SERVER, credentials=None, environ=environ)
    assert config.outbox_dir == Path.home() / "box"
    config = resolve(project="p", servers=SERVER, credentials=None, outbox_dir="box", environ={})
    assert config.outbox_dir == Path.cwd() / "box"


@pytest.mark.parametrize(("text", "shown"), [("256 MB", "256 MB"), ("1000", "1000"), ("-1", "-1")])
def test_a_bound_that_is_no_number_or_too_small_is_refused(text: str, shown: str) -> None:
    """The bound is whole bytes, and large enough for some batches."""
    (problem,) = problems_of("p", SERVER, COSTS_OUTBOX_MAX_BYTES=text)
    assert shown in problem


def test_all_problems_are_reported_at_once() -> None:
    """A wrong set-up is corrected in one go."""
    problems = problems_of(None, ("http://bus", "bus:0", SERVER), "/nowhere/seed")
    assert len(problems) == 4
    assert "COSTS_PROJECT" in problems[0]
    assert "'http://bus'" in problems[1]
    assert "'bus'" in problems[2]
    assert "/nowhere/seed" in problems[3]


@pytest.mark.parametrize("project", [None, "", "  "])
def test_a_project_is_needed(project: str | None) -> None:
    """The message says where to name one."""
    assert problems_of(project, SERVER) == ["no project: pass project='…' or set COSTS_PROJECT"]


def test_a_project_is_never_shortened() -> None:
    """A project is what credentials are bound to, so a long one is refused, not cut."""
    config = resolve(project="p" * 128, servers=SERVER, credentials=None, environ={})
    assert config.project == "p" * 128
    (problem,) = problems_of("p" * 129, SERVER)
    assert "129" in problem
    assert "128" in problem


@pytest.mark.parametrize("servers", [None, "", " , ", ()])
def test_without_a_server_everything_stays_on_this_host(
    servers: str | tuple[str, ...] | None,
) -> None:
    """Embedded mode is the default: the outbox is the log."""
    config = resolve(project="prod", servers=servers, credentials=None, environ={})
    assert config.is_embedded
    assert config.destination == LOCAL_LEDGER
    assert config.outbox_dir == OUTBOX
    assert not resolve(project="p", servers=SERVER, credentials=None, environ={}).is_embedded


def test_credentials_without_a_server_are_a_mistake(tmp_path: Path) -> None:
    """Credentials are for a server; keeping everything on this host silently would be wrong."""
    seed = tmp_path / "seed"
    seed.write_text("SU" + "A" * 56)
    (problem,) = problems_of("prod", None, str(seed))
    assert "COSTS_SERVERS" in problem


def test_an_empty_credentials_variable_is_no_credentials() -> None:
    """A variable that is set to nothing is as good as not set."""
    environ = {"COSTS_CREDENTIALS": ""}
    config = resolve(project="p", servers=SERVER, credentials=None, environ=environ)
    assert config.credentials is None


def test_a_configuration_shows_no_secret() -> None:
    """Its texts end up in logs: they show the servers, without user, password or token."""
    server = "nats://user:secret@bus:4222"
    config = resolve(project="prod", servers=server, credentials=None, environ={})
    shown = "ProducerConfig(project='prod', servers=(nats://***@bus:4222))"
    assert repr(config) == str(config) == shown
    assert config.servers == (server,)


def test_a_configuration_travels_into_a_child_process() -> None:
    """Job processes get the observer by pickling; nothing of it is lost on the way."""
    config = ProducerConfig(
        project="prod",
        servers=(SERVER,),
        credentials="/seed",
        linger_s=0.5,
        flush_timeout_s=1.5,
        limits=BufferLimits(detail=3, meters=4),
        outbox_dir=Path("/var/spool/costs"),
        outbox_max_bytes=2**20,
    )
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - our own bytes


def test_a_configuration_error_crosses_processes_whole() -> None:
    """A job process reports it to the worker by pickle."""
    error = pickle.loads(pickle.dumps(ConfigError(["a", "b"])))  # noqa: S301 - our own bytes
    assert (error.problems, str(error)) == (["a", "b"], "a; b")


def test_a_credentials_file_may_lie_in_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` means the same in a worker's setting as in a ledger's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "seed").write_text("SU" + "A" * 56)
    environ = {"COSTS_PROJECT": "p", "COSTS_SERVERS": SERVER, "COSTS_CREDENTIALS": "~/seed"}
    config = resolve(project=None, servers=None, credentials=None, environ=environ)
    assert config.credentials == str(tmp_path / "seed")


HALF_A_PAIR = "caf\udce9"
"""What Python makes of the bytes of an environment that are no UTF-8."""


def test_a_project_that_is_no_utf8_is_refused_in_one_sentence() -> None:
    """No event can carry it, and no server would ever take what is published under it."""
    for problems in (
        problems_of(HALF_A_PAIR, SERVER),
        problems_of(None, SERVER, COSTS_PROJECT=HALF_A_PAIR),
    ):
        assert problems == [
            "the project is not UTF-8 text ('caf\\udce9'): give letters, digits and dashes"
        ]
    with pytest.raises(ConfigError, match="COSTS_PROJECT: the project is not UTF-8 text"):
        command_project({"COSTS_PROJECT": HALF_A_PAIR})


def test_paths_may_hold_any_bytes(tmp_path: Path) -> None:
    """They are the file system's, and travel in no event."""
    seed = tmp_path / HALF_A_PAIR
    seed.write_text("SU" + "A" * 56)
    config = resolve(
        project="p",
        servers=SERVER,
        credentials=seed,
        environ={"COSTS_OUTBOX_DIR": str(tmp_path / HALF_A_PAIR)},
    )
    path = file_of(tmp_path, destination_id(config), "p")
    Outbox.create(path, destination=config.destination).close()
    assert config.outbox_dir == seed


def test_servers_that_are_no_utf8_are_refused() -> None:
    """An address is one that can be shown."""
    (problem,) = problems_of("p", None, COSTS_SERVERS=f"nats://{HALF_A_PAIR}:4222")
    assert problem.isprintable()


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of whom the system knows no home directory, as in many containers."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_directory_a_worker_starts_and_has_no_outbox_folder() -> None:
    """A default that cannot be had stops no worker."""
    config = resolve(project="p", servers=SERVER, credentials=None, environ={})
    assert config.outbox_dir is None
    named = {"XDG_DATA_HOME": "/data"}
    config = resolve(project="p", servers=SERVER, credentials=None, environ=named)
    assert config.outbox_dir == Path("/data/voicecosts/outbox")


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("variable", ["COSTS_OUTBOX_DIR", "COSTS_DATA_DIR", "COSTS_CREDENTIALS"])
def test_a_path_that_needs_an_unknown_home_is_refused(variable: str) -> None:
    """What somebody has named is not left out silently."""
    (problem,) = problems_of("p", SERVER, **{variable: "~/costs"})
    assert "no home directory for '~/costs'" in problem
    assert "full path" in problem


@pytest.mark.usefixtures("homeless")
def test_a_data_directory_that_is_not_known_is_one_sentence() -> None:
    """A ledger and a question need it, so they say what to set."""
    with pytest.raises(NoHomeDirectory, match="set COSTS_DATA_DIR to a folder"):
        outbox_folder({})
    with pytest.raises(InvalidConfig, match="set COSTS_DATA_DIR to a folder"):
        ledger_from_env(own_broker=True, environ={})


OF_WRONG_TYPES: dict[str, tuple[Any, str]] = {
    "project": (7, "the project is of type int: give its name as text"),
    "servers": (4222, "the servers are of type int: give nats://host:4222, or a list of addresses"),
    "credentials": (7, "the path of the credentials is of type int: give it as text"),
    "outbox_dir": (7, "the path of the outbox is of type int: give it as text"),
    "limits": (5, "the limits are of type int: pass BufferLimits(detail=…)"),
}


def observer_problems(**options: Any) -> list[str]:
    """Return the problems that an observer is refused for."""
    with pytest.raises(ConfigError) as caught:
        CostObserver(**{"project": "p", **options})
    return caught.value.problems


def test_everything_of_the_wrong_type_is_told_at_once() -> None:
    """A wrong type is a problem like any other: one sentence each, and all of them at once."""
    problems = observer_problems(**{name: given for name, (given, _) in OF_WRONG_TYPES.items()})
    assert problems == [said for _, said in OF_WRONG_TYPES.values()]


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        *(({name: given}, [said]) for name, (given, said) in OF_WRONG_TYPES.items()),
        ({"project": b"prod"}, ["the project is of type bytes: give its name as text"]),
        (
            {"project": "a\nb"},
            [
                (
                    "the project 'a\\nb' has characters that cannot be seen: "
                    "give letters, digits and dashes"
                )
            ],
        ),
        ({"servers": [None]}, ["an entry of the servers is None: write nats://host:4222"]),
        (
            {"servers": [SERVER, b"nats://user:secret@bus", 1]},
            [
                "an entry of the servers is of type bytes: write nats://host:4222",
                "an entry of the servers is of type int: write nats://host:4222",
            ],
        ),
        (
            {"servers": b"nats://user:secret@bus"},
            ["the servers are of type bytes: give nats://host:4222, or a list of addresses"],
        ),
        (
            {"limits": BufferLimits(detail=-1, meters=0)},
            [
                "the limit detail is -1: give a whole number of at least 1",
                "the limit meters is 0: give a whole number of at least 1",
            ],
        ),
        (
            {"limits": BufferLimits(detail="9", meters=True)},  # type: ignore[arg-type]  # the mistake
            [
                "the limit detail is '9': give a whole number of at least 1",
                "the limit meters is True: give a whole number of at least 1",
            ],
        ),
    ],
)
def test_an_argument_of_the_wrong_type_is_one_sentence(
    options: dict[str, Any], problems: list[str]
) -> None:
    """Nothing raises Python's own error, nothing wrong is taken, and no secret is shown."""
    assert observer_problems(**options) == problems


def test_a_path_with_a_null_byte_is_refused_in_one_sentence() -> None:
    """The system has no such file, and says so with another error than for a missing one."""
    (problem,) = observer_problems(servers=SERVER, credentials="a\0b")
    assert problem == "the path of the credentials file 'a\\x00b' holds a null byte: correct it"


def test_servers_may_come_as_any_collection() -> None:
    """A list, a tuple, a set or a generator of texts."""
    for servers in ([SERVER], (SERVER,), {SERVER}, iter([SERVER])):
        assert CostObserver("p", servers).config.servers == (SERVER,)  # type: ignore[arg-type]  # more
