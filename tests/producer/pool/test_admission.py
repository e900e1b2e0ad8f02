"""Admission: which jobs a worker takes, asked with LiveKit's own request object."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents import JobRequest
from livekit.protocol import agent, models

from voicecosts.producer.errors import InvalidRegistration
from voicecosts.producer.pool.admission import Admission, Caps, checked_caps

_numbers = itertools.count(1)


class Worker:
    """What LiveKit's server is to an admission: it asks, and it knows which jobs run."""

    def __init__(self, names: Iterable[str] = ("restaurant", "dental"), **options: Any) -> None:
        self.names = dict.fromkeys(names)
        self.running: dict[str, agent.Job] = {}
        options.setdefault("caps", Caps())
        self.admission = Admission(self.names, self._active, **options)
        self.terminated: list[bool] = []
        self.launching = asyncio.Event()
        self.launching.set()

    def _active(self) -> list[Any]:
        return [SimpleNamespace(job=job) for job in self.running.values()]

    async def offer(self, *, room: str = "", job: str = "", of_room: str = "") -> bool:
        """Offer a job; tell whether it was accepted. It runs until it is removed."""
        room_info = models.Room(name=room, metadata=of_room)
        offered = agent.Job(id=f"AJ-{next(_numbers)}", metadata=job, room=room_info)
        answers: list[bool] = []

        async def accept(_: object) -> None:
            answers.append(True)
            await self.launching.wait()
            self.running[offered.id] = offered

        async def reject(terminate: bool) -> None:  # noqa: FBT001 - LiveKit's signature
            answers.append(False)
            self.terminated.append(terminate)

        await self.admission(JobRequest(job=offered, on_accept=accept, on_reject=reject))
        return answers == [True]


def capped(*, agents: Mapping[str, int] | None = None, **tenants: int) -> Caps:
    """Return caps by agent and by tenant."""
    return checked_caps(agents, tenants)


async def test_without_a_filter_every_job_is_accepted() -> None:
    """A job is accepted even if routing will refuse it, so that the refusal is logged."""
    worker = Worker()
    assert await worker.offer(room="any")
    assert await worker.offer(job='{"agent": "unknown"}')


@pytest.mark.parametrize(
    "dispatched",
    [
        {"room": "dental-7"},
        {"job": '{"agent": "dental"}'},
        {"job": '{"demo": "restaurant"}', "room": "any"},
        {"of_room": '{"agent": "dental"}', "room": "sales-7"},
    ],
)
async def test_a_room_that_names_a_registered_agent_is_owned(dispatched: dict[str, str]) -> None:
    """A job is the pool's own when its room's name or either metadata names a registered agent."""
    assert await Worker(own_rooms_only=True).offer(**dispatched)


@pytest.mark.parametrize(
    "dispatched",
    [
        {"room": "sales-7"},
        {"room": ""},
        {"room": "dental"},
        {"job": '{"agent": "sales"}'},
        {"job": '{"agent": "sales"}', "room": "dental-7"},
        {"of_room": "no JSON"},
    ],
)
async def test_a_foreign_room_is_left_to_other_workers(dispatched: dict[str, str]) -> None:
    """A room that names no registered agent is rejected without ending the job for other workers."""
    worker = Worker(own_rooms_only=True)
    assert not await worker.offer(**dispatched)
    assert worker.terminated == [False]


async def test_an_empty_pool_owns_nothing() -> None:
    """A pool without agents rejects every job."""
    assert not await Worker((), own_rooms_only=True).offer(room="dental-7")


async def test_agents_that_are_added_and_removed_later_count() -> None:
    """Admission asks for the agents that are registered now, not when the pool was made."""
    worker = Worker((), own_rooms_only=True)
    worker.names["dental"] = None
    assert await worker.offer(room="dental-7")
    del worker.names["dental"]
    assert not await worker.offer(room="dental-8")


async def test_a_routers_choice_is_owned_as_well() -> None:
    """A router's answer counts as much as metadata; where it returns none, the chain decides."""
    worker = Worker(own_rooms_only=True, router=lambda metadata: (metadata or {}).get("to"))
    assert await worker.offer(job='{"to": "dental"}')
    assert await worker.offer(room="dental-7")
    assert not await worker.offer(job='{"to": "sales"}', room="dental-7")


async def test_a_full_agent_rejects_only_its_own_calls() -> None:
    """An agent at its cap rejects calls until one is over; another agent still takes calls."""
    worker = Worker(caps=capped(agents={"dental": 2}))
    assert await worker.offer(room="dental-1")
    assert await worker.offer(job='{"agent": "dental"}')
    assert not await worker.offer(room="dental-3")
    assert await worker.offer(room="restaurant-1")
    worker.running.popitem()
    worker.running.popitem()
    assert await worker.offer(room="dental-4")
    assert worker.terminated == [False]


async def test_the_default_agents_cap_covers_the_calls_that_name_none() -> None:
    """A call that names no agent counts against the cap of the agent that it will reach."""
    worker = Worker(caps=capped(agents={"restaurant": 1}))
    assert await worker.offer(room="any")
    assert not await worker.offer(room="other")


async def test_a_full_tenant_rejects_only_its_own_calls() -> None:
    """A tenant's cap counts its calls to all agents, and no other tenant's."""
    worker = Worker(caps=capped(acme=1))
    assert await worker.offer(job='{"tenant": "acme"}')
    assert not await worker.offer(job='{"tenant": "acme", "agent": "dental"}')
    assert await worker.offer(job='{"tenant": "globex"}')
    assert await worker.offer()


async def test_the_jobs_tenant_wins_over_the_rooms() -> None:
    """A tenant in the job's metadata counts, not the one in the room's."""
    worker = Worker(caps=capped(acme=1))
    assert await worker.offer(job='{"tenant": "acme"}', of_room='{"tenant": "globex"}')
    assert await worker.offer(job='{"tenant": "globex"}', of_room='{"tenant": "acme"}')
    assert not await worker.offer(of_room='{"tenant": "acme"}')


async def test_the_default_tenants_cap_covers_the_calls_without_a_tenant() -> None:
    """A cap of the tenant `"default"` counts the calls without a tenant, as in OpenRTC."""
    worker = Worker(caps=capped(default=1))
    assert await worker.offer()
    assert not await worker.offer(job='{"tenant": " "}')
    assert await worker.offer(job='{"tenant": "acme"}')


async def test_caps_of_agents_and_tenants_must_both_have_room() -> None:
    """A call is accepted only when its agent's and its tenant's cap both allow it."""
    worker = Worker(caps=capped(agents={"dental": 2}, acme=1))
    assert await worker.offer(job='{"agent": "dental", "tenant": "acme"}')
    assert not await worker.offer(job='{"agent": "restaurant", "tenant": "acme"}')
    assert await worker.offer(job='{"agent": "dental", "tenant": "globex"}')
    assert not await worker.offer(job='{"agent": "dental", "tenant": "globex"}')
    assert await worker.offer(job='{"agent": "restaurant", "tenant": "globex"}')


async def test_a_burst_of_requests_does_not_exceed_a_cap() -> None:
    """A job counts from the moment it is asked for, not from when its call has begun."""
    worker = Worker(caps=capped(agents={"dental": 3}))
    worker.launching.clear()
    burst = asyncio.gather(*(worker.offer(room=f"dental-{n}") for n in range(10)))
    await asyncio.sleep(0)
    worker.launching.set()
    assert sorted(await burst) == [False] * 7 + [True] * 3


async def test_a_call_that_will_be_refused_counts_against_no_cap() -> None:
    """A call with an unknown agent is accepted, and no cap counts it."""
    worker = Worker(caps=capped(agents={"restaurant": 1}, default=1))
    assert await worker.offer(job='{"agent": "sales"}')
    assert await worker.offer()


async def test_jobs_that_were_taken_over_are_counted() -> None:
    """Jobs that run since before a reload of the worker count against the caps."""
    worker = Worker(caps=capped(agents={"dental": 1}))
    worker.running["old"] = agent.Job(id="old", room=models.Room(name="dental-1"))
    assert not await worker.offer(room="dental-2")


async def test_a_filter_of_the_users_own_decides_after_the_caps() -> None:
    """A user's filter is asked after the caps, and a job that it rejects is not counted."""
    asked: list[str] = []

    async def own_filter(request: JobRequest) -> None:
        asked.append(request.room.name)
        await (request.reject() if request.room.name == "dental-0" else request.accept())

    worker = Worker(caps=capped(agents={"dental": 1}), then=own_filter)
    assert not await worker.offer(room="dental-0")
    assert await worker.offer(room="dental-1")
    assert not await worker.offer(room="dental-2")
    assert asked == ["dental-0", "dental-1"]


async def test_a_filter_that_raises_is_logged_and_nothing_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A filter that raises is logged; LiveKit rejects the unanswered job, and it is not counted."""

    async def broken(request: JobRequest) -> None:
        raise ZeroDivisionError(request.id)

    worker = Worker(caps=capped(agents={"restaurant": 1}), then=broken)
    assert not await worker.offer()
    assert not await worker.offer()
    assert caplog.text.count("could not be answered") == 2
    assert "as many as allowed" not in caplog.text


async def test_a_router_that_raises_does_not_break_the_admission() -> None:
    """A router that raises leaves the refusal to routing, or the job to other workers."""

    def broken(_: object) -> str:
        raise ZeroDivisionError

    assert await Worker(router=broken, caps=capped(agents={"dental": 1})).offer(room="dental-1")
    assert not await Worker(router=broken, own_rooms_only=True).offer(room="dental-1")


async def test_a_phone_number_in_a_room_name_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log line of a rejected job masks the caller's number in the room's name."""
    with caplog.at_level("INFO"):
        await Worker(own_rooms_only=True).offer(room="call-_+15551234567_x")
    assert "left to other workers" in caplog.text
    assert "15551234567" not in caplog.text


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2", None])
@pytest.mark.parametrize("of", ["agent", "tenant"])
def test_a_cap_that_cannot_hold_is_refused(limit: Any, of: str) -> None:
    """A cap that is not a whole number of at least 1 is refused when it is given."""
    caps = {"dental": 1, "er": limit}
    with pytest.raises(InvalidRegistration, match=f"cap of {of} 'er' is"):
        checked_caps(*((caps, None) if of == "agent" else (None, caps)))
