"""Observe LiveKit voice agents: who used what, measured exactly and published safely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.config import BufferLimits
    from producer.errors import ConfigError, ProducerError
    from producer.observer import CostObserver

__all__ = ["BufferLimits", "ConfigError", "CostObserver", "ProducerError"]

_HOMES = {
    "BufferLimits": "producer.config",
    "ConfigError": "producer.errors",
    "CostObserver": "producer.observer",
    "ProducerError": "producer.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import producer` itself stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'producer' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is asked for

    return getattr(import_module(_HOMES[name]), name)
