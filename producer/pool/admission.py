"""Which dispatched jobs a worker takes: those it owns, and those whose agent and tenant have room.

LiveKit asks before it assigns a job. The answer is a yes or a no and never an exception: what cannot
be judged here is accepted, and refused with its reason when its session is routed. A no leaves the
job to the other workers.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

from livekit.agents import JobRequest
from msgspec import Struct

from voicecosts.producer.dispatch import valid_tenant
from voicecosts.producer.errors import InvalidRegistration, Refused, shown
from voicecosts.producer.names import text
from voicecosts.producer.pool.routing import JobView, Router, owner, resolve, view_of

logger = logging.getLogger(__name__)

RequestFilter = Callable[[JobRequest], Awaitable[None]]
"""LiveKit's own hook: it awaits `request.accept()` or `request.reject()`."""

NO_TENANT: Final = "default"
"""The name under which calls without a tenant are capped."""


class Caps(Struct, frozen=True, kw_only=True):
    """How many calls of one agent, and of one tenant, a worker takes at the same time."""

    per_agent: Mapping[str, int] = {}
    per_tenant: Mapping[str, int] = {}


class Claim(Struct, frozen=True):
    """On whose account a call is counted."""

    agent: str | None
    tenant: str | None


NOBODYS: Final = Claim(None, None)
"""A call that the routing will refuse."""


def checked_caps(per_agent: Mapping[str, int] | None, per_tenant: Mapping[str, int] | None) -> Caps:
    """Return caps that can hold.

    Raises:
        InvalidRegistration: One of them is not a whole number of at least 1.
    """
    caps = Caps(per_agent=dict(per_agent or {}), per_tenant=dict(per_tenant or {}))
    for owner_of_cap, limits in (("agent", caps.per_agent), ("tenant", caps.per_tenant)):
        for name, limit in limits.items():
            if type(limit) is not int or limit < 1:  # True is an int as well
                raise InvalidRegistration(
                    f"the cap of {owner_of_cap} {shown(str(name))} is {limit!r}: "
                    "it must be a whole number of at least 1"
                )
    return caps


class Admission:
    """LiveKit's request hook of a pool. Its state, `_claims` and `_asked`, changes in `__call__` only.

    A place is taken before anything is awaited and counted until its job is over, so that no burst
    of requests exceeds a cap. `names` is alive: agents that are added later count.
    """

    def __init__(
        self,
        names: Collection[str],
        active_jobs: Callable[[], Iterable[Any]],
        *,
        caps: Caps,
        router: Router | None = None,
        own_rooms_only: bool = False,
        then: RequestFilter | None = None,
    ) -> None:
        self._names = names
        self._active_jobs = active_jobs
        self._caps = caps
        self._router = router
        self._own_rooms_only = own_rooms_only
        self._then = then
        self._claims: dict[str, Claim] = {}
        self._asked: set[str] = set()

    async def __call__(self, request: JobRequest) -> None:
        """Accept or reject a job, or leave it to the user's own filter."""
        job_id = request.job.id
        try:
            problem = self._claim(request)
            if problem is not None:
                logger.info("job %s is left to other workers: %s", job_id, problem)
                await request.reject(terminate=False)
            elif self._then is not None:
                await self._then(request)
            else:
                await request.accept()
        except Exception:
            # LiveKit rejects a request that nobody has answered.
            logger.exception("the request of job %s could not be answered", job_id)
        finally:
            self._asked.discard(job_id)

    def _claim(self, request: JobRequest) -> str | None:
        """Take a place for a job, or say why there is none."""
        view = view_of(request.job)
        if self._own_rooms_only and not self._is_own(view):
            return f"nothing names an agent of this pool, not room {text(view.room_name)!r} either"
        if not self._caps.per_agent and not self._caps.per_tenant:
            return None
        claim = self._claim_of(view)
        counted = self._counted()
        for kind, name, limits in (
            ("agent", claim.agent, self._caps.per_agent),
            ("tenant", claim.tenant, self._caps.per_tenant),
        ):
            limit = limits.get(name) if name is not None else None
            if limit is not None and counted[kind, name] >= limit:
                return f"{kind} {shown(name or '')} has its {limit} calls"
        self._claims[view.job_id] = claim
        self._asked.add(view.job_id)
        return None

    def _counted(self) -> Counter[tuple[str, str | None]]:
        """Return how many calls are running or about to, by agent and by tenant."""
        running = {info.job.id: info.job for info in self._active_jobs()}
        self._claims = {
            job_id: claim
            for job_id, claim in self._claims.items()
            if job_id in running or job_id in self._asked
        }
        for job_id, job in running.items():
            if job_id not in self._claims:  # taken over when the worker was reloaded
                self._claims[job_id] = self._claim_of(view_of(job))
        counted: Counter[tuple[str, str | None]] = Counter()
        for claim in self._claims.values():
            counted.update([("agent", claim.agent), ("tenant", claim.tenant)])
        return counted

    def _is_own(self, view: JobView) -> bool:
        try:
            return owner(view, tuple(self._names), self._router) is not None
        except Refused:
            return False

    def _claim_of(self, view: JobView) -> Claim:
        try:
            agent = resolve(view, tuple(self._names), self._router).agent
            tenant = valid_tenant(view.metadata().get("tenant"))
        except Refused:
            return NOBODYS
        return Claim(agent, tenant or NO_TENANT)
