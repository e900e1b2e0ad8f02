"""The livekit-agents that is installed: what its metrics classes report, and what sessions emit.

Nothing here is compared or judged; `supported.py` does that. What a version lacks is absent from
these tables, and importing this file fails in none of the supported versions.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from livekit.agents import get_job_context, metrics
from livekit.agents.voice import SpeechHandle, events

VERSION: Final = version("livekit-agents")
"""The installed version, such as `1.8.9`."""


def _models(annotation: object) -> Iterator[Any]:
    """Yield the models that a field holds, other than the metadata that names provider and model."""
    for one in (annotation, *typing.get_args(annotation)):
        if hasattr(one, "model_fields") and getattr(one, "__name__", "") != "Metadata":
            yield one


def _paths(model: Any, prefix: str = "") -> Iterator[str]:
    """Yield the fields of a class, dotted where a field holds a model."""
    model.model_rebuild()  # a field that names a class further down is resolved only then
    for field, info in model.model_fields.items():
        inner = next(_models(info.annotation), None)
        if inner is None:
            yield prefix + field
        else:
            yield from _paths(inner, f"{prefix}{field}.")


def _classes() -> Iterator[tuple[str, Any]]:
    for one in (*vars(metrics).values(), *typing.get_args(getattr(metrics, "AgentMetrics", None))):
        kind = getattr(one, "model_fields", {}).get("type")
        if kind is not None and str(kind.default).endswith("_metrics"):
            yield kind.default, one


FIELDS_OF: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(_paths(made)) for kind, made in _classes()
}
"""The fields of the metrics classes, by their `type`."""

EVENTS: Final[frozenset[str]] = frozenset(typing.get_args(getattr(events, "EventTypes", None)))
"""The events that a session emits."""


SAYS_SCHEDULED: Final = hasattr(SpeechHandle, "scheduled")
"""Whether a speech says that it was to be heard: one that was begun ahead may be discarded before."""


def job_finder(get: Callable[..., Any]) -> Callable[[], Any]:
    """Return what finds the job of a context with LiveKit's `get`: until 1.5.2 that can only raise."""
    if "required" in inspect.signature(get).parameters:
        return partial(get, required=False)

    def job_or_none() -> Any:
        try:
            return get()
        except RuntimeError:
            return None

    return job_or_none


current_job: Final = job_finder(get_job_context)
"""Return the `JobContext` of this context, `None` outside of a job."""
