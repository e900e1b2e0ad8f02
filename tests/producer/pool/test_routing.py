"""Routing: which agent a call reaches, decided by what is known before its room connects."""

from __future__ import annotations

import json
import logging
from collections import UserString
from collections.abc import Mapping
from enum import Enum, StrEnum
from pathlib import PurePath
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from livekit.protocol import agent, models

from voicecosts.producer import dispatch
from voicecosts.producer.errors import NoAgents, RouterFailed, UnknownAgent
from voicecosts.producer.pool.observers import info_of
from voicecosts.producer.pool.routing import (
    CHAIN,
    JobView,
    Route,
    resolve,
    resolve_and_log,
    steps,
    view_of,
)

NAMES = ("restaurant", "dental", "support")


class Names(str, Enum):  # noqa: UP042 - str() of these is not their text, unlike a StrEnum's
    """Names as a program may keep them."""

    DENTAL = "dental"
    SALES = "sales"


def routed(**dispatched: Any) -> Route:
    """Resolve a call to one of three agents."""
    return resolve(JobView(**dispatched), NAMES)


def test_the_metadata_of_the_job_beats_that_of_the_room() -> None:
    """An agent in the job's metadata wins over one in the room's."""
    route = routed(job_metadata='{"agent": "dental"}', room_metadata='{"agent": "support"}')
    assert route == Route("dental", "job metadata")


def test_the_metadata_of_the_room_beats_its_name() -> None:
    """An agent in the room's metadata wins over the room's name."""
    route = routed(room_metadata='{"agent": "support"}', room_name="dental-7")
    assert route == Route("support", "room metadata")


@pytest.mark.parametrize("where", ["job", "room"])
def test_the_key_demo_names_an_agent_as_well(where: str) -> None:
    """`demo` names an agent, in the job's metadata or in the room's, as playgrounds send it."""
    route = routed(**{f"{where}_metadata": '{"demo": "support"}'})
    assert route == Route("support", f"{where} metadata")


def test_the_key_agent_beats_demo() -> None:
    """Within one source `agent` is asked first."""
    assert routed(job_metadata='{"demo": "support", "agent": "dental"}').agent == "dental"


def test_demo_in_the_job_beats_agent_in_the_room() -> None:
    """`demo` in the job's metadata wins over `agent` in the room's."""
    route = routed(job_metadata='{"demo": "support"}', room_metadata='{"agent": "dental"}')
    assert route == Route("support", "job metadata")


@pytest.mark.parametrize(
    "metadata",
    [
        '{"agent": "dental"}',
        ' \n{"agent": " dental "}\t',
        {"agent": "dental"},
        MappingProxyType({"agent": "\tdental\n"}),
        '{"agent": "dental"}\u00a0',
        '\x0c\u2003{"agent": "dental"}\x1f',
        '{"agent": "\\u00a0dental\\u3000"}',
        {"agent": Names.DENTAL},
    ],
)
def test_metadata_is_the_text_of_a_json_object_or_a_mapping(metadata: object) -> None:
    """JSON text and a mapping both name the agent, whatever space is around text and name."""
    assert routed(job_metadata=metadata) == Route("dental", "job metadata")


NO_WISH = [
    None,
    "",
    "  \n",
    "no JSON",
    "{",
    '{"agent"',
    "7",
    "true",
    "null",
    '"dental"',
    '["dental"]',
    "{}",
    '{"agent": null}',
    '{"agent": 7}',
    '{"agent": ["dental"]}',
    '{"agent": ""}',
    '{"agent": " "}',
    '{"AGENT": "dental"}',
    7,
    ["dental"],
    b'{"agent": "dental"}',
    pytest.param("[" * 70_000, id="nested too deep"),
    pytest.param("9" * 5_000, id="a number too long"),
]


@pytest.mark.parametrize("metadata", NO_WISH)
def test_metadata_that_names_no_agent_leaves_the_call_to_the_next_rule(metadata: object) -> None:
    """Metadata that is not a JSON object or lacks the keys names no agent and raises nothing."""
    assert routed(job_metadata=metadata) == Route("restaurant", "default fallback")
    assert routed(room_metadata=metadata, room_name="dental-1").source == "room name prefix"


@pytest.mark.parametrize("blank", ['""', '"  "', "null"])
def test_a_blank_agent_lets_demo_apply(blank: str) -> None:
    """A blank `agent` counts as absent, so `demo` applies."""
    assert routed(job_metadata=f'{{"agent": {blank}, "demo": "support"}}').agent == "support"


def test_a_room_name_that_begins_with_an_agent_and_a_dash_reaches_it() -> None:
    """A room named `dental-2026-11-21` reaches the agent `dental`."""
    assert routed(room_name="dental-2026") == Route("dental", "room name prefix")


@pytest.mark.parametrize("name", ["", "dental", "dental_1", "xdental-1", "Dental-1", "-dental-1"])
def test_a_room_name_without_that_beginning_says_nothing(name: str) -> None:
    """A room's name must begin with the exact agent name and a dash."""
    assert routed(room_name=name) == Route("restaurant", "default fallback")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("dental", "dental-er"), "dental"), (("dental-er", "dental"), "dental-er")],
)
def test_of_two_fitting_names_the_first_registered_one_wins(
    names: tuple[str, ...], expected: str
) -> None:
    """Of `dental` and `dental-er` the one registered first gets the room, not the longer one."""
    assert resolve(JobView(room_name="dental-er-1"), names).agent == expected
    assert resolve(JobView(job_metadata='{"agent": "dental-er"}'), names).agent == "dental-er"


def test_names_that_differ_in_case_are_two_agents() -> None:
    """Upper and lower case are told apart in metadata and in room names."""
    names = ("dental", "Dental")
    assert resolve(JobView(job_metadata='{"agent": "Dental"}'), names).agent == "Dental"
    assert resolve(JobView(room_name="Dental-1"), names).agent == "Dental"
    with pytest.raises(UnknownAgent):
        resolve(JobView(job_metadata='{"agent": "DENTAL"}'), names)


def test_metadata_of_64_kilobytes_is_read_to_its_end() -> None:
    """Metadata with a long prompt beside the key is read whole."""
    long = json.dumps({"prompt": "x" * 65_536, "agent": "dental"})
    assert routed(job_metadata=long, room_metadata=long) == Route("dental", "job metadata")


def test_long_metadata_is_parsed_once_for_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule, the tenant and what observers are told read one parsed object."""
    parsed: list[str] = []
    loads = json.loads

    def counting(written: str) -> Any:
        parsed.append(written)
        return loads(written)

    monkeypatch.setattr(dispatch.json, "loads", counting)
    view = JobView(job_metadata='{"lang": "de"}', room_metadata='{"tenant": "acme"}')
    route = resolve(view, NAMES)
    assert info_of(route.agent, view).metadata == {"lang": "de", "tenant": "acme"}
    assert sorted(parsed) == ['{"lang": "de"}', '{"tenant": "acme"}']


@pytest.mark.parametrize("source", ["job metadata", "room metadata"])
@pytest.mark.parametrize("key", ["agent", "demo"])
def test_an_unknown_name_is_an_error_that_names_its_source(source: str, key: str) -> None:
    """An unknown name is an error with its source, and no later rule is tried."""
    field = source.replace(" ", "_")
    view = JobView(room_name="dental-1", **{field: f'{{"{key}": "sales"}}'})
    with pytest.raises(ValueError, match=f"^Unknown agent 'sales' requested via {source}") as it:
        resolve(view, NAMES)
    assert "Registered: restaurant, dental, support." in str(it.value)


def test_a_foreign_name_is_shown_as_one_short_line() -> None:
    """A name from metadata is shown as one short line, so that it cannot add lines to a log."""
    wish = json.dumps({"agent": "a\nERROR forged \x1b[31m\ud800" + "x" * 60_000})
    with pytest.raises(UnknownAgent) as refused:
        routed(job_metadata=wish)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()
    assert r"a\nERROR forged \x1b[31m\ud800" in str(refused.value)


def test_an_empty_pool_has_nothing_to_choose_from() -> None:
    """An empty pool raises `NoAgents`, whatever the call names."""
    for view in (JobView(), JobView(job_metadata='{"agent": "dental"}')):
        with pytest.raises(
            RuntimeError, match=r"^No agents are .* with add\(\) or discover\(\)\.$"
        ):
            resolve(view, ())
    assert issubclass(NoAgents, RuntimeError)


def test_the_first_registered_agent_gets_the_calls_that_name_none() -> None:
    """A call that names no agent reaches the one that was registered first."""
    assert resolve(JobView(room_name="any"), NAMES) == Route("restaurant", "default fallback")
    assert resolve(JobView(room_name="any"), NAMES[1:]) == Route("dental", "default fallback")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ('{"agent": "x", "n": 1}', {"agent": "x", "n": 1}),
        ({"agent": "x"}, {"agent": "x"}),
        ("", None),
        ("no JSON", None),
        ("[1]", None),
        (None, None),
    ],
)
def test_a_router_gets_the_jobs_metadata_parsed_or_none(
    metadata: object, expected: Mapping[str, Any] | None
) -> None:
    """A router gets JSON text parsed, a mapping as it is, and `None` for anything else."""
    seen: list[Any] = []

    def router(metadata: Mapping[str, Any] | None) -> str:
        seen.append(metadata)
        return "support"

    view = JobView(job_metadata=metadata, room_metadata='{"agent": "dental"}')
    assert resolve(view, NAMES, router) == Route("support", "router")
    assert seen == [expected]


def test_a_router_that_returns_none_leaves_the_call_to_the_chain() -> None:
    """Where a router returns `None`, the chain decides."""
    view = JobView(job_metadata='{"agent": "dental"}')
    assert resolve(view, NAMES, lambda _: None) == Route("dental", "job metadata")


@pytest.mark.parametrize(
    "name", [Names.DENTAL, UserString("dental"), StrEnum("N", ["DENTAL"]).DENTAL]
)
def test_a_routers_answer_is_taken_by_its_characters(name: Any) -> None:
    """A member of an enumeration with texts names the agent that its text names."""
    assert resolve(JobView(), NAMES, lambda _: name) == Route("dental", "router")


class Incomparable:
    """An answer whose own code fails wherever it is asked."""

    __hash__ = None  # type: ignore[assignment]  # what makes it awkward

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "answer", [PurePath("dental"), 7, b"dental", ["dental"], object, Names, Incomparable()]
)
def test_a_routers_answer_that_is_no_name_refuses_the_call(answer: Any) -> None:
    """What only looks like a name when it is written out is no name."""
    with pytest.raises(UnknownAgent) as refused:
        resolve(JobView(), NAMES, lambda _: answer)
    assert str(refused.value) == (
        f"The router returned a value of type {type(answer).__name__}: let it return the name of "
        "an agent as text, or None. Registered: restaurant, dental, support."
    )


@pytest.mark.parametrize("name", ["sales", "", " dental "])
def test_a_router_that_names_no_agent_of_the_pool_refuses_the_call(name: str) -> None:
    """A router's answer is taken exactly; a name that is not registered refuses the call."""
    with pytest.raises(UnknownAgent, match=f"^Unknown agent '{name}' requested via router"):
        resolve(JobView(room_name="dental-1"), NAMES, lambda _: name)


def test_a_router_that_raises_refuses_the_call_with_its_cause() -> None:
    """A router that raises refuses the call with its cause, and the chain is not asked."""
    cause = KeyError("customer")

    def router(_: Mapping[str, Any] | None) -> str:
        raise cause

    with pytest.raises(
        RouterFailed, match=r"router raised KeyError\('customer'\): corr"
    ) as refused:
        resolve(JobView(job_id="AJ_1", job_metadata='{"agent": "dental"}'), NAMES, router)
    assert refused.value.job_id == "AJ_1"
    assert "AJ_1" not in str(refused.value)  # the log names the job
    assert refused.value.__cause__ is cause


@pytest.mark.parametrize(
    ("view", "line"),
    [
        (JobView(job_metadata='{"demo": "dental"}'), "'dental' via job metadata."),
        (JobView(room_metadata='{"agent": "dental"}'), "'dental' via room metadata."),
        (JobView(room_name="dental-1"), "'dental' via room name prefix."),
        (JobView(), "'restaurant' via default fallback."),
    ],
)
def test_the_log_says_where_a_call_went_and_why(
    view: JobView, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each routed call is one line at INFO with the agent and the source."""
    with caplog.at_level(logging.INFO):
        resolve_and_log(view, NAMES)
    assert [record.getMessage() for record in caplog.records] == [f"Resolved agent {line}"]
    assert caplog.records[0].levelno == logging.INFO


def test_the_strategies_that_were_asked_say_why_in_their_order() -> None:
    """The steps end with the one that decides, and name what an earlier registration hides."""
    asked = list(steps(JobView(job_metadata='{"agent": ""}', room_name="a-b-1"), ("a", "a-b")))
    assert [step.strategy for step in asked] == list(CHAIN[: len(asked)])
    assert [step.finding.why for step in asked] == [
        "it is blank",
        "there is no such key",
        "there is no metadata",
        "there is no metadata",
        "'a-b-1' begins with 'a-', before 'a-b'",
    ]


def test_the_dispatched_job_is_read_before_the_room_is_connected() -> None:
    """Before the room is connected, name and metadata are read from the job's own room."""
    job = agent.Job(id="AJ_1", metadata="m", room=models.Room(name="dental-1", metadata="r"))
    connected = SimpleNamespace(name="other-1", metadata="other")
    for room in (None, SimpleNamespace(name="", metadata=""), connected):
        assert view_of(job, room) == JobView(
            job_id="AJ_1", room_name="dental-1", job_metadata="m", room_metadata="r"
        )


def test_the_connected_room_fills_in_what_the_job_leaves_out() -> None:
    """What a job without a room leaves out is read from the connected room."""
    view = view_of(SimpleNamespace(id="AJ_1"), SimpleNamespace(name="dental-1", metadata="r"))
    assert (view.room_name, view.room_metadata, view.job_metadata) == ("dental-1", "r", None)


@pytest.mark.parametrize(
    "job", [None, SimpleNamespace(), SimpleNamespace(room=None, id=None), agent.Job()]
)
@pytest.mark.parametrize("room", [None, SimpleNamespace(name=None), SimpleNamespace(name=7)])
def test_a_job_that_says_nothing_gets_the_first_agent(job: object, room: object) -> None:
    """A job without room, metadata and id reaches the first agent."""
    assert resolve(view_of(job, room), NAMES) == Route("restaurant", "default fallback")


def reference(names: tuple[str, ...], job: object, room: object, room_name: str) -> str | None:
    """Return the registered agent, or `None` for a refused call: the routing in six lines."""
    read = [m for m in (job, room) if isinstance(m, dict)]
    wishes = [m.get(key) for m in read for key in ("agent", "demo")]
    named = [wish.strip() for wish in wishes if isinstance(wish, str) and wish.strip()]
    if named:
        return named[0] if named[0] in names else None
    return next((name for name in names if room_name.startswith(name + "-")), names[0])


AGENT_NAMES = st.sampled_from(["a", "A", "a-b", "ab", "b", "b-", "-", "_", "a-b-c"])
VALUES = st.one_of(
    AGENT_NAMES,
    AGENT_NAMES.map(lambda name: f" {name}\n"),
    st.text(max_size=4),
    st.none() | st.booleans() | st.integers() | st.lists(st.text(max_size=2), max_size=2),
)
KEYS = st.sampled_from(["agent", "demo", "Agent", "tenant", ""])
METADATA = st.one_of(st.dictionaries(KEYS, VALUES, max_size=4), VALUES)


@given(
    names=st.lists(AGENT_NAMES, min_size=1, max_size=5, unique=True).map(tuple),
    job=METADATA,
    room=METADATA,
    room_name=st.one_of(
        st.text(max_size=8), st.tuples(AGENT_NAMES, st.text(max_size=4)).map("-".join)
    ),
    as_text=st.booleans(),
)
@example(names=("a", "a-b"), job={}, room={}, room_name="a-b-1", as_text=True)
@example(names=("a",), job={"agent": "x"}, room={"agent": "a"}, room_name="a-", as_text=False)
def test_the_chain_agrees_with_a_reference_model(
    names: tuple[str, ...],
    job: object,
    room: object,
    room_name: str,
    as_text: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    """On arbitrary metadata and room names the chain and the model agree."""
    dispatched = [json.dumps(it) if as_text else it for it in (job, room)]
    view = JobView(job_metadata=dispatched[0], room_metadata=dispatched[1], room_name=room_name)
    expected = reference(names, job, room, room_name)
    if expected is None:
        with pytest.raises(UnknownAgent):
            resolve(view, names)
    else:
        assert resolve(view, names).agent == expected


@given(text=st.text(max_size=200), room_name=st.text(max_size=50))
def test_no_text_whatever_breaks_the_routing(text: str, room_name: str) -> None:
    """Arbitrary metadata resolves or is refused, and nothing else is raised."""
    view = JobView(job_metadata=text, room_metadata=text, room_name=room_name)
    try:
        reached = resolve(view, NAMES).agent
    except UnknownAgent as refused:
        reached = refused.name
        said = str(refused)
    else:
        said = reached
    assert said.isprintable()
    assert reached in NAMES or isinstance(json.loads(text), dict)
