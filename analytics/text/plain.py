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

from msgspec import structs, to_builtins

from voicecosts.analytics.numbers import stamp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from decimal import Decimal

    from voicecosts.analytics.answers.report import Completeness, Unattributed


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


def plain_completeness(missing: Completeness) -> dict[str, object]:
    """Return what is missing from an answer, in the public order; what waits is one number."""
    return {
        "unpriced": to_builtins(missing.unpriced),
        "dead_letters": missing.dead_letters,
        "dropped": missing.dropped,
        "unattributed": missing.unattributed,
        "waiting": missing.waiting,
        "running": missing.running,
        "open_sessions": missing.open_sessions,
        "abandoned_sessions": missing.abandoned_sessions,
        "short_sessions": missing.short_sessions,
        "short_at_most": plain_money(missing.short_at_most),
        "unmeasured": missing.unmeasured,
        "unattributed_usage": [_plain_usage(used) for used in missing.unattributed_usage],
    }


def _plain_usage(used: Unattributed) -> dict[str, object]:
    """Return amounts as numbers; seconds are exact to the microsecond."""
    return structs.asdict(used) | {
        "audio_seconds": float(used.audio_seconds),
        "session_seconds": float(used.session_seconds),
    }
