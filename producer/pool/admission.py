"""Which dispatched jobs a worker takes: those it owns, and those whose agent and tenant have room.

LiveKit asks before it assigns a job. The answer is yes or no and never an exception: what cannot be
judged here is accepted, and refused with its reason when its session is routed. After a no LiveKit
offers the job to other workers.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

from livekit.agents import JobRequest
from msgspec import Struct

from voicecosts.producer.dispatch import tenant_of
from voicecosts.producer.errors import InvalidRegistration, Refused, shown
from voicecosts.producer.names import text
from voicecosts.producer.pool.config import as_name
from voicecosts.producer.pool.routing import JobView, Router, owner, resolve, view_of

logger = logging.getLogger(__name__)

RequestFilter = Callable[[JobRequest], Awaitable[None]]
"""LiveKit's own hook: it awaits `request.accept()` or `request.reject()`."""

NO_TENANT: Final = "default"
"""The name under which calls without a tenant are capped."""


class Caps(Struct, frozen=True, kw_only=True):
    """How many calls of one agent, and of one tenant, a worker accepts at the same time."""

    per_agent: Mapping[str, int] = {}
    per_tenant: Mapping[str, int] = {}


class Account(Struct, frozen=True):
    """The agent and the tenant whose caps a call counts against."""

    agent: str | None
    tenant: str | None


NO_ACCOUNT: Final = Account(None, None)
"""Of a call that the routing will refuse: it counts against no cap."""


def checked_caps(per_agent: Mapping[str, int] | None, per_tenant: Mapping[str, int] | None) -> Caps:
    """Return caps that can be kept.

    Raises:
        InvalidRegistration: One of them is not a whole number of at least 1, or it names what no
            call can have: a malformed agent or a blank tenant.
    """
    caps = Caps(
        per_agent={as_name(name): limit for name, limit in (per_agent or {}).items()},
        per_tenant={_as_tenant(name): limit for name, limit in (per_tenant or {}).items()},
    )
    for owner_of_cap, limits in (("agent", caps.per_agent), ("tenant", caps.per_tenant)):
        for name, limit in limits.items():
            if type(limit) is not int or limit < 1:  # True is an int as well
                raise InvalidRegistration(
                    f"the cap of {owner_of_cap} {shown(str(name))} is {limit!r}: "
                    "it must be a whole number of at least 1"
                )
    return caps


def _as_tenant(name: object) -> str:
    """Return a tenant as calls have it."""
    tenant = tenant_of(name)
    if tenant is None:
        raise InvalidRegistration(f"the cap of tenant {name!r} caps nobody: name a tenant")
    return tenant


class Admission:
    """LiveKit's request hook of a pool. `_accounts` and `_asked` change in `__call__` only.

    A job is counted before anything is awaited and until it is over, so that no burst of requests
    exceeds a cap. `names` is the pool's own collection: agents that are added later are in it.
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
        self._accounts: dict[str, Account] = {}
        self._asked: set[str] = set()

    async def __call__(self, request: JobRequest) -> None:
        """Accept or reject a job, or leave it to the user's own filter."""
        job_id = request.job.id
        try:
            problem = self._reserve(request)
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

    def _reserve(self, request: JobRequest) -> str | None:
        """Count a job against its caps, or return why it cannot be accepted."""
        view = view_of(request.job)
        if self._own_rooms_only and not self._is_own(view):
            room = text(view.room_name)
            return f"neither its metadata nor its room {room!r} names a registered agent"
        if not self._caps.per_agent and not self._caps.per_tenant:
            return None
        account = self._account_of(view)
        counted = self._counted()
        for kind, name, limits in (
            ("agent", account.agent, self._caps.per_agent),
            ("tenant", account.tenant, self._caps.per_tenant),
        ):
            limit = limits.get(name) if name is not None else None
            if limit is not None and counted[kind, name] >= limit:
                return f"{kind} {shown(name or '')} has {limit} calls, as many as allowed"
        self._accounts[view.job_id] = account
        self._asked.add(view.job_id)
        return None

    def _counted(self) -> Counter[tuple[str, str | None]]:
        """Return how many calls are running or about to, by agent and by tenant."""
        running = {info.job.id: info.job for info in self._active_jobs()}
        self._accounts = {
            job_id: account
            for job_id, account in self._accounts.items()
            if job_id in running or job_id in self._asked
        }
        for job_id, job in running.items():
            if job_id not in self._accounts:  # taken over when the worker was reloaded
                self._accounts[job_id] = self._account_of(view_of(job))
        counted: Counter[tuple[str, str | None]] = Counter()
        for account in self._accounts.values():
            counted.update([("agent", account.agent), ("tenant", account.tenant)])
        return counted

    def _is_own(self, view: JobView) -> bool:
        try:
            return owner(view, tuple(self._names), self._router) is not None
        except Refused:
            return False

    def _account_of(self, view: JobView) -> Account:
        try:
            agent = resolve(view, tuple(self._names), self._router).agent
            tenant = tenant_of(view.metadata().get("tenant"))
        except Refused:
            return NO_ACCOUNT
        return Account(agent, tenant or NO_TENANT)
