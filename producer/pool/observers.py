"""Who is told about a call: the observers' protocol, what they are told, and how they are called.

The shapes are OpenRTC's, so an observer written for one fits the other. A hook runs in a task of
its own: one that raises, never ends or cancels itself is logged and abandoned, and the call and the
next observer go on. Only a cancellation of the call itself is passed on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from inspect import isawaitable
from typing import Any, ClassVar, Protocol, runtime_checkable

from msgspec import Struct

from voicecosts.producer.dispatch import tenant_name
from voicecosts.producer.errors import InvalidRegistration
from voicecosts.producer.names import plain
from voicecosts.producer.pool.routing import JobView

logger = logging.getLogger(__name__)


class SessionStatus(Enum):
    """How a call ended."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """Agent, tenant, room and job of a call, fixed before it starts.

    `metadata` is the room's overlaid with the job's, as text. Without a tenant `tenant` is `None`
    and `metadata` has no such key. `started_at` is in seconds since 1970.
    """

    agent_name: str
    room_name: str
    job_id: str
    metadata: Mapping[str, str]
    started_at: float
    tenant: str | None = None
    deployment_version: str | None = None

    fills_in_tenants: ClassVar[bool] = False
    """Whether `tenant` may be a word for none, as OpenRTC's "default" may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOutcome:
    """How a call ended. `error` is what ended it, `None` after a success.

    `is_final` says that the call is over, which is always so in this pool. OpenRTC's outcome lacks
    it: in its process mode the end hook runs when the entrypoint returns, while the call goes on.
    """

    status: SessionStatus
    error: BaseException | None
    ended_at: float
    duration_seconds: float
    is_final: bool = True


@runtime_checkable
class SessionObserver(Protocol):
    """An observer of every call of a pool.

    `on_session_start` is handed the running session, before its greeting, as OpenRTC does it. With
    the class attribute `attaches_before_start = True` it is handed the session before it starts, so
    that it misses no event. An end may come without a start. Where calls run in threads, one
    observer serves them all; in processes each call has a copy of its own.
    """

    async def on_session_start(self, info: Any, session: Any) -> None:
        """A session goes live."""

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """The call is over, however it ended."""


class HookLimits(Struct, frozen=True, kw_only=True):
    """How long a call waits for one hook of one observer, in seconds."""

    start_s: float = 5.0
    end_s: float = 30.0


def checked_limits(limits: object) -> HookLimits:
    """Return limits within which a hook can run at all; `None` gives the usual ones.

    Raises:
        InvalidRegistration: They are of another type, or one of them is not a number above 0.
    """
    if limits is None:
        return HookLimits()
    if isinstance(limits, HookLimits):
        seconds: list[Any] = [limits.start_s, limits.end_s]
        if all(isinstance(it, int | float) and it > 0 for it in seconds):
            return limits
    raise InvalidRegistration(f"hook_limits is {limits!r}: pass HookLimits with seconds above 0")


class Registered(Struct, frozen=True):
    """An observer of a pool, and whether it wants the session before it starts."""

    observer: SessionObserver
    is_early: bool


def registered(observer: Any) -> Registered:
    """Return an observer as a pool keeps it; what it says of itself is read here and never again.

    `attaches_before_start` is foreign code as well: where it raises, the observer is handed the
    running session, and the log says so.

    Raises:
        TypeError: It is a class, or lacks a hook.
    """
    if isinstance(observer, type):
        raise TypeError(f"{observer!r} is a class: pass an instance of it")
    if not (
        callable(_hook(observer, "on_session_start"))
        and callable(_hook(observer, "on_session_end"))
    ):
        raise TypeError(f"{observer!r} needs both hooks, on_session_start and on_session_end")
    try:
        is_early = bool(getattr(observer, "attaches_before_start", False))
    except Exception:
        logger.exception(
            "attaches_before_start of observer %r failed: it is called after the start", observer
        )
        is_early = False
    return Registered(observer, is_early)


def _hook(observer: object, name: str) -> object:
    try:
        return getattr(observer, name, None)
    except Exception:  # noqa: BLE001 - a foreign object's own code
        return None


def info_of(agent: str, view: JobView, *, deployment: str | None = None) -> SessionInfo:
    """Return what observers are told of a call; nothing in the metadata can refuse it."""
    tenant = tenant_name(view.metadata().get("tenant"))
    texts = {**_texts(view.room or {}), **_texts(view.job or {})}
    texts.pop("tenant", None)
    return SessionInfo(
        agent_name=agent,
        room_name=view.room_name,
        job_id=view.job_id,
        metadata=texts if tenant is None else {**texts, "tenant": tenant},
        started_at=time.time(),
        tenant=tenant,
        deployment_version=deployment,
    )


def _texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in metadata.items()}


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a foreign object's own code, or an integer without end
        return plain(value)


def outcome_of(info: SessionInfo, error: BaseException | None) -> SessionOutcome:
    """Return how a call ended, by the error that ended it."""
    if error is None:
        status = SessionStatus.SUCCESS
    elif isinstance(error, asyncio.CancelledError):
        status = SessionStatus.CANCELLED
    else:
        status = SessionStatus.FAILED
    ended_at = time.time()
    return SessionOutcome(
        status=status,
        error=error,
        ended_at=ended_at,
        duration_seconds=max(0.0, ended_at - info.started_at),
    )


async def run_hook(observer: object, name: str, *arguments: Any, limit_s: float) -> None:
    """Call one hook and wait for it, at most `limit_s` seconds; log whatever goes wrong in it."""

    async def call() -> None:
        returned = getattr(observer, name)(*arguments)
        if isawaitable(returned):
            await returned
        else:
            logger.warning("%s of observer %r is a plain function: make it async", name, observer)

    task = asyncio.create_task(call(), name=f"{name} of {type(observer).__name__}")
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        # Not waited for any longer: a hook may ignore its cancellation.
        task.cancel()
        task.add_done_callback(_forget)
        logger.warning("%s of observer %r took longer than %s s", name, observer, limit_s)
    elif task.cancelled():
        logger.warning("%s of observer %r cancelled itself", name, observer)
    elif (error := task.exception()) is not None:
        logger.warning("%s of observer %r failed", name, observer, exc_info=error)


def _forget(task: asyncio.Task[None]) -> None:
    """Retrieve the error of an abandoned task, so that asyncio does not complain about it."""
    if not task.cancelled():
        task.exception()
