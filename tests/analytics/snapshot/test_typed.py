"""SQL that a person typed reads the ledger, and can do nothing else."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.sample_ledger import write_ledger, write_status
from voicecosts.analytics.errors import (
    BadSql,
    NoRoom,
    SealedDamaged,
    SealedMissing,
    TooMuchMemory,
)
from voicecosts.analytics.snapshot import typed
from voicecosts.analytics.snapshot.connection import closing, open_newest


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that no other test has open: what one connection sets is set for all to the same file."""
    directory = write_ledger(tmp_path_factory.mktemp("typed"))
    write_status(directory)
    return directory


def ask(folder: Path, text: str, spill: Path | None = None) -> tuple[list[str], list[Any]]:
    """Return the names of the columns of an answer, and its rows."""
    connection, snapshot = open_newest(folder, spill=spill)
    with closing(connection):
        found = typed.run(connection, snapshot, text, spill=spill)
        return [name for name, _ in found.columns], list(found.rows)


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    """A file that is none of the ledger's; nothing may stand beside it afterwards."""
    path = tmp_path / "private.csv"
    path.write_text("a,b\n1,2\n")
    yield path
    assert [it.name for it in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    "text",
    [
        "FROM '{path}'",
        "FROM read_csv('{path}')",
        "FROM read_text('{path}')",
        "FROM read_blob('{path}')",
        "FROM read_parquet('{path}')",
        "FROM sniff_csv('{path}')",
        "FROM glob('{folder}/*')",
        "SELECT (SELECT count(*) FROM main.read_csv_auto('{path}'))",
        "FROM 'https://example.com/a.parquet'",
        "FROM query('FROM read_csv(''{path}'')')",
        "FROM query_table('private')",
        "FROM sqlite_scan('{path}', 'a')",
        "COPY (SELECT 1) TO '{folder}/new.csv'",
        "COPY sessions FROM '{path}'",
        "EXPORT DATABASE '{folder}/new'",
        "ATTACH '{folder}/new.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "RESET enable_external_access",
        "PRAGMA enable_profiling",
        "CALL enable_logging()",
        "FROM \"Enable_Logging\"(storage = 'file', storage_config = {{'path': '{folder}/new'}})",
        "FROM enable_profiling(format = 'json', save_location = '{folder}/new.json')",
        "FROM force_checkpoint()",
        "FROM duckdb_secrets()",
        "FROM json_execute_serialized_sql('')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/new.csv'",
        "CREATE TEMP TABLE a AS SELECT 1",
        "DELETE FROM bookings",
        "UPDATE ledger_state SET as_of = NULL",
        "CHECKPOINT",
        "BEGIN",
        "PREPARE a AS SELECT 1",
        "SELECT 1; SELECT 2",
        "PIVOT sessions ON tenant USING sum(cost)",
        "FROM private",
        "",
        "-- nothing",
        "SELECT getenv('HOME')",
        "SELECT ?",
    ],
)
def test_nothing_but_the_ledger_is_read_and_nothing_is_written(
    data_dir: Path, private: Path, text: str
) -> None:
    """Not by a statement of another kind, not by a function, not by a name of the program around it."""
    with pytest.raises(BadSql):
        ask(data_dir, text.format(path=private, folder=private.parent))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "SELECT 'ä', tenat\nFROM sessions",
            'line 1, column 13: Referenced column "tenat" not found',
        ),
        (
            "SELECT cost\n  FROM session",
            "line 2, column 8: there is no view session: did you mean sessions$",
        ),
        (
            "SELECT 1 FROM nosuch",
            "column 15: there is no view nosuch: the views are closed_months, .*, waste_of_requests$",
        ),
        ("FROM main.booking", "there is no view booking: the views are "),
        ("SELECT cost FROM FROM x", 'line 1, column 18: syntax error at or near "FROM"'),
        ("SELECT 'x'::INT", "line 1, column 11: Could not convert string 'x' to INT32"),
        ("SELECT now()", r"write it as a time in UTC, now\(\)::TIMESTAMP"),
        ("SELECT 1" + "+1" * 3000, "^the statement is nested too deeply: take it apart with WITH$"),
        ("SELECT (SELECT range FROM range(3))", r"can only return a single row\.$"),
        ("FROM sessions ORDER BY 'x'", r"column 24: ORDER BY non-integer literal has no effect\.$"),
        ("SELECT st_point(1, 2)", r"exists in the spatial extension\.$"),
    ],
)
def test_a_mistake_is_said_with_its_place(data_dir: Path, text: str, said: str) -> None:
    """By line and column, in characters; and what may have been meant, as DuckDB says it."""
    with pytest.raises(BadSql, match=said):
        ask(data_dir, text)


def test_what_reads_can_be_asked(data_dir: Path) -> None:
    """Every form of SELECT, exact decimals, two columns of one name, times in UTC."""
    assert ask(data_dir, "SELECT sum(cost) AS c, count(*) AS c FROM sessions; -- of all") == (
        ["c", "c_1"],
        [(Decimal("4.032000003"), 5)],
    )
    assert ask(data_dir, "SELECT 1 AS a, 2 AS a, 3 AS a_1")[0] == ["a", "a_2", "a_1"]
    for text in (
        "DESCRIBE sessions",
        "SHOW TABLES",
        "SUMMARIZE voided",
        "VALUES (1)",
        "WITH a AS (FROM sessions) SELECT * FROM a, unnest([1]) LIMIT 1",
        "PIVOT sessions ON tenant IN ('acme') USING sum(cost)",
        "FROM completeness_at(TIMESTAMP '2026-11-21', INTERVAL 1 HOUR)",
        "SELECT view_name FROM duckdb_views() WHERE NOT internal",
    ):
        assert ask(data_dir, text)[0], text
    midnight = (
        "SELECT TIMESTAMPTZ '2026-11-21 00:00'::TIMESTAMP, 9::TINYINT WHERE now() > '2026-01-01'"
    )
    assert ask(data_dir, midnight)[1] == [(datetime(2026, 11, 21), 9)]  # noqa: DTZ001 - as views have it


def test_all_rows_are_read_whatever_their_length(data_dir: Path) -> None:
    """In their order, also where fewer are read at once because some are long."""
    found = ask(
        data_dir,
        "SELECT range, length(repeat('x', range)), repeat('x', range * 7) FROM range(3000)",
    )
    assert found[1] == [(at, at, "x" * (at * 7)) for at in range(3000)]


def test_rows_of_sealed_days_are_read_wherever_the_folder_is(
    partly_sealed: Path, tmp_path: Path
) -> None:
    """Also where its name is a pattern; without the files the answer is what to put where."""
    folder = tmp_path / "a [1]*" / "x=y"
    shutil.copytree(partly_sealed, folder, symlinks=True)
    text = "SELECT count(*), sum(cost), min(day) FROM usage"
    found = ask(partly_sealed, text)
    assert found == ask(folder, text)
    assert found[1][0][0] > 100
    shutil.rmtree(folder / "sealed")
    with pytest.raises(SealedMissing, match="put the folder `sealed`"):
        ask(folder, text)
    assert ask(folder, "SELECT count(*) FROM sessions")[1] != [(0,)]


def test_rows_of_a_file_that_has_rotted_are_not_read(partly_sealed: Path, tmp_path: Path) -> None:
    """Whichever view asks for them; the other views go on answering."""
    folder = Path(shutil.copytree(partly_sealed, tmp_path / "copy", symlinks=True))
    file = max(folder.glob("sealed/usage/*/*.parquet"))
    good = file.read_bytes()
    bad = bytearray(good)
    bad[len(good) // 3] ^= 1
    file.write_bytes(bad)
    for text in (
        "SELECT sum(cost) FROM usage",
        "-- all\nFROM waste_of_requests",
        "WITH rows AS (FROM usage) SELECT count(cost) FROM rows;",
        f"SELECT sum(cost) FROM (FROM '{file}')",  # noqa: S608 - our own file
    ):
        with pytest.raises(SealedDamaged, match=f"{file.name} has changed since"):
            ask(folder, text)
    sums = "SELECT sum(cost) FROM cost_by_day"
    assert ask(folder, sums) == ask(partly_sealed, sums)
    file.write_bytes(good)
    assert ask(folder, "SELECT sum(cost) FROM usage") == ask(
        partly_sealed, "SELECT sum(cost) FROM usage"
    )


def test_one_file_that_is_not_there_is_named(partly_sealed: Path, tmp_path: Path) -> None:
    """Whatever days are asked for: DuckDB opens each file of the view, and may not open one that is not there."""
    folder = Path(shutil.copytree(partly_sealed, tmp_path / "copy", symlinks=True))
    file, *others = sorted(folder.glob("sealed/usage/*/*.parquet"))
    file.unlink()
    for text in ("FROM usage LIMIT 1", "SELECT sum(cost) FROM usage WHERE day > '2030-01-01'"):
        with pytest.raises(SealedMissing, match=f"{file.name} is not there"):
            ask(folder, text)
    assert ask(folder, f"SELECT count(*) > 0 FROM '{others[0]}'")[1] == [(True,)]  # noqa: S608 - our own file


def test_every_view_of_single_rows_is_known(partly_sealed: Path) -> None:
    """So that none reads a file that was not looked at."""
    connection, _ = open_newest(partly_sealed)
    with closing(connection):
        texts = connection.execute(
            "SELECT view_name, regexp_extract(sql, '(?s) AS .*') FROM duckdb_views() WHERE NOT internal "
            "UNION ALL SELECT function_name, macro_definition FROM duckdb_functions() "
            "WHERE NOT internal AND macro_definition IS NOT NULL"
        ).fetchall()
    found, before = {"all_bookings"}, set[str]()
    while found != before:
        before = set(found)
        found |= {
            name
            for name, text in texts
            if any(re.search(rf"\b{each}\b(?!\.)", text) for each in before)
        }
    assert found == typed.OF_ROWS


def test_memory_and_disk_are_bounded(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is refused; what can go to the disk goes there, and takes half of it at most."""
    with pytest.raises(TooMuchMemory, match="ask for fewer rows"):  # a list is not put on a disk
        ask(data_dir, "SELECT len(list(i)) FROM range(100000000) AS r(i)", tmp_path)
    with pytest.raises(NoRoom, match="set TMPDIR"):
        ask(data_dir, "SELECT len(list(i)) FROM range(100000000) AS r(i)")
    with monkeypatch.context() as small:
        small.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=2, f_frsize=1_000_000))
        with pytest.raises(NoRoom, match="set TMPDIR"):
            ask(data_dir, "SELECT count(DISTINCT hash(i)) FROM range(30000000) AS r(i)", tmp_path)
    settings = "SELECT current_setting('memory_limit'), current_setting('max_temp_directory_size')"
    [(memory, disk)] = ask(data_dir, settings, tmp_path)[1]
    assert (memory, disk[-2:]) == ("286.1 MiB", "iB")
    assert ask(data_dir, "SELECT current_setting('temp_directory')")[1] == [("",)]
    assert ask(data_dir, "SELECT current_setting('TimeZone')")[1] == [(UTC.tzname(None),)]
