"""The trial of LiveKit's versions before a release: it runs here, and it can fail.

`.ci/livekit-versions` makes an environment for each version; what runs in them is tried on the
installed one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.events import ended, reading, session_id
from tests.support.version_calls import SITUATIONS, Situation
from tests.support.version_report import result_of

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_situation_is_conserved_on_the_installed_version() -> None:
    """The calls of the trial are booked as the providers counted them, and all is reported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.version_report"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    report = json.loads(done.stdout)
    assert (report["refused"], report["unreported"]) == ("", {})
    assert set(report["situations"]) == {each.__name__ for each in SITUATIONS}
    for name, each in report["situations"].items():
        assert (each["wrong"], each["problem"]) == ([], ""), name
        assert each["rows"], name


def tried(*events: Any, is_interrupted: bool = False, received: int = 40) -> list[str]:
    """Return what is wrong with one call to a model that billed 30 tokens and received more."""
    model = SimpleNamespace(
        modality="llm",
        billed={1: Counter(requests=1, input_tokens=30, reasoning_output_tokens=5)},
        received={1: Counter(requests=2, input_tokens=received)},
    )
    observer: Any = None
    situation = Situation(observer, [model], {1: session_id(1)}, is_interrupted)
    wrong: list[str] = result_of(situation, {}, list(events))["wrong"]
    return wrong


def used(tokens: int, **more: Any) -> Any:
    """Return the reading of that call."""
    return reading(1, requests=1, input_tokens=tokens, reasoning_output_tokens=5, **more)


def test_a_call_that_is_booked_as_it_was_billed_is_right() -> None:
    """All that was billed, in one session with one end: nothing is wrong."""
    assert tried(used(30), ended(2)) == []


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([used(29), ended(2)], "llm input_tokens: billed 30, received 40, booked 29"),
        ([used(31), ended(2)], "call 1: llm input_tokens: 30, measured 31"),
        ([used(30)], "call 1 has 0 ends"),
        ([used(30), ended(2), ended(3)], "call 1 has 2 ends"),
        ([used(30), ended(2, unmeasured=1)], "call 1: 1 events unmeasured"),
        ([], "llm requests: billed 1, received 2, booked 0"),
    ],
)
def test_a_call_that_is_not_booked_as_it_was_billed_is_said(events: list[Any], said: str) -> None:
    """A token too few or too many, a missing end, an event that was not measured: each shows."""
    assert said in tried(*events)


@pytest.mark.parametrize(("booked", "is_right"), [(29, False), (30, True), (40, True), (41, False)])
def test_of_what_was_cut_off_no_more_is_booked_than_was_received(
    booked: int,
    is_right: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """At least what was billed, at most what the provider received."""
    wrong = tried(used(booked), ended(2), is_interrupted=True)
    assert [line for line in wrong if "input_tokens" in line and "reasoning" not in line] == (
        [] if is_right else [f"llm input_tokens: billed 30, received 40, booked {booked}"]
    )


def test_the_minors_between_two_bounds_are_read_from_a_requirement() -> None:
    """The script tries what the extra allows, whatever order its bounds are written in."""
    loader = SourceFileLoader("livekit_versions", str(ROOT / ".ci" / "livekit-versions"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    script = module_from_spec(spec)
    loader.exec_module(script)
    assert script.bounds("livekit-agents>=1.5.2,<1.9") == ((1, 5, 2), (1, 9))
    assert script.bounds("livekit-agents[openai]<1.9,>=1.5; extra == 'livekit'") == ((1, 5), (1, 9))
    assert script.numbered((1, 5)) == "1.5.0"
