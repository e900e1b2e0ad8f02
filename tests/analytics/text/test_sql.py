"""Rows of SQL as text: columns in their order, digits as they are, NULL as nothing else."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest

from voicecosts.analytics.text.sql import csv_rows, json_rows, table_parts

NOW: Final = datetime(2026, 11, 21, 14, 3, 14, tzinfo=UTC)
AS_OF: Final = datetime(2026, 11, 21, 14, 3, 12, tzinfo=UTC)


def table(columns: list[tuple[str, str]], rows: Sequence[Any], width: int | None = None) -> str:
    """Return a table."""
    return "".join(table_parts(columns, rows, as_of=AS_OF, now=NOW, width=width))


def test_a_table_has_its_columns_in_their_order() -> None:
    """Numbers stand on the right, texts on the left, and nobody's name acts on the terminal."""
    columns = [("cost", "DECIMAL(18,9)"), ("tenant", "VARCHAR"), ("n", "UBIGINT")]
    rows = [(Decimal("1.500000000"), "acme", 12), (None, "a\x1b\nb", 1), (Decimal("0E-9"), None, 0)]
    assert table(columns, rows) == (
        "       cost  tenant     n\n"
        "─────────────────────────\n"
        "1.500000000  acme      12\n"
        "       NULL  a\\x1b\\nb   1\n"
        "0.000000000  NULL       0\n"
        "\n"
        "3 rows\n"
        "as of 14:03:12Z, 2 s ago\n"
    )


def test_a_table_fits_its_terminal() -> None:
    """Texts are folded between words, then columns are left out and named; a number is never cut."""
    columns = [("name", "VARCHAR"), ("cost", "DECIMAL(18,9)"), ("more", "VARCHAR")]
    rows = [("some name of a tenant", Decimal("12345.678901234"), "something else of it")]
    page = table(columns, rows, width=52)
    assert max(map(len, page.splitlines())) <= 52
    assert page.splitlines()[2:4] == [
        "some name of a    12345.678901234  something else of",
        "tenant                             it",
    ]
    page = table(columns, rows, width=34)
    assert "12345.678901234" in page
    assert "columns that do not fit: more (--format json has them)" in " ".join(page.split())
    assert table([("a", "VARCHAR")], []).endswith("\n0 rows\nas of 14:03:12Z, 2 s ago\n")


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (130, []),
        (110, ["at"]),
        (100, ["at", "sessions"]),
        (80, ["at", "model", "sessions"]),
        (60, ["at", "session_id", "sessions"]),
        (30, ["at", "tenant", "session_id", "model", "sessions"]),
        (12, ["at", "day", "tenant", "session_id", "model", "sessions"]),
    ],
)
def test_what_does_not_fit_goes_by_its_worth(width: int, left_out: list[str]) -> None:
    """The cost stays longest, then names in their order, then counts; no day, id or name is folded."""
    row = {
        "at": ("TIMESTAMP", datetime(2026, 11, 21, 9, 30, 15)),  # noqa: DTZ001 - as views have it
        "day": ("DATE", date(2026, 11, 21)),
        "tenant": ("VARCHAR", "restaurant-nord"),
        "session_id": ("UUID", UUID(int=1)),
        "model": ("VARCHAR", "claude-haiku-4-5"),
        "cost": ("DECIMAL(38,9)", Decimal("0.031650000")),
        "sessions": ("BIGINT", 12),
    }
    page = table(
        [(name, kind) for name, (kind, _) in row.items()], [[it for _, it in row.values()]], width
    )
    head, rule, cells = page.splitlines()[:3]
    assert head.split() == [name for name in row if name not in left_out]
    assert len(cells.split()) == len(head.split())
    assert page.splitlines()[3] == ""
    assert len(rule) <= width
    said = f"columns that do not fit: {', '.join(left_out)} (--format"
    assert (said in " ".join(page.split())) is bool(left_out)


def test_every_kind_of_value_has_a_form_for_programs() -> None:
    """Decimals are texts with their digits; a time is one in UTC; what has parts keeps them."""
    values: dict[str, tuple[str, Any, Any, str]] = {
        "null": ("INTEGER", None, None, ""),
        "yes": ("BOOLEAN", True, True, "true"),
        "whole": ("HUGEINT", 2**100, 2**100, str(2**100)),
        "money": ("DECIMAL(18,9)", Decimal("1E-9"), "0.000000001", "0.000000001"),
        "double": ("DOUBLE", 0.5, 0.5, "0.5"),
        "odd": ("DOUBLE", float("inf"), "inf", "inf"),
        "at": (
            "TIMESTAMP",
            datetime(2026, 11, 21, 9),  # noqa: DTZ001 - as views have it
            "2026-11-21T09:00:00Z",
            "2026-11-21T09:00:00Z",
        ),
        "day": ("DATE", date(2026, 11, 21), "2026-11-21", "2026-11-21"),
        "time": ("TIME", time(9, 5), "09:05:00", "09:05:00"),
        "span": ("INTERVAL", timedelta(hours=1), "1:00:00", "1:00:00"),
        "id": ("UUID", UUID(int=1), str(UUID(int=1)), str(UUID(int=1))),
        "bytes": ("BLOB", b"\xaa", "aa", "aa"),
        "list": ("DECIMAL(3,1)[]", [Decimal("1.5"), None], ["1.5", None], '["1.5", null]'),
        "map": (
            "MAP(DATE, INTEGER)",
            {date(2026, 1, 2): 1},
            {"2026-01-02": 1},
            '{"2026-01-02": 1}',
        ),
        "formula": ("VARCHAR", "=1+1", "=1+1", "'=1+1"),
    }
    columns = [(name, kind) for name, (kind, *_) in values.items()]
    rows = [[value for _, value, *_ in values.values()]]
    document = json.loads(b"".join(json_rows(columns, rows, as_of=AS_OF)))
    assert document["columns"][3] == {"name": "money", "type": "DECIMAL(18,9)"}
    assert document["rows"] == [{name: plain for name, (_, _, plain, _) in values.items()}]
    assert (document["as_of"], document["source"]) == ("2026-11-21T14:03:12Z", "snapshot")
    [row] = csv.DictReader(io.StringIO(b"".join(csv_rows(columns, rows)).decode()))
    assert row == {name: text for name, (_, _, _, text) in values.items()}
    assert json.loads(b"".join(json_rows(columns, [], as_of=None)))["rows"] == []
