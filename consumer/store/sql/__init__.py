"""Every statement of the store. None is put together from parts but those that name files or tables of ours."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

_FOLDER = files("voicecosts.consumer.store")


def _read(name: str) -> str:
    return _FOLDER.joinpath("sql", f"{name}.sql").read_text("utf-8")


INSERT_BOOKINGS: Final = _read("insert_bookings")
INSERT_SESSION_IDENTITIES: Final = _read("insert_session_identities")
INSERT_SESSION_STARTS: Final = _read("insert_session_starts")
INSERT_SESSION_ENDS: Final = _read("insert_session_ends")
INSERT_SESSION_NOTES: Final = _read("insert_session_notes")
DELETE_SESSION_NOTES: Final = _read("delete_session_notes")
INSERT_PRODUCER_REPORTS: Final = _read("insert_producer_reports")
NOTE_ENDED_PRODUCERS: Final = _read("note_ended_producers")
INSERT_DEAD_LETTERS: Final = _read("insert_dead_letters")
KNOWN_DEAD_LETTERS: Final = _read("known_dead_letters")
FIND_DEAD_LETTERS: Final = _read("find_dead_letters")
LOAD_METERS: Final = _read("load_meters")
LOAD_SESSIONS: Final = _read("load_sessions")
LOAD_SETTLED: Final = _read("load_settled")
LOAD_SIZES: Final = """
SELECT project, session_id::VARCHAR, count(*)
FROM session_usage
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
    AND session_id IN (SELECT unnest(string_split($ids, chr(10)))::UUID)
GROUP BY project, session_id
"""
LOAD_REPORTED: Final = _read("load_reported")
LOAD_REPRICED: Final = _read("load_repriced")

LAST_PLACE: Final = (
    "SELECT greatest((SELECT max(place) FROM bookings), (SELECT folded_to FROM fold_state))"
)
_OF_ERASED_NOW: Final = (
    "session_id BETWEEN $first::UUID AND $last::UUID "
    "AND (project, session_id) IN (SELECT project, session_id FROM erased_now)"
)

LOAD_FOLDED: Final = "SELECT folded_to FROM fold_state"
CLEAR_FOLDED: Final = "DELETE FROM fold_state"
WRITE_FOLDED: Final = "INSERT INTO fold_state VALUES ($folded_to)"

_ADD_TO_MONTHS: Final = _read("add_to_months")
_ADD: Final = (
    _ADD_TO_MONTHS.replace("$sign", "1")
    .replace("$reason", "arg_max(unpriced_reason, last_place)")
    .replace("$place", "max(last_place) FILTER (unpriced_reason IS NOT NULL)")
)
_TAKE: Final = (
    _ADD_TO_MONTHS.replace("$sign", "-1").replace("$reason", "NULL").replace("$place", "NULL")
)
ADD_FOLDED: Final = _ADD.replace("$which", "first_place > $after").replace("$is_compact", "FALSE")
ADD_ALL_FOLDED: Final = _ADD.replace("$which", "TRUE").replace("$is_compact", "TRUE")
TAKE_ERASED: Final = _TAKE.replace("$which", _OF_ERASED_NOW).replace("$is_compact", "FALSE")
REMOVE_TAKEN: Final = _read("remove_taken")
MONTHS_TO_ADD_UP: Final = """
SELECT month
FROM folded_months
GROUP BY month
HAVING 2 * count(*) FILTER (NOT is_compact) >= greatest(2 * $least, count(*) FILTER (is_compact))
ORDER BY count(*) FILTER (NOT is_compact)
"""
ADD_UP_MONTH: Final = _read("add_up_month")
REMOVE_MONTH: Final = "DELETE FROM folded_months WHERE month IS NOT DISTINCT FROM $month"
INSERT_MONTH: Final = "INSERT INTO folded_months BY NAME SELECT * FROM month_anew"
DROP_MONTH: Final = "DROP TABLE month_anew"
FOLD_USAGE: Final = _read("fold_usage")
FOLD_READINGS: Final = _read("fold_readings")
NOTE_PENDING: Final = _read("note_pending")
UNSETTLE_SESSIONS: Final = _read("unsettle_sessions")
FIND_ENDLESS: Final = _read("find_endless")
FIND_TO_SETTLE: Final = _read("find_to_settle")
LIMIT_TO_SETTLE: Final = _read("limit_to_settle")
SPAN_TO_SETTLE: Final = """
SELECT count(*), min(session_id)::VARCHAR, max(session_id)::VARCHAR FROM settling
"""
LOAD_SETTLING: Final = "SELECT project, session_id::VARCHAR FROM settling"
SETTLE_SESSIONS: Final = _read("settle_sessions")
REMOVE_SETTLED: Final = _read("remove_settled")

FIND_SEALABLE: Final = _read("find_sealable")
SPAN_TO_SEAL: Final = """
SELECT min(place), max(place), count(*)
FROM (SELECT place FROM bookings WHERE day = $day ORDER BY place LIMIT $most)
"""
SEAL_ROWS: Final = _read("seal_rows")
SUM_OF_ROWS: Final = """
SELECT count(*), sum(hash(r)) FROM bookings AS r WHERE day = $day AND place BETWEEN $first AND $last
"""
SUM_OF_FILE: Final = """
SELECT count(*), sum(hash(r)) FROM read_parquet($file, hive_partitioning = FALSE) AS r
"""
RECORD_SEALED: Final = """
INSERT INTO sealed_files
VALUES ($day, $file, $rows, $first, $last, $bytes, $sha256, $version, make_timestamp($sealed_at))
"""
REMOVE_SEALED: Final = "DELETE FROM bookings WHERE day = $day AND place BETWEEN $first AND $last"
FIND_MERGED: Final = _read("find_merged")
REMOVE_MERGED: Final = """
DELETE FROM folded_usage WHERE first_place IN (SELECT unnest(first_places) FROM merged_usage)
"""
INSERT_MERGED: Final = """
INSERT INTO folded_usage BY NAME
SELECT * EXCLUDE (first_places) FROM merged_usage ORDER BY session_id, project, first_place
"""
DROP_MERGED: Final = "DROP TABLE merged_usage"
SEALED_FILES: Final = """
SELECT version, list(file ORDER BY day, first_place) FROM sealed_files GROUP BY version ORDER BY version
"""
UNSEALED_ROWS: Final = _read("unsealed_rows")

FIND_OLD_FILES: Final = """
SELECT file, day, rows, bytes FROM sealed_files WHERE day < $before ORDER BY day, first_place LIMIT $most
"""
FORGET_FILES: Final = "DELETE FROM sealed_files WHERE file IN (SELECT unnest($files))"
RECORDED_FILES: Final = "SELECT file FROM sealed_files"
KEPT_FILES: Final = "SELECT file, bytes, sha256 FROM sealed_files ORDER BY day, first_place"
LOAD_REMOVED_FILES: Final = "SELECT file, snapshot, epoch_us(removed_at) FROM removed_files"
NOTE_REMOVED_FILES: Final = """
INSERT INTO removed_files SELECT unnest($files), $snapshot, make_timestamp($removed_at)
"""
MARK_REMOVED_FILES: Final = """
UPDATE removed_files
SET snapshot = $snapshot, removed_at = make_timestamp($removed_at)
WHERE file IN (SELECT unnest($files))
"""
CLEAR_REMOVED_FILES: Final = "DELETE FROM removed_files WHERE file IN (SELECT unnest($files))"
NOTE_REMOVED_DETAIL: Final = """
INSERT INTO removed_detail VALUES ($day, $rows, $bytes, make_timestamp($removed_at))
"""
SPAN_OF_OLD: Final = """
SELECT max(place), count(*)
FROM (SELECT place FROM bookings WHERE day < $before ORDER BY place LIMIT $most)
"""
NOTE_REMOVED_ROWS: Final = """
INSERT INTO removed_detail
SELECT day, count(*), 0, make_timestamp($removed_at)
FROM bookings
WHERE day < $before AND place <= $upto
GROUP BY day
ORDER BY day
"""
REMOVE_OLD_ROWS: Final = "DELETE FROM bookings WHERE day < $before AND place <= $upto"

DETAIL_BY_DAY: Final = _read("detail_by_day")
LOAD_SEALED: Final = """
SELECT day, file, rows, bytes, sha256 FROM sealed_files ORDER BY day, first_place
"""
FOLDED_OF_DAYS: Final = _read("folded_of_days")
READINGS_NOT_NOTED: Final = _read("readings_not_noted")
ROWS_OF_NOBODY: Final = """
SELECT project, session_id::VARCHAR, min(agent_id)
FROM booked
ANTI JOIN session_identities USING (project, session_id)
WHERE session_id IS NOT NULL
GROUP BY project, session_id
ORDER BY session_id
LIMIT $most
"""
COUNT_UNFOLDED: Final = (
    "SELECT count(*) FROM bookings WHERE place > (SELECT folded_to FROM fold_state)"
)
ROWS_NOT_THERE: Final = _read("rows_not_there")
ROWS_OF_VIEW: Final = "SELECT day, count(*) FROM usage GROUP BY day"
ROWS_OF_TABLES: Final = """
SELECT day, sum(rows)::BIGINT
FROM (
    SELECT day, count(*) AS rows FROM bookings GROUP BY day
    UNION ALL
    SELECT day, rows FROM sealed_files
)
GROUP BY day
"""
FACTS_WORKED_OUT: Final = _read("facts_worked_out")
FACTS_KEPT: Final = _read("facts_kept")
STATES_WORKED_OUT: Final = _read("states_worked_out")
STATES_KEPT: Final = _read("states_kept")
CALLS_NOT_KEPT_ONCE: Final = _read("calls_not_kept_once")
COUNT_CALLS: Final = "SELECT count(*) FROM session_identities"
SPANS_OF_SETTLED: Final = """
SELECT min(session_id)::VARCHAR, max(session_id)::VARCHAR
FROM (
    SELECT session_id, row_number() OVER (ORDER BY session_id, project) AS turn FROM settled_sessions
)
GROUP BY turn - 1 - (turn - 1) % $every
ORDER BY min(session_id)
"""
TAKE_SETTLED: Final = """
CREATE OR REPLACE TEMP TABLE pending_sessions AS
SELECT project, session_id
FROM settled_sessions
WHERE session_id BETWEEN $first_id::UUID AND $last_id::UUID
"""
KEPT_OF_SETTLED: Final = """
SELECT project, session_id::VARCHAR, kept
FROM settled_sessions
WHERE (project, session_id) IN (SELECT (project, session_id) FROM temp.pending_sessions)
"""

REFUSED_OF_MESSAGES: Final = """
SELECT stream_sequence, event_index FROM refused WHERE stream_sequence BETWEEN $first AND $last
"""

DAYS_TO_FOLD: Final = _read("days_to_fold")
TAKE_SUMS_OVER: Final = _read("take_sums_over")
TAKE_READINGS_OVER: Final = _read("take_readings_over")
COPY_BOOKINGS: Final = "INSERT INTO bookings BY NAME SELECT * FROM old.main.bookings ORDER BY place"
ALL_PENDING: Final = """
INSERT INTO pending_sessions
SELECT project, session_id FROM session_identities
UNION
SELECT project, session_id FROM session_notes
ORDER BY session_id, project
"""
DAYS_OF_REMOVED: Final = "SELECT DISTINCT day FROM removed_detail"
SIZE_OF_FILES: Final = """
SELECT coalesce(sum(rows), 0)::BIGINT, coalesce(sum(bytes), 0)::BIGINT
FROM sealed_files
WHERE file IN (SELECT unnest($files))
"""
COUNT_MISSING_ROWS: Final = _read("count_missing_rows")
LAST_OF_OLD: Final = """
SELECT greatest((SELECT max(place) FROM bookings), (SELECT folded_to FROM old.main.fold_state))
"""

LOAD_ERASURES: Final = "SELECT operation, project, salt, digest FROM erasures ORDER BY operation"
NOTE_ERASURE: Final = "INSERT INTO erasures VALUES ($number, $project, $salt, $digest, 0)"
NOTE_ERASED_DAYS: Final = _read("note_erased_days")
COUNT_ERASED_LETTERS: Final = """
UPDATE erasures SET letters = letters + $letters WHERE operation = $number
"""
OF_ERASED: Final = _read("of_erased")
FILES_OF_ERASED: Final = _read("files_of_erased")
SEALED_FILE: Final = """
SELECT day, first_place, last_place, version, sha256 FROM sealed_files WHERE file = $file
"""
SEAL_OTHERS: Final = _read("seal_others")
SUM_OF_OTHERS: Final = _read("sum_of_others")
IDS_OF_ERASED: Final = """
SELECT DISTINCT session_id::VARCHAR FROM erasing WHERE session_id IN (SELECT unnest($ids)::UUID)
"""
LETTERS_OF_FILE: Final = "SELECT id, event_index, place, bytes FROM refused WHERE file = $file"
DETAILS_OF_LETTERS: Final = """
SELECT id, detail
FROM refused
WHERE contains(detail, $tenant) OR regexp_matches(detail, '[0-9a-f]{8}-[0-9a-f]{4}-7')
"""
MOVE_LETTERS: Final = """
UPDATE refused
SET
    file = moved.file,
    place = moved.place,
    events = coalesce(moved.events, refused.events),
    bytes = coalesce(moved.bytes, refused.bytes),
    sha256 = coalesce(moved.sha256, refused.sha256)
FROM (
    SELECT
        unnest($ids) AS id,
        unnest($files) AS file,
        unnest($places) AS place,
        unnest($events::BIGINT[]) AS events,
        unnest($bytes::BIGINT[]) AS bytes,
        unnest($sha256::VARCHAR[]) AS sha256
) AS moved
WHERE refused.id = moved.id
"""
REMOVE_LETTERS: Final = "DELETE FROM refused WHERE id IN (SELECT unnest($ids))"
REMOVE_CHANGES: Final = "DELETE FROM refused_changes WHERE id IN (SELECT unnest($ids))"
OF_NOTES_ALONE: Final = """
SELECT session_id
FROM session_notes
WHERE session_id IN (SELECT unnest($ids)::UUID)
    AND session_id NOT IN (SELECT session_id FROM session_identities)
"""
SLICE_OF_ERASED: Final = """
CREATE OR REPLACE TEMP TABLE erased_now AS
SELECT project, session_id FROM erasing ORDER BY session_id, project LIMIT $most
"""
SPAN_OF_ERASED: Final = """
SELECT count(*), min(session_id)::VARCHAR, max(session_id)::VARCHAR FROM erased_now
"""
LIST_OF_ERASED: Final = "SELECT project, session_id::VARCHAR FROM erased_now"

FREE_BLOCKS: Final = "SELECT free_blocks > used_blocks FROM pragma_database_size()"
TABLES: Final = """
SELECT database_name = current_database() AS is_own, list(table_name ORDER BY table_name)
FROM duckdb_tables()
GROUP BY is_own
ORDER BY is_own
"""

INSERT_PRICES_USED: Final = _read("insert_prices_used")
LOAD_PRICES_USED: Final = "SELECT price_id, terms FROM prices_used ORDER BY price_id"
LOAD_CLOSED: Final = "SELECT month FROM month_closings"


FIND_RERATED: Final = _read("find_rerated")
INSERT_OPERATION: Final = _read("insert_operation")
REMOVE_OPERATION: Final = "DELETE FROM operation_records WHERE operation = $number"
LOAD_OPERATIONS: Final = """
SELECT
    operation, request, epoch_us(started_at), epoch_us(ended_at), reason, source, prices,
    coalesce(asked, ''), epoch_us(stopped_at), coalesce(left_meters, 0), coalesce(left_why, '')
FROM operation_records
ORDER BY operation
"""
LAST_OF_OPERATION: Final = """
SELECT max(session_id)::VARCHAR FROM session_usage WHERE operation = $number
"""
SESSIONS_OF_OPERATION: Final = """
SELECT DISTINCT project, session_id::VARCHAR AS id
FROM session_usage
WHERE operation = $origin AND session_id > $after::UUID
ORDER BY id, project
"""
CLOSE_MONTH: Final = "INSERT INTO month_closings VALUES ($month, $number)"
OPEN_MONTH: Final = "DELETE FROM month_closings WHERE month = $month"
MONTHS_BEFORE: Final = """
SELECT DISTINCT date_trunc('month', day)::DATE AS month FROM session_usage WHERE day < $month ORDER BY month
"""
IS_CORRECTED: Final = "SELECT EXISTS (SELECT 1 FROM session_usage WHERE corrects = $month)"
ADJUST: Final = _read("adjust")
FIND_SESSION: Final = """
SELECT project, session_id::VARCHAR
FROM session_identities
WHERE session_id = $session_id::UUID AND project = $project
"""
VOID_SESSION: Final = """
INSERT INTO void_marks VALUES ($project, $session_id::UUID, $number, $uncounted)
"""
UNVOID_SESSION: Final = """
DELETE FROM void_marks WHERE project = $project AND session_id = $session_id::UUID
"""
LOAD_VOIDED: Final = """
SELECT project, session_id::VARCHAR, operation, uncounted FROM void_marks
"""

LOAD_STATE: Final = "SELECT stream_sequence, snapshot, as_of FROM ledger_state"
LOAD_OWN_SNAPSHOT: Final = """
SELECT
    snapshot,
    EXISTS (SELECT 1 FROM session_usage WHERE first_sequence = 0 AND operation IS NULL)
FROM ledger_state
"""
BOOKED_FROM_MESSAGES: Final = """
SELECT
    (SELECT coalesce(max(last_place), 0) FROM session_usage WHERE operation IS NULL),
    (SELECT count(*) FROM session_starts),
    (SELECT coalesce(sum(number), 0) FROM session_ends),
    (SELECT coalesce(sum(number), 0) FROM producer_reports),
    (SELECT count(*) FROM session_notes),
    (SELECT count(*) FROM dead_letters)
"""
CLEAR_STATE: Final = "DELETE FROM ledger_state"
WRITE_STATE: Final = """
INSERT INTO ledger_state VALUES (make_timestamp($as_of), $sequence, $snapshot)
"""

LOAD_STREAM: Final = """
SELECT
    ledger_id::VARCHAR, epoch_us(stream_created), floor, above, last_known, trimmed_to,
    newest_booked, epoch_us(newest_stored_at)
FROM stream_state, ledger_identity
"""
LOAD_LEDGER_ID: Final = "SELECT ledger_id::VARCHAR FROM ledger_identity"
CLEAR_STREAM: Final = "DELETE FROM stream_state"
WRITE_STREAM: Final = """
INSERT INTO stream_state
VALUES (
    make_timestamp($created::BIGINT), $floor, $above, $last, $trimmed_to,
    $newest, make_timestamp($stored::BIGINT)
)
"""
LOAD_GAPS: Final = """
SELECT
    epoch_us(stream_created), first_sequence, last_sequence, why, epoch_us(noted_at),
    epoch_us(filled_at)
FROM stream_gaps
ORDER BY noted_at, first_sequence
"""
CLEAR_GAPS: Final = "DELETE FROM stream_gaps"
WRITE_GAP: Final = """
INSERT INTO stream_gaps
VALUES (
    make_timestamp($created::BIGINT), $first, $last, make_timestamp($noted), $why,
    make_timestamp($filled::BIGINT)
)
"""

MARK_DEAD_LETTERS: Final = """
INSERT INTO refused_changes
SELECT unnest(string_split($ids, chr(10))), $state, make_timestamp($changed_at)
"""
MARK_FILE: Final = """
INSERT INTO refused_files VALUES ($file, $state, make_timestamp($changed_at))
"""
USED_FILES: Final = """
SELECT file FROM refused WHERE file IS NOT NULL UNION SELECT file FROM refused_files
"""
GONE_FILES: Final = "SELECT DISTINCT file FROM refused_files"
UNUSED_FILES: Final = """
SELECT file
FROM refused
LEFT JOIN (SELECT DISTINCT id, TRUE AS is_done FROM refused_changes) AS changed USING (id)
WHERE file IS NOT NULL AND file NOT IN (SELECT file FROM refused_files)
GROUP BY file
HAVING count(*) = count(is_done)
"""
COUNT_OLD_LETTERS: Final = "SELECT count(*) FROM refused WHERE id IS NULL"
LOAD_OLD_LETTERS: Final = """
SELECT
    epoch_us(received_at), subject, stream_sequence, event_index, reason, detail, coalesce(payload, ''::BLOB)
FROM refused
WHERE id IS NULL
"""
REMOVE_OLD_LETTERS: Final = "DELETE FROM refused WHERE id IS NULL"
LOAD_READER: Final = "SELECT version, types FROM refused_reader"
CLEAR_READER: Final = "DELETE FROM refused_reader"
WRITE_READER: Final = "INSERT INTO refused_reader VALUES ($version, $types)"

CREATE_HISTORY: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    INTEGER   NOT NULL,
    name       VARCHAR   NOT NULL,
    applied_at TIMESTAMP NOT NULL
)
"""
LOAD_VERSION: Final = "SELECT coalesce(max(version), 0) FROM schema_migrations"
MARK_MIGRATION: Final = """
INSERT INTO schema_migrations VALUES ($version, $name, make_timestamp($applied_at))
"""

_ALL_BOOKINGS: Final = _read("all_bookings")
_SEALED_BOOKINGS: Final = _read("sealed_bookings")
_DETAIL_OF_DAYS: Final = _read("detail_of_days")
_SEALED_DETAIL: Final = _read("sealed_detail")
_ADD_UP: Final = _read("add_up")
_SUMS_OF_MONTHS: Final = _read("sums_of_months")
_LATE_ROWS: Final = _read("late_rows")
_ROWS_OF_DAY: Final = _read("rows_of_day")
VIEWS: Final = _FOLDER.joinpath("views.sql").read_text("utf-8")
MARK_OF_VIEWS: Final = (
    "SELECT comment FROM duckdb_views() WHERE NOT internal AND view_name = 'usage'"
)


def literal(path: str) -> str:
    """Return what DuckDB reads as this one path: `*`, `?` and `[` stand for themselves."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in path)


def all_bookings(folder: str, files_by_version: list[list[str]]) -> str:
    """Return what makes the macro `all_bookings` read files too: those of one version have equal columns."""
    return _ALL_BOOKINGS.replace("$folder", folder.replace("'", "''")) + "".join(
        _SEALED_BOOKINGS.replace("$files", ", ".join(f"'{name}'" for name in names))
        for names in files_by_version
    )


def detail_of_days(paths: list[str]) -> str:
    """Return what takes the single rows of some days that are in sums; `paths` are of their sealed files."""
    # no path is a pattern, whatever its name
    plain = (re.sub(r"([*?[])", r"[\1]", path) for path in paths)
    named = ", ".join("'" + path.replace("'", "''") + "'" for path in plain)
    files = (
        _SEALED_DETAIL.replace("$files", named) if paths else "SELECT * FROM bookings WHERE FALSE"
    )
    return _DETAIL_OF_DAYS.replace("$files", files)


def late_rows(paths: list[str]) -> str:
    """Return what takes all rows that correct a closed month; `paths` are of all sealed files."""
    return _LATE_ROWS.replace("$files", _sealed_rows(paths))


def rows_of_day(paths: list[str]) -> str:
    """Return what takes the rows of a day; `paths` are of its sealed files."""
    return _ROWS_OF_DAY.replace("$files", _sealed_rows(paths))


def _sealed_rows(paths: list[str]) -> str:
    # no path is a pattern, whatever its name
    plain = (re.sub(r"([*?[])", r"[\1]", path) for path in paths)
    named = ", ".join("'" + path.replace("'", "''") + "'" for path in plain)
    return (
        _SEALED_DETAIL.replace("$files", named) if paths else "SELECT * FROM bookings WHERE FALSE"
    )


def add_up(rows: str, sums: str) -> str:
    """Return what adds up the rows of a table into another one."""
    return _ADD_UP.replace("$rows", rows).replace("$sums", sums)


def months_of_sessions(sums: str) -> str:
    """Return what adds up the rows of sessions by months into a table."""
    month = "date_trunc('month', day)::DATE"
    text = _SUMS_OF_MONTHS.replace("$rows", "folded_usage").replace("$month", month)
    return text.replace("$sums", sums)


def months_as_kept(sums: str) -> str:
    """Return what adds up the rows of months into a table of the same columns."""
    text = _SUMS_OF_MONTHS.replace("$rows", "folded_months").replace("$month", "month")
    return text.replace("$sums", sums)


def unlike(table: str, other: str) -> str:
    """Return what finds the rows of a table that another one of the same columns has not."""
    return f"""
SELECT * FROM {table} AS own WHERE hash(own) NOT IN (SELECT hash(it) FROM {other} AS it) LIMIT $most
"""  # noqa: S608 - our own names


def clear_table(table: str) -> str:
    """Return what removes all rows of a table."""
    return f'DELETE FROM "{table}"'  # noqa: S608 - our own names


def copy_table(table: str) -> str:
    """Return what copies all rows of a table of the database `old`, in their order."""
    return f'INSERT INTO "{table}" BY NAME SELECT * FROM old.main."{table}"'  # noqa: S608 - same


def erase_sessions(table: str) -> str:
    """Return what removes the rows of the sessions in `erased_now` from a table."""
    return f"DELETE FROM {table} WHERE {_OF_ERASED_NOW}"  # noqa: S608 - our own names


def erase_tenant(table: str) -> str:
    """Return what removes the rows of a tenant from a table."""
    return (
        f"DELETE FROM {table} WHERE tenant = $tenant AND ($project IS NULL OR project = $project)"  # noqa: S608 - same
    )


def erase_notes_alone(table: str) -> str:
    """Return what removes the rows of sessions from a table that are known by what was refused of them alone."""
    return f"DELETE FROM {table} WHERE session_id IN (SELECT unnest($ids)::UUID)"  # noqa: S608 - same


def sum_of_table(table: str) -> str:
    """Return what reads all of a table."""
    return f'SELECT count(*), sum(hash(COLUMNS(*))) FROM "{table}"'  # noqa: S608 - same


def compare_table(table: str) -> str:
    """Return what gives two rows, which are equal where a table has the same rows as that of `old`."""
    return f"""
SELECT count(*), sum(hash(COLUMNS(*))) FROM "{table}"
UNION ALL BY NAME
SELECT count(*), sum(hash(COLUMNS(*))) FROM old.main."{table}"
"""  # noqa: S608 - same


def mark_views(mark: str) -> str:
    """Return what keeps with the views what they were written from; `mark` is hexadecimal."""
    return f"COMMENT ON VIEW usage IS '{mark}'"


@cache
def migrations() -> dict[int, tuple[str, str]]:
    """Return name and text of every migration, by version."""
    found = (path for path in _FOLDER.joinpath("migrations").iterdir() if path.name[:4].isdigit())
    return {
        int(path.name[:4]): (path.name.removesuffix(".sql"), path.read_text("utf-8"))
        for path in sorted(found, key=lambda path: path.name)
    }
