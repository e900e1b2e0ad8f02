"""What every call of every LiveKit voice agent costs, per project, agent and tenant.

The public names. Importing this package loads nothing else: each name loads its module on first
use, so a worker never loads duckdb, and a notebook never loads LiveKit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from voicecosts.analytics.commands.asking import audit, call, calls, query, statement
    from voicecosts.analytics.snapshot.connection import connect
    from voicecosts.producer.config import BufferLimits
    from voicecosts.producer.dispatch import dispatch_metadata
    from voicecosts.producer.errors import ConfigError, PoolError, ProducerError
    from voicecosts.producer.events import MeterTotals, Quantities
    from voicecosts.producer.observer import CostObserver
    from voicecosts.producer.pool.agent_pool import AgentPool
    from voicecosts.producer.pool.config import AgentConfig
    from voicecosts.producer.pool.discovery import agent_config
    from voicecosts.producer.pool.observers import (
        HookLimits,
        SessionInfo,
        SessionObserver,
        SessionOutcome,
        SessionStatus,
    )
    from voicecosts.producer.tls import Tls

__all__ = [
    "AgentConfig",
    "AgentPool",
    "BufferLimits",
    "ConfigError",
    "CostObserver",
    "HookLimits",
    "MeterTotals",
    "PoolError",
    "ProducerError",
    "Quantities",
    "SessionInfo",
    "SessionObserver",
    "SessionOutcome",
    "SessionStatus",
    "Tls",
    "agent_config",
    "audit",
    "call",
    "calls",
    "connect",
    "dispatch_metadata",
    "query",
    "statement",
]

_HOMES: Final = {
    "AgentConfig": "voicecosts.producer.pool.config",
    "AgentPool": "voicecosts.producer.pool.agent_pool",
    "BufferLimits": "voicecosts.producer.config",
    "ConfigError": "voicecosts.producer.errors",
    "CostObserver": "voicecosts.producer.observer",
    "HookLimits": "voicecosts.producer.pool.observers",
    "MeterTotals": "voicecosts.producer.events",
    "PoolError": "voicecosts.producer.errors",
    "ProducerError": "voicecosts.producer.errors",
    "Quantities": "voicecosts.producer.events",
    "SessionInfo": "voicecosts.producer.pool.observers",
    "SessionObserver": "voicecosts.producer.pool.observers",
    "SessionOutcome": "voicecosts.producer.pool.observers",
    "SessionStatus": "voicecosts.producer.pool.observers",
    "Tls": "voicecosts.producer.tls",
    "agent_config": "voicecosts.producer.pool.discovery",
    "audit": "voicecosts.analytics.commands.asking",
    "call": "voicecosts.analytics.commands.asking",
    "calls": "voicecosts.analytics.commands.asking",
    "connect": "voicecosts.analytics.snapshot.connection",
    "dispatch_metadata": "voicecosts.producer.dispatch",
    "query": "voicecosts.analytics.commands.asking",
    "statement": "voicecosts.analytics.commands.asking",
}

_EXTRAS: Final = {"livekit": "producer,agents", "nats": "producer", "duckdb": "analytics"}
"""What to install where a package is missing."""


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'voicecosts' has no attribute {name!r}")
    try:
        home = import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        extras = _EXTRAS.get((error.name or "").partition(".")[0])
        if extras is None:
            raise
        raise ImportError(
            f"voicecosts.{name} needs {error.name}: pip install 'voicecosts[{extras}]'"
        ) from None
    return getattr(home, name)


def __dir__() -> list[str]:
    """Return the public names, also those that are not loaded yet."""
    return sorted({*globals(), *__all__})
