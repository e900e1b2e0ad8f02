"""The events behind the golden files: every field set, every value distinct where it can be.

A golden file is written once and never again: it stands for the bytes of workers that are out in
the field. A new field has a default and leaves these bytes alone; a new event type gets a file of
its own. To change a file here is to break the contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from voicecosts.producer.events import (
    QUANTITIES,
    Batch,
    Event,
    MeterReading,
    MeterTotals,
    Outcome,
    ProducerReport,
    Quantities,
    RequestDetail,
    SessionEnded,
    SessionStarted,
)

SESSION_ID: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
STARTED_AT: Final = 1_688_428_752_022_000

# Those of the day these bytes were written: a later quantity stands behind them and is left out.
EVERY_QUANTITY: Final = Quantities(
    **{quantity: 1000 + place for place, quantity in enumerate(QUANTITIES[:19])}
)

EVENTS: Final[dict[str, Event]] = {
    "session_started": SessionStarted(
        session_id=SESSION_ID,
        project="prod",
        agent_id="dental",
        tenant="Zahnärzte Süd",
        started_at=STARTED_AT,
        job_id="AJ_1",
        room_name="call-_+#_x",
        room_sid="RM_1",
        worker_id="AW_1",
        deployment="v42",
        fake_job=True,
        labels={"region": "eu", "line": "main"},
    ),
    "meter_reading": MeterReading(
        session_id=SESSION_ID,
        number=7,
        project="prod",
        agent_id="dental",
        agent_label="triage",
        tenant="Zahnärzte Süd",
        modality="realtime",
        provider="openai",
        provider_raw="api.openai.com",
        model="gpt-realtime",
        estimated=True,
        occurred_at=STARTED_AT + 5_000_000,
        totals=EVERY_QUANTITY,
        reported_cost="0.001234567",
        last=RequestDetail(
            request_id="req_1",
            speech_id="speech_1",
            duration_us=1_500_000,
            time_to_first_us=250_000,
            cancelled=True,
        ),
    ),
    "session_ended": SessionEnded(
        session_id=SESSION_ID,
        number=8,
        project="prod",
        agent_id="dental",
        tenant="Zahnärzte Süd",
        ended_at=STARTED_AT + 60_000_000,
        status="success",
        reason="user_initiated",
        meters=[
            MeterTotals(
                agent_label="triage",
                modality="realtime",
                provider="openai",
                provider_raw="api.openai.com",
                model="gpt-realtime",
                estimated=True,
                totals=EVERY_QUANTITY,
                reported_cost="0.001234567",
            ),
            MeterTotals(
                agent_label="triage",
                modality="stt",
                provider="deepgram",
                model="nova-3",
                totals=Quantities(audio_us=61_333_333),
            ),
        ],
        readings=7,
        coalesced=2,
    ),
    "producer_report": ProducerReport(
        producer_id="0123456789abcdef",
        number=3,
        project="prod",
        reported_at=STARTED_AT + 61_000_000,
        captured=11,
        coalesced=12,
        dropped=13,
        unattributed=14,
        outbox_rows=15,
        outbox_bytes=16,
        oldest_age_us=17,
    ),
}
"""The first version of the contract."""

BATCH: Final = Batch(producer_id="0123456789abcdef", number=9, events=list(EVENTS.values()))

LATER_EVENTS: Final[dict[str, Event]] = {
    "session_ended_unmeasured": SessionEnded(
        session_id=SESSION_ID,
        number=8,
        project="prod",
        agent_id="dental",
        ended_at=STARTED_AT + 60_000_000,
        status="success",
        meters=[],
        readings=7,
        unmeasured=3,
    ),
    "producer_report_in_no_session": ProducerReport(
        producer_id="0123456789abcdef",
        number=4,
        project="prod",
        reported_at=STARTED_AT + 62_000_000,
        unattributed=14,
        unmeasured=18,
        unattributed_usage=[
            MeterTotals(
                agent_label="unattributed",
                modality="llm",
                provider="openai",
                provider_raw="api.openai.com",
                model="gpt-4o",
                totals=Quantities(requests=3, input_tokens=1200, output_tokens=40),
            ),
            MeterTotals(
                agent_label="unattributed",
                modality="stt",
                provider="deepgram",
                model="nova-3",
                totals=Quantities(audio_us=12_500_000),
            ),
        ],
    ),
    "meter_reading_class": MeterReading(
        session_id=SESSION_ID,
        number=9,
        project="prod",
        agent_id="dental",
        agent_label="triage",
        modality="llm",
        provider="gcp.gemini",
        provider_raw="Gemini",
        model="gemini-2.5-pro",
        occurred_at=STARTED_AT + 7_000_000,
        totals=Quantities(
            requests=2, large_requests=2, input_tokens=412_000, output_tokens=900, other_tokens=70
        ),
        size_tier=200_000,
        service_tier="priority",
    ),
    "session_ended_class": SessionEnded(
        session_id=SESSION_ID,
        number=10,
        project="prod",
        agent_id="dental",
        ended_at=STARTED_AT + 60_000_000,
        status="success",
        meters=[
            MeterTotals(
                agent_label="triage",
                modality="llm",
                provider="gcp.gemini",
                provider_raw="Gemini",
                model="gemini-2.5-pro",
                totals=Quantities(requests=1, input_tokens=900, output_tokens=40),
            ),
            MeterTotals(
                agent_label="triage",
                modality="llm",
                provider="gcp.gemini",
                provider_raw="Gemini",
                model="gemini-2.5-pro",
                totals=Quantities(
                    requests=2,
                    large_requests=2,
                    input_tokens=412_000,
                    output_tokens=900,
                    other_tokens=70,
                ),
                size_tier=200_000,
                service_tier="priority",
            ),
        ],
        readings=9,
    ),
    "session_ended_outcome": SessionEnded(
        session_id=SESSION_ID,
        number=11,
        project="prod",
        agent_id="dental",
        ended_at=STARTED_AT + 60_000_000,
        status="success",
        meters=[],
        readings=7,
        outcome=Outcome(
            result="fail",
            tags=["language:es", "lk.amd:human"],
            tags_cut=3,
            user_turns=0,
            preempted=["speech_0123456789ab"],
        ),
    ),
}
"""Fields that came later, each event with its own bytes."""

ALL_EVENTS: Final = EVENTS | LATER_EVENTS


def golden(name: str) -> bytes:
    """Return the bytes in a golden file, which holds them as lines of hexadecimal digits."""
    lines = (Path(__file__).parent / f"{name}.hex").read_text(encoding="ascii").split()
    return bytes.fromhex("".join(lines))
