"""Our routing beside OpenRTC's own resolver: the same odd dispatches, and every difference has a name.

`DIFFERENCES` says where the two differ on purpose, and why. What is not in it must be the same:
the agent, the source that named it, what the router was given, what observers are told, and the kind
of the error.
"""

# ruff: noqa: FBT003 - booleans are some of the odd values

from __future__ import annotations

import json
import logging
import random
import string
from collections import Counter, UserDict, UserString
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, Self

import pytest
from livekit.protocol import agent, models
from openrtc import AgentPool as OpenRTCPool
from openrtc.core.session_view import for_livekit
from openrtc.observability.base_observer import _build_session_info
from openrtc.routing.request_filter import _owns_room
from openrtc.routing.resolver import _resolve_agent_config

from tests.support.pool_agents import Dental
from voicecosts import AgentPool
from voicecosts.producer.dispatch import tenant_of
from voicecosts.producer.errors import RouterFailed, UnknownAgent
from voicecosts.producer.pool.observers import info_of
from voicecosts.producer.pool.routing import owner, resolve_and_log, view_of

DIFFERENCES = {
    "no tenant": "OpenRTC names it 'default'; a bill must not name a tenant that nobody gave",
    "null tenant": "OpenRTC names it 'None', the word that Python writes for it; here it is none",
    "odd tenant": "OpenRTC refuses the call, because it looks up keys and prompts by the name; here "
    "it is a name on a bill, and metering never refuses a call: it is kept, or none without a text",
    "unreadable JSON": "OpenRTC refuses the call with Python's RecursionError or ValueError; here it "
    "is no metadata, as any other text that cannot be parsed",
    "unwritable value": "OpenRTC refuses the call with Python's ValueError; here the observers are "
    "told the value's type",
    "unhashable answer": "OpenRTC ends with Python's TypeError; here it is an unknown agent",
    "foreign job": "OpenRTC's filter takes a job whose metadata names a foreign agent when its room "
    "is ours, and its routing then refuses the call; here it is left to the worker that has the agent",
}
"""Where the two differ, and why."""

SEED = 20_261_125

BLANKS = [
    "",
    "",
    "",
    " ",
    "\n",
    "\t",
    "\u00a0",
    "\u2003",
    "\x0c",
    "\x1c",
    "\x1f",
    "\u3000",
    "\ufeff",
    "\x00",
]
NAMES = [
    "dental",
    "dental-er",
    "Dental",
    "dental-",
    "restaurant",
    "a",
    "a-b",
    "a-b-c",
    "-",
    "_",
    "default",
]
DEEP, ENDLESS = "[" * 100_000, f'{{"n": {"9" * 5_000}}}'
LONG = "x" * 70_000
UNWRITABLE = {"n": 10**5_000}
TOO_LONG = "too many digits"


class Member(str, Enum):  # noqa: UP042 - str() of these is not their text, unlike a StrEnum's
    """Names and tenants in an enumeration."""

    DENTAL = "dental"
    UNKNOWN = "sales"


class Text(str):
    """A text of a type of its own."""

    __slots__ = ()


class Case(NamedTuple):
    """One dispatch to one registry."""

    registry: int
    job: Any
    room: Any
    router: Callable[[Any], Any] | None


class Answer(NamedTuple):
    """What became of it: an agent and what observers are told of it, or the kind of the error."""

    agent: str | None = None
    source: str = ""
    told: Any = None
    error: Any = None
    router_got: str = ""


class Dispatches:
    """Makes odd dispatches; the same seed makes the same ones."""

    def __init__(self, seed: int, registries: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self.registries = registries

    def one(self) -> Case:
        """Return one of them."""
        room_name = self.room_name()
        job_metadata, room_metadata = self.metadata(), self.metadata()
        if isinstance(job_metadata, str) and isinstance(room_metadata, str) and self.is_rare(3):
            job = self.real_job(room_name, job_metadata, room_metadata)
        else:
            job = self.stub_job(room_name, job_metadata, room_metadata)
        connected = self.of(
            None,
            SimpleNamespace(name="", metadata=""),
            SimpleNamespace(name=self.room_name(), metadata=self.metadata()),
            SimpleNamespace(),
        )
        router = self.router() if self.is_rare(4) else None
        return Case(self.random.randrange(self.registries), job, connected, router)

    def of(self, *choices: Any) -> Any:
        """Return one of some values."""
        return self.random.choice(choices)

    def is_rare(self, one_in: int) -> bool:
        """Return True once in so many times."""
        return self.random.randrange(one_in) == 0

    def real_job(self, room_name: Any, job_metadata: str, room_metadata: str) -> Any:
        """Return LiveKit's own job, where protobuf can hold these texts."""
        try:
            room = models.Room(name=str(room_name or ""), metadata=room_metadata)
            return agent.Job(id=self.of("", "AJ_1"), metadata=job_metadata, room=room)
        except (UnicodeEncodeError, ValueError):
            return self.stub_job(room_name, job_metadata, room_metadata)

    def stub_job(self, room_name: Any, job_metadata: Any, room_metadata: Any) -> Any:
        """Return something shaped like a job, some of it left out."""
        job = SimpleNamespace(id=self.of("AJ_1", "", None), metadata=job_metadata)
        job.room = SimpleNamespace(name=room_name, metadata=room_metadata)
        for owner_, field in ((job, "id"), (job, "metadata"), (job.room, "name"), (job, "room")):
            if self.is_rare(25):
                delattr(owner_, field)
        return job

    def room_name(self) -> Any:
        """Return a room's name: of an agent, nearly so, or anything."""
        if self.is_rare(12):
            return self.of(None, "", 7, b"dental-1", Text("dental-1"), LONG, "dental-\ud800")
        head = self.of(*NAMES, "x", "DENTAL", " dental", "\ufeffdental", "dental\u2010")
        return f"{head}{self.of('-', '', '_', '--', ' -')}{self.of('', '1', 'er', 'er-1', '+4930123456')}"

    def metadata(self) -> Any:
        """Return metadata of a job or a room."""
        kind = self.random.randrange(20)
        if kind < 3:
            return self.of(
                None, "", "  ", "\u00a0\x0c", "no JSON", "{", "[1]", "7", "true", "null", '"x"'
            )
        if kind == 3:
            return self.of(7, True, ["dental"], b'{"agent": "dental"}', NAMES, 1.5, object)
        if kind == 4 and self.is_rare(4):
            return self.of(DEEP, f'{{"agent": "dental", "n": {DEEP}', ENDLESS, UNWRITABLE)
        content = self.content()
        if kind < 8:
            as_mapping = self.of(dict, UserDict, MappingProxyType, self.with_odd_keys)
            return as_mapping(content)
        written = self.written(content)
        around = f"{self.of(*BLANKS)}{written}{self.of(*BLANKS)}"
        return Text(around) if self.is_rare(30) else around

    def with_odd_keys(self, content: dict[str, Any]) -> dict[Any, Any]:
        """Return a mapping that no JSON could be."""
        return {**content, 7: "a", "7": "b", None: 1, Member.DENTAL: self.wish()}

    def written(self, content: dict[str, Any]) -> str:
        """Return a mapping as JSON, as a program might write it, or nearly so."""
        pairs = [
            f"{json.dumps(key)}: {self.value_as_json(value)}" for key, value in content.items()
        ]
        if pairs and self.is_rare(6):
            pairs.insert(0, f'"agent": "{self.of(*NAMES)}"')  # a key twice: the last one counts
        if self.is_rare(8):
            pairs.append(
                self.of('"n": NaN', '"n": -Infinity', '"p": {"agent": "dental"}', '"e": "\\ud83d"')
            )
        if self.is_rare(40):
            pairs.append(f'"prompt": "{LONG}"')
        text = "{" + ", ".join(pairs) + "}"
        if self.is_rare(12):
            text = self.of(
                text[:-1], text.replace('"', "'"), f"[{text}]", f"{text}{text}", f"{text},"
            )
        return text

    def value_as_json(self, value: Any) -> str:
        """Return a value as JSON; what JSON has no word for as its text."""
        return json.dumps(value, default=str, ensure_ascii=self.is_rare(2))

    def content(self) -> dict[str, Any]:
        """Return keys that the routing reads, nearly reads, or leaves alone."""
        keys = ("agent", "demo", "tenant", "Agent", "agent ", "", "lang", "n")
        chosen = [key for key in keys if self.is_rare(3)]
        self.random.shuffle(chosen)
        return {key: self.tenant() if key == "tenant" else self.wish() for key in chosen}

    def wish(self) -> Any:
        """Return what somebody wrote for an agent."""
        kind = self.random.randrange(10)
        if kind < 5:
            return f"{self.of(*BLANKS)}{self.of(*NAMES)}{self.of(*BLANKS)}"
        if kind < 7:
            return self.of(
                None,
                True,
                False,
                0,
                7,
                1.5,
                float("nan"),
                [],
                ["dental"],
                {"agent": "dental"},
            )
        if kind == 7:
            return self.of("", " ", "\u2003", "\x00", "\ud800", "sales", "dental\n", "dent", LONG)
        if kind == 8:
            return self.of(Member.DENTAL, Member.UNKNOWN, Text(" dental "))
        return "".join(
            self.of(*string.printable, "é", "\u202e") for _ in range(self.random.randrange(6))
        )

    def tenant(self) -> Any:
        """Return what somebody wrote for a tenant."""
        if self.is_rare(2):
            return self.of(
                "acme", "globex", " acme\n", "default", "None", "A-1_b", "x" * 128, "\u00a0acme"
            )
        return self.of(
            *("Acme Corp", "a/b", "ä", "x" * 129, "a\nb", "\ud800", "+4930123456", "=1+1"),
            *(None, "", " ", "\u2003", 0, 42, 1.5, True, False, float("inf"), [], ["a"], {"a": 1}),
            *(Text("acme"), "\ufeffacme"),
        )

    def router(self) -> Callable[[Any], Any]:
        """Return a router: one that answers, one that raises, or one that writes into what it got."""
        if self.is_rare(6):
            return self.of(raising, writing)
        answers = (
            *(None, None, *NAMES, "sales", "", " dental ", LONG, "\ud800", "a\nb"),
            *(Member.DENTAL, Member.UNKNOWN, Text("dental"), UserString("dental"), UserString("x")),
            *(7, True, 0, False, 1.5, b"dental", PurePath("dental"), ("dental",), object, Dental),
            *(["dental"], {"agent": "dental"}, {"dental"}),
        )
        answer = self.random.choice(answers)
        return lambda _: answer


def raising(_: Any) -> str:
    """A router with a defect."""
    raise KeyError("customer")


def writing(metadata: Any) -> None:
    """A router that changes what it was given, and leaves the call to the chain."""
    if isinstance(metadata, dict):
        metadata["agent"] = "dental"


class Registries:
    """The same registrations and removals in pools of both kinds."""

    def __init__(self, seed: int, count: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self.ours: list[AgentPool] = []
        self.theirs: list[OpenRTCPool] = []
        for number in range(count):
            ours, theirs = AgentPool(), OpenRTCPool(enable_introspection=False)
            names = chance.sample(NAMES, chance.randrange(1, len(NAMES))) if number else []
            for name in names:
                ours.add(name, Dental)
                theirs.add(name, Dental)
            gone = names[:1] * (number % 3 == 0) + names[2:3] * (number % 5 == 0)
            for name in gone:
                ours.remove(name)
                theirs.remove(name)
            self.ours.append(ours)
            self.theirs.append(theirs)
            assert ours.list_agents() == theirs.list_agents()

    def names(self, number: int) -> tuple[str, ...]:
        """Return the agents of one of them."""
        return tuple(self.ours[number].list_agents())


class Source(logging.Handler):
    """Keeps what a resolver logged last."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.INFO)
        self.logger = logging.getLogger(name)
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said = str(record.msg) % record.args if record.args else str(record.msg)

    def source(self) -> str:
        """Return the source that it named."""
        if self.said.startswith("Router resolved"):
            return "router"
        for word in (
            "job metadata",
            "room metadata",
            "room name prefix",
            "default fallback",
            "router",
        ):
            if f"via {word}" in self.said:
                return word
        raise AssertionError(f"no source in {self.said!r}")

    def __enter__(self) -> Self:
        self.before = (self.logger.level, self.logger.propagate)
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.level, self.logger.propagate = self.before


def listening(router: Callable[[Any], Any] | None, got: list[str]) -> Callable[[Any], Any] | None:
    """Return a router that also notes what it is given."""
    if router is None:
        return None

    def heard(metadata: Any) -> Any:
        got.append(f"{type(metadata).__name__} {shortened(metadata)}")
        return router(metadata)

    return heard


def shortened(value: Any) -> str:
    """Return a value in a form that can be compared, where NaN equals itself."""
    if isinstance(value, Mapping):
        return str({str(key): shortened(each) for key, each in value.items()})
    return (
        "a huge integer"
        if isinstance(value, int) and value.bit_length() > 9999
        else repr(value)[:300]
    )


def of_openrtc(registries: Registries, case: Case, source: Source) -> Answer:
    """Resolve a case with OpenRTC, as it does before it makes a session."""
    got: list[str] = []
    context = SimpleNamespace(job=case.job, room=case.room)
    agents = registries.theirs[case.registry]._agents
    try:
        config = _resolve_agent_config(agents, context, router=listening(case.router, got))
        reached = source.source()
        info = _build_session_info(config.name, for_livekit(context))
    except Exception as error:  # noqa: BLE001 - whatever it raises is compared
        return Answer(error=kind_of(error), router_got=str(got))
    told = (info.agent_name, info.room_name, info.job_id, dict(info.metadata), info.tenant)
    return Answer(config.name, reached, told, None, str(got))


def of_ours(registries: Registries, case: Case, source: Source) -> Answer:
    """Resolve a case with our own pool, as it does before it makes a session."""
    got: list[str] = []
    view = view_of(case.job, case.room)
    try:
        names = tuple(registries.ours[case.registry]._state.agents)
        route = resolve_and_log(view, names, listening(case.router, got))
        assert source.source() == route.source
        info = info_of(route.agent, view)
    except (UnknownAgent, RouterFailed, RuntimeError) as error:
        return Answer(error=kind_of(error), router_got=str(got))
    told = (info.agent_name, info.room_name, info.job_id, dict(info.metadata), info.tenant)
    return Answer(route.agent, route.source, told, None, str(got))


def kind_of(error: Exception) -> tuple[str, ...]:
    """Return the kind of a refusal: what it inherits, and what its message is about."""
    said = str(error)
    inherits = next(it.__name__ for it in type(error).__mro__ if it.__module__ == "builtins")
    for source in ("job metadata", "room metadata"):
        if "Unknown agent" in said and f"requested via {source}" in said:
            return inherits, "unknown agent", source
    if any(it in said for it in ("returned unknown agent", "requested via router", "returned a")):
        return inherits, "unknown agent", "router"
    if "outer raised" in said:
        return inherits, "router raised", type(error.__cause__).__name__
    if "Tenant id" in said:
        return inherits, "odd tenant"
    if "Exceeds the limit" in said:
        return inherits, TOO_LONG
    said = said.removesuffix(".").removesuffix(": register one with add() or discover()")
    return inherits, said if inherits != "TypeError" else "unhashable" * ("unhashable" in said)


def apart(case: Case) -> Case:
    """Return the case with metadata of its own where its router writes into it."""
    metadata = getattr(case.job, "metadata", None)
    if case.router is not writing or not isinstance(metadata, dict):
        return case
    return case._replace(job=SimpleNamespace(**{**vars(case.job), "metadata": dict(metadata)}))


def with_metadata(case: Case, rewritten: Callable[[Any], Any]) -> Case:
    """Return the case with the metadata of its job and rooms rewritten."""

    def again(holder: Any) -> Any:
        if holder is None or not hasattr(holder, "metadata"):
            return holder
        if isinstance(holder, SimpleNamespace):
            return SimpleNamespace(**{**vars(holder), "metadata": rewritten(holder.metadata)})
        copy = type(holder)()
        copy.CopyFrom(holder)
        copy.metadata = rewritten(holder.metadata)
        return copy

    job = again(case.job)
    if isinstance(job, SimpleNamespace):
        job = SimpleNamespace(
            **{**vars(job), **({"room": again(job.room)} if hasattr(job, "room") else {})}
        )
    else:
        job.room.CopyFrom(again(case.job.room))
    return case._replace(job=job, room=again(case.room))


def without_what_cannot_be_read(case: Case) -> Case:
    """Return the case with unreadable metadata taken out, as our reading of it takes it."""
    return with_metadata(case, lambda it: "" if isinstance(it, str) and is_unreadable(it) else it)


def without_what_cannot_be_written(case: Case) -> Case:
    """Return the case with its endless integers written as our observers are told them."""
    return with_metadata(case, lambda it: {"n": "<int>"} if it is UNWRITABLE else it)


def is_unreadable(metadata: str) -> bool:
    """Whether Python raises something else than its JSONDecodeError over a text."""
    try:
        json.loads(metadata.strip())
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):
        return True
    return False


def differences(
    registries: Registries, case: Case, ours: Answer, theirs: Answer, source: Source
) -> Iterator[str]:
    """Yield the names of the differences between two answers; a wrong one fails here."""
    if theirs.error and (theirs.error[0] == "RecursionError" or theirs.error[1] == TOO_LONG):
        cleaned = without_what_cannot_be_read(case)
        theirs_again = of_openrtc(registries, apart(cleaned), source)
        if theirs_again != theirs:
            yield "unreadable JSON"
            theirs = theirs_again
        if theirs.error and theirs.error[1] == TOO_LONG:
            yield "unwritable value"
            got = theirs.router_got  # the router was given the integer
            theirs = of_openrtc(registries, apart(without_what_cannot_be_written(cleaned)), source)
            theirs = theirs._replace(router_got=got)
    view = view_of(case.job, case.room)
    given = view.metadata().get("tenant") if ours.agent else None
    if theirs.error == ("TypeError", "unhashable"):
        yield "unhashable answer"
        assert ours.error == ("ValueError", "unknown agent", "router")
        return
    if theirs.error == ("ValueError", "odd tenant"):
        yield "odd tenant"
        assert ours.agent is not None
        assert ours.told[4] == tenant_of(given)
        assert ours.told[3].get("tenant") == ours.told[4]
        return
    if theirs.error is None and ours.told[4] is None:
        yield "null tenant" if theirs.told[4] == "None" else "no tenant"
        assert given is None or not str(given).strip()
        assert "tenant" not in ours.told[3]
        told = {key: value for key, value in theirs.told[3].items() if key != "tenant"}
        theirs = theirs._replace(told=(*theirs.told[:3], told, None))
    assert ours == theirs, (case, ours, theirs)


@pytest.fixture(scope="module")
def registries() -> Registries:
    """Thirty pools of each kind; the first ones are empty."""
    return Registries(SEED, 30)


@pytest.mark.parametrize("cases", [4_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_odd_dispatches_are_resolved_as_openrtc_does(registries: Registries, cases: int) -> None:
    """Agent, source, router's argument, what observers are told, and errors; or a named difference."""
    dispatches = Dispatches(SEED, 30)
    found: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    with Source("openrtc") as theirs_log, Source("voicecosts.producer.pool.routing") as ours_log:
        logging.getLogger("voicecosts.producer.dispatch").disabled = True
        for _ in range(cases):
            case = dispatches.one()
            theirs = of_openrtc(registries, apart(case), theirs_log)
            ours = of_ours(registries, apart(case), ours_log)
            found.update(differences(registries, case, ours, theirs, theirs_log))
            outcomes[ours.source or str(ours.error[:2])] += 1
        logging.getLogger("voicecosts.producer.dispatch").disabled = False
    assert set(found) == set(DIFFERENCES) - {"foreign job"}
    assert {
        "router",
        "job metadata",
        "room metadata",
        "room name prefix",
        "default fallback",
    } <= set(outcomes)
    assert {kind for kind in outcomes if kind.startswith("(")} == {
        "('ValueError', 'unknown agent')",
        "('ValueError', 'router raised')",
        "('RuntimeError', 'No agents are registered in the pool')",
    }
    assert min(outcomes.values()) > cases // 200, outcomes


def test_a_worker_takes_the_jobs_that_openrtcs_filter_takes(registries: Registries) -> None:
    """Whether a job is the pool's own is answered alike, but for jobs that name a foreign agent."""
    dispatches = Dispatches(SEED + 1, 30)
    found: Counter[str] = Counter()
    for _ in range(2_000):
        case = without_what_cannot_be_read(dispatches.one())
        view = view_of(case.job, case.room)
        names = registries.names(case.registry)
        theirs = _owns_room(
            dict.fromkeys(names),
            room_name=view.room_name,
            job_metadata=view.job_metadata,
            room_metadata=view.room_metadata,
        )
        ours = owner(view, names) is not None
        if ours != theirs:
            found["foreign job"] += 1
            assert theirs
            with pytest.raises(UnknownAgent):
                resolve_and_log(view, names)
    assert set(found) == {"foreign job"}
