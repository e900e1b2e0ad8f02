"""Whether the installed livekit-agents reports what the metering needs.

Asked once a process, when the first observer is made. A version that lacks what every supported one
has is refused with a sentence: its numbers would be wrong, and nothing would show it. What only newer versions
report is said once, and counts as zero. A later version that lacks nothing is metered.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from voicecosts.producer.capture import installed
from voicecosts.producer.capture.usage import FIELDS, NEWER
from voicecosts.producer.errors import ConfigError

logger = logging.getLogger(__name__)

SUPPORTED: Final = ">=1.5.2,<1.9"
"""The versions of livekit-agents that are tried before a release; `pyproject.toml` says the same."""

_FIRST: Final = (1, 5, 2)
"""Before it LiveKit cancels, while a session closes, what reports the last seconds heard."""

NEWER_CLASSES: Final = frozenset({"decision_metrics", "eot_inference_metrics"})
"""Classes of `FIELDS` that not every supported version has."""

_EVENTS: Final = (
    "metrics_collected",
    "conversation_item_added",
    "speech_created",
    "agent_state_changed",
    "close",
)
"""What a session must emit to be metered."""

_IDENTITY: Final = ("timestamp", "metadata")
"""What every metrics class must have besides its quantities: when, and of which model."""


@cache
def require_livekit() -> None:
    """Check the installed livekit-agents, and say once what it does not report.

    Raises:
        ConfigError: It lacks what every supported version has. The sentence names what, the
            installed version and the supported ones.
    """
    problem = why_refused(installed.VERSION, installed.FIELDS_OF, installed.EVENTS)
    if problem:
        sentence = (
            f"livekit-agents {installed.VERSION} cannot be metered, because it {problem}: "
            f'install "livekit-agents{SUPPORTED}"'
        )
        raise ConfigError([sentence])
    unreported = [
        f"{' and '.join(quantities)} of {modality}"
        for modality, quantities in unreported_quantities(installed.FIELDS_OF).items()
    ]
    # The main process of a worker has said it for the processes of its jobs.
    if unreported and multiprocessing.parent_process() is None:
        logger.warning(
            "livekit-agents %s does not report %s: they count as zero",
            installed.VERSION,
            ", ".join(unreported),
        )


def why_refused(
    version: str, fields_of: Mapping[str, frozenset[str]], events: frozenset[str]
) -> str:
    """Return why a version cannot be metered, as what it does or lacks; empty if it can."""
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if number < _FIRST:
        return "does not report the last seconds that a speech recogniser heard"
    lacking = absent_parts(fields_of, events)
    return f"has no {', '.join(lacking)}" if lacking else ""


def absent_parts(fields_of: Mapping[str, frozenset[str]], events: frozenset[str]) -> list[str]:
    """Return what a version lacks that every supported version has, sorted; empty for these."""
    lacking = [f"session event {event!r}" for event in _EVENTS if event not in events]
    for kind, reading in FIELDS.items():
        present = fields_of.get(kind)
        if present is None:
            if kind not in NEWER_CLASSES:
                lacking.append(f"metrics of type {kind!r}")
            continue
        named = (reading.audio, reading.session, reading.first, reading.total, reading.requests)
        needed = {*reading.quantities, *_IDENTITY, *(field for field in named if field)} - NEWER
        if kind == "stt_metrics":
            needed.add("streamed")
        lacking += [f"field {field!r} in {kind!r}" for field in needed - present]
    return sorted(lacking)


def unreported_quantities(fields_of: Mapping[str, frozenset[str]]) -> dict[str, list[str]]:
    """Return modality → the quantities that a version does not report.

    A class that is absent is none of them: what it reports does not exist in that version.
    """
    missing = {
        reading.modality: [
            quantity
            for field, quantity in reading.quantities.items()
            if field not in fields_of.get(kind, (field,))
        ]
        for kind, reading in FIELDS.items()
    }
    return {modality: quantities for modality, quantities in missing.items() if quantities}
