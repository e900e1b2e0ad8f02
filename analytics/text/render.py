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

from voicecosts.analytics.answers.report import measure_names
from voicecosts.analytics.numbers import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from voicecosts.analytics.answers.report import Report, Row

_MONEY = ("cost", "estimated_cost")


def as_json(report: Report) -> bytes:
    """Return the report as one JSON object, indented, ending with a newline."""
    document = {
        "by": list(report.by),
        "rows": [_plain(row) for row in report.rows],
        "total": _plain(report.total),
        "groups": report.groups,
        "currency": report.currency,
        "since": plain_moment(report.since),
        "until": plain_moment(report.until),
        "as_of": plain_moment(report.as_of),
        "source": report.source,
        "completeness": msgspec.to_builtins(report.completeness)
        | {"short_at_most": plain_money(report.completeness.short_at_most)},
        "warnings": list(report.warnings),
        "notes": list(report.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def as_csv(report: Report) -> bytes:
    """Return the rows as CSV with a header line; the total is left out so that columns add up."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [*report.by, *measure_names()], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(row) for row in report.rows)
    return out.getvalue().encode()


def plain_money(amount: Decimal | None) -> str | None:
    """Return money without an exponent, with nine digits behind the point."""
    return None if amount is None else f"{amount:.9f}"


def plain_moment(moment: datetime | None) -> str | None:
    """Return a UTC moment for programs."""
    return None if moment is None else stamp(moment)


def _plain(row: Row) -> dict[str, object]:
    """Return a row of values that JSON and CSV can hold without loss."""
    record = row.record()
    for name, value in record.items():
        if isinstance(value, Decimal):
            record[name] = plain_money(value) if name in _MONEY else float(value)
    return record
