"""A ledger as large as years of calls leave behind, made in minutes: the others measure on it.

The real ledger books 400 patterns of sessions, from real events: of different lengths, some without
a price, without a start or an end, with a reading that was lost or came late. Every session of the
large ledger is a copy of the rows of one pattern, in whatever tables it left some, with an id, times,
a tenant, an agent and a producer of its own, inserted by DuckDB alone, some days at a time and in
the order of arrival. A column or table that a later version adds is copied with the rest. Then the real
ledger opens the file, refuses some messages, and closes a month, adjusts and voids; and the audit
must find every session in the state that its pattern has.

A day has 91,000 rows whatever the size is, so a larger ledger has a longer history and no busier
days, unless `--days` says otherwise. It ends now.

    python benchmarks/large_ledgers.py --rows 10000000 --data-dir DIR [--days 110]
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
from msgspec import Struct
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.events import ended, final, message, reading, report, started
from voicecosts import audit
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import Adjust, Close, Void
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, MeterReading, MeterTotals, Quantities
from voicecosts.producer.subjects import subject

ROWS_PER_DAY: Final = 91_000
TENANTS: Final = 40
AGENTS: Final = 25
PROJECTS: Final = 3
WORKERS: Final = 4

PATTERNS: Final = 400
EVERY_US: Final = 12_000_000
"""From one reading of a session to the next."""
LONGEST_US: Final = 600_000_000
"""No session lasts as long."""
DELAY_US: Final = 2_000_000
"""From a reading to its booking."""
LATE: Final = 4
"""The reading that comes after the next but one of its meter, where one does."""
MESSAGE_US: Final = 5_000_000
"""The readings of so long share a number in the stream."""
DAY_US: Final = 86_400_000_000
DAYS_AT_ONCE: Final = 4
"""DuckDB writes whole groups of 122,880 rows into the file at once; fewer pass through its log first."""

_STT = ("stt", "deepgram", "Deepgram", "nova-3")
_LLM = ("llm", "openai", "api.openai.com", "gpt-4.1-mini")
_LARGE = ("llm", "openai", "api.openai.com", "gpt-4.1")
_TTS = ("tts", "cartesia", "Cartesia", "sonic-3")
_OTHER = ("tts", "deepgram", "Deepgram", "aura-2")
_TURNS = (_STT, _LLM, _TTS, _STT, _LLM, _TTS, _STT, _LARGE, _TTS, _STT, _LLM, _OTHER)
_UNPRICED = ("llm", "openai", "api.openai.com", "house-llm-7b")

Kind = tuple[str, str, str, str]


class Pattern(Struct, frozen=True):
    """A session to copy. `state` is what the audit must say of it."""

    number: int
    readings: int
    lost: bool = False  # its last reading: the end makes it good
    late: bool = False  # its reading `LATE`
    unmeasured: int = 0
    strays: bool = False  # one reading names another tenant
    has_start: bool = True
    has_end: bool = True
    unpriced: bool = False

    @property
    def state(self) -> str:
        """The state of a session of this pattern, once it has been quiet for an hour."""
        if not self.has_end:
            return "abandoned"
        if self.unmeasured or self.strays:
            return "short"
        return "repaired" if self.lost else "complete"


def patterns() -> list[Pattern]:
    """Return all patterns: 1 % are abandoned, 6 % use an LLM without a price (2 % of the rows)."""
    every = [
        Pattern(number=at, readings=18 + at % 13, unpriced=at % 16 == 0) for at in range(PATTERNS)
    ]
    for at in range(0, PATTERNS, 100):
        every[at + 7] = replace(every[at + 7], has_end=False)
        every[at + 17] = replace(every[at + 17], lost=True)
        every[at + 27] = replace(every[at + 27], late=True)
    every[37] = replace(every[37], unmeasured=2)
    every[137] = replace(every[137], strays=True)
    every[237] = replace(every[237], has_start=False)
    return every


def kind_of(pattern: Pattern, number: int) -> Kind:
    """Return the meter that a reading moves."""
    kind = _TURNS[(number - 1) % len(_TURNS)]
    return _UNPRICED if pattern.unpriced and kind[0] == "llm" else kind


def totals_of(pattern: Pattern, kind: Kind, number: int) -> Quantities:
    """Return what a meter shows after reading `number` of its session."""
    moved = sum(kind_of(pattern, each) == kind for each in range(1, number + 1))
    step = 1 + pattern.number % 20
    if kind[0] == "stt":
        return Quantities(requests=moved, audio_us=moved * (2_000_000 + step * 153_000))
    if kind[0] == "tts":
        return Quantities(
            requests=moved,
            characters=moved * (60 + step * 7),
            audio_us=moved * (3_000_000 + step * 391_000),
        )
    return Quantities(
        requests=moved,
        input_tokens=moved * (900 + step * 37),
        cache_read_input_tokens=moved * (400 + step * 11),
        output_tokens=moved * (30 + step * 5),
    )


def pattern_id(number: int, start_us: int) -> str:
    """Return the id of the session that is a pattern."""
    at = f"{start_us // 1000:012x}"
    return f"{at[:8]}-{at[8:]}-7000-8000-{number:012x}"


def reading_of(pattern: Pattern, number: int, start_us: int) -> MeterReading:
    """Return a reading of a pattern."""
    modality, provider, raw, model = kind = kind_of(pattern, number)
    made: MeterReading = reading(
        number,
        session_id=pattern_id(pattern.number, start_us),
        tenant="stray" if pattern.strays and number == pattern.readings else "acme",
        agent_label="front",
        modality=modality,
        provider=provider,
        provider_raw=raw,
        model=model,
        occurred_at=start_us + number * EVERY_US,
        totals=totals_of(pattern, kind, number),
        last={
            "request_id": "request",
            "speech_id": "speech",
            "duration_us": 400_000 + pattern.number * 7_919 + number * 104_729,
            "time_to_first_us": 150_000 + pattern.number * 3_571 + number * 1_299,
        },
    )
    return made


def finals_of(pattern: Pattern) -> list[MeterTotals]:
    """Return the final totals of a pattern."""
    used = dict.fromkeys(kind_of(pattern, each) for each in range(1, pattern.readings + 1))
    return [
        final(
            agent_label="front",
            modality=kind[0],
            provider=kind[1],
            provider_raw=kind[2],
            model=kind[3],
            totals=totals_of(pattern, kind, pattern.readings),
        )
        for kind in used
    ]


def at_step(pattern: Pattern, step: int, start_us: int) -> Iterator[Event]:
    """Yield what arrives of a pattern at a step; 0 is its start, and the end follows the readings."""
    if step == 0:
        if pattern.has_start:
            yield started(
                session_id=pattern_id(pattern.number, start_us),
                started_at=start_us,
                job_id=f"AJ_{pattern.number:09}",
                room_name=f"call-{pattern.number:09}",
                room_sid=f"RM_{pattern.number:09}",
                worker_id="AW_bench",
                deployment="blue",
                labels={"campaign": f"c{pattern.number % 7}"},
            )
    elif step <= pattern.readings:
        held_back = pattern.late and step == LATE
        if not held_back and not (pattern.lost and step == pattern.readings):
            yield reading_of(pattern, step, start_us)
        if pattern.late and step == LATE + 6:
            yield reading_of(pattern, LATE, start_us)
    elif step == pattern.readings + 1 and pattern.has_end:
        yield ended(
            step,
            *finals_of(pattern),
            session_id=pattern_id(pattern.number, start_us),
            ended_at=start_us + step * EVERY_US,
            reason="participant_disconnected",
            readings=pattern.readings,
            unmeasured=pattern.unmeasured,
        )


def book_patterns(data_dir: Path, start_us: int) -> None:
    """Create the ledger and book every pattern once, as if all had been called at the same moment."""
    now_us = start_us
    clock = Clock(now=lambda: datetime.fromtimestamp(now_us / 1e6, UTC))
    every = patterns()
    last = max(pattern.readings for pattern in every) + 1
    with Ledger.open(data_dir, rate_by(ListPrices()), clock=clock) as ledger:
        for step in range(last + 1):
            now_us = start_us + step * EVERY_US + DELAY_US
            events = [event for pattern in every for event in at_step(pattern, step, start_us)]
            ledger.apply([message(step + 1, *events, number=step + 1)])
        used = final(modality="llm", provider="openai", model="gpt-4.1-mini", input_tokens=70)
        ledger.apply([message(last + 2, report(1, live_sessions=5, captured=1), number=last + 2)])
        again = report(2, live_sessions=5, unattributed=1, unattributed_usage=[used])
        ledger.apply([message(last + 3, again, number=last + 3)])


class Span(Struct, frozen=True):
    """When the calls were, in microseconds since 1970, and how many there were."""

    begin_us: int
    until_us: int
    sessions: int

    @property
    def gap_us(self) -> float:
        """From one start to the next; the last call is over when the ledger ends."""
        return (self.until_us - LONGEST_US - self.begin_us) / self.sessions


# The calls that started between two moments, by their number `n`: everything else follows from it.
_CALLS: Final = f"""
CREATE TEMP MACRO calls(from_us, until_us) AS TABLE
SELECT
    n,
    start_us,
    start_us - begin_us AS shift_us,
    begin_us,
    make_timestamp(start_us)::DATE AS day,
    (
        printf('%012x', start_us // 1000)
        || '7' || printf('%03x', (chance // 1000) & 4095)
        || '8' || printf('%03x', (chance // 5000000) & 4095)
        || printf('%012x', n)
    )::UUID AS session_id,
    'tenant-' || printf('%02d', (chance // 7) % {TENANTS}) AS tenant,
    'agent-' || printf('%02d', (chance // 11) % {AGENTS}) AS agent_id,
    'project-' || (n % {WORKERS} % {PROJECTS}) AS project,
    substr(md5(concat('producer', start_us // {DAY_US}, n % {WORKERS})), 1, 16) AS producer_id,
    pattern_id
FROM (
    SELECT
        n,
        begin_us + (n * gap_us)::BIGINT AS start_us,
        begin_us,
        (hash(n) >> 4)::BIGINT AS chance
    FROM span, range(
        greatest(floor((from_us - begin_us) / gap_us)::BIGINT, 0),
        least(ceil((until_us - begin_us) / gap_us)::BIGINT, sessions)
    ) AS numbers (n)
)
INNER JOIN patterns.ids ON ids.pattern = chance % {PATTERNS}
"""  # noqa: S608 - our own numbers

_PATTERN_OF: Final = f"""
SELECT ((hash(n) >> 4)::BIGINT % {PATTERNS})::INTEGER, count(*)
FROM range(?::BIGINT, ?::BIGINT) AS numbers (n)
GROUP BY ALL
"""  # noqa: S608 - our own numbers


class Copied(Struct, frozen=True):
    """A table that has rows of sessions: its columns, and the time at which a row arrived."""

    name: str
    columns: dict[str, str]  # name and type

    @property
    def arrived(self) -> str:
        """When a row arrives, in microseconds; what has no time comes with its session's start."""
        known = (each for each in ("booked_at", "received_at") if each in self.columns)
        column = next(known, None)
        return "start_us" if column is None else f"epoch_us(pattern.{column}) + shift_us"

    def statement(self) -> str:
        """Return the statement that inserts the rows that arrive from `$begin` until before `$end`."""
        chosen = ", ".join(f"{self._value(it)} AS {it}" for it in self.columns)
        return f"""
            INSERT INTO {self.name} BY NAME
            SELECT {chosen}
            FROM calls($begin - {LONGEST_US}, $end) AS calls
            INNER JOIN patterns.{self.name} AS pattern
                ON pattern.session_id = calls.pattern_id
            WHERE {self.arrived} >= $begin AND {self.arrived} < $end
            ORDER BY {self.arrived}, n
        """  # noqa: S608 - our own names

    def _value(self, column: str) -> str:
        copied = f"pattern.{column}"
        if self.columns[column] == "TIMESTAMP":
            return f"make_timestamp(epoch_us({copied}) + shift_us)"
        return {
            "session_id": "calls.session_id",
            "day": "calls.day",
            "project": "calls.project",
            "agent_id": "calls.agent_id",
            "tenant": "calls.tenant",
            "producer_id": "calls.producer_id",
            "job_id": "'AJ_' || n",
            "room_name": "'call-' || n",
            "room_sid": "'RM_' || n",
            "request_id": "'chatcmpl-' || substr(md5(concat('r', n, pattern.number)), 1, 29)",
            "speech_id": "'speech_' || substr(md5(concat('s', n, pattern.number)), 1, 12)",
            "batch_number": f"n + ({self.arrived} - start_us) // {MESSAGE_US}",
            "stream_sequence": f"({self.arrived} - begin_us) // {MESSAGE_US}",
        }.get(column, copied)


# A producer lives for a day of calls and an hour, and reports every five minutes. What its newest
# report says counts: the last day's are alive, and one of fifty had an event of nobody.
_REPORTS: Final = f"""
INSERT INTO producer_reports BY NAME
SELECT pattern.* REPLACE (
    substr(md5(concat('producer', day, worker)), 1, 16) AS producer_id,
    'project-' || (worker % {PROJECTS}) AS project,
    place + 1 AS number,
    make_timestamp(day * {DAY_US} + place * 300000000) AS reported_at,
    make_timestamp(day * {DAY_US} + place * 300000000 + {DELAY_US}) AS received_at,
    80 * (place + 1) AS captured,
    CASE WHEN place = 299 THEN 0 ELSE 5 END AS live_sessions,
    place = 299 AS ended
)
FROM range($begin // {DAY_US}, $begin // {DAY_US} + {DAYS_AT_ONCE}) AS days (day)
CROSS JOIN range({WORKERS}) AS workers (worker)
CROSS JOIN range(300) AS places (place)
INNER JOIN patterns.producer_reports AS pattern
    ON pattern.number = CASE WHEN (day * {WORKERS} + worker) % 50 = 7 THEN 2 ELSE 1 END
WHERE day * {DAY_US} + place * 300000000 + {DELAY_US} < (SELECT until_us FROM span)
ORDER BY received_at
"""  # noqa: S608 - our own numbers


def fill(layout: Layout, span: Span) -> None:
    """Replace the patterns in the ledger's file by their copies, day by day."""
    with duckdb.connect(layout.ledger) as connection:
        connection.execute("SET threads = 2")
        connection.execute("ATTACH ':memory:' AS patterns")
        tables = _tables(connection)
        for table in tables:
            connection.execute(f"CREATE TABLE patterns.{table.name} AS FROM {table.name}")
            connection.execute(f"DELETE FROM {table.name}")  # noqa: S608 - our own names
        connection.execute("CREATE TABLE patterns.producer_reports AS FROM producer_reports")
        connection.execute("DELETE FROM producer_reports")
        connection.execute("CREATE TABLE patterns.ids (pattern BIGINT, pattern_id UUID)")
        connection.executemany(
            "INSERT INTO patterns.ids VALUES (?, ?::UUID)",
            [[at, pattern_id(at, span.begin_us)] for at in range(PATTERNS)],
        )
        connection.execute(
            "CREATE TEMP TABLE span AS SELECT $1::BIGINT AS begin_us, $2::BIGINT AS until_us, "
            "$3::DOUBLE AS gap_us, $4::BIGINT AS sessions",
            [span.begin_us, span.until_us, span.gap_us, span.sessions],
        )
        connection.execute(_CALLS)
        step = DAYS_AT_ONCE * DAY_US
        for begin in range(span.begin_us // DAY_US * DAY_US, span.until_us, step):
            connection.begin()
            for table in tables:
                connection.execute(table.statement(), {"begin": begin, "end": begin + step})
            connection.execute(_REPORTS, {"begin": begin})
            connection.commit()
        connection.execute("UPDATE bookings SET place = rowid + 1")
        last = (span.until_us - span.begin_us) // MESSAGE_US
        connection.execute("UPDATE ledger_state SET stream_sequence = ?", [last])
        connection.execute(
            "UPDATE stream_state SET floor = $1, last_known = $1, above = '[]', newest_booked = NULL",
            [last],
        )


def _tables(connection: duckdb.DuckDBPyConnection) -> list[Copied]:
    """Return every table with rows of sessions."""
    found = connection.execute("""
        SELECT table_name, list((column_name, data_type) ORDER BY column_index)
        FROM duckdb_columns()
        INNER JOIN duckdb_tables() USING (database_name, schema_name, table_name)
        WHERE database_name = current_database()
        GROUP BY table_name
        HAVING bool_or(column_name = 'session_id')
        ORDER BY table_name
    """).fetchall()
    return [
        Copied(name, dict(columns))
        for name, columns in found
        if connection.execute(f"SELECT count(*) FROM {name}").fetchone() != (0,)  # noqa: S608 - our own names
    ]


def expected(span: Span, voided: int) -> dict[str, int]:
    """Return how many sessions the audit must find in each state, by the patterns alone."""
    states = {pattern.number: pattern.state for pattern in patterns()}
    counts = dict.fromkeys(states.values(), 0)
    with duckdb.connect() as connection:
        for pattern, calls in connection.execute(_PATTERN_OF, [0, span.sessions]).fetchall():
            counts[states[pattern]] += calls
        [(pattern, one)] = connection.execute(_PATTERN_OF, [voided, voided + 1]).fetchall()
    counts[states[pattern]] -= one
    return counts


def finish(data_dir: Path, span: Span, voided: int) -> None:
    """Open the filled ledger, refuse some messages and do some operations."""
    with duckdb.connect(Layout(data_dir).ledger) as connection:
        [(project, session_id)] = connection.execute(
            "SELECT project, session_id::VARCHAR FROM session_identities "
            "WHERE right(session_id::VARCHAR, 12) = printf('%012x', ?::BIGINT)",
            [voided],
        ).fetchall()
    today = datetime.now(UTC).date()
    first_day = datetime.fromtimestamp(span.begin_us / 1e6, UTC).date()
    closed = first_day.replace(day=1)
    credit = Adjust(amount=Decimal("-12.5"), day=today, project="project-0", tenant="tenant-07")
    late = Adjust(amount=Decimal("3.25"), day=closed, project="project-1")
    with Ledger.open(data_dir, rate_by(ListPrices())) as ledger:
        first = ledger.booked_sequence + 1
        nobody = subject("project-0", "agent-00", "nobody")
        ledger.apply([Message(nobody, first + at, b"no batch %d" % at) for at in range(30)])
        ledger.operate(Void(project=project, session_id=session_id), reason="a test call")
        ledger.operate(credit, reason="a credit of the provider")
        if closed < today.replace(day=1):
            ledger.operate(Close(month=closed), reason="invoiced")
            ledger.operate(late, reason="a late invoice")
        while ledger.is_at_work:  # a copy of the file that is under way keeps folding waiting
            ledger.work()
            ledger.publish_if_due()


def check(data_dir: Path, counts: dict[str, int]) -> None:
    """Stop unless the audit says of every session what its pattern is."""
    said = dict.fromkeys(counts, 0)
    for total in audit(data_dir=data_dir).states:
        # one without an end is open until its producer, or the ledger, has been quiet long enough
        said["abandoned" if total.state == "open" else str(total.state)] += total.sessions
    assert said == counts, f"the audit says {said}, the patterns {counts}"


def make(data_dir: Path, rows: int, days: int | None = None) -> None:
    """Make a ledger of about so many booking rows in an empty directory.

    Raises:
        AssertionError: The audit of it does not say what it was made of.
    """
    began = time.monotonic()
    assert not data_dir.exists() or not any(data_dir.iterdir()), f"{data_dir} is not empty"
    mean = sum(pattern.readings for pattern in patterns()) / PATTERNS
    until = datetime.now(UTC)
    days = days or max(1, round(rows / ROWS_PER_DAY))
    span = Span(
        begin_us=int((until - timedelta(days=days)).timestamp()) * 1_000_000,
        until_us=int(until.timestamp()) * 1_000_000,
        sessions=round(rows / mean),
    )
    layout = Layout(data_dir)
    _told(began, f"{rows:,} rows of {span.sessions:,} sessions in {days} days")
    book_patterns(data_dir, span.begin_us)
    _told(began, "the patterns are booked")
    fill(layout, span)
    layout.verified.unlink(missing_ok=True)
    _told(began, "the rows are copied")
    voided = span.sessions // 2
    finish(data_dir, span, voided)
    _told(began, "the ledger has folded, settled and sealed it and is closed")
    with Ledger.open(data_dir, rate_by(ListPrices())):  # it gives back what sealed days took
        _told(began, "the ledger is open again")
    counts = expected(span, voided)
    check(data_dir, counts)
    size = layout.ledger.stat().st_size
    used = resource.getrusage(resource.RUSAGE_SELF)
    _told(
        began,
        f"the audit agrees: {counts}; {size / 1e6:,.0f} MB, "
        f"{used.ru_utime + used.ru_stime:,.0f} s of CPU, peak {used.ru_maxrss / 1024:,.0f} MB of memory",
    )


@contextlib.contextmanager
def made(rows: int, data_dir: Path | None, days: int | None = None) -> Iterator[Path]:
    """Yield a large ledger: the one that is in `data_dir`, one made there, or one that is removed after."""
    if data_dir is not None:
        if not Layout(data_dir).ledger.exists():
            make(data_dir, rows, days)
        yield data_dir
        return
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as folder:
        make(Path(folder), rows, days)
        yield Path(folder)


@contextlib.contextmanager
def copied(data_dir: Path) -> Iterator[Path]:
    """Yield a copy of a ledger to write to, without its snapshots; it is removed after."""
    with tempfile.TemporaryDirectory(prefix="copy-", dir=data_dir.absolute().parent) as folder:
        snapshots = shutil.ignore_patterns("costs*.duckdb", "verified.duckdb", "ledger.json")
        shutil.copytree(data_dir, folder, ignore=snapshots, dirs_exist_ok=True)
        yield Path(folder)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return the arguments that every benchmark of a large ledger takes."""
    parser = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0],
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="booking rows, about")
    parser.add_argument("--days", type=int, help=f"of history; else one a {ROWS_PER_DAY:,} rows")
    parser.add_argument("--data-dir", type=Path, help="a ledger made before, or where to keep one")
    return parser


def _told(began: float, what: str) -> None:
    print(f"{time.monotonic() - began:7.1f} s  {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Make one."""
    chosen = arguments(__doc__).parse_args()
    logging.basicConfig(level=logging.WARNING)
    assert chosen.data_dir is not None, "say with --data-dir where it is to be"
    make(chosen.data_dir, chosen.rows, chosen.days)


if __name__ == "__main__":
    main()
