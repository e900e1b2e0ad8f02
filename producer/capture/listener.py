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


def listener(function: Listener) -> Listener:
    """Return `function` as a listener that an emitter calls cheaply and that never raises.

    LiveKit's emitter inspects the signature of every listener at every event; it finds one that is
    already there, and takes any arguments, several times faster. It re-raises a TypeError into the
    agent's turn.
    """

    def guarded(event: Any) -> None:
        try:
            function(event)
        except Exception:
            logger.exception("a usage listener failed; the call goes on, an event may be missing")

    guarded.__signature__ = _SIGNATURE  # type: ignore[attr-defined]  # read by inspect.signature
    return guarded
