"""What came of a call, for its end: the job's outcome and tags, and who spoke.

LiveKit keeps the outcome and the tags of a job in its `Tagger`, and what was said in the session's
history. Reading them takes microseconds, waits for nothing and raises nothing, whatever a worker's
code has put there. Reasons, metadata of tags and texts are not read: they may hold anything.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from voicecosts.producer.events import MAX_PREEMPTED, MAX_TAGS, Outcome
from voicecosts.producer.names import MAX_NAME, text

logger = logging.getLogger(__name__)

_MAX_LABEL: Final = 64

_RESULTS: Final = ("lk.success", "lk.fail")
"""The tags that LiveKit makes of a result."""

_SAID: Final[set[str]] = set()
"""What was said in this process: with a version that keeps it elsewhere, each call would say it."""


def verdict_of(job: Any, before: Outcome) -> Outcome:
    """Return `before` with what a `JobContext` says by now; where that cannot be read, `before`.

    Of many tags the first ones are read; what is no text is left out, and a long one shortened:
    `tags_cut` counts both. A session without a job has nobody to say anything.
    """
    if job is None:
        return before
    try:
        tagger = job.tagger
        known = tagger._tags  # noqa: SLF001 - the public `tags` copies them, however many there are
        first = [it for it in islice(known, MAX_TAGS + len(_RESULTS)) if it not in _RESULTS]
        kept = [it for it in first[:MAX_TAGS] if isinstance(it, str) and it]
        left_out = len(known) - sum(it in known for it in _RESULTS) - len(kept)
        return replace(
            before,
            result=text(tagger.outcome)[:_MAX_LABEL],
            tags=sorted({text(it)[:MAX_NAME] for it in kept}),
            tags_cut=left_out + sum(len(it) > MAX_NAME for it in kept),
        )
    except Exception as error:  # noqa: BLE001 - a job is somebody else's, and costs no end its totals
        _say_once("the outcome of a call cannot be read; the call goes on", error)
        return before


def talk_of(session: Any, preempted: list[str] | None, *, is_realtime: bool) -> Outcome:
    """Return who spoke in a session since its start, as far as it is known.

    A user's turn is a message of the user in LiveKit's history, as in its own report. A realtime
    model need not write down what it hears, so with one no message says nothing.
    """
    if preempted is not None and len(preempted) > MAX_PREEMPTED:
        preempted = None
    speeches = None if preempted is None else [it[:_MAX_LABEL] for it in preempted]
    try:
        since = getattr(session, "_started_at", None) or 0.0
        turns = sum(
            it.type == "message" and it.role == "user" and it.created_at >= since
            for it in session.history.items
        )
    except Exception as error:  # noqa: BLE001 - the same of a history
        _say_once("the turns of a call cannot be counted; the call goes on", error)
        return Outcome(preempted=speeches)
    return Outcome(user_turns=None if is_realtime and not turns else turns, preempted=speeches)


def _say_once(problem: str, error: Exception) -> None:
    if problem not in _SAID:
        _SAID.add(problem)
        logger.warning(problem, exc_info=error)
