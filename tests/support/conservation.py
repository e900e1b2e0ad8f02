"""The conservation law of usage, and the books that it is checked with.

For every quantity of every modality: what the sessions' readings add up to, measured and estimated,
and what was counted as unattributed, is together what the providers counted themselves. They count
where they do their work, never from LiveKit's metrics.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from livekit.agents import llm, stt, tts

from tests.support.recorder import Recorder
from voicecosts.producer.demo.providers import SAMPLE_RATE, Bill

Amounts = dict[str, dict[str, int]]
"""Modality → quantity → amount, in the quantities of the contract. Nothing is left out as zero."""

_BASES: Final = (
    ("realtime", llm.RealtimeModel),
    ("llm", llm.LLM),
    ("stt", stt.STT),
    ("tts", tts.TTS),
)


class Keeper(Protocol):
    """A provider that keeps books: what it billed, per call.

    A provider that bills in several modalities has `books` (modality → bill) instead. One that can
    be interrupted has `received` as well: what reached it, whether it was billed or not.
    """

    billed: Bill


def books(*providers: Any, received: bool = False) -> dict[str, Bill]:
    """Return modality → call → quantity → amount over the providers, each object once.

    With `received`, what reached a provider, where it counts that: no less than what it billed.
    """
    merged: dict[str, Bill] = {}
    for provider in {id(each): each for each in providers}.values():
        for modality, bill in _books_of(provider, received=received).items():
            into = merged.setdefault(modality, defaultdict(Counter))
            for call, amounts in bill.items():
                into[call].update(amounts)
    return merged


def billed(call: int | Iterable[int], *providers: Any) -> Amounts:
    """Return what the providers billed one call, or several, in the contract's quantities."""
    calls = {call} if isinstance(call, int) else set(call)
    return _amounts(books(*providers), calls)


def counted(*providers: Any, received: bool = False) -> Amounts:
    """Return what the providers counted over all calls, and over requests without a tag."""
    return _amounts(books(*providers, received=received), None)


def calls_of(*providers: Any) -> set[int]:
    """Return the numbers of the calls that the providers billed something."""
    return {call for bill in books(*providers).values() for call in bill}


def assert_conserved(recorder: Recorder, *providers: Any, interrupted: bool = False) -> None:
    """Measured + estimated + unattributed is what the providers counted, in every quantity.

    `providers` are all that were used. With `interrupted`, a request may have been cut off: then
    the sum is at most what the providers received.
    """
    measured, estimated = measured_total(recorder), estimated_total(recorder)
    unattributed = recorder.unattributed_totals()
    total = added(measured, estimated, unattributed)
    bill = counted(*providers)
    limit = counted(*providers, received=True) if interrupted else bill
    wrong = [
        f"{modality} {quantity}: measured {_in(measured, modality, quantity)}, "
        f"estimated {_in(estimated, modality, quantity)}, "
        f"unattributed {_in(unattributed, modality, quantity)}; "
        f"the providers billed {_in(bill, modality, quantity)}"
        + (f" and received {_in(limit, modality, quantity)}" if interrupted else "")
        for modality, quantity in sorted(_keys(total, bill, limit))
        if not _holds(
            _in(total, modality, quantity),
            _in(limit, modality, quantity),
            tolerance=_tolerance(recorder, quantity),
            interrupted=interrupted,
        )
    ]
    assert not wrong, "usage is not conserved:\n  " + "\n  ".join(wrong)


def assert_session(
    recorder: Recorder,
    session_id: str,
    expected: Mapping[str, Mapping[str, int]],
    *,
    estimated: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """A session's measured totals are `expected` in every quantity: nothing missing, nothing more.

    Its estimated totals are `estimated`; none, when that is left out.
    """
    _assert_amounts("measured", recorder.totals(session_id), expected)
    _assert_amounts("estimated", recorder.totals(session_id, estimated=True), estimated or {})


def assert_within(
    recorder: Recorder, session_id: str, call: int | Iterable[int], *providers: Any
) -> None:
    """A session's measured and estimated totals are at most what the providers received of it."""
    calls = {call} if isinstance(call, int) else set(call)
    limit = _amounts(books(*providers, received=True), calls)
    got = added(recorder.totals(session_id), recorder.totals(session_id, estimated=True))
    wrong = [
        f"{modality} {quantity}: at most {_in(limit, modality, quantity)}, "
        f"got {_in(got, modality, quantity)}"
        for modality, quantity in sorted(_keys(got, limit))
        if _in(got, modality, quantity)
        > _in(limit, modality, quantity) + _tolerance(recorder, quantity)
    ]
    assert not wrong, "the session has more than its call used:\n  " + "\n  ".join(wrong)


def assert_one_end(recorder: Recorder, *session_ids: str) -> None:
    """Each of the sessions has exactly one end."""
    ends = Counter(end.session_id for end in recorder.ends())
    assert {each: ends[each] for each in session_ids} == dict.fromkeys(session_ids, 1)


def measured_total(recorder: Recorder) -> Amounts:
    """Return what all sessions' meters of measured usage add up to."""
    return added(*(recorder.totals(session) for session in _sessions(recorder)))


def estimated_total(recorder: Recorder) -> Amounts:
    """Return what all sessions' meters of estimated usage add up to."""
    return added(*(recorder.totals(session, estimated=True) for session in _sessions(recorder)))


def added(*parts: Mapping[str, Mapping[str, int]]) -> Amounts:
    """Return the sum of amounts."""
    total: Amounts = {}
    for part in parts:
        for modality, amounts in part.items():
            into = total.setdefault(modality, {})
            for quantity, amount in amounts.items():
                if amount:
                    into[quantity] = into.get(quantity, 0) + amount
    return {modality: amounts for modality, amounts in total.items() if amounts}


def _books_of(provider: Any, *, received: bool) -> dict[str, Bill]:
    if received and hasattr(provider, "received"):
        return {_modality(provider): provider.received}
    several = getattr(provider, "books", None)
    if several is not None:
        return dict(several)
    bill: Bill = defaultdict(Counter, {c: Counter(b) for c, b in provider.billed.items()})
    if received:
        for call, characters in getattr(provider, "cut_off", {}).items():
            bill[call]["characters"] += characters
    return {_modality(provider): bill}


def _modality(provider: Any) -> str:
    named = getattr(provider, "modality", None)
    if isinstance(named, str):
        return named
    return next(modality for modality, base in _BASES if isinstance(provider, base))


def _amounts(books_: Mapping[str, Bill], calls: set[int] | None) -> Amounts:
    found: Amounts = {}
    for modality, bill in books_.items():
        summed: Counter[str] = Counter()
        for call, amounts in bill.items():
            if calls is None or call in calls:
                summed.update(amounts)
        samples = summed.pop("samples", 0)
        if samples:
            summed["audio_us"] += round(samples * 1_000_000 / SAMPLE_RATE)
        found[modality] = dict(summed)
    return added(found)


def _assert_amounts(
    what: str,
    got: Mapping[str, Mapping[str, int]],
    expected: Mapping[str, Mapping[str, int]],
) -> None:
    got, expected = added(got), added(expected)
    wrong = [
        f"{modality} {quantity}: expected {_in(expected, modality, quantity)}, "
        f"got {_in(got, modality, quantity)}"
        for modality, quantity in sorted(_keys(got, expected))
        if _in(got, modality, quantity) != _in(expected, modality, quantity)
    ]
    assert not wrong, f"the {what} usage of the session is wrong:\n  " + "\n  ".join(wrong)


def _holds(total: int, limit: int, *, tolerance: int, interrupted: bool) -> bool:
    return total <= limit + tolerance and (interrupted or total >= limit - tolerance)


def _tolerance(recorder: Recorder, quantity: str) -> int:
    """Each meter rounds its running total to a microsecond, and the books round their sum."""
    if not quantity.endswith("_us"):
        return 0
    meters = {(r.session_id, r.agent_label, r.modality, r.model) for r in recorder.readings()}
    return len(meters) + 2


def _sessions(recorder: Recorder) -> set[str]:
    return {reading.session_id for reading in recorder.readings()}


def _keys(*parts: Mapping[str, Mapping[str, int]]) -> set[tuple[str, str]]:
    return {
        (modality, quantity) for part in parts for modality in part for quantity in part[modality]
    }


def _in(amounts: Mapping[str, Mapping[str, int]], modality: str, quantity: str) -> int:
    return amounts.get(modality, {}).get(quantity, 0)
