"""Whether the installed livekit-agents reports what the metering needs.

Asked once a process, when the first observer is made. A version that lacks what every supported one
has is refused with a sentence: its numbers would be wrong without a word. What only newer versions
report is said once, and counts as zero.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Final

from voicecosts.producer.capture import installed
from voicecosts.producer.capture.usage import FIELDS, NEWER
from voicecosts.producer.errors import ConfigError

logger = logging.getLogger(__name__)

SUPPORTED: Final = ">=1.5,<1.9"
"""The versions of livekit-agents that are tried before a release; `pyproject.toml` says the same."""

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
    lacking = absent_parts(installed.FIELDS_OF, installed.EVENTS)
    if lacking:
        problem = (
            f"livekit-agents {installed.VERSION} cannot be metered, because it has no "
            f'{", ".join(lacking)}: install "livekit-agents{SUPPORTED}"'
        )
        raise ConfigError([problem])
    unreported = unreported_quantities(installed.FIELDS_OF)
    # The main process of a worker has said it for the processes of its jobs.
    if unreported and multiprocessing.parent_process() is None:
        logger.warning(
            "livekit-agents %s does not report %s: they count as zero",
            installed.VERSION,
            ", ".join(unreported),
        )


def absent_parts(fields_of: Mapping[str, frozenset[str]], events: frozenset[str]) -> list[str]:
    """Return what a version lacks that every supported version has, sorted; empty for these."""
    lacking = [f"session event {event!r}" for event in _EVENTS if event not in events]
    for kind, reading in FIELDS.items():
        present = fields_of.get(kind)
        if present is None:
            if kind not in NEWER_CLASSES:
                lacking.append(f"metrics of type {kind!r}")
            continue
        named = (reading.audio, reading.session, reading.first, reading.requests)
        needed = {*reading.quantities, *_IDENTITY, *(field for field in named if field)} - NEWER
        if kind == "stt_metrics":
            needed.add("streamed")
        lacking += [f"field {field!r} in {kind!r}" for field in needed - present]
    return sorted(lacking)


def unreported_quantities(fields_of: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the quantities that a version does not report, by modality.

    A class that is absent is none of them: what it reports does not exist in that version.
    """
    missing: dict[str, list[str]] = defaultdict(list)
    for kind, reading in FIELDS.items():
        present = fields_of.get(kind)
        for field, quantity in reading.quantities.items():
            if present is not None and field not in present:
                missing[reading.modality].append(quantity)
    return [f"{' and '.join(names)} of {modality}" for modality, names in sorted(missing.items())]
