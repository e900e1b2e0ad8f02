"""What is registered goes into job processes, or is refused with the way out where it is given."""

from __future__ import annotations

import pickle
import re
import sys
import threading
from collections import Counter
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from livekit.agents import NOT_GIVEN, Agent

from tests.support.pool_agents import (
    QUIET,
    Dental,
    Silent,
    first_word,
    make_llm,
    make_stt,
    make_tts,
    quiet_options,
)
from voicecosts import AgentConfig, AgentPool
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedTTS
from voicecosts.producer.errors import InvalidRegistration, NotPicklable, PoolError, ProducerError
from voicecosts.producer.pool.config import checked, made
from voicecosts.producer.pool.observers import registered
from voicecosts.producer.pool.session import PoolState

ROOT = Path(__file__).parents[3]


def copied(value: Any) -> Any:
    """Return a value as a job process would receive it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes


def config(**options: Any) -> AgentConfig:
    """Return a valid registration of the agent `dental`."""
    return checked(AgentConfig(**{"name": "dental", "agent_class": Dental, **options}))


@pytest.mark.parametrize("name", ["dental", "Dental-ER_2", "x" * 64, "-", "_"])
def test_a_name_is_letters_digits_dashes_and_underscores(name: str) -> None:
    """A name of 1 to 64 letters, digits, dashes and underscores is accepted."""
    assert config(name=name).name == name


@pytest.mark.parametrize("name", ["", " ", "a b", "dentäl", "a.b", "x" * 65, "a\nb", "a/b"])
def test_any_other_name_is_refused(name: str) -> None:
    """A name with anything else in it is refused; the message has the rule and the name."""
    with pytest.raises(InvalidRegistration, match="1 to 64 ASCII letters") as refused:
        config(name=name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", [None, 42, b"dental", ["dental"]])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    """A name of another type is refused by the same sentence, not by an AttributeError."""
    said = f"1 to 64 ASCII letters.*, not {re.escape(repr(name))} \\(of .*Dental\\)$"
    with pytest.raises(InvalidRegistration, match=said):
        AgentPool().add(name, Dental)


@pytest.mark.parametrize("kind", [object, "Dental", Dental(), None, make_llm])
def test_what_is_no_agent_class_is_refused(kind: Any) -> None:
    """What is not a subclass of `Agent` is refused, an instance too: all calls would share it."""
    with pytest.raises(TypeError, match="is not a subclass of livekit"):
        config(agent_class=kind)


def test_a_factory_makes_a_provider_for_each_session() -> None:
    """Functions, partials and classes are called for each session, so sessions share nothing."""
    llm = partial(ScriptedLLM, model="m-1")
    registered = config(llm=llm, stt=make_stt, tts=make_tts, session_kwargs=quiet_options)
    first, second = registered.session_arguments(), registered.session_arguments()
    assert first["llm"].model == "m-1"
    for role in ("stt", "llm", "tts"):
        assert first[role] is not second[role]
    assert first["turn_handling"] == second["turn_handling"] == {"turn_detection": "manual"}
    assert isinstance(made(ScriptedLLM), ScriptedLLM)


def test_a_value_is_given_to_every_session_as_it_is() -> None:
    """A model string or an object is passed to every session as it is."""
    llm = ScriptedLLM()
    registered = config(llm=llm, stt="deepgram/nova-3")
    assert registered.session_arguments()["llm"] is llm
    assert registered.session_arguments()["stt"] == "deepgram/nova-3"


def test_options_are_copied_when_they_are_registered_and_for_each_session() -> None:
    """Neither who registered an agent nor a session of it changes the options of other calls."""
    given: dict[str, Any] = deepcopy(QUIET)
    pool = AgentPool()
    added = pool.add("dental", Dental, session_kwargs=given)
    given["max_tool_steps"] = 99
    given["turn_handling"]["turn_detection"] = "vad"
    first = added.session_arguments()
    assert first == QUIET
    first["turn_handling"]["turn_detection"] = "stt"
    assert added.session_arguments() == QUIET


def test_a_value_in_the_options_is_the_same_for_every_session() -> None:
    """Options are copied as dicts and lists; a model or a mapping of another type is not."""
    model, counts = ScriptedLLM(), Counter(calls=1)
    given = MappingProxyType({"userdata": [model, counts]})
    registered = AgentPool().add("dental", Dental, session_kwargs=given)
    assert registered.session_arguments()["userdata"][0] is model
    assert registered.session_arguments()["userdata"][1] is counts


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"session_kwargs": {"max_tool_step": 3}}, "AgentSession takes no 'max_tool_step'"),
        ({"session_kwargs": {7: 3}}, "AgentSession takes no 7"),
        ({"session_kwargs": ["vad"]}, "its session_kwargs are a list: pass a mapping"),
        ({"greeting": 42}, "its greeting is 42: pass a text"),
        ({"llm": " "}, "its llm is blank: name a model"),
        ({"llm": 5}, "its llm is of type builtins.int: .* LLM or RealtimeModel, or a factory"),
        ({"stt": object()}, "its stt is of type builtins.object: pass a LiveKit model string"),
        ({"tts": ScriptedLLM()}, r"its tts is of type .*\.ScriptedLLM: .* LiveKit's TTS"),
    ],
)
def test_what_every_call_would_fail_with_is_refused(options: dict[str, Any], said: str) -> None:
    """Options of which LiveKit can make no session are refused at once; the agent is named."""
    with pytest.raises(InvalidRegistration, match=f"^agent 'dental': .*{said}"):
        config(**options)


def test_what_livekit_takes_as_a_provider_is_taken() -> None:
    """A model, its factory, nothing, and LiveKit's own word for nothing."""
    for llm in ("openai/gpt-4.1-mini", ScriptedLLM(), make_llm, ScriptedLLM, None, NOT_GIVEN):
        assert config(llm=llm).llm is llm


class Demanding(Agent):
    """An agent that a pool cannot make."""

    def __init__(self, clinic: str) -> None:
        super().__init__(instructions=clinic)


def test_a_class_that_needs_arguments_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A pool makes agents without arguments, so a class that needs some is told in the log."""
    config()
    assert caplog.records == []
    config(agent_class=Demanding)
    assert "agent 'dental': Demanding() will fail at every call (missing" in caplog.text


def test_what_is_not_configured_is_left_to_livekit() -> None:
    """What is not configured is not passed to the session, so LiveKit's defaults apply."""
    assert config().session_arguments() == {}
    assert config(session_kwargs=QUIET).session_arguments() == QUIET


def test_a_registration_arrives_in_a_job_process_as_it_was() -> None:
    """Class, providers, factories and options of a registration survive a pickle."""
    registered = config(llm=make_llm, stt="deepgram/nova-3", greeting="Hi", session_kwargs=QUIET)
    assert copied(registered) == registered


def test_a_pools_state_with_observers_and_router_pickles() -> None:
    """A pool's state with observers and a router survives a pickle, as a job process receives it."""
    state = PoolState({"dental": config(llm=make_llm)}, [registered(Silent())], first_word)
    arrived = copied(state)
    assert arrived.agents == state.agents
    assert arrived.router is first_word
    assert isinstance(arrived.observers[0].observer, Silent)


def test_what_livekit_runs_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiveKit's entrypoint and end hook survive a pickle with everything that a pool can hold."""
    pool = AgentPool(observers=[Silent()], router=first_word, default_llm=make_llm)
    pool.add("dental", Dental, tts=ScriptedTTS(), session_kwargs=quiet_options)
    entrypoint = copied(pool.server._entrypoint_fnc)
    assert entrypoint.args[0].agents["dental"].llm is make_llm
    assert copied(pool.server._session_end_fnc) is pool.server._session_end_fnc


def test_what_a_provider_holds_is_not_in_the_repr() -> None:
    """A registration's repr shows nothing of its providers, which may hold a key."""
    llm = partial(ScriptedLLM, model="sk-secret")
    registered = config(llm=llm, session_kwargs={"userdata": "sk-secret"}, greeting="Hi")
    assert "sk-secret" not in repr(registered)
    assert "greeting='Hi'" in repr(registered)


@pytest.mark.parametrize("role", ["stt", "llm", "tts"])
def test_a_provider_that_cannot_pickle_is_refused_with_the_way_out(role: str) -> None:
    """The message names the agent, the role and the type, and says what to pass instead."""
    provider = ScriptedLLM()
    provider.plan = lambda text, context: ("", [])
    with pytest.raises(NotPicklable) as refused:
        config(**{role: provider})
    message = str(refused.value)
    assert message.startswith(
        f"agent 'dental': its {role}, voicecosts.producer.demo.providers.ScriptedLLM, cannot be pickled"
    )
    assert "a function of a module, or functools.partial(Plugin, model='…')" in message
    assert isinstance(refused.value, ValueError | PoolError | ProducerError)


def test_a_lambda_is_refused_as_a_factory() -> None:
    """A lambda is refused as a factory, because no other process can find it by name."""
    with pytest.raises(NotPicklable, match="<lambda>, cannot be pickled"):
        config(llm=lambda: ScriptedLLM())  # noqa: PLW0108 - the mistake under test


def test_session_options_that_cannot_pickle_are_refused() -> None:
    """Session options that cannot be pickled are refused; the message says to pass a factory."""
    with pytest.raises(NotPicklable, match=r"its session_kwargs cannot be pickled .* per session"):
        config(session_kwargs={"userdata": threading.Lock()})


def test_a_class_inside_a_function_is_refused() -> None:
    """A class inside a function is refused, because no other process can import it."""

    class Local(Agent):
        pass

    with pytest.raises(NotPicklable, match=r"its class .*Local cannot be pickled .* top level"):
        config(agent_class=Local)


@pytest.mark.parametrize("part", ["observer", "router"])
def test_an_observer_or_router_that_cannot_pickle_is_refused(part: str) -> None:
    """An observer or a router that cannot be pickled is refused where it is given."""
    observer = Silent()
    observer.connection = threading.Lock()  # type: ignore[attr-defined]  # the mistake under test
    options = {"observers": [observer]} if part == "observer" else {"router": lambda _: None}
    with pytest.raises(NotPicklable, match=f"{part}.* cannot be pickled into a job process"):
        AgentPool(**options)


def test_a_class_that_comes_from_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that was typed into a terminal is refused, because no other process has it."""
    terminal = ModuleType("__main__")  # it has no `__file__`
    monkeypatch.setitem(sys.modules, "__main__", terminal)
    exec("from livekit.agents import Agent\nclass Typed(Agent): pass", vars(terminal))  # noqa: S102
    with pytest.raises(NotPicklable) as refused:
        AgentPool().add("typed", terminal.Typed)
    assert "its class Typed cannot be pickled into a job process (it was not read" in str(
        refused.value
    )
