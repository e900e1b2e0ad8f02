"""A small ledger with known rows, written from the shipped schema and views, for tests of readers.

It is what a ledger process publishes: `costs-<n>.duckdb`, the link to it, and `ledger.json`. The rows
hold what a reader must get right: no tenant, no price, estimates, several days, a call in two agents.
Every call has ended and is complete, unless a test says otherwise.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import duckdb
from msgspec import Struct, structs

STORE: Final = Path(__file__).parents[2] / "consumer" / "store"
MIGRATIONS: Final = sorted((STORE / "migrations").glob("*.sql"))
VERSION: Final = len(MIGRATIONS)
AS_OF: Final = datetime(2026, 11, 21, 14, 3, 12, tzinfo=UTC)
NOW: Final = datetime(2026, 11, 21, 14, 3, 14, tzinfo=UTC)

ACME_OLD: Final = UUID("01a1ee87-3200-7000-8000-000000000001")
ACME: Final = UUID("01a1f82f-1e80-7000-8000-000000000002")
GLOBEX: Final = UUID("01a1fb30-2980-7000-8000-000000000003")
NOBODY: Final = UUID("01a1fdfa-4600-7000-8000-000000000004")
SHY: Final = UUID("01a1fe31-3480-7000-8000-000000000005")


class Booking(Struct, frozen=True, kw_only=True):
    """One row of `bookings`; what is not given is zero or absent."""

    occurred_at: datetime
    session_id: UUID
    tenant: str | None = "acme"
    agent_id: str = "dental"
    agent_label: str = "Greeter"
    project: str = "prod"
    modality: str = "llm"
    provider: str = "openai"
    model: str = "gpt-4.1-mini"
    estimated: bool = False
    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    characters: int = 0
    audio_us: int = 0
    session_us: int = 0
    cost: str | None = None
    unpriced_reason: str | None = None
    list_cost: str | None = None  # `None`: as the cost
    billed: str | None = None
    service_tier: str = ""


def day(number: int, hour: int = 12) -> datetime:
    """Return an hour of a day of November 2026."""
    return datetime(2026, 11, number, hour)  # noqa: DTZ001 - the ledger's TIMESTAMP is UTC


_AMOUNTS: Final = (
    "requests",
    "input_tokens",
    "output_tokens",
    "characters",
    "audio_us",
    "session_us",
)
_STT = {"modality": "stt", "provider": "deepgram", "model": "nova-3"}
_TTS = {"modality": "tts", "provider": "cartesia", "model": "sonic-2"}
_HOME = {"provider": "homebrew", "model": "llama", "unpriced_reason": "unknown_model"}


def _booking(at: datetime, session: UUID, given: Mapping[str, object], **more: object) -> Booking:
    return structs.replace(Booking(occurred_at=at, session_id=session), **{**given, **more})


SAMPLE: Final[tuple[Booking, ...]] = (
    # acme: one old call, and one whose second half another agent label spoke
    _booking(day(18), ACME_OLD, {}, input_tokens=1000, output_tokens=100, cost="0.100000001"),
    _booking(day(20, 9), ACME, _STT, audio_us=12_500_000, cost="0.000000002"),
    _booking(day(20, 9), ACME, {}, input_tokens=2000, output_tokens=200, cost="1.000000000"),
    _booking(day(20, 10), ACME, _TTS, agent_label="Booker", characters=300, cost="0.030000000"),
    _booking(
        day(20, 10), ACME, _TTS, agent_label="Booker", characters=20, cost="0.002", estimated=True
    ),
    # globex: priced and unpriced rows side by side
    _booking(day(20, 23), GLOBEX, {"tenant": "globex", "agent_id": "sales"}, cost="2.500000000"),
    _booking(day(21, 0), GLOBEX, {"tenant": "globex", "agent_id": "sales", **_HOME}),
    # no tenant, priced
    _booking(day(21), NOBODY, {"tenant": None, "agent_id": "sales"}, cost="0.400000000"),
    # a tenant of whom nothing is priced, and whose name is somebody's joke
    _booking(day(21, 13), SHY, {"tenant": "[red]sh\x1b[31my[/red]", **_HOME}, input_tokens=70),
    _booking(
        day(21, 13), SHY, {"tenant": "[red]sh\x1b[31my[/red]", **_STT}, unpriced_reason="no_unit"
    ),
)
"""Costs 4.032000003 in all: acme 1.132000003, globex 2.5, nobody 0.4, and one tenant unknown."""


def write_snapshot(
    path: Path,
    bookings: Sequence[Booking] = SAMPLE,
    *,
    as_of: datetime = AS_OF,
    version: int = VERSION,
    dead_letters: int = 0,
    reports: Sequence[tuple[str, int, int, int]] = (),
    endless: Collection[UUID] = (),
) -> Path:
    """Write one database file as the ledger writes it.

    `reports` are (producer, number, dropped, unattributed), `endless` the sessions without an end.
    """
    moment = as_of.astimezone(UTC).replace(tzinfo=None)
    with duckdb.connect(path, config={"storage_compatibility_version": "v1.5.0"}) as ledger:
        ledger.begin()
        for migration in MIGRATIONS:
            ledger.execute(migration.read_text())
        ledger.execute((STORE / "views.sql").read_text())
        ledger.execute(
            "CREATE TABLE schema_migrations (version INTEGER NOT NULL, name VARCHAR NOT NULL, "
            "applied_at TIMESTAMP NOT NULL)"
        )
        ledger.execute("INSERT INTO schema_migrations VALUES (?, 'ledger', ?)", [version, moment])
        known: set[tuple[str, UUID]] = set()
        for number, booking in enumerate(bookings, 1):
            key = (booking.project, booking.session_id)
            opens = key not in known
            known.add(key)
            _insert(ledger, "bookings", {**_whole(booking, number), "opens": opens})
        for project, session in sorted(known | {("prod", each) for each in endless}):
            _insert(ledger, "pending_sessions", {"project": project, "session_id": session})
        for booking in {it.session_id: it for it in reversed(bookings)}.values():
            _insert(ledger, "session_identities", _identity(booking))
        for end in _ends(bookings, endless):
            _insert(ledger, "session_ends", end)
        for session in endless:
            _insert(ledger, "session_notes", _no_start(session))
        for number in range(dead_letters):
            ledger.execute(
                "INSERT INTO refused (received_at, subject, stream_sequence, event_index, reason, "
                "detail, id, events) VALUES (?, 'costs.v1.x', 1, 0, 'bad', 'bad', ?, 1)",
                [moment, str(number)],
            )
        for producer, number, dropped, unattributed in reports:
            _insert(
                ledger,
                "producer_reports",
                {
                    "producer_id": producer,
                    "number": number,
                    "project": "prod",
                    "reported_at": moment,
                    "dropped": dropped,
                    "unattributed": unattributed,
                },
            )
        ledger.execute("UPDATE ledger_state SET as_of = ?", [moment])
        ledger.commit()
        ledger.execute("CHECKPOINT")
    return path


def write_ledger(
    data_dir: Path,
    bookings: Sequence[Booking] = SAMPLE,
    *,
    number: int = 1,
    as_of: datetime = AS_OF,
    dead_letters: int = 0,
    reports: Sequence[tuple[str, int, int, int]] = (),
    endless: Collection[UUID] = (),
) -> Path:
    """Publish a snapshot in a data directory, with the link to it and no status; return the directory."""
    data_dir.mkdir(parents=True, exist_ok=True)
    name = f"costs-{number}.duckdb"
    write_snapshot(
        data_dir / name,
        bookings,
        as_of=as_of,
        dead_letters=dead_letters,
        reports=reports,
        endless=endless,
    )
    link = data_dir / "costs.duckdb"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    return data_dir


def write_status(
    data_dir: Path,
    *,
    snapshot: int = 1,
    as_of: datetime = AS_OF,
    waiting: int | None = 0,
    running: bool = True,
) -> None:
    """Write `ledger.json` as a ledger process does, last heard of at `as_of`."""
    status = {
        "snapshot": snapshot,
        "as_of": as_of.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z",
        "pid": 4711,
        "waiting": waiting,
        "running": running,
        "answered_at": as_of.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z",
    }
    path = data_dir / "ledger.json"
    path.write_text(json.dumps(status))
    os.utime(path, (as_of.timestamp(), as_of.timestamp()))


def _whole(booking: Booking, number: int) -> dict[str, object]:
    """Return a booking with the columns that no test of a reader chooses."""
    lacks = booking.unpriced_reason is not None
    return {
        **structs.asdict(booking),
        "list_cost": booking.list_cost or booking.cost,
        "meters": 1,
        "priced_meters": int(booking.cost is not None),
        "listed_meters": int((booking.list_cost or booking.cost) is not None),
        "billed_meters": int(booking.billed is not None),
        "price_id": None,
        "booked_at": booking.occurred_at,
        "day": _day_of(booking.session_id),
        "number": number,
        "provider_raw": booking.provider,
        "currency": "USD",
        "producer_id": "worker-1",
        "batch_number": 1,
        "stream_sequence": number,
        "operation": None,
        "place": number,
        **({f"unpriced_{name}": getattr(booking, name) for name in _AMOUNTS} if lacks else {}),
    }


def _day_of(session: UUID) -> date:
    """Return the UTC day on which a session started: its id says it."""
    return datetime.fromtimestamp((session.int >> 80) / 1000, UTC).date()


def _identity(booking: Booking) -> dict[str, object]:
    """Return whose the session of a booking is."""
    return {
        **structs.asdict(booking),
        "day": _day_of(booking.session_id),
        "producer_id": "worker-1",
    }


def _ends(bookings: Sequence[Booking], endless: Collection[UUID]) -> list[dict[str, object]]:
    """Return an end for every session but some: it says what is booked, and that it all came."""
    readings = Counter(booking.session_id for booking in bookings)
    last = {booking.session_id: (number, booking) for number, booking in enumerate(bookings, 2)}
    return [
        {
            **structs.asdict(booking),
            "number": number,
            "ended_at": booking.occurred_at,
            "status": "closed",
            "reason": "",
            "readings": readings[session],
        }
        for session, (number, booking) in last.items()
        if session not in endless
    ]


def _no_start(session: UUID) -> dict[str, object]:
    """Return what a ledger notes of a session whose start it has not seen."""
    return {
        "project": "prod",
        "session_id": session,
        "reason": "no_start",
        "producer_id": "worker-1",
    }


def _insert(ledger: duckdb.DuckDBPyConnection, table: str, given: dict[str, object]) -> None:
    """Insert one row; a number that was not given is zero, as in a booking."""
    columns = ledger.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [table]
    ).fetchall()
    zero = {"BIGINT": 0, "BOOLEAN": False}
    nullable = {"duration_us", "time_to_first_us", "cancelled"}  # and whatever is not a number
    values = [
        given.get(name, None if name in nullable else zero.get(kind)) for name, kind in columns
    ]
    places = ", ".join("?" * len(values))
    ledger.execute(f"INSERT INTO {table} VALUES ({places})", values)  # noqa: S608 - constants
