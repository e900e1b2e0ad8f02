"""Observe LiveKit voice agents: who used what, measured exactly and published safely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.config import BufferLimits
    from producer.errors import ConfigError, PoolError, ProducerError
    from producer.identity import dispatch_metadata
    from producer.observer import CostObserver
    from producer.pool.agent_pool import AgentPool
    from producer.pool.config import AgentConfig
    from producer.pool.discovery import agent_config
    from producer.pool.observers import (
        HookLimits,
        SessionInfo,
        SessionObserver,
        SessionOutcome,
        SessionStatus,
    )

__all__ = [
    "AgentConfig",
    "AgentPool",
    "BufferLimits",
    "ConfigError",
    "CostObserver",
    "HookLimits",
    "PoolError",
    "ProducerError",
    "SessionInfo",
    "SessionObserver",
    "SessionOutcome",
    "SessionStatus",
    "agent_config",
    "dispatch_metadata",
]

_HOMES = {
    "AgentConfig": "producer.pool.config",
    "AgentPool": "producer.pool.agent_pool",
    "BufferLimits": "producer.config",
    "ConfigError": "producer.errors",
    "CostObserver": "producer.observer",
    "HookLimits": "producer.pool.observers",
    "PoolError": "producer.errors",
    "ProducerError": "producer.errors",
    "SessionInfo": "producer.pool.observers",
    "SessionObserver": "producer.pool.observers",
    "SessionOutcome": "producer.pool.observers",
    "SessionStatus": "producer.pool.observers",
    "agent_config": "producer.pool.discovery",
    "dispatch_metadata": "producer.identity",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import producer` itself stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'producer' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is asked for

    return getattr(import_module(_HOMES[name]), name)
