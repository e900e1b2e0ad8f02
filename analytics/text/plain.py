"""Values for programs: how JSON and CSV are written, the same for every answer.

Money is a plain decimal string with nine digits behind the point; amounts are whole numbers, and seconds
numbers with a fraction, always; a moment is in UTC, and what is unknown is null (an empty CSV field). Output is UTF-8 whatever the terminal. In JSON names are exactly
as booked. In CSV they are harmless, because a spreadsheet calculates what looks like a formula, and a
terminal obeys control characters, also where a caller chose the name; and no two names are alike there.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Final

from msgspec import structs, to_builtins

from voicecosts.analytics.numbers import stamp
from voicecosts.analytics.text.names import spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from decimal import Decimal

    from voicecosts.analytics.answers.report import Completeness, Unattributed, Unpriced

_CONTROL: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")
_CONTROL_OR_BREAK: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FORMULA: Final = re.compile(r"[\s\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""How OWASP describes CSV injection: these first characters, also full-width, and after blanks."""
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


def json_bytes(document: dict[str, object]) -> bytes:
    """Return one JSON object, indented, ending with a newline."""
    return f"{_indented(document)}\n".encode()


def json_parts(
    document: dict[str, object], name: str, items: Iterable[dict[str, object]]
) -> Iterator[bytes]:
    """Yield the same object part by part, with an item of the list `name`, which is empty in it, in each."""
    before, after = _indented(document).split(f'\n  "{name}": []', 1)
    yield f'{before}\n  "{name}": ['.encode()
    between, closing = "", ""
    for item in items:
        text = _indented(item).replace("\n", "\n    ")
        yield f"{between}\n    {text}".encode()
        between, closing = ",", "\n  "
    yield f"{closing}]{after}\n".encode()


def csv_bytes(names: Iterable[str], rows: Iterable[dict[str, object]]) -> bytes:
    """Return rows with a header line, as `csv_lines` writes them."""
    return b"".join(csv_lines(names, rows))


def csv_lines(names: Iterable[str], rows: Iterable[dict[str, object]]) -> Iterator[bytes]:
    r"""Yield rows with a header line, one line each.

    In a text, control characters are spelled out (a line feed as `\n`, see `names`), and one that a
    spreadsheet would take for a formula begins with an apostrophe: one more than in its name, where it has
    some already. Numbers stay numbers. Names of columns are texts as well.
    """
    out = io.StringIO(newline="")
    heads = list(names)
    writer = csv.DictWriter(out, heads, lineterminator="\n")
    writer.writerow({name: _harmless(name) for name in heads})
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
        yield _taken(out)
    yield _taken(out)


def _taken(out: io.StringIO) -> bytes:
    """Return what was written, and leave nothing."""
    found = out.getvalue()
    out.seek(0)
    out.truncate()
    return found.encode()


def _indented(document: dict[str, object]) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # JSON lets these stand, and a terminal obeys some of them.
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = spelled(value, {found.start() for found in _CONTROL_OR_BREAK.finditer(value)})
    bare = value.lstrip("'")
    is_formula = _FORMULA.match(bare) and not _NUMBER.fullmatch(bare)
    return f"'{text}" if is_formula else text


def plain_money(amount: Decimal | None) -> str | None:
    """Return money without an exponent, with nine digits behind the point."""
    return None if amount is None else f"{amount:.9f}"


def plain_moment(moment: datetime | None) -> str | None:
    """Return a UTC moment for programs."""
    return None if moment is None else stamp(moment)


def plain_completeness(missing: Completeness) -> dict[str, object]:
    """Return what is missing from an answer, in the public order; what waits is one number."""
    return {
        "unpriced": [_plain_usage(used) for used in missing.unpriced],
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
        "answered_at": plain_moment(missing.answered_at),
        "gaps": to_builtins(missing.gaps),
        "whole": missing.whole,
        "findings": to_builtins(missing.findings),
        "uncharged": to_builtins(missing.uncharged),
    }


def plain_seconds(duration: Decimal) -> float:
    """Return a duration as a number, exact to the microsecond for three centuries."""
    return float(duration)


def _plain_usage(used: Unpriced | Unattributed) -> dict[str, object]:
    """Return amounts as numbers."""
    return structs.asdict(used) | {
        "audio_seconds": plain_seconds(used.audio_seconds),
        "session_seconds": plain_seconds(used.session_seconds),
    }
