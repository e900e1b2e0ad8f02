"""Usage that the worker's own code records: read into amounts, or refused with the cure.

What LiveKit does not report (an avatar's minutes, a paid tool, a judge, a model that is called by
another library) is known to the code that uses it alone. Nothing here raises: of an argument that
is no amount the rest is counted, and what is wrong with it is said in a sentence.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, Final, Required, TypedDict

from msgspec import Struct

from voicecosts.producer.capture.tiers import tier_name
from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, QUANTITIES
from voicecosts.producer.names import MAX_NAME, plain, text

logger = logging.getLogger(__name__)


class Recorded(TypedDict, total=False):
    """What `CostObserver.record` takes: whose price list, which model, and what it used.

    Token counts are those of the event contract: `input_tokens` includes cached ones,
    `output_tokens` includes reasoning. Seconds may have fractions.
    """

    modality: Required[str]
    provider: Required[str]
    model: Required[str]
    requests: int
    input_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    text_input_tokens: int
    audio_input_tokens: int
    image_input_tokens: int
    text_cache_read_input_tokens: int
    audio_cache_read_input_tokens: int
    image_cache_read_input_tokens: int
    output_tokens: int
    reasoning_output_tokens: int
    text_output_tokens: int
    audio_output_tokens: int
    image_output_tokens: int
    other_tokens: int
    characters: int
    audio_seconds: float | Decimal | timedelta
    session_seconds: float | Decimal | timedelta
    reported_cost: Decimal | str | int | None
    agent_label: str | None
    service_tier: str


COUNTS: Final = tuple(
    name for name in QUANTITIES if name not in {"large_requests", "audio_us", "session_us"}
)
"""The quantities that are given as whole numbers, under their names in the contract."""

SECONDS: Final = ("audio_seconds", "session_seconds")
AMOUNTS: Final = (*COUNTS, *SECONDS, "reported_cost")
"""All arguments that are amounts."""

_NAMES: Final = {
    "modality": "say what was used, such as 'avatar', 'tool' or 'llm'",
    "provider": "name who bills it, such as 'tavus'",
    "model": "name what the price is for, such as 'phoenix-3' or 'web-search'",
}
_OTHERS: Final = ("agent_label", "service_tier")

_MOST: Final = 10**12
_LONGEST_S: Final = 366 * 86_400
_MOST_COST: Final = 999_999_999
_LONGEST_TEXT: Final = 64
_NEAR: Final = 0.8
"""How much of two names is the same where one is a slip of the other."""

_PARTS: Final = (
    ("input_tokens", ("cache_read_input_tokens", "cache_creation_input_tokens")),
    ("output_tokens", ("reasoning_output_tokens",)),
    ("text_input_tokens", ("text_cache_read_input_tokens",)),
    ("audio_input_tokens", ("audio_cache_read_input_tokens",)),
    ("image_input_tokens", ("image_cache_read_input_tokens",)),
    ("input_tokens", ("text_input_tokens", "audio_input_tokens", "image_input_tokens")),
    ("output_tokens", ("text_output_tokens", "audio_output_tokens", "image_output_tokens")),
    (
        "cache_read_input_tokens",
        (
            "text_cache_read_input_tokens",
            "audio_cache_read_input_tokens",
            "image_cache_read_input_tokens",
        ),
    ),
)
"""Quantities, and what is a part of each."""

_SAID: Final[set[str]] = set()
_SAID_AT_MOST: Final = 256


class _NoAmountError(ValueError):
    """An argument that is no amount; its text says why, and what to give."""


class Note(Struct, frozen=True):
    """What was recorded. Its `unread` names what held no amount, `problems` say what to do.

    `agent_label` is `None` for the agent that is active.
    """

    usage: Usage
    agent_label: str | None
    problems: tuple[str, ...]

    @property
    def has_amounts(self) -> bool:
        """Whether there is anything to add."""
        usage = self.usage
        cost = usage.reported_cost is not None and usage.reported_cost > 0
        return bool(usage.quantities or usage.audio_s or usage.session_s or cost)


def read(given: Mapping[str, Any], *, now_us: int) -> Note:
    """Return what the arguments of `record` say, as far as they can be read.

    A name that is missing is read as unknown, and telephone numbers in names are masked. An amount of
    `None` was not given.
    """
    problems: list[str] = []
    unread: list[str] = []
    named = {name: _name(name, given.get(name), cure, problems) for name, cure in _NAMES.items()}
    amounts = {name: value for name, value in given.items() if value is not None}
    quantities: dict[str, int] = {}
    times = dict.fromkeys(SECONDS, 0.0)
    cost: Decimal | None = None
    for name, value in amounts.items():
        if name in _NAMES or name in _OTHERS:
            continue
        try:
            if name in SECONDS:
                times[name] = _seconds(value)
            elif name == "reported_cost":
                cost = _money(value)
            elif name not in COUNTS:
                raise _NoAmountError(f"is no amount: {_meant(name)}")  # noqa: TRY301
            elif count := _whole(value):
                quantities[name] = count
        except Exception as error:  # noqa: BLE001 - a foreign number's own code
            unread.append(plain(name))
            problems.append(f"{plain(name)} {_why(error, value)}")
    if not any(name in AMOUNTS for name in amounts) and not unread:
        unread.append("amounts")
        problems.append(f"it was given no amount: give at least one of {', '.join(AMOUNTS)}")
    _leave_out_parts(quantities, unread, problems)
    requests = quantities.get("requests", 0)
    if requests and quantities.get("input_tokens", 0) > LARGE_REQUEST_TOKENS * requests:
        quantities["large_requests"] = requests
    label = given.get("agent_label")
    usage = Usage(
        modality=named["modality"],
        provider_raw=named["provider"],
        model=named["model"],
        occurred_at=now_us,
        quantities=quantities,
        audio_s=times["audio_seconds"],
        session_s=times["session_seconds"],
        unread=tuple(unread),
        service_tier=tier_name(given.get("service_tier")),
        reported_cost=cost,
    )
    return Note(usage, None if label is None else text(label), tuple(problems))


UNREADABLE: Final = Note(
    Usage(
        modality=UNKNOWN,
        provider_raw=UNKNOWN,
        model=UNKNOWN,
        occurred_at=0,
        quantities={},
        unread=("everything",),
    ),
    None,
    (),
)
"""What is counted where `read` itself fails: that something is missing."""


def say_problems(note: Note) -> None:
    """Log what is wrong with a recording, and with which one of a worker."""
    of = note.usage
    for problem in note.problems:
        say(f"{of.modality} {of.provider_raw}/{of.model}: {problem}")


def say(problem: str) -> None:
    """Log what is wrong with a recording: each sentence once in a process, and not without end."""
    if problem not in _SAID and len(_SAID) < _SAID_AT_MOST:
        _SAID.add(problem)
        logger.error("record(): %s", problem)


def _name(what: str, value: Any, cure: str, problems: list[str]) -> str:
    name = text(value).strip()[:MAX_NAME] if isinstance(value, str) else ""
    if not name:
        problems.append(f"{what} is missing, so it is shown under {UNKNOWN!r}: {cure}")
        return UNKNOWN
    return name.lower() if what == "modality" else name


def _meant(name: str) -> str:
    """Return the names of amounts that are near one, or all of them."""
    near = [it for it in AMOUNTS if name and name in it]
    if not near and len(name) <= MAX_NAME:
        near = get_close_matches(name, AMOUNTS, 1, _NEAR)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"give one of {', '.join(AMOUNTS)}"


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, float | Decimal | Fraction) and value == int(value):
        value = int(value)
    count = operator.index(value)
    if count > _MOST:
        raise _NoAmountError(f"is more than {_MOST:,}, the most that is taken at once: check it")
    if count < 0:
        raise ValueError
    return count


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool | str | bytes):
        raise TypeError
    seconds = float(value)
    if not 0 <= seconds <= _LONGEST_S:  # false for NaN
        raise _NoAmountError("is no time: give seconds from 0 to those of a year")
    return seconds


def _money(value: Any) -> Decimal:
    if isinstance(value, float):
        raise _NoAmountError(
            f"is a float, which is not exact: give it as text, reported_cost='{value!r}'"
        )
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise TypeError
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise ValueError
    cost = Decimal(value)
    if not (cost.is_finite() and 0 <= cost <= _MOST_COST):
        raise ValueError
    return cost


def _why(error: Exception, value: Any) -> str:
    if isinstance(error, _NoAmountError):
        return str(error)
    shown = repr(plain(value)[:32]) if isinstance(value, str) else plain(value)[:32]
    return f"is {shown}: give a number of at least 0, whole but for seconds and money"


def _leave_out_parts(used: dict[str, int], unread: list[str], problems: list[str]) -> None:
    """Leave out parts that are more than the whole they are of: one of the two is wrong."""
    for whole, parts in _PARTS:
        given = [part for part in parts if part in used]
        if sum(used[part] for part in given) > used.get(whole, 0):
            for part in given:
                del used[part]
            unread += given
            are = "are more than" if len(given) > 1 else "is more than"
            problems.append(
                f"{' and '.join(given)} {are} {whole}, of which it is a part: give {whole} with it"
            )
