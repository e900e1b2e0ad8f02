"""Values for programs: how JSON and CSV are written, the same for every answer.

Money is a plain decimal string with nine digits behind the point, a moment is in UTC, and what is
unknown is null (an empty CSV field). Output is UTF-8 whatever the terminal, and names are in it
exactly as booked.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

from voicecosts.analytics.numbers import stamp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from decimal import Decimal


def json_bytes(document: dict[str, object]) -> bytes:
    """Return one JSON object, indented, ending with a newline."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def csv_bytes(names: Iterable[str], rows: Iterable[dict[str, object]]) -> bytes:
    """Return rows with a header line."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def plain_money(amount: Decimal | None) -> str | None:
    """Return money without an exponent, with nine digits behind the point."""
    return None if amount is None else f"{amount:.9f}"


def plain_moment(moment: datetime | None) -> str | None:
    """Return a UTC moment for programs."""
    return None if moment is None else stamp(moment)
