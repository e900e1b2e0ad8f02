"""An audit as text: a table for people, JSON and CSV for programs.

The states come first and always all that there are; then the sessions that were asked for, the worst
first. Money that nobody can bound is `unknown` in the table and null in JSON, never zero.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Final

from msgspec import structs

from voicecosts.analytics.answers.audited import UNSETTLED, Audited
from voicecosts.analytics.numbers import age, ago, clock, counted, money, money_digits
from voicecosts.analytics.question.filters import NONE
from voicecosts.analytics.text.render import plain_moment, plain_money

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from decimal import Decimal

    from voicecosts.analytics.answers.audited import Audit

_UNKNOWN: Final = "unknown"
_UNPRICED: Final = "unpriced"

CAUSES: Final[dict[str, str]] = {
    "producer_dropped": "its worker dropped readings",
    "gap_after_end": "a reading after its end is missing",
    "contradicts_end": "the ledger holds something else than its end says",
    "backwards": "a total ran backwards",
    "out_of_range": "an amount is too large to be booked",
    "invalid_event": "an event of it cannot be read",
}
"""Why a session is short, in words; the keys are public."""


def as_table(audit: Audit, *, now: datetime, width: int | None = None) -> str:
    """Return the audit as lines of at most `width` cells; without a width nothing is left out."""
    from voicecosts.analytics.text.grid import Column, fit, lines, wrapped  # noqa: PLC0415 - only this needs rich

    names = [Column("state", [str(it.state) for it in audit.states])]
    numbers = [
        Column(f"cost {audit.currency}", _money((it.cost for it in audit.states), _UNPRICED)),
        Column("sessions", [f"{it.sessions:,}" for it in audit.states]),
        Column("missing at most", _money((it.missing_at_most for it in audit.states), _UNKNOWN)),
    ]
    text = list(lines(names, numbers, width=width))
    left_out: list[str] = []
    if audit.sessions:
        names = [
            Column("session", [str(it.session) for it in audit.sessions]),
            Column("state", [str(it.state) for it in audit.sessions]),
            Column("tenant", [_shown(it.tenant) for it in audit.sessions]),
        ]
        numbers = [
            Column(f"cost {audit.currency}", _money((s.cost for s in audit.sessions), _UNPRICED)),
            Column(
                "missing at most", _money((s.missing_at_most for s in audit.sessions), _UNKNOWN)
            ),
            Column("last seen", [_seen(it, now) for it in audit.sessions]),
            Column("readings", [_readings(it) for it in audit.sessions]),
            Column("because", [_because(it) for it in audit.sessions]),
        ]
        numbers, left_out = fit(names, numbers, width)
        text += ["", *lines(names, numbers, width=width)]
    text.append("")
    for sentence in _footer(audit, left_out, now):
        text += wrapped(sentence, width)
    for warning in audit.warnings:
        text += wrapped(f"! {warning}", width)
    return "\n".join(text) + "\n"


def as_json(audit: Audit) -> bytes:
    """Return the audit as one JSON object, indented, ending with a newline."""
    document = {
        "states": [
            structs.asdict(it)
            | {"cost": plain_money(it.cost), "missing_at_most": plain_money(it.missing_at_most)}
            for it in audit.states
        ],
        "sessions": [_plain(it) for it in audit.sessions],
        "listed": audit.listed,
        "currency": audit.currency,
        "since": plain_moment(audit.since),
        "until": plain_moment(audit.until),
        "open_for_s": int(audit.open_for.total_seconds()),
        "as_of": plain_moment(audit.as_of),
        "warnings": list(audit.warnings),
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def as_csv(audit: Audit) -> bytes:
    """Return the sessions as CSV with a header line."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, Audited.__struct_fields__, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(it) for it in audit.sessions)
    return out.getvalue().encode()


def _plain(session: Audited) -> dict[str, object]:
    return structs.asdict(session) | {
        "session": str(session.session),
        "cost": plain_money(session.cost),
        "missing_at_most": plain_money(session.missing_at_most),
        "last_seen_at": plain_moment(session.last_seen_at),
    }


def _money(amounts: Iterable[Decimal | None], unknown: str) -> list[str]:
    found = list(amounts)
    digits = money_digits(found)
    return [unknown if amount is None else money(amount, digits) for amount in found]


def _seen(session: Audited, now: datetime) -> str:
    if session.last_seen_at is None:
        return _UNKNOWN
    return f"{age(now - session.last_seen_at)} ago"


def _readings(session: Audited) -> str:
    made = "?" if session.readings_made is None else f"{session.readings_made:,}"
    return f"{session.readings_arrived:,} of {made}"


def _because(session: Audited) -> str:
    causes = session.cause.split(", ") if session.cause else []
    endless = session.state in UNSETTLED and session.readings_made is None
    return ", ".join(
        [*(["it has no end"] if endless else []), *(CAUSES.get(cause, cause) for cause in causes)]
    )


def _shown(name: str | None) -> str:
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - only the table needs rich

    return NONE if name is None else printable(name)


def _footer(audit: Audit, left_out: list[str], now: datetime) -> Iterator[str]:
    if audit.since or audit.until:
        start = clock(audit.since) if audit.since else "the beginning"
        end = f"{clock(audit.until)} (not included)" if audit.until else "now"
        yield f"period: from {start} to {end}"
    if not audit.states:
        yield "no session matches"
    elif not audit.faulty:
        yield "nothing is known to be missing"
    if len(audit.sessions) < audit.listed:
        yield f"{len(audit.sessions):,} of {counted(audit.listed, 'session')} shown (--top)"
    if left_out:
        yield f"no room for: {', '.join(left_out)} (--format json has them)"
    yield f"as of {ago(audit.as_of, now)}" if audit.as_of else "nothing received yet"
