"""The views are the contract with everybody who reads: their columns, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support.events import (
    PRODUCER,
    START_US,
    SUBJECT,
    ended,
    final,
    message,
    messages,
    reading,
    report,
    session_id,
    started,
)
from tests.support.oracle import rate
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import QUANTITIES

CONTRACT: Final = {
    "usage": """
        occurred_at TIMESTAMP, day DATE, booked_at TIMESTAMP, session_id UUID, project VARCHAR,
        agent_id VARCHAR, agent_label VARCHAR, tenant VARCHAR, modality VARCHAR, provider VARCHAR,
        provider_raw VARCHAR, model VARCHAR, estimated BOOLEAN, cost DECIMAL(18,9),
        currency VARCHAR, unpriced_reason VARCHAR, reported_cost DECIMAL(18,9), requests BIGINT,
        large_requests BIGINT, input_tokens BIGINT, cache_read_input_tokens BIGINT,
        cache_creation_input_tokens BIGINT, text_input_tokens BIGINT, audio_input_tokens BIGINT,
        image_input_tokens BIGINT, text_cache_read_input_tokens BIGINT,
        audio_cache_read_input_tokens BIGINT, image_cache_read_input_tokens BIGINT,
        output_tokens BIGINT, reasoning_output_tokens BIGINT, text_output_tokens BIGINT,
        audio_output_tokens BIGINT, image_output_tokens BIGINT, characters BIGINT, audio_us BIGINT,
        audio_seconds DECIMAL(18,6), session_us BIGINT, session_seconds DECIMAL(18,6),
        request_id VARCHAR, speech_id VARCHAR, duration_us BIGINT, time_to_first_us BIGINT,
        cancelled BOOLEAN, price_source VARCHAR, price_version VARCHAR, price_model VARCHAR,
        number BIGINT, producer_id VARCHAR, batch_number BIGINT, stream_sequence BIGINT,
        size_tier BIGINT, service_tier VARCHAR, other_tokens BIGINT, unpriced_requests BIGINT,
        unpriced_input_tokens BIGINT, unpriced_output_tokens BIGINT, unpriced_other_tokens BIGINT,
        unpriced_characters BIGINT, unpriced_audio_us BIGINT, unpriced_session_us BIGINT,
        session_started_at TIMESTAMP, list_cost DECIMAL(18,9), billed DECIMAL(18,9),
        unbilled_reason VARCHAR, price_id BIGINT, operation BIGINT, corrects DATE,
        place BIGINT, opens BOOLEAN,
        meters TINYINT, priced_meters TINYINT, listed_meters TINYINT, billed_meters TINYINT
    """,
    "session_usage": """
        project VARCHAR, session_id UUID, day DATE, agent_id VARCHAR, tenant VARCHAR,
        agent_label VARCHAR, modality VARCHAR, provider VARCHAR, model VARCHAR, estimated
        BOOLEAN, size_tier BIGINT, service_tier VARCHAR, operation BIGINT, price_id BIGINT,
        corrects DATE, provider_raw VARCHAR, currency VARCHAR, price_source VARCHAR,
        price_version VARCHAR, price_model VARCHAR, unpriced_reason VARCHAR, unbilled_reason
        VARCHAR, first_place BIGINT, last_place BIGINT, number BIGINT, first_at TIMESTAMP,
        last_at TIMESTAMP, booked_at TIMESTAMP, first_unpriced_at TIMESTAMP,
        last_unpriced_at TIMESTAMP, first_sequence BIGINT, sessions BIGINT, rows BIGINT,
        unpriced_rows BIGINT,
        cost DECIMAL(18,9), list_cost DECIMAL(18,9), billed DECIMAL(18,9), reported_cost
        DECIMAL(18,9), requests BIGINT, large_requests BIGINT, input_tokens BIGINT,
        cache_read_input_tokens BIGINT, cache_creation_input_tokens BIGINT,
        text_input_tokens BIGINT, audio_input_tokens BIGINT, image_input_tokens BIGINT,
        text_cache_read_input_tokens BIGINT, audio_cache_read_input_tokens BIGINT,
        image_cache_read_input_tokens BIGINT, output_tokens BIGINT, reasoning_output_tokens
        BIGINT, text_output_tokens BIGINT, audio_output_tokens BIGINT, image_output_tokens
        BIGINT, characters BIGINT, audio_us BIGINT, session_us BIGINT, other_tokens BIGINT,
        unpriced_requests BIGINT, unpriced_input_tokens BIGINT, unpriced_output_tokens
        BIGINT, unpriced_other_tokens BIGINT, unpriced_characters BIGINT, unpriced_audio_us
        BIGINT, unpriced_session_us BIGINT,
        meters BIGINT, priced_meters BIGINT, listed_meters BIGINT, billed_meters BIGINT
    """,
    "monthly_usage": """
        month DATE, project VARCHAR, agent_id VARCHAR, tenant VARCHAR, agent_label VARCHAR,
        modality VARCHAR, provider VARCHAR, model VARCHAR, estimated BOOLEAN, service_tier
        VARCHAR, operation BIGINT, corrects DATE, sessions BIGINT, rows BIGINT, unpriced_rows
        BIGINT, cost DECIMAL(38,9), list_cost DECIMAL(38,9), billed DECIMAL(38,9), reported_cost
        DECIMAL(38,9), requests BIGINT, large_requests BIGINT, input_tokens BIGINT,
        cache_read_input_tokens BIGINT, cache_creation_input_tokens BIGINT, text_input_tokens
        BIGINT, audio_input_tokens BIGINT, image_input_tokens BIGINT, text_cache_read_input_tokens
        BIGINT, audio_cache_read_input_tokens BIGINT, image_cache_read_input_tokens BIGINT,
        output_tokens BIGINT, reasoning_output_tokens BIGINT, text_output_tokens BIGINT,
        audio_output_tokens BIGINT, image_output_tokens BIGINT, characters BIGINT, audio_us
        BIGINT, session_us BIGINT, other_tokens BIGINT, unpriced_requests BIGINT,
        unpriced_input_tokens BIGINT, unpriced_output_tokens BIGINT, unpriced_other_tokens BIGINT,
        unpriced_characters BIGINT, unpriced_audio_us BIGINT, unpriced_session_us BIGINT, meters
        BIGINT, priced_meters BIGINT, listed_meters BIGINT, billed_meters BIGINT, unpriced_reason
        VARCHAR, unpriced_place BIGINT, unlisted_rows BIGINT, unbilled_rows BIGINT
    """,
    "sessions": """
        session_id UUID, project VARCHAR, agent_id VARCHAR, tenant VARCHAR, started_at TIMESTAMP,
        ended_at TIMESTAMP, duration_us BIGINT, status VARCHAR, reason VARCHAR,
        first_usage_at TIMESTAMP, last_usage_at TIMESTAMP, cost DECIMAL(38,9),
        stt_cost DECIMAL(38,9), llm_cost DECIMAL(38,9), tts_cost DECIMAL(38,9),
        realtime_cost DECIMAL(38,9), estimated_cost DECIMAL(38,9), unpriced_rows BIGINT,
        rows BIGINT, job_id VARCHAR, room_name VARCHAR, room_sid VARCHAR, worker_id VARCHAR,
        deployment VARCHAR, fake_job BOOLEAN, labels JSON, day DATE, list_cost DECIMAL(38,9),
        billed DECIMAL(38,9), outcome VARCHAR, tags JSON, tags_cut BIGINT, user_turns BIGINT,
        preempted JSON
    """,
    "waste": """
        project VARCHAR, session_id UUID, day DATE, agent_id VARCHAR, tenant VARCHAR,
        outcome VARCHAR, user_turns BIGINT, cost DECIMAL(38,9), failed_cost DECIMAL(38,9),
        silent_cost DECIMAL(38,9), interrupted_cost DECIMAL(38,9), unpriced_rows BIGINT
    """,
    "waste_of_requests": """
        project VARCHAR, session_id UUID, day DATE, agent_id VARCHAR, tenant VARCHAR,
        cancelled_requests BIGINT, cancelled_cost DECIMAL(38,9), preempted_requests BIGINT,
        preempted_cost DECIMAL(38,9)
    """,
    "cost_by_day": """
        day DATE, project VARCHAR, tenant VARCHAR, agent_id VARCHAR, modality VARCHAR,
        provider VARCHAR, model VARCHAR, cost DECIMAL(38,9), sessions BIGINT, unpriced_rows BIGINT
    """,
    "unpriced": """
        reason VARCHAR, modality VARCHAR, provider VARCHAR, provider_raw VARCHAR, model VARCHAR,
        rows BIGINT, sessions BIGINT, first_at TIMESTAMP, last_at TIMESTAMP, requests BIGINT,
        input_tokens BIGINT, output_tokens BIGINT, characters BIGINT, audio_us BIGINT,
        session_us BIGINT, project VARCHAR, tenant VARCHAR, agent_id VARCHAR, size_tier BIGINT,
        service_tier VARCHAR, other_tokens BIGINT
    """,
    "completeness": """
        session_id UUID, project VARCHAR, agent_id VARCHAR, tenant VARCHAR, state VARCHAR,
        cause VARCHAR, last_seen_at TIMESTAMP, ended_at TIMESTAMP, readings_made BIGINT,
        readings_arrived BIGINT, readings_coalesced BIGINT, cost DECIMAL(38,9),
        missing_at_most DECIMAL(38,9), unmeasured BIGINT, day DATE
    """,
    "losses": """
        dead_letters BIGINT, unpriced_rows BIGINT, producers BIGINT, captured BIGINT,
        coalesced BIGINT, dropped BIGINT, unattributed BIGINT, unmeasured BIGINT
    """,
    "dead_letters": """
        received_at TIMESTAMP, subject VARCHAR, stream_sequence BIGINT, event_index INTEGER,
        reason VARCHAR, detail VARCHAR, payload BLOB, id VARCHAR, project VARCHAR, events BIGINT,
        state VARCHAR, requeued_at TIMESTAMP, purged_at TIMESTAMP, sha256 VARCHAR, bytes BIGINT,
        payload_state VARCHAR, file VARCHAR, place BIGINT, producer_id VARCHAR, batch_number BIGINT
    """,
    "gaps": """
        stream_created TIMESTAMP, first_sequence BIGINT, last_sequence BIGINT, messages BIGINT,
        noted_at TIMESTAMP, why VARCHAR
    """,
    "stream": """
        ledger_id VARCHAR, stream_created TIMESTAMP, floor BIGINT, booked_above VARCHAR,
        last_known BIGINT, trimmed_to BIGINT,
        newest_booked BIGINT, newest_stored_at TIMESTAMP
    """,
    "operations": """
        operation BIGINT, kind VARCHAR, started_at TIMESTAMP, ended_at TIMESTAMP, request JSON,
        reason VARCHAR, source VARCHAR, reverts BIGINT, rows BIGINT, sessions BIGINT,
        list_cost DECIMAL(38,9), cost DECIMAL(38,9), billed DECIMAL(38,9),
        stopped_at TIMESTAMP, left_meters BIGINT, left_why VARCHAR
    """,
    "erased": "operation BIGINT, day DATE, sessions BIGINT, rows BIGINT, is_closed BOOLEAN",
    "detail": (
        "day DATE, rows BIGINT, files BIGINT, bytes BIGINT, removed_rows BIGINT, removed_bytes BIGINT, "
        "removed_at TIMESTAMP"
    ),
    "closed_months": "month DATE, operation BIGINT, closed_at TIMESTAMP",
    "corrections": """
        corrects DATE, day DATE, operation BIGINT, project VARCHAR, tenant VARCHAR,
        agent_id VARCHAR, modality VARCHAR, provider VARCHAR, model VARCHAR, rows BIGINT,
        list_cost DECIMAL(38,9), cost DECIMAL(38,9), billed DECIMAL(38,9)
    """,
    "voided": "project VARCHAR, session_id UUID, operation BIGINT, uncounted BOOLEAN",
    "unattributed": """
        project VARCHAR, producer_id VARCHAR, reported_at TIMESTAMP, modality VARCHAR,
        provider VARCHAR, provider_raw VARCHAR, model VARCHAR, requests BIGINT,
        large_requests BIGINT, input_tokens BIGINT, cache_read_input_tokens BIGINT,
        cache_creation_input_tokens BIGINT, text_input_tokens BIGINT, audio_input_tokens BIGINT,
        image_input_tokens BIGINT, text_cache_read_input_tokens BIGINT,
        audio_cache_read_input_tokens BIGINT, image_cache_read_input_tokens BIGINT,
        output_tokens BIGINT, reasoning_output_tokens BIGINT, text_output_tokens BIGINT,
        audio_output_tokens BIGINT, image_output_tokens BIGINT, characters BIGINT, audio_us BIGINT,
        session_us BIGINT, other_tokens BIGINT
    """,
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A reader of a ledger with a finished call, a running one, and one that only used something."""
    folder: Path = tmp_path_factory.mktemp("views")
    day_us = 86_400_000_000
    heard = final(modality="stt", provider="p", model="priced", estimated=True, audio_us=2_500_000)
    with Ledger.open(folder, rate) as ledger:
        ledger.apply(
            [
                *messages(
                    1,
                    started(1, tenant="acme"),
                    started(2, tenant=None),
                    reading(1, input_tokens=1000),
                    reading(2, input_tokens=3000, occurred_at=START_US + day_us),
                    reading(1, of=3, model="unknown", characters=5, tenant="globex"),
                    ended(3, heard, tenant="acme", ended_at=START_US + day_us),
                    *(
                        report(number, producer_id=producer, dropped=10 * number)
                        for producer, number in ((PRODUCER, 1), (PRODUCER, 3), ("worker-2", 1))
                    ),
                ),
                Message(SUBJECT, 2, b"?"),
            ]
        )
    with duckdb.connect(
        folder / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as connection:
        yield connection


@pytest.mark.parametrize("view", CONTRACT)
def test_columns_are_as_promised(reader: duckdb.DuckDBPyConnection, view: str) -> None:
    """Columns of a view are added at need, never renamed, retyped or removed."""
    relation = reader.table(view)
    found = zip(relation.columns, map(str, relation.types), strict=True)
    assert ", ".join(map(" ".join, found)) == " ".join(CONTRACT[view].split())


def test_there_is_no_view_without_a_promise(reader: duckdb.DuckDBPyConnection) -> None:
    """Whatever readers can find by name is in the contract above."""
    found = reader.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert {name for (name,) in found} == set(CONTRACT)


def test_quantities_are_those_of_the_events(reader: duckdb.DuckDBPyConnection) -> None:
    """The ledger's columns, the statements and the event contract name the same quantities."""
    columns = reader.table("usage").columns
    assert [name for name in columns if name in QUANTITIES] == list(QUANTITIES)
    for statement in (sql.INSERT_BOOKINGS, sql.LOAD_METERS):
        places = [statement.index(f"{name}") for name in QUANTITIES]
        assert places == sorted(places)


def test_seconds_are_exact(reader: duckdb.DuckDBPyConnection) -> None:
    """Durations are shown as decimal seconds, to the microsecond."""
    query = "SELECT audio_seconds, session_seconds FROM usage WHERE modality = 'stt'"
    assert reader.execute(query).fetchall() == [(Decimal("2.500000"), Decimal("0.000000"))]


def test_a_session_adds_up(reader: duckdb.DuckDBPyConnection) -> None:
    """A session's row has its money by modality, its times and how it ended."""
    found = reader.execute(
        "SELECT tenant, duration_us, status, cost, llm_cost, stt_cost, estimated_cost, tts_cost, "
        "rows, unpriced_rows FROM sessions WHERE session_id = $id",
        {"id": session_id(1)},
    ).fetchall()
    llm, stt = Decimal("0.000370200"), Decimal("0.000179250")
    assert found == [("acme", 86_400_000_000, "closed", llm + stt, llm, stt, stt, None, 3, 0)]


def test_a_session_known_by_halves_is_there(reader: duckdb.DuckDBPyConnection) -> None:
    """A call that runs has no end, one whose start was lost has no start; neither is hidden."""
    found = reader.execute(
        "SELECT tenant, started_at IS NULL, ended_at IS NULL, rows, unpriced_rows, cost "
        "FROM sessions ORDER BY session_id"
    ).fetchall()[1:]
    assert found == [(None, False, True, 0, 0, Decimal(0)), ("globex", True, True, 1, 1, None)]


def test_days_are_utc_days(reader: duckdb.DuckDBPyConnection) -> None:
    """Cost counts on the UTC day on which the session started; an unpriced day is NULL and counted."""
    found = reader.execute(
        "SELECT day::VARCHAR, model, cost, sessions, unpriced_rows FROM cost_by_day ORDER BY ALL"
    ).fetchall()
    assert found == [
        ("2026-11-18", "gpt-4.1-mini", Decimal("0.000370200"), 1, 0),
        ("2026-11-18", "priced", Decimal("0.000179250"), 1, 0),
        ("2026-11-18", "unknown", None, 1, 1),
    ]


def test_unpriced_says_what_and_why(reader: duckdb.DuckDBPyConnection) -> None:
    """Whoever keeps the price list sees what is missing from it, and how much hangs on it."""
    found = reader.execute("SELECT reason, model, rows, sessions, characters FROM unpriced")
    assert found.fetchall() == [("unknown_model", "unknown", 1, 1, 5)]


def test_losses_count_what_is_missing(reader: duckdb.DuckDBPyConnection) -> None:
    """A producer's reports are running totals: its highest one counts, producers add up."""
    found = reader.execute("SELECT dead_letters, unpriced_rows, producers, dropped FROM losses")
    assert found.fetchall() == [(1, 1, 2, 40)]


def answers(folder: Path, *messages: Message, ask: str) -> list[tuple[object, ...]]:
    """Return what a reader of a ledger with these messages gets."""
    with Ledger.open(folder, rate) as ledger:
        for each in messages:
            ledger.apply([each])
    with duckdb.connect(
        folder / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as connection:
        return connection.execute(ask).fetchall()


NOWHERE: Final = {"agent_label": "unattributed", "model": "priced"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 1)])
def test_unattributed_usage_is_that_of_the_last_report(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    """A report has running totals: the newest of a producer counts, in whatever order they came."""
    reports = [
        report(
            n, unattributed=n, unattributed_usage=[final(**NOWHERE, requests=n, characters=50 * n)]
        )
        for n in (1, 2, 3)
    ]
    said = answers(
        tmp_path,
        *(message(place, reports[number]) for place, number in enumerate(order, 1)),
        message(9, report(1, producer_id="worker-2", unattributed_usage=[final(**NOWHERE)])),
        message(10, report(1, producer_id="worker-3", dropped=1)),
        ask="SELECT producer_id, model, requests, characters FROM unattributed ORDER BY producer_id",
    )
    assert said == [(PRODUCER, "priced", 3, 150), ("worker-2", "priced", 0, 0)]


def test_unattributed_usage_has_every_quantity(tmp_path: Path) -> None:
    """What providers counted is in `usage` or here, so no quantity may be missing from either."""
    amounts = {quantity: 10 + place for place, quantity in enumerate(QUANTITIES)}
    said = answers(
        tmp_path,
        message(1, report(1, unattributed=1, unattributed_usage=[final(**NOWHERE, **amounts)])),
        ask=f"SELECT {', '.join(QUANTITIES)} FROM unattributed",  # noqa: S608 - constants
    )
    assert said == [tuple(amounts.values())]


@pytest.mark.parametrize(
    ("reported", "of_sessions", "outside"),
    [(3, (1, 1), 1), (2, (1, 1), 0), (1, (1, 1), 0), (0, (2, 0), 0), (2, (0, 0), 2)],
)
def test_unmeasured_usage_is_counted_once(
    tmp_path: Path, reported: int, of_sessions: tuple[int, int], outside: int
) -> None:
    """A producer counts that of its sessions too; the losses are what no session's end says."""
    both = enumerate(of_sessions, 1)
    ends = [event for of, n in both for event in (started(of), ended(1, of=of, unmeasured=n))]
    said = answers(
        tmp_path,
        *messages(1, *ends, *([report(1, unmeasured=reported)] if reported else [])),
        message(2, report(1, producer_id="worker-2", unmeasured=5)),
        ask="SELECT unmeasured, (SELECT list(unmeasured ORDER BY session_id) FROM completeness) "
        "FROM losses",
    )
    assert said == [(outside + 5, list(of_sessions))]


def test_unmeasured_usage_of_a_call_that_has_no_end_is_a_loss(tmp_path: Path) -> None:
    """Nothing else says it, so long as its end has not come."""
    ask = "SELECT unmeasured FROM losses"
    before = messages(1, started(), reading(1), report(1, unmeasured=1))
    assert answers(tmp_path, *before, ask=ask) == [(1,)]
    assert answers(tmp_path, message(2, ended(2, unmeasured=1), number=2), ask=ask) == [(0,)]


@pytest.mark.parametrize("readings", [0, 1])
def test_unmeasured_usage_of_a_call_whose_start_is_lost_is_said_by_its_end(
    tmp_path: Path, readings: int
) -> None:
    """The end came from the producer whose report counts the same events: they are said once."""
    said = answers(
        tmp_path,
        *messages(
            1,
            *(reading(number) for number in range(1, readings + 1)),
            ended(readings + 1, unmeasured=2),
            report(1, unmeasured=3),
        ),
        ask="SELECT unmeasured, (SELECT list((state, unmeasured)) FROM completeness) FROM losses",
    )
    assert said == [(1, [("short", 2)])]


def test_what_an_older_ledger_did_not_note_is_unknown(tmp_path: Path) -> None:
    """It booked an end and a report without what was unmeasured: that is NULL, and never zero."""
    ask = (
        "SELECT unmeasured, (SELECT list(unmeasured ORDER BY session_id) FROM completeness) "
        "FROM losses"
    )
    assert answers(tmp_path, *messages(1, started(), ended(1), report(1)), ask=ask) == [(0, [0])]
    with duckdb.connect(tmp_path / "ledger" / "ledger.duckdb") as older:
        older.execute("UPDATE session_ends SET unmeasured = NULL")
        older.execute("UPDATE producer_reports SET unmeasured = NULL")
    assert answers(tmp_path, message(1, started(2)), ask=ask) == [(None, [None, None])]
    later = messages(
        2, ended(1, of=2, unmeasured=1), report(1, producer_id="b", unmeasured=4), number=2
    )
    assert answers(tmp_path, *later, ask=ask) == [(4, [None, 1])]


def test_absurd_counts_do_not_break_a_view(tmp_path: Path) -> None:
    """What the contract allows may add up to more than a column holds: the view says its largest."""
    most, many, largest = 2**53 - 1, 1100, 2**63 - 1
    counts = dict.fromkeys(("captured", "coalesced", "dropped", "unattributed", "unmeasured"), most)
    reports = [report(1, producer_id=f"worker {n}", **counts) for n in range(many)]
    readings = [reading(1, of=n, model="unknown", characters=most) for n in range(1, many)]
    said = answers(
        tmp_path,
        message(1, *reports),
        message(2, *readings, number=2),
        ask="SELECT captured, coalesced, dropped, unattributed, unmeasured, "
        "(SELECT characters FROM unpriced) FROM losses",
    )
    assert said == [(largest,) * 6]
