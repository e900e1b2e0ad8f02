"""Whether a row of the price list really is the model that was asked for.

The list's matchers are loose: by prefix, `ink-whisper` finds the row `ink-2` at three times its
price. So a match counts only when the row *explains the whole name*: the list spells the name out,
or what is left of it beside the row's own words is a date, a build or a route, never a generation
or a variant. Everything else is refused, and the usage is unpriced rather than priced wrongly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from voice_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voice_prices.types import MatchLogic, ModelInfo

_WHOLE_FAMILY: Final = {
    # The name carries the voice: aura-2-andromeda-en, Telnyx.NaturalHD.astra.
    ("deepgram", "aura-1"),
    ("deepgram", "aura-2"),
    ("telnyx", "natural"),
    ("telnyx", "natural-hd"),
    ("telnyx", "qwen3tts"),
    ("telnyx", "ultra"),
    # The list says that these are priced by mode or by plan, whatever the version.
    ("soniox", "stt-async"),
    ("soniox", "stt-rt"),
    ("soniox", "tts-rt"),
    ("ultravox", "fixie-ai/ultravox"),
    # The name carries the organisation that tuned the model.
    ("openai", "ft:gpt-3.5-turbo-"),
    ("openai", "ft:gpt-4o"),
    ("openai", "ft:gpt-4o-mini"),
    ("openai", "gpt-4o-mini-2024-07-18.ft-"),
}
"""Rows that stand for every name they match."""

_ALSO: Final = {
    # The list's note on the row: the vendor now says Sonic-3.6, and the price is the same.
    ("cartesia", "sonic-3"): ("sonic-3.5", "sonic-3.6"),
    # One row for both names of the model, of which only one spells "native audio".
    ("google", "gemini-live-2.5-flash-preview"): ("gemini-live-2.5-flash-preview-native-audio",),
}
"""Further names that the list itself says a row covers."""

_REFUSED: Final = {
    # The list files the snapshot under gpt-4o; OpenAI charges it 5 and 15 dollars a million
    # tokens, not 2.50 and 10.
    ("openai", "gpt-4o-2024-05-13"),
}
"""Names the list spells out at a price that is known to be another one."""

# us., publishers/google/models/, arn:aws:bedrock:us-east-1::foundation-model/
_ROUTE: Final = re.compile(r"(?:[a-z0-9-]*[./:])*")
# -2024-07-18, -20250929, @20250514, -09-2025, -0905, -001, -latest, -preview
_BUILD: Final = re.compile(
    r"(?:[-@.:]?(?:\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2}|\d{8}|\d{6}|\d{4}|\d{3}"
    r"|latest|preview|exp|beta|default))*"
)
_BEDROCK_VERSION: Final = re.compile(r"-v\d(?::\d)?$")


def explains(list_id: str, row: ModelInfo, name: str) -> bool:
    """Return whether `row`, which matches `name` (in lower case), may price it."""
    if (list_id, name) in _REFUSED:
        return False
    if (list_id, row.id) in _WHOLE_FAMILY:
        return True
    row_id = row.id.lower()
    spelled = {row_id, *_ALSO.get((list_id, row.id), ())}
    loose: set[str] = set()
    for clause in _clauses(row.match):
        if isinstance(clause, ClauseEquals):
            spelled.add(clause.equals.lower())
        elif (text := _text(clause)) is not None:
            loose.add(text)
    if name in spelled:
        return True
    # A prefix that is only the root of the row's own name ("ink" of "ink-2") proves nothing.
    proving = spelled | {text for text in loose if not _is_root(text, row_id)}
    return any(_is_build_of(text, name, list_id) for text in proving)


def _clauses(match: MatchLogic) -> Iterator[MatchLogic]:
    if isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _clauses(clause)
    elif not isinstance(match, ClauseAnd | ClauseRegex):
        yield match


def _text(clause: MatchLogic) -> str | None:
    match clause:
        case ClauseStartsWith(starts_with=text):
            return text.lower()
        case ClauseContains(contains=text):
            return text.lower()
        case ClauseEndsWith(ends_with=text):
            return text.lower()
        case _:
            return None


def _is_root(text: str, row_id: str) -> bool:
    return row_id.startswith(text) and not _BUILD.fullmatch(row_id.removeprefix(text))


def _is_build_of(text: str, name: str, list_id: str) -> bool:
    """Return whether `name` is `text` behind a route (`us.`) and before a date or build."""
    before, found, after = name.partition(text)
    if not found:
        return False
    if list_id == "aws":
        after = _BEDROCK_VERSION.sub("", after)
    return bool(_ROUTE.fullmatch(before) and _BUILD.fullmatch(after))
