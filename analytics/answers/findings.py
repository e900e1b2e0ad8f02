"""Why something may be missing from an answer: each source is asked, and says it in one sentence.

Every answer, by the command, in Python or in a notebook, has its findings from here. That nothing is
missing may be said only when there is none: a source that could not be asked is a finding too.
"""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.answers.operations import not_published, say_not_published
from voicecosts.analytics.answers.report import CURRENCY, Finding, Gap, Source
from voicecosts.analytics.numbers import age, ago, counted, money, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from voicecosts.analytics.answers.report import (
        Completeness,
        NotBooked,
        Outbox,
        Unattributed,
    )
    from voicecosts.analytics.snapshot.files import Snapshot, Status

_NAMED: Final = 3
"""How many gaps or models a sentence names."""

_SILENT: Final = timedelta(minutes=1)
"""A running ledger writes its status every second, so this long without one is worth a look."""

_UNANSWERED: Final = timedelta(seconds=30)
"""A broker answers every second. A large snapshot may take longer, and the ledger asks again then."""

_NEARLY_FULL: Final = 0.7
"""The share of its bound from which on a stream may soon refuse what workers send."""


def find(
    missing: Completeness,
    snapshot: Snapshot,
    outbox: Outbox | None,
    *,
    moment: datetime | None,
    now: datetime,
) -> Iterator[Finding]:
    """Yield what every answer must tell: of this host, of the question's calls, of the whole ledger.

    `outbox` is None when nobody looked into the outbox of this host, `moment` when the snapshot
    speaks of no moment.
    """
    yield from _outbox(outbox, moment)
    yield from _sessions(missing)
    yield from _losses(missing)
    yield from _gaps(missing)
    yield from _stream(missing, snapshot, now)
    yield from _ledger(snapshot, moment, now)
    yield from _prices(snapshot, now)
    yield from _operations(missing, snapshot)


def say_open(count: int) -> str:
    """Return the sentence about calls that have not ended: nothing is wrong with them."""
    return f"{counted(count, 'call is', 'calls are')} still running"


def say_not_booked(left: NotBooked) -> str:
    """Return what waits in the outbox of this host, and why it could not be booked.

    Where nothing waits, the reason itself is what there is to say.
    """
    if left.messages == 0:
        return left.why
    what = counted(left.messages, "message") if left.messages else "what waits"
    return f"{what} in the outbox of this host ({left.why})"


def _outbox(outbox: Outbox | None, moment: datetime | None) -> Iterator[Finding]:
    if outbox is None:
        yield _unknown(Source.OUTBOX, "not known: what waits in the outbox of this host")
        return
    left = outbox.not_booked
    if left is not None:
        unknown = "not known: whether this is all" if left.messages == 0 else "not in these numbers"
        text = f"{unknown}: {say_not_booked(left)}"
        yield Finding(source=Source.OUTBOX, text=text, is_known=bool(left.messages))
    if outbox.unsent is None:
        yield _unknown(Source.OUTBOX, "not known: what waits on this host for a server")
    elif outbox.unsent:
        yield Finding(
            source=Source.OUTBOX,
            text=f"not in these numbers: {counted(outbox.unsent, 'message')} in the outbox of this "
            "host that no server has accepted yet; `costs outbox status` shows them",
        )
    elif outbox.sent_late_at and moment is not None and outbox.sent_late_at > moment:
        text = "not known: what had waited on this host and reached the server just now; ask again"
        yield _unknown(Source.OUTBOX, text)


def _ledger(snapshot: Snapshot, moment: datetime | None, now: datetime) -> Iterator[Finding]:
    """Yield what is known of the ledger itself: it may not run, or have been killed."""
    status = snapshot.status
    if moment is None and status is not None:
        text = "not known: what the ledger was sent (nobody had told it when this was written)"
        yield _unknown(Source.LEDGER, text)
    if status is None:
        text = "what came after this snapshot (there is no ledger.json beside it that speaks of it)"
        yield _unknown(Source.LEDGER, f"not known: {text}")
    elif not status.running and snapshot.is_of_a_demo:
        text = "this ledger belongs to a demo that has ended: nothing new is booked here"
        yield _unknown(Source.LEDGER, text)
    elif status.was_killed:
        text = (
            "the ledger was ended and books nothing new; what waits for it is not known: "
            f"start it {_how_to_start(snapshot)}"
        )
        yield _unknown(Source.LEDGER, text)
    elif not status.running and not status.embedded:
        text = (
            f"the ledger is not running and books nothing new: start it {_how_to_start(snapshot)}"
        )
        yield _unknown(Source.LEDGER, text)
    elif status.for_a_moment:
        text = (
            "a command has the ledger open and works on its books, and nothing new is booked meanwhile: "
            f"when it is done, start the ledger {_how_to_start(snapshot)}"
        )
        yield _unknown(Source.LEDGER, text)
    elif status.running and _is_silent(status, now):
        silence = age(now - status.heard_at) if status.heard_at else "long"
        text = f"the ledger has not reported for {silence}: check whether it still runs"
        yield _unknown(Source.LEDGER, text)


def _prices(snapshot: Snapshot, now: datetime) -> Iterator[Finding]:
    """Yield that the file of own prices has mistakes: what it would say now is not in these costs."""
    trouble = snapshot.status.prices if snapshot.status else None
    if trouble is None:
        return
    meanwhile = "its last good prices" if trouble.uses_last_good else "list prices alone"
    text = (
        f"{trouble.file} has {counted(trouble.problems, 'mistake')} since {ago(trouble.since, now)}, "
        f"and {meanwhile} are in force: `costs prices validate {shlex.quote(trouble.file)}`"
    )
    yield _unknown(Source.PRICES, text)


def _operations(missing: Completeness, snapshot: Snapshot) -> Iterator[Finding]:
    """Yield that an operation is not in the figures, or has changed some calls and not others."""
    lost = [gap.last or 0 for gap in missing.gaps or () if gap.why == "operations_lost"]
    if numbers := not_published(snapshot, max([missing.newest_operation, *lost])):
        yield _unknown(Source.OPERATIONS, say_not_published(numbers, snapshot))
    for each in missing.unfinished:
        goes_on = "a ledger that runs goes on with it (`costs operations`)"
        if each.is_stopped:
            undone = (
                "what it took out does not come back"
                if each.kind == "erase"
                else f"`costs operations revert {each.operation} --reason …` undoes it"
            )
            goes_on = f"it was stopped: `costs operations resume {each.operation}` goes on with it, {undone}"
        text = (
            f"operation {each.operation} ({each.kind}) is not finished: these figures are partly those "
            f"before it and partly those after it; {goes_on}"
        )
        yield _unknown(Source.OPERATIONS, text)


def _how_to_start(snapshot: Snapshot) -> str:
    """Return the command that starts this very ledger on the stream that it reads."""
    where = f"--data-dir {shlex.quote(str(snapshot.path.parent))}"
    run_by = snapshot.status.run_by if snapshot.status else None
    if run_by is None:
        return f"as it was run before, with `costs up {where}` or `costs consume {where}`"
    servers = f"--servers {shlex.quote(','.join(run_by.servers))} " if run_by.servers else ""
    return f"with `costs {run_by.command} {servers}{where}`"


def _stream(missing: Completeness, snapshot: Snapshot, now: datetime) -> Iterator[Finding]:
    status = snapshot.status
    if status is None or status.embedded or status.for_a_moment or not status.running:
        return  # it is the ledger that is to be told of, or there is no stream
    if status.answered_at is None:
        text = "not known: what waits in the stream (the broker has not answered the ledger yet)"
        yield _unknown(Source.STREAM, text)
    elif status.heard_at and status.heard_at - status.answered_at > _UNANSWERED:
        silence = age(now - status.answered_at)
        text = f"not known: what waits in the stream (the broker has not answered for {silence})"
        yield _unknown(Source.STREAM, text)
    elif missing.waiting_in_stream is None:
        text = "not known: what waits in the stream (the broker has answered, and not said it yet)"
        yield _unknown(Source.STREAM, text)
    if missing.waiting_in_stream:
        text = f"not booked yet: {counted(missing.waiting_in_stream, 'message')} in the stream"
        yield Finding(source=Source.STREAM, text=text)
    if status.stream_bytes and status.stream_max_bytes:
        share = status.stream_bytes / status.stream_max_bytes
        if share >= _NEARLY_FULL:
            text = (
                f"the stream is {share:.0%} full; when it is full, workers keep what they cannot "
                "send: see `costs stream`"
            )
            yield _unknown(Source.STREAM, text)


_OF_A_COPY: Final = ("restored", "operations_lost")
"""Gaps of a ledger that was restored: of no stream."""

_WHOSE = {
    "stream_gone": "of a stream that is gone",
    "end_lost": "of an end that the stream lost",
    "unreadable": "that the server cannot read any more",
}


def _gaps(missing: Completeness) -> Iterator[Finding]:
    restored = [gap for gap in missing.gaps or () if gap.why == "restored"]
    for gap in restored:
        text = (
            f"not in these numbers: what was booked from outboxes of this host after snapshot "
            f"{gap.first - 1:,}, up to snapshot {gap.last:,}; an older copy of the ledger was put in "
            "its place"
        )
        yield Finding(source=Source.GAPS, text=text)
    for gap in missing.gaps or ():
        if gap.why == "operations_lost":
            which = (
                f"operation {gap.first}"
                if gap.first == gap.last
                else f"operations {gap.first} to {gap.last}"
            )
            text = (
                f"not in these numbers: {which} on the books; an older copy of the ledger was put in its "
                "place: do them again, then `costs operations acknowledge --reason …` ends this note"
            )
            yield Finding(source=Source.GAPS, text=text)
    gaps = [gap for gap in missing.gaps or () if gap.why not in _OF_A_COPY]
    if not gaps:
        return
    named = [_say_gap(gap) for gap in gaps[:_NAMED]]
    others = len(gaps) - len(named)
    named += [f"{counted(others, 'more gap')} in the view `gaps`"] if others else []
    yield Finding(source=Source.GAPS, text=f"never reached this ledger: {'; '.join(named)}")


def _say_gap(gap: Gap) -> str:
    old = _WHOSE.get(gap.why, "of the stream")
    if gap.last is None:
        return f"whatever came after message {gap.first - 1:,} {old}"
    if gap.first == gap.last:
        return f"message {gap.first:,} {old}"
    count = gap.last - gap.first + 1 if gap.messages is None else gap.messages
    return f"messages {gap.first:,} to {gap.last:,} {old} ({count:,} of them)"


def _losses(missing: Completeness) -> Iterator[Finding]:
    if missing.dead_letters:
        text = (
            f"not in these costs: {counted(missing.dead_letters, 'event')} that could not be booked; "
            "`costs dead-letters list` says why"
        )
        yield Finding(source=Source.DEAD_LETTERS, text=text)
    if missing.unattributed:
        yield Finding(source=Source.UNATTRIBUTED, text=_say_unattributed(missing))
    if missing.unmeasured:
        text = (
            f"not in these costs: what {counted(missing.unmeasured, 'usage event')} used that could "
            "not be measured; the log of the worker says why"
        )
        yield Finding(source=Source.UNMEASURED, text=text)
    elif missing.unmeasured is None:
        text = "not known: what could not be measured (an older version did not note it)"
        yield _unknown(Source.UNMEASURED, text)
    if missing.dropped:
        text = (
            f"workers lost {counted(missing.dropped, 'event')} (no room, damage, or accepted by no "
            "server): only a later reading of the same meter, or the session's end, makes up for "
            "a lost reading"
        )
        yield _unknown(Source.DROPPED, text)


def _sessions(missing: Completeness) -> Iterator[Finding]:
    """Yield the sentence about calls that lack something, or may; none when calls are only open."""
    if missing.short_sessions is None:
        text = "not known: whether a call lacks something (an older version did not note it)"
        yield _unknown(Source.SESSIONS, text)
        return
    said = []
    if missing.short_sessions:
        lack = "how much is unknown"
        if missing.short_at_most is not None:
            lack = f"at most {money(missing.short_at_most)} {CURRENCY} missing"
        said.append(f"{counted(missing.short_sessions, 'call is', 'calls are')} short ({lack})")
    if missing.abandoned_sessions:
        ended = counted(missing.abandoned_sessions, "call was", "calls were")
        said.append(f"{ended} abandoned without an end")
    if said:
        said += [say_open(missing.open_sessions)] if missing.open_sessions else []
        text = f"the numbers may lack something: {', '.join(said)}; `costs audit` names them"
        yield Finding(source=Source.SESSIONS, text=text, is_known=bool(missing.short_sessions))


def _say_unattributed(missing: Completeness) -> str:
    named = [
        f"{used.provider}/{used.model} {used.modality}: {_amounts(used)}"
        for used in missing.unattributed_usage[:_NAMED]
    ]
    others = len(missing.unattributed_usage) - len(named)
    if others:
        named.append(f"{counted(others, 'more model')} in the view `unattributed`")
    what = f" ({'; '.join(named)})" if named else ""
    return (
        f"not in these costs: {counted(missing.unattributed, 'usage event')} that could not be "
        f"attributed to a call{what}; the log of the worker says how to avoid it"
    )


def _amounts(used: Unattributed) -> str:
    """Return every amount that is not zero, with its unit."""
    amounts = [
        counted(amount, one)
        for amount, one in (
            (used.requests, "request"),
            (used.input_tokens, "input token"),
            (used.output_tokens, "output token"),
            (used.characters, "character"),
        )
        if amount
    ]
    amounts += [f"{seconds(used.audio_seconds)} s of audio"] if used.audio_seconds else []
    amounts += [f"{seconds(used.session_seconds)} s connected"] if used.session_seconds else []
    return ", ".join(amounts) or "see the view `unattributed`"


def _is_silent(status: Status, now: datetime) -> bool:
    return status.heard_at is None or now - status.heard_at > _SILENT


def _unknown(source: Source, text: str) -> Finding:
    return Finding(source=source, text=text, is_known=False)
