"""The pool itself: what is registered, what LiveKit's server gets, and what is refused."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import AgentServer, JobRequest, cli

from tests.support.pool_agents import Dental, Restaurant, Silent, make_llm
from voicecosts import AgentPool, HookLimits
from voicecosts.producer.errors import InvalidRegistration, NoSuchAgent
from voicecosts.producer.pool.routing import JobView, resolve

ROOT = Path(__file__).parents[3]


async def take_all(request: JobRequest) -> None:
    """A request filter."""
    await request.accept()


def pool_of(*names: str, **options: Any) -> AgentPool:
    """Return a pool with agents of these names."""
    pool = AgentPool(**options)
    for name in names:
        pool.add(name, Dental)
    return pool


def test_agents_are_listed_in_the_order_of_registration() -> None:
    """Agents are listed as they were registered, which is the order in which routing tries them."""
    pool = pool_of("b", "a", "c")
    assert pool.list_agents() == ["b", "a", "c"]
    assert repr(pool) == "<AgentPool of b, a, c, 0 observers>"
    assert repr(AgentPool(observers=[Silent()])) == "<AgentPool of no agents, 1 observers>"


def test_add_returns_what_get_returns() -> None:
    """`add` and `get` return the same registration, with the pool's defaults in it."""
    pool = AgentPool(default_llm=make_llm, default_tts="x/y", default_greeting="Hello")
    added = pool.add(" dental ", Dental, tts="cartesia/sonic-3")
    assert pool.get("dental") is added
    assert (added.name, added.agent_class) == ("dental", Dental)
    assert (added.stt, added.llm, added.tts) == (None, make_llm, "cartesia/sonic-3")
    assert added.greeting == "Hello"


def test_a_name_is_registered_once() -> None:
    """Registering a name again is refused, and the first registration stays."""
    pool = pool_of("dental")
    with pytest.raises(InvalidRegistration, match=r"'dental' is registered already, from .*Dental"):
        pool.add("dental", Restaurant)
    assert pool.get("dental").agent_class is Dental


def test_removing_the_first_agent_changes_the_default() -> None:
    """After the first agent is removed, the next one gets the calls that name none."""
    pool = pool_of("dental", "restaurant")
    assert resolve(JobView(), pool.list_agents()).agent == "dental"
    removed = pool.remove("dental")
    assert removed.name == "dental"
    assert resolve(JobView(), pool.list_agents()).agent == "restaurant"


@pytest.mark.parametrize("name", [None, 7, b"dental", ["dental"], {}, object])
@pytest.mark.parametrize("method", ["get", "remove"])
def test_what_can_be_no_name_is_a_key_error_that_can_be_printed(method: str, name: Any) -> None:
    """A name of another type is told like an unknown one, also if it cannot be hashed."""
    with pytest.raises(NoSuchAgent) as missing:
        getattr(pool_of("dental"), method)(name)
    assert str(missing.value) == f"no agent {name!r} in the pool; Registered: dental."


class Unwritable:
    """A value whose own code fails wherever it is asked."""

    __hash__ = None  # type: ignore[assignment]  # what makes it awkward

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError


def test_a_name_that_cannot_be_written_is_told_by_its_type() -> None:
    """No message of a pool fails while it is printed."""
    with pytest.raises(NoSuchAgent) as missing:
        pool_of("dental").get(Unwritable())  # type: ignore[arg-type]  # the mistake under test
    assert str(missing.value).startswith("no agent a value of type Unwritable in the pool")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"observers": None}, "observers is None: pass a list of observers"),
        ({"observers": 7}, "observers is 7: pass a list of observers"),
        ({"default_llm": ""}, "default_llm is blank: name a model, or leave it out"),
        ({"default_stt": 5}, "default_stt is of type builtins.int: pass a LiveKit model string"),
        ({"default_tts": object()}, "default_tts is of type builtins.object: pass a LiveKit"),
        ({"default_greeting": 5}, "default_greeting is 5: pass a text"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_in_one_sentence(
    options: dict[str, Any], said: str
) -> None:
    """What no call could use is refused where it is given, under the name of the option."""
    with pytest.raises(InvalidRegistration, match=f"^{said}"):
        AgentPool(**options)


@pytest.mark.parametrize("method", ["get", "remove"])
def test_an_agent_that_is_not_there_is_a_key_error(method: str) -> None:
    """An unknown name is a KeyError whose message lists the registered names."""
    with pytest.raises(KeyError) as missing:
        getattr(pool_of("dental"), method)("sales")
    assert str(missing.value) == "no agent 'sales' in the pool; Registered: dental."
    assert isinstance(missing.value, NoSuchAgent)


def test_what_is_no_observer_is_refused() -> None:
    """An observer without both hooks is refused."""
    with pytest.raises(TypeError, match="needs both hooks"):
        AgentPool(observers=[object()])  # type: ignore[list-item]  # the mistake under test
    with pytest.raises(TypeError, match="needs both hooks"):
        AgentPool().add_observer(type("Half", (), {"on_session_start": None})())


def test_a_class_in_an_observers_place_is_refused() -> None:
    """A class has both hooks as well, but nobody to call them on."""
    with pytest.raises(TypeError, match="Silent'> is a class: pass an instance of it"):
        AgentPool(observers=[Silent])  # type: ignore[list-item]  # the mistake under test


def test_hooks_that_cannot_be_called_are_refused() -> None:
    """An observer whose hook is no function is refused before any call."""
    for hook in (3, property(lambda _: 1 / 0)):
        observer = type("Hooked", (Silent,), {"on_session_end": hook})()
        with pytest.raises(TypeError, match="needs both hooks"):
            AgentPool().add_observer(observer)


@pytest.mark.parametrize("name", ["   ", "\t", "\u2003", 42, b"desk"])
def test_a_worker_that_would_never_get_a_call_is_refused(name: Any) -> None:
    """LiveKit dispatches by the exact name, and nobody asks for a blank one or for a number."""
    with pytest.raises(InvalidRegistration, match="never gets a call: name it, or leave it out"):
        AgentPool(agent_name=name)


@pytest.mark.parametrize(
    ("given", "name"), [(None, ""), ("", ""), (" desk\n", "desk"), ("desk", "desk")]
)
def test_the_workers_name_is_livekits_without_blanks(given: str | None, name: str) -> None:
    """No name is LiveKit's automatic dispatch; blanks around a name are removed, as OpenRTC does."""
    assert AgentPool(agent_name=given).server._agent_name == name


async def asynchronous(_: Any) -> str:
    """A router that would have to be awaited."""
    return "dental"


class Asynchronous:
    """The same as an object."""

    async def __call__(self, _: Any) -> str:
        """Route."""
        return "dental"


@pytest.mark.parametrize("router", [asynchronous, Asynchronous(), "dental", 7])
def test_a_router_that_can_name_no_agent_is_refused(router: Any) -> None:
    """A router is called and not awaited; what cannot answer so would refuse every call."""
    with pytest.raises(InvalidRegistration, match="pass a plain function"):
        AgentPool(router=router)


@pytest.mark.parametrize(
    "limits", [HookLimits(start_s=0), HookLimits(end_s=-1), HookLimits(start_s=math.nan), 5]
)
def test_limits_in_which_no_hook_can_run_are_refused(limits: Any) -> None:
    """With no time for a hook every observer would be abandoned at every call."""
    with pytest.raises(InvalidRegistration, match="pass HookLimits with seconds above 0"):
        AgentPool(hook_limits=limits)


def test_options_of_another_kind_are_refused_by_name() -> None:
    """An observer in the place of the list, or anything in the place of the server."""
    with pytest.raises(InvalidRegistration, match="pass a list of observers"):
        AgentPool(observers=Silent())  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(InvalidRegistration, match="pass LiveKit's AgentServer"):
        AgentPool(server="wss://host")  # type: ignore[arg-type]  # same


def test_a_filter_that_cannot_be_called_is_refused() -> None:
    """A request filter that is no function would leave every request unanswered."""
    with pytest.raises(InvalidRegistration, match="pass an async function that takes a request"):
        AgentPool(request_filter=True)  # type: ignore[arg-type]  # the mistake under test


def test_an_empty_pool_does_not_run() -> None:
    """Running an empty pool is an error before LiveKit's commands are reached."""
    with pytest.raises(RuntimeError, match=r"in the pool: register one with add\(\)"):
        AgentPool().run()


def test_a_filter_and_the_own_rooms_contradict_each_other() -> None:
    """A request filter and `accept_only_registered_rooms` cannot be given together."""
    with pytest.raises(
        InvalidRegistration, match="either request_filter or accept_only_registered_rooms"
    ):
        AgentPool(request_filter=take_all, accept_only_registered_rooms=True)


def test_caps_are_checked_where_they_are_given() -> None:
    """A cap below 1 is refused by the constructor."""
    with pytest.raises(ValueError, match="cap of agent 'dental' is 0"):
        AgentPool(max_sessions_per_agent={"dental": 0})
    with pytest.raises(ValueError, match="cap of tenant 'acme' is -1"):
        AgentPool(max_sessions_per_tenant={"acme": -1})
    with pytest.raises(InvalidRegistration, match="an agent's name is"):
        AgentPool(max_sessions_per_agent={"the desk": 1})
    with pytest.raises(InvalidRegistration, match="the cap of tenant ' ' caps nobody"):
        AgentPool(max_sessions_per_tenant={" ": 1})


def test_a_server_of_ones_own_is_used() -> None:
    """A given `AgentServer` is used as it is, with its executor, ports and load."""
    server = AgentServer(port=0)
    pool = pool_of("dental", server=server, agent_name="desk", hook_limits=HookLimits(start_s=1))
    assert pool.server is server
    assert server._agent_name == "desk"
    assert pool._state.limits == HookLimits(start_s=1, end_s=30.0)


def test_a_server_that_has_an_entrypoint_already_is_refused_by_livekit() -> None:
    """A server that has an entrypoint already cannot be a pool's: LiveKit allows one."""
    with pytest.raises(RuntimeError, match="only one rtc_session"):
        AgentPool(server=pool_of("dental").server)


def test_run_is_livekits_own_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` hands the pool's server to LiveKit's command line."""
    ran: list[object] = []
    monkeypatch.setattr(cli, "run_app", ran.append)
    pool = pool_of("dental")
    pool.run()
    assert ran == [pool.server]


@pytest.mark.filterwarnings("ignore:the built-in Python CLI is deprecated")
def test_livekits_commands_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that ends in `pool.run()` has the commands `dev`, `start`, `console` and `connect`."""
    monkeypatch.setattr(sys, "argv", ["worker.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        pool_of("dental").run()
    assert not ended.value.code
    shown = capsys.readouterr().out
    for command in ("dev", "start", "console", "connect"):
        assert f" {command} " in shown
