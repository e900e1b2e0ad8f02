"""Identity: session ids as in RFC 9562, names that fit, no phone numbers, no invented tenant."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from livekit.protocol import agent, models

from tests.support.jobs import job as real_job
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.dispatch import dispatch_metadata, job_fields, openrtc_tenant, tenant_name
from voicecosts.producer.events import SessionStarted, decode_event, encode_event, now_us
from voicecosts.producer.names import MAX_NAME, name, text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


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


@given(st.integers(0, (1 << 48) * 1000 - 1))
def test_a_session_id_is_a_uuid_of_version_7(at_us: int) -> None:
    """Version, variant and the 48-bit time in milliseconds are where RFC 9562 puts them."""
    session_id = new_session_id(at_us)
    parsed = uuid.UUID(session_id)
    assert str(parsed) == session_id
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == at_us // 1000


def test_session_ids_are_unique_and_sort_by_time() -> None:
    """Ids made in one millisecond differ, and later ones sort after earlier ones."""
    same = {new_session_id(1_700_000_000_000_000) for _ in range(1000)}
    assert len(same) == 1000
    assert max(same) < new_session_id(1_700_000_000_001_000)


def test_every_random_bit_of_a_session_id_varies() -> None:
    """All 74 bits that RFC 9562 leaves to chance are left to chance, and no other bit is."""
    first = uuid.UUID(new_session_id(0)).int
    varied = 0
    for _ in range(200):
        varied |= uuid.UUID(new_session_id(0)).int ^ first
    assert varied == (0xFFF << 64) | ((1 << 62) - 1)


def test_a_session_id_is_what_the_contract_accepts() -> None:
    """The id, and the clock beside it, pass the contract's own check."""
    started_at = now_us()
    event = SessionStarted(
        session_id=new_session_id(started_at), project="p", agent_id="a", started_at=started_at
    )
    assert decode_event(encode_event(event)) == event


@given(TEXTS)
@example("a" * 128)
@example("a" * 129)
def test_a_name_always_fits_the_contract(value: str) -> None:
    """A name has 1 to 128 characters; one that fits is kept as it is, without outer blanks."""
    made = name(value, "none")
    assert 1 <= len(made) <= MAX_NAME
    stripped = value.strip()
    if 1 <= len(stripped) <= MAX_NAME:
        assert made == stripped


def test_long_names_stay_distinct_and_readable() -> None:
    """Two long names that differ only at their end do not become one, and keep their head."""
    made = {name("tenant-" + "x" * 200 + str(number), "none") for number in range(100)}
    assert len(made) == 100
    assert {value[:100] for value in made} == {"tenant-" + "x" * 93}


def test_a_long_name_is_shortened_in_the_same_way_every_time() -> None:
    """The short form of a name is part of the ledger's groups: it may never change."""
    assert name("x" * 129, "none") == "x" * 111 + "~18de14b9d8eea5a3"


@pytest.mark.parametrize("blank", [None, "", " ", "\t\n"])
def test_a_blank_name_takes_its_default_and_a_blank_tenant_stays_absent(blank: str | None) -> None:
    """A blank or absent name becomes the default, a blank or absent tenant none."""
    assert name(blank, "unknown") == "unknown"
    assert tenant_name(blank) is None


def test_a_tenant_need_not_be_a_text() -> None:
    """A tenant that came as a number in JSON is carried as its digits."""
    assert tenant_name(42) == "42"
    assert tenant_name(" acme ") == "acme"


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        ("call-_+15551234567_x9", "call-_#_x9"),
        ("+4930123456", "#"),
        ("call-_15551234567_x9", "call-_#_x9"),
        ("call-+1-555-123-4567", "call-#"),
        ("call-_0049301234567_x", "call-_#_x"),
        ("standup-2026-11-21", "standup-2026-11-21"),
        ("room-1042", "room-1042"),
        ("from +15551234567 to +4930123456", "from # to #"),
        ("room-1234567", "room-1234567"),
        ("a+b", "a+b"),
        ("n+123456", "n+123456"),
    ],
)
def test_phone_numbers_do_not_leave_the_worker(room: str, expected: str) -> None:
    """A caller's number in a room's name is masked."""
    assert text(room) == expected


def test_the_clock_counts_microseconds_since_1970() -> None:
    """The wall clock of the producer is the computer's own, in the contract's unit."""
    assert abs(now_us() / 1_000_000 - time.time()) < 60


@given(TEXTS)
@example("x" * 250 + "+15551234567")
@example("x" * 257)
@example("+15551234567" * 60)
def test_a_text_always_fits_the_contract(value: str) -> None:
    """An identifying text has at most 256 characters, and no number is cut out of sight first."""
    made = text(value)
    assert len(made) <= 256
    assert not re.search(r"\+\d{7}", made)


def test_an_absent_text_is_empty() -> None:
    """An absent text is empty, never the word None."""
    assert text(None) == ""


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
        ("", {}, {}, None),
    ],
)
def test_openrtcs_default_tenant_counts_only_when_the_dispatch_named_it(
    filled_in: str | None, room: dict[str, Any], job: dict[str, Any], expected: str | None
) -> None:
    """OpenRTC's tenant "default" counts only where the dispatch metadata names it."""
    dispatched = Job(room_metadata=json.dumps(room), job_metadata=json.dumps(job))
    assert openrtc_tenant(Info(filled_in), dispatched) == expected


def test_openrtcs_tenant_is_taken_as_it_is_without_a_job() -> None:
    """Without a job nothing can tell whether "default" was given, so it stays."""
    assert openrtc_tenant(Info("default"), None) == "default"
    assert openrtc_tenant(object(), None) is None


def test_half_a_surrogate_pair_becomes_text_that_can_be_sent() -> None:
    """Half a surrogate pair from JSON metadata does not make an event that cannot be encoded."""
    assert name("a\ud800", "x").encode() == b"a?"
    assert text("a\ud800").encode() == b"a?"
