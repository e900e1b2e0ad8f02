"""Listeners that LiveKit's emitter calls cheaply, and that never raise into the agent's turn."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final

logger = logging.getLogger(__name__)

METRICS: Final = "metrics_collected"
"""LiveKit's event with usage, of a session and of each of its components."""

Listener = Callable[[Any], None]

_SIGNATURE: Final = inspect.Signature(
    [inspect.Parameter("events", inspect.Parameter.VAR_POSITIONAL)]
)


def listener(function: Listener, failed: Callable[[], None] | None = None) -> Listener:
    """Return `function` as a listener that an emitter calls cheaply and that never raises.

    `failed` is called when it raises, so that the loss is counted. LiveKit's emitter inspects the
    signature of every listener at every event; it finds one that is already there, and takes any
    arguments, several times faster. It re-raises a TypeError into the agent's turn.
    """

    def guarded(*events: Any) -> None:
        try:
            function(events[0] if events else None)
        except Exception as error:
            report_failure(error, failed)

    guarded.__signature__ = _SIGNATURE  # type: ignore[attr-defined]  # read by inspect.signature
    return guarded


def report_failure(error: Exception, failed: Callable[[], None] | None) -> None:
    """Log the exception of a listener, and have it counted; raises nothing."""
    logger.error(
        "a usage listener failed; the call goes on, an event may be missing", exc_info=error
    )
    if failed is not None:
        try:
            failed()
        except Exception:
            logger.exception("the failure could not be counted")
