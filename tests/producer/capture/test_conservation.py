"""Usage is conserved over random scripts of calls: no unit is lost, doubled, or another session's."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, settings

from tests.support.script_run import play
from tests.support.scripts import SCRIPTS, Call, Entry, Script, Step


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("livekit"), "level", logging.CRITICAL)
        yield


TURN = Step("turn")
SHARED = Call(llm="shared", tts="shared", stt="shared", steps=(TURN,))


def one(*calls: Call, in_job: bool = False, attach_first: bool = False) -> Script:
    """Return a script of one entrypoint."""
    return Script((Entry(in_job=in_job, attach_first=attach_first, calls=calls),))


def inside(call: Call, **options: str) -> Call:
    """Return a session in whose tool another one is opened."""
    return Call(**options, steps=(TURN, Step("nest", "tool", call)))


UNSEEN = Call(observed=False, llm="shared", tts="shared", stt="shared", steps=(TURN,))

SCRIPTS_OF_NOTE = {
    "a session in a tool, with its own providers": one(inside(Call(steps=(TURN,)))),
    "a realtime session in a tool": one(
        inside(Call(llm="own realtime", steps=(TURN,)), llm="own realtime")
    ),
    "a session in on_enter": one(Call(first=Step("nest", call=Call(steps=(TURN,))))),
    "two attached before either starts": one(SHARED, SHARED, attach_first=True),
    "a second one attached after the first has started": one(Call(), Call(attach="after")),
    "an unobserved session in a tool": one(
        inside(UNSEEN, llm="shared", tts="shared", stt="shared")
    ),
    "an unobserved sibling in one job": one(SHARED, UNSEEN, in_job=True),
    "an unobserved sibling that starts first": one(UNSEEN, SHARED, in_job=True),
    "an unobserved sibling between attachment and start": one(UNSEEN, SHARED, attach_first=True),
    "adapters around shared children in one job": one(
        Call(llm="shared twice", tts="shared fallback", stt="shared fallback", steps=(TURN,)),
        Call(llm="shared fallback", tts="shared stream", stt="shared fallback", steps=(TURN,)),
        in_job=True,
        attach_first=True,
    ),
    "requests and speeches cut off": one(
        Call(steps=(TURN, Step("cut model"), Step("cut voice"), TURN, Step("ask own")))
    ),
    "started again": one(Call(steps=(TURN, Step("restart"), TURN))),
    "started again late": one(Call(steps=(TURN, Step("restart late"), TURN))),
    "started again without an attachment": one(Call(steps=(TURN, Step("restart only"), TURN))),
    "asked and started again without an attachment": one(
        Call(llm="shared realtime", first=Step("ask shared"), steps=(Step("restart only"),)),
        Call(attach="after", llm="shared realtime", steps=(Step("restart only"),)),
        attach_first=True,
    ),
    "a late summary in a job": one(
        Call(llm="shared", steps=(TURN,), summary="late"), Call(llm="shared"), in_job=True
    ),
    "a summary without a job": one(Call(steps=(TURN,), summary="soon")),
    "a greeting cut off before a late attachment": one(
        Call(attach="after", by_hook=True, first=Step("cut voice"))
    ),
    "a shared model asked from outside": one(
        SHARED, Call(llm="shared", steps=(Step("ask shared", "outside"),))
    ),
    "a summary of an unobserved session": Script(
        (
            Entry(in_job=True, calls=(Call(observed=False, llm="shared", summary="soon"),)),
            Entry(calls=(Call(llm="shared"),)),
            Entry(in_job=True, calls=(Call(llm="shared"),)),
        )
    ),
}
"""Scripts that went wrong once."""


@pytest.mark.parametrize("name", SCRIPTS_OF_NOTE)
def test_what_a_script_of_note_uses_is_counted_to_the_session_that_used_it(name: str) -> None:
    """What went wrong once: each session is counted what carries its tag, and nothing is lost."""
    play(SCRIPTS_OF_NOTE[name])


@given(script=SCRIPTS)
@settings(max_examples=10, phases=[Phase.generate])  # shrinking takes minutes
def test_what_a_random_script_uses_is_counted_to_the_session_that_used_it(script: Script) -> None:
    """Each session is counted what carries its tag; what is nobody's is counted as unattributed."""
    play(script)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(script=SCRIPTS)
@settings(max_examples=120, phases=[Phase.generate])
def test_what_many_random_scripts_use_is_counted_to_the_session_that_used_it(
    script: Script,
) -> None:
    """The long form of the rule above."""
    play(script)
