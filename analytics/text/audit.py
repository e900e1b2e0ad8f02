"""An audit as text: a table for people, JSON and CSV for programs.

The table shows all states first, then the sessions that were asked for, the worst first. Money that
may be missing by an unknown amount is `unknown` in the table and null in JSON, never zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import structs

from voicecosts.analytics.answers.audit import NOT_WHOLE, Audited
from voicecosts.analytics.numbers import age, counted, fresh, money_column, period
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.text.grid import Column, fit, lines, page, say_left_out
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import (
    csv_bytes,
    json_bytes,
    plain_completeness,
    plain_moment,
    plain_money,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from voicecosts.analytics.answers.audit import Audit

_UNKNOWN: Final = "unknown"
_UNPRICED: Final = "unpriced"
_BECAUSE: Final = "because"
_MISSING: Final = "missing at most"

CAUSES: Final[dict[str, str]] = {
    "producer_dropped": "its worker dropped readings",
    "gap_after_end": "a reading after its end is missing",
    "contradicts_end": "the ledger and the call's end differ",
    "unmeasured": "usage of it could not be measured",
    "backwards": "a total ran backwards",
    "out_of_range": "an amount, or the number of meters, is too large",
    "above_ceiling": "a reading, or a price for labels that came late, is above the ceiling",
    "invalid_event": "an event of it cannot be read",
}
"""Why a session is short, in words; the keys are public."""


def as_table(audit: Audit, *, now: datetime, width: int | None = None) -> str:
    """Return the audit as lines of at most `width` cells; without a width nothing is left out."""
    names, numbers = states_of(audit)
    text = list(lines(names, numbers, width=width))
    left_out: list[str] = []
    if audit.sessions:
        names, numbers = sessions_of(audit, now)
        numbers, left_out = fit(names, numbers, width, folds=False)
        below = [_below(it, left_out, audit.currency) for it in audit.sessions]
        left_out = [head for head in left_out if head != _BECAUSE]
        text += ["", *lines(names, numbers, width=width, below=below)]
    return page([*text, ""], _footer(audit, left_out, now), audit.warnings, width=width)


def states_of(audit: Audit) -> tuple[list[Column], list[Column]]:
    """Return the table of states: its columns of names, and of numbers."""
    names = [Column("state", [str(it.state) for it in audit.states])]
    numbers = [
        Column(f"cost {audit.currency}", money_column((it.cost for it in audit.states), _UNPRICED)),
        Column("sessions", [f"{it.sessions:,}" for it in audit.states]),
        Column(_MISSING, money_column((it.missing_at_most for it in audit.states), _UNKNOWN)),
    ]
    return names, numbers


def sessions_of(audit: Audit, now: datetime) -> tuple[list[Column], list[Column]]:
    """Return the table of the sessions that are listed: its columns of names, and of numbers."""
    names = [
        Column("session", [str(it.session) for it in audit.sessions]),
        Column("state", [str(it.state) for it in audit.sessions]),
        Column("tenant", [_shown(it.tenant) for it in audit.sessions]),
    ]
    if len({it.session for it in audit.sessions}) < len(audit.sessions):
        # The same id in two projects is two sessions.
        names.insert(1, Column("project", [in_cell(it.project or "") for it in audit.sessions]))
    numbers = [
        Column(f"cost {audit.currency}", money_column((s.cost for s in audit.sessions), _UNPRICED)),
        Column(_MISSING, money_column((s.missing_at_most for s in audit.sessions), _UNKNOWN)),
        Column("last seen", [_seen(it, now) for it in audit.sessions]),
        Column("readings", [_readings(it) for it in audit.sessions]),
        Column(_BECAUSE, [_because(it) for it in audit.sessions]),
    ]
    return names, numbers


def as_json(audit: Audit) -> bytes:
    """Return the audit as one JSON object, indented, ending with a newline."""
    return json_bytes(
        {
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
            "lost": audit.lost,
            "completeness": plain_completeness(audit.completeness),
            "warnings": list(audit.warnings),
            "notes": list(audit.notes),
        }
    )


def as_csv(audit: Audit) -> bytes:
    """Return the sessions as CSV with a header line."""
    return csv_bytes(Audited.__struct_fields__, (_plain(it) for it in audit.sessions))


def _plain(session: Audited) -> dict[str, object]:
    return structs.asdict(session) | {
        "session": str(session.session),
        "cost": plain_money(session.cost),
        "missing_at_most": plain_money(session.missing_at_most),
        "last_seen_at": plain_moment(session.last_seen_at),
    }


def _seen(session: Audited, now: datetime) -> str:
    if session.last_seen_at is None:
        return _UNKNOWN
    return f"{age(now - session.last_seen_at)} ago"


def _readings(session: Audited) -> str:
    made = "?" if session.readings_made is None else f"{session.readings_made:,}"
    return f"{session.readings_arrived:,} of {made}"


def _because(session: Audited) -> str:
    return ", ".join(_causes(session))


def _below(session: Audited, left_out: list[str], currency: str) -> str:
    """Return what matters most of a call, where the table has no column for it."""
    if _BECAUSE not in left_out or not _causes(session):
        return ""
    missing = ""
    if _MISSING in left_out and session.missing_at_most != 0:
        (amount,) = money_column([session.missing_at_most], _UNKNOWN)
        missing = f"; missing: {amount if amount == _UNKNOWN else f'at most {amount} {currency}'}"
    return f"{_because(session)}{missing}"


def _causes(session: Audited) -> list[str]:
    causes = session.cause.split(", ") if session.cause else []
    endless = session.state in NOT_WHOLE and session.readings_made is None
    return [
        *(["it has no end"] if endless else []),
        *(CAUSES.get(cause, cause) for cause in causes),
    ]


def _shown(name: str | None) -> str:
    return in_cell(shown(name))


def _footer(audit: Audit, left_out: list[str], now: datetime) -> Iterator[str]:
    if audit.since or audit.until:
        yield period(audit.since, audit.until)
    if not audit.states:
        yield "no session matches"
    elif not audit.failures:
        yield "no usage is missing: every source was asked"
    if len(audit.sessions) < audit.listed:
        yield f"{len(audit.sessions):,} of {counted(audit.listed, 'session')} shown (--top)"
    yield from say_left_out(left_out)
    yield from audit.notes
    yield fresh(audit.as_of, now)
