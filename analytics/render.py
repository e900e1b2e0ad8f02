"""A report as bytes for programs: JSON and CSV. Their keys are public and only ever added to.

Money is a plain decimal string with nine digits behind the point, or null (an empty CSV field) when
nothing is priced. Output is UTF-8 whatever the terminal, and names are in it exactly as booked.
"""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from analytics.report import measure_names
from analytics.words import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from analytics.report import Report, Row

_MONEY = ("cost", "estimated_cost")


def as_json(report: Report) -> bytes:
    """Return the report as one JSON object, indented, ending with a newline."""
    document = {
        "by": list(report.by),
        "rows": [_plain(row) for row in report.rows],
        "total": _plain(report.total),
        "groups": report.groups,
        "currency": report.currency,
        "since": _moment(report.since),
        "until": _moment(report.until),
        "as_of": _moment(report.as_of),
        "source": report.source,
        "completeness": msgspec.to_builtins(report.completeness),
        "warnings": list(report.warnings),
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def as_csv(report: Report) -> bytes:
    """Return the rows as CSV with a header line; the total is left out so that columns add up."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [*report.by, *measure_names()], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(row) for row in report.rows)
    return out.getvalue().encode()


def _plain(row: Row) -> dict[str, object]:
    """Return a row of values that JSON and CSV can hold without loss."""
    record = row.record()
    for name, value in record.items():
        if isinstance(value, Decimal):
            record[name] = f"{value:.9f}" if name in _MONEY else float(value)
    return record


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)
