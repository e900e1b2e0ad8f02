"""Session ids are UUIDs of version 7, as RFC 9562 defines them and the contract accepts them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import SessionStarted, decode_event, encode_event, now_us


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
