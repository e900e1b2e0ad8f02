"""Marks of sessions in contexts: set where a session is attached and in the tasks of its speeches."""

from __future__ import annotations

import time
from weakref import ref

from voicecosts.producer.capture import contexts
from voicecosts.producer.capture.candidates import Candidate, will_start
from voicecosts.producer.capture.contexts import MARK, Mark


def mark_start(candidate: Candidate) -> None:
    """Mark this context, so that the tasks of the session's start inherit it.

    Sessions that this task attached before and that have not started share the mark: the tasks of
    the next start could be any one's of them. A mark of this task whose sessions have started says
    nothing more.
    """
    task, before = contexts.task(), MARK.get()
    waiting: tuple[ref[Candidate], ...] = ()
    while before is not None and before.task is not None and before.task() is task:
        waiting = (*(each for each in before.owners if will_start(each())), *waiting)
        before = before.before
    running = contexts.activity()
    MARK.set(
        Mark(
            (*waiting, ref(candidate)),
            None if running is None else ref(running),
            None if task is None else ref(task),
            before,
        )
    )


def end_start(candidate: Candidate) -> None:
    """A session's start has ended: what the task that attached it starts next is not its own."""
    if candidate.running_since is None:
        candidate.running_since = time.time()
    mark = MARK.get()
    if mark is None or mark.task is None or not mark.names(candidate):
        return
    if mark.task() is contexts.task():
        mark.is_over = True
        owners = tuple(each for each in mark.owners if each() is not candidate)
        MARK.set(Mark(owners, mark.activity, mark.task, mark.before) if owners else mark.before)


def mark_speech(candidate: Candidate) -> None:
    """Mark this context as the session's, if a speech of the session runs in it.

    What a tool of the speech opens inherits the mark.
    """
    running = contexts.activity()
    if running is None or running.session is not candidate.session:
        return
    mark = MARK.get()
    if mark is None or not (mark.names(candidate) and mark.is_innermost(running)):
        if mark is not None and mark.task is not None and mark.task() is contexts.task():
            return  # a session was attached here and is about to start
        MARK.set(Mark((ref(candidate),), ref(running)))


def has_left() -> bool:
    """Whether this code was started by a session that is not listened to any more."""
    mark = MARK.get()
    if mark is None or len(mark.owners) != 1 or not mark.is_innermost(contexts.activity()):
        return False
    owner = mark.owner()
    return owner is None or not owner.is_open
