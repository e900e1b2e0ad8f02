"""Observers: what they are told about a call, and that none of them can hurt it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from openrtc.observability import base_observer as openrtc

from voicecosts import CostObserver, HookLimits, SessionInfo, SessionObserver, SessionStatus
from voicecosts.producer.pool.observers import info_of, outcome_of, registered, run_hook
from voicecosts.producer.pool.routing import JobView, view_of


def info(**dispatched: Any) -> SessionInfo:
    """Return what observers are told about a call."""
    return info_of("dental", JobView(job_id="AJ_1", room_name="dental-1", **dispatched))


def test_the_info_is_frozen_and_pickles() -> None:
    """The info cannot be changed, compares by value and survives a pickle."""
    told = info(job_metadata='{"tenant": "acme"}')
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.tenant = "globex"  # type: ignore[misc]  # what must not work
    assert pickle.loads(pickle.dumps(told)) == told  # noqa: S301 - our own bytes


def test_info_and_outcome_have_every_field_of_openrtcs() -> None:
    """An observer that was written for OpenRTC finds what it reads there."""
    theirs = {field.name for field in dataclasses.fields(openrtc.SessionInfo)}
    assert theirs <= {field.name for field in dataclasses.fields(SessionInfo)}
    outcome = outcome_of(info(), None)
    theirs = {field.name for field in dataclasses.fields(openrtc.SessionOutcome)}
    assert theirs <= {field.name for field in dataclasses.fields(outcome)}
    assert {it.value for it in SessionStatus} == {it.value for it in openrtc.SessionStatus}


def test_an_observer_of_one_is_an_observer_of_the_other() -> None:
    """The protocols accept the same shape; ours can also ask to be attached before the start."""
    observer = CostObserver(project="p", servers="nats://h:1")
    assert isinstance(observer, SessionObserver)
    assert isinstance(observer, openrtc.SessionObserver)
    assert registered(observer).is_early
    assert not registered(Quiet()).is_early


def test_a_job_without_room_or_id_is_no_problem() -> None:
    """A room or an id that is missing is empty text in the info."""
    told = info_of("dental", view_of(SimpleNamespace()))
    assert (told.room_name, told.job_id, dict(told.metadata)) == ("", "", {})


def test_the_jobs_metadata_lies_over_the_rooms() -> None:
    """The job's metadata wins over the room's, key by key, and every value becomes text."""
    told = info(
        room_metadata='{"tenant": "room", "lang": "de", "n": 1}',
        job_metadata={"tenant": "job", "n": 2},
    )
    assert told.metadata == {"tenant": "job", "lang": "de", "n": "2"}
    assert told.tenant == "job"


@pytest.mark.parametrize("tenant", ["acme", " acme\n", "A-1_b", "x" * 128, 42])
def test_a_tenant_is_taken_from_the_metadata(tenant: object) -> None:
    """A tenant in the metadata loses the space around it, in the field and in the map."""
    told = info(job_metadata=json.dumps({"tenant": tenant}))
    assert told.tenant == told.metadata["tenant"] == str(tenant).strip()


@pytest.mark.parametrize("job", ["", "{}", '{"tenant": null}', '{"tenant": " "}', "no JSON"])
def test_an_absent_tenant_stays_absent(job: str) -> None:
    """Without a tenant the field is `None` and the map has no such key."""
    told = info(job_metadata=job)
    assert told.tenant is None
    assert "tenant" not in told.metadata


@pytest.mark.parametrize("tenant", ["Acme Corp", "a/b", "Bäcker & Söhne", "a\nb", 1.5, True])
def test_a_tenant_of_any_writing_is_kept_and_the_call_goes_on(tenant: object) -> None:
    """OpenRTC refuses a call whose tenant is no plain word; metering keeps the name as it is."""
    told = info(job_metadata=json.dumps({"tenant": tenant}))
    assert told.tenant == told.metadata["tenant"] == str(tenant)


def test_two_long_tenants_stay_two() -> None:
    """A tenant that is too long for the contract is shortened, and not to another one's name."""
    ended = [info(job_metadata=json.dumps({"tenant": "x" * 200 + end})).tenant for end in "ab"]
    assert len(set(ended)) == 2
    assert all(len(tenant or "") == 128 for tenant in ended)


@pytest.mark.parametrize("tenant", [["a"], {"a": 1}, []])
def test_a_tenant_that_is_no_text_is_none_and_the_log_says_so(
    tenant: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A tenant without a text is none; one warning names its type, and the call goes on."""
    told = info(job_metadata=json.dumps({"tenant": tenant}))
    assert told.tenant is None
    assert "tenant" not in told.metadata
    (record,) = caplog.records
    assert f"a tenant of type {type(tenant).__name__} is ignored" in record.getMessage()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, SessionStatus.SUCCESS),
        (RuntimeError("x"), SessionStatus.FAILED),
        (asyncio.CancelledError(), SessionStatus.CANCELLED),
        (KeyboardInterrupt(), SessionStatus.FAILED),
    ],
)
def test_the_outcome_is_judged_by_the_error(
    error: BaseException | None, status: SessionStatus
) -> None:
    """No error is a success, a cancellation is cancelled, any other error a failure."""
    outcome = outcome_of(info(), error)
    assert (outcome.status, outcome.error, outcome.is_final) == (status, error, True)


def test_a_call_never_lasts_less_than_nothing() -> None:
    """A clock that was set back gives a duration of zero, never a negative one."""
    later = dataclasses.replace(info(), started_at=outcome_of(info(), None).ended_at + 60)
    assert outcome_of(later, None).duration_seconds == 0.0


class Quiet:
    """An observer whose hooks do what the test gives them."""

    def __init__(self, do: Any = None) -> None:
        self.do = do
        self.asked: list[str] = []

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Do what was given."""
        self.asked.append(info)
        if self.do is not None:
            await self.do()

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Do what was given."""
        await self.on_session_start(info, outcome)


async def hook(observer: object, limit_s: float = 5.0) -> None:
    """Run one hook as a call does."""
    await run_hook(observer, "on_session_start", "info", "session", limit_s=limit_s)


async def test_a_hook_that_raises_is_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises is logged with its traceback, and the call goes on."""

    async def fail() -> None:
        raise ZeroDivisionError("of an observer")

    await hook(Quiet(fail))
    assert "on_session_start of observer" in caplog.text
    assert "ZeroDivisionError: of an observer" in caplog.text


async def test_a_hook_that_is_no_coroutine_is_logged_and_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A plain function runs, the log says to make it async, and the call goes on."""
    ran: list[object] = []
    await hook(SimpleNamespace(on_session_start=lambda info, session: ran.append(info)))
    assert ran == ["info"]
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith("on_session_start of observer namespace(")
    assert record.getMessage().endswith("is a plain function: make it async")


async def test_a_plain_function_that_returns_a_coroutine_is_a_hook(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What counts is that the result can be awaited, not how the function was written."""
    quiet = Quiet()

    def plain(info: Any, session: Any) -> Any:
        return quiet.on_session_start(info, session)

    await hook(SimpleNamespace(on_session_start=plain))
    assert quiet.asked == ["info"]
    assert caplog.records == []


async def test_a_slow_hook_is_left_after_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that takes longer than its limit is cancelled, and the call goes on."""
    await hook(Quiet(asyncio.Event().wait), limit_s=0.01)
    assert "took longer than 0.01 s" in caplog.text


async def test_a_hook_that_does_not_let_itself_be_cancelled_is_left_too() -> None:
    """A hook that ignores its cancellation is not waited for, and its later error is not reported."""
    release, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await release.wait()
        except asyncio.CancelledError:
            await release.wait()
            ended.set()
            raise ZeroDivisionError from None

    await hook(Quiet(stubborn), limit_s=0.01)
    assert not ended.is_set()
    release.set()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_hook_that_cancels_itself_is_logged_and_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hook that cancels itself is logged, and the call goes on."""

    async def cancel() -> None:
        raise asyncio.CancelledError

    await hook(Quiet(cancel))
    assert "cancelled itself" in caplog.text


async def test_a_cancellation_of_the_call_goes_through() -> None:
    """A cancellation of the call cancels the running hook and is raised."""
    entered, left = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    call = asyncio.create_task(hook(Quiet(wait)))
    async with asyncio.timeout(5):
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await left.wait()


def test_the_start_is_waited_for_shorter_than_the_end() -> None:
    """The start hook has the shorter limit, because a caller waits for it."""
    assert HookLimits().start_s == 5.0
    assert HookLimits().end_s == 30.0


async def test_hooks_log_the_observer_and_no_personal_data(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A log line about a hook has the observer's repr and nothing of what it was told."""

    async def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.DEBUG, logger="voicecosts.producer"):
        await run_hook(Quiet(fail), "on_session_start", "+15551234567", "session", limit_s=1)
    assert "15551234567" not in caplog.text
