"""Dispatch: where a job's session runs, its metadata, and its tenant, which is never invented."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from livekit.protocol import agent, models

from tests.support.jobs import job as real_job
from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.dispatch import dispatch_metadata, job_fields, openrtc_tenant, tenant_name
from voicecosts.producer.pool.observers import info_of
from voicecosts.producer.pool.routing import JobView


class Job:
    """What our code reads of a `JobContext`, around a real dispatched job."""

    def __init__(self, *, room_metadata: str = "", job_metadata: str = "") -> None:
        self.worker_id = "AW_1"
        self.job = agent.Job(
            id="AJ_1",
            room=models.Room(name="call-_+15551234567_x", sid="RM_1", metadata=room_metadata),
            metadata=job_metadata,
            deployment="v42",
        )

    def is_fake_job(self) -> bool:
        """A job that a server dispatched."""
        return False


class Info:
    """What our code reads of OpenRTC's `SessionInfo`."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self.metadata: dict[str, str] = {}


@pytest.mark.parametrize("blank", [None, "", " ", "\t\n"])
def test_a_blank_tenant_stays_absent(blank: str | None) -> None:
    """A blank or absent tenant is no tenant."""
    assert tenant_name(blank) is None


def test_a_tenant_need_not_be_a_text() -> None:
    """A tenant that came as a number in JSON is carried as its digits."""
    assert tenant_name(42) == "42"
    assert tenant_name(" acme ") == "acme"


class Tier(str, Enum):  # noqa: UP042 - str() of these is not their text, unlike a StrEnum's
    """Tenants as a program may keep them."""

    ACME = "acme"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Acme Corp", "Acme Corp"),
        ("a\ud800", "a?"),
        (Tier.ACME, "acme"),
        (1.5, "1.5"),
        (True, "True"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    ],
)
def test_whatever_can_be_written_is_a_tenant(
    given: object, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A tenant is a name to sum up by, so no way of writing it is refused."""
    assert tenant_name(given) == kept
    assert caplog.records == []


@pytest.mark.parametrize("given", [object(), ["acme"], {"a": 1}, b"acme", ValueError("acme")])
def test_what_has_no_text_is_no_tenant_and_one_warning_says_so(
    given: object, caplog: pytest.LogCaptureFixture
) -> None:
    """An object that somebody passed by mistake does not become a tenant named after its address."""
    assert tenant_name(given) is None
    (record,) = caplog.records
    assert f"a tenant of type {type(given).__name__} is ignored" in record.getMessage()


def test_a_number_that_cannot_be_written_does_not_raise() -> None:
    """Python writes no integer of more than 4,300 digits; the tenant is then named by its type."""
    assert tenant_name(10**5000) == "<int>"


def test_a_job_tells_where_the_session_runs() -> None:
    """The dispatched job gives its own id, the room, the worker and the deployment."""
    assert job_fields(Job()) == {
        "job_id": "AJ_1",
        "room_name": "call-_#_x",
        "room_sid": "RM_1",
        "worker_id": "AW_1",
        "deployment": "v42",
        "fake_job": False,
    }
    assert job_fields(None) == {}


def test_an_odd_property_of_a_job_costs_itself_alone() -> None:
    """A job is somebody else's object: what it cannot say is absent, and the call is metered."""

    class Odd(Job):
        @property
        def worker_id(self) -> str:
            raise RuntimeError

        @worker_id.setter
        def worker_id(self, _value: str) -> None: ...

        def is_fake_job(self) -> bool:
            raise LookupError

    known = job_fields(Job())
    assert job_fields(Odd()) == {**known, "worker_id": "", "fake_job": False}


async def test_the_real_job_context_has_what_is_read_of_it() -> None:
    """LiveKit's own `JobContext` answers like the stand-in of these tests."""
    with real_job("AJ_2", job_metadata='{"tenant": "acme"}') as context:
        fields = job_fields(context)
        assert set(fields) == set(job_fields(Job()))
        assert (fields["job_id"], fields["worker_id"], fields["fake_job"]) == ("AJ_2", "fake", True)
        assert dispatch_metadata(context) == {"tenant": "acme"}
        SessionIdentity(session_id="s", project="p", agent_id="a", started_at=0, **fields)


def test_the_jobs_metadata_wins_over_the_rooms() -> None:
    """Keys of both are kept; where both name one, the job's dispatch decides."""
    job = Job(
        room_metadata='{"tenant": "room", "agent": "dental"}',
        job_metadata='{"tenant": "job", "lang": "de"}',
    )
    assert dispatch_metadata(job) == {"tenant": "job", "agent": "dental", "lang": "de"}
    assert dispatch_metadata(None) == {}


@pytest.mark.parametrize("blank", ["\u00a0", "\x0c", " \n", "\u2003\x1f"])
def test_metadata_is_read_without_the_blanks_around_it(blank: str) -> None:
    """Blanks that JSON does not know are no reason to lose a tenant."""
    job = Job(job_metadata=f'{blank}{{"tenant": "acme"}}{blank}')
    assert dispatch_metadata(job) == {"tenant": "acme"}


@pytest.mark.parametrize("metadata", ["", "  ", "plain words", "{", "[1]", '"text"', "7", "null"])
def test_metadata_that_is_no_object_is_no_metadata(metadata: str) -> None:
    """Rooms carry any text as metadata; only a JSON object has keys."""
    assert dispatch_metadata(Job(room_metadata=metadata, job_metadata=metadata)) == {}


@pytest.mark.parametrize(
    ("filled_in", "room", "job", "expected"),
    [
        ("acme", {}, {}, "acme"),
        ("acme", {"tenant": "other"}, {}, "acme"),
        ("default", {}, {}, None),
        ("default", {}, {"tenant": ""}, None),
        ("default", {"tenant": "default"}, {}, "default"),
        ("default", {}, {"tenant": "default"}, "default"),
        (None, {"tenant": "acme"}, {}, None),
        ("None", {}, {"tenant": None}, None),
        ("None", {"tenant": "acme"}, {"tenant": None}, None),
        ("None", {}, {"tenant": "None"}, "None"),
        ("default", {"prompt": "x" * 65_536}, {}, None),
        ("acme", {"prompt": "x" * 65_536, "tenant": "acme"}, {}, "acme"),
        ("", {}, {}, None),
    ],
)
def test_openrtcs_default_tenant_counts_only_when_the_dispatch_named_it(
    filled_in: str | None, room: dict[str, Any], job: dict[str, Any], expected: str | None
) -> None:
    """OpenRTC's words for no tenant count only where the dispatch metadata names them."""
    dispatched = Job(room_metadata=json.dumps(room), job_metadata=json.dumps(job))
    assert openrtc_tenant(Info(filled_in), dispatched) == expected


class Unread:
    """A job whose metadata must not be asked for."""

    @property
    def job(self) -> Any:
        """Fail."""
        raise AssertionError("the metadata was read")


def test_long_metadata_is_not_even_asked_for() -> None:
    """What OpenRTC parsed is long, so the dispatch is left alone: reading it holds up the call."""
    info = Info("default")
    info.metadata = {"prompt": "x" * 200_000, "tenant": "default"}
    assert openrtc_tenant(info, Unread()) is None
    info.metadata = {"prompt": "x" * 1_000, "tenant": "default"}
    with pytest.raises(AssertionError, match="was read"):
        openrtc_tenant(info, Unread())


def test_our_own_pool_names_no_tenant_that_was_not_given() -> None:
    """In our pool "default" is a tenant of that name, so nothing has to be looked up."""
    told = info_of("dental", JobView(job_metadata='{"tenant": "default"}'))
    assert openrtc_tenant(told, Unread()) == "default"
    assert openrtc_tenant(info_of("dental", JobView()), Unread()) is None


def test_openrtcs_tenant_is_taken_as_it_is_without_a_job() -> None:
    """Without a job nothing can tell whether "default" was given, so it stays."""
    assert openrtc_tenant(Info("default"), None) == "default"
    assert openrtc_tenant(object(), None) is None
