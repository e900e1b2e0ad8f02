"""Random calls as data: which sessions a process has, what they share, and what happens in them.

A script shrinks well and prints itself as the Python that makes it again; `script_run.py` runs it
on real sessions and says what each session may have been counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from hypothesis import strategies as st

LLMS: Final = ("own", "shared", "own fallback", "shared fallback", "own twice", "shared twice")
"""Whose model a session has, and behind which adapters; `twice` is an adapter in an adapter."""

REALTIME: Final = ("own realtime", "shared realtime")
"""Whose realtime model a session has instead; each session has its own connection to it."""

TTSS: Final = (
    "own",
    "shared",
    "own stream",
    "shared stream",
    "own fallback",
    "shared fallback",
    "shared fallback stream",
)
STTS: Final = ("own", "shared", "own fallback", "shared fallback")

DOES: Final = (
    "say",  # speaks a given text
    "turn",  # answers the caller
    "hear",  # the caller speaks
    "nest",  # opens another session inside of this one, and closes it
    "ask own",  # calls the session's own model directly
    "ask shared",  # calls the model that sessions share
    "ask nobody",  # calls a model that no session has
    "hand off",
    "task",  # an `AgentTask` asks a question
    "swap",  # the agent gets another model, voice and recogniser
    "cut model",  # interrupted while the model answers
    "cut voice",  # interrupted while the voice speaks
    "pause",  # a second and a half pass
    "restart late",  # closed, and a second and a half later started and attached again
    "restart",  # closed and started again, attached again
    "restart only",  # closed and started again without a new attach
)

PLACES: Final = ("entry", "tool", "outside")
"""The entrypoint, a tool of the session, or a task that knows neither session nor job."""

_RESTARTS: Final = ("restart", "restart late", "restart only")
_NOT_NESTED: Final = (*_RESTARTS, "nest")
_IN_TOOL: Final = ("nest", "hand off", "task")
_ANYWHERE: Final = ("ask own", "ask shared", "ask nobody")


class _Brief:
    """Prints what differs from the defaults, so that a script can be read and run again."""

    def __repr__(self) -> str:
        given = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            if getattr(self, each.name) != each.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


@dataclass(frozen=True, repr=False)
class Step(_Brief):
    """One thing that a session does, and where it is done; `call` is the session that is nested."""

    do: str
    place: str = "entry"
    call: Call | None = None


@dataclass(frozen=True, repr=False)
class Call(_Brief):
    """One session: its providers, whether and when it is attached, what its agent does first."""

    observed: bool = True
    attach: str = "before"  # or "after": after the session's start
    by_hook: bool = False  # attached in a task of its own, as pools call their observers
    llm: str = "own"
    tts: str = "own"
    stt: str = "own"
    first: Step | None = None  # in the agent's on_enter
    steps: tuple[Step, ...] = ()
    summary: str = ""  # "soon" or "late" after the close the model is asked for one


@dataclass(frozen=True, repr=False)
class Entry(_Brief):
    """One entrypoint: a task, in a job or in none, that opens sessions one after another."""

    in_job: bool = False
    attach_first: bool = False  # all are attached before any is started
    calls: tuple[Call, ...] = (Call(),)


@dataclass(frozen=True, repr=False)
class Script(_Brief):
    """What one process does."""

    entries: tuple[Entry, ...]

    def calls(self) -> Iterator[Call]:
        """Return every session, nested ones too."""
        waiting = [call for entry in self.entries for call in entry.calls]
        while waiting:
            call = waiting.pop()
            yield call
            steps = [*call.steps, *([call.first] if call.first else [])]
            waiting += [step.call for step in steps if step.call is not None]


def _steps(*, nested: st.SearchStrategy[Call] | None) -> st.SearchStrategy[Step]:
    """Return a step that makes sense where it stands."""
    does = [do for do in DOES if do not in _NOT_NESTED or (nested is not None and do != "nest")]
    plain = st.sampled_from(does).flatmap(
        lambda do: st.builds(
            Step,
            do=st.just(do),
            place=st.sampled_from(
                PLACES
                if do in _ANYWHERE
                else ("entry", "outside")
                if do in ("say", "turn") and nested is not None
                else ("tool",)
                if do in _IN_TOOL
                else ("entry",)
            ),
        )
    )
    if nested is None:
        return plain
    inner = st.builds(Step, do=st.just("nest"), place=st.just("tool"), call=nested)
    return st.one_of(plain, plain, inner)


def _firsts(nested: st.SearchStrategy[Call] | None) -> st.SearchStrategy[Step | None]:
    does = st.builds(
        Step, do=st.sampled_from(("say", "turn", "cut voice", "ask own", "ask shared"))
    )
    if nested is None:
        return st.one_of(st.none(), does)
    inner = st.builds(Step, do=st.just("nest"), call=nested)
    return st.one_of(st.none(), st.none(), does, inner)


def _calls(
    nested: st.SearchStrategy[Call] | None, llms: tuple[str, ...]
) -> st.SearchStrategy[Call]:
    return st.builds(
        Call,
        observed=st.sampled_from((True, True, False)),
        attach=st.sampled_from(("before", "before", "after")),
        by_hook=st.booleans(),
        llm=st.sampled_from(llms),
        tts=st.sampled_from(TTSS),
        stt=st.sampled_from(STTS),
        first=_firsts(nested),
        steps=st.lists(_steps(nested=nested), max_size=4).map(tuple),
        summary=st.sampled_from(("", "soon", "late") if nested is not None else ("",)),
    )


def _entries(llms: tuple[str, ...]) -> st.SearchStrategy[Entry]:
    innermost = _calls(None, llms)
    inner = st.one_of(innermost, _calls(innermost, llms).map(_without_restarts))
    return st.builds(
        Entry,
        in_job=st.booleans(),
        attach_first=st.booleans(),
        calls=st.lists(_calls(inner, llms), min_size=1, max_size=3).map(tuple),
    )


def _without_restarts(call: Call) -> Call:
    steps = tuple(
        step for step in call.steps if step.do not in _RESTARTS and step.place != "outside"
    )
    return Call(**{**vars(call), "steps": steps, "summary": ""})


def _few(entries: list[Entry]) -> Script:
    """Keep four sessions at most, and at least one that is observed."""
    kept, left = [], 4
    for entry in entries:
        calls = entry.calls[:left]
        left -= len(calls)
        if calls:
            kept.append(Entry(entry.in_job, entry.attach_first, calls))
    return Script(tuple(kept))


SCRIPTS: Final = st.lists(_entries(LLMS + REALTIME), min_size=1, max_size=3).map(_few)
"""Up to four sessions in up to three entrypoints, with sessions nested in them to a depth of two."""
