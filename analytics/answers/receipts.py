"""One call: what it cost by modality, turn by turn, what of that is estimated, and by which prices.

Its total is what `costs query` says of the session without a period: all of its rows, on whatever days they are
dated. A turn is what was asked for one speech, as LiveKit names it (`speech_id` in the view `usage`). What has
none (speech recognition, connected time, what an end made good) is in no turn, and what operations booked is
apart from both, so that all of it together is the total. Turns are single rows: where those were removed, or
their files are not there, the sums are as they were and the receipt says that it has no turns.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec import Struct, structs

from voicecosts.analytics.answers import calls as lists
from voicecosts.analytics.answers import costs
from voicecosts.analytics.answers.calls import Call, Key, check, of_calls, read_calls, say
from voicecosts.analytics.answers.completeness import as_of, notes, tell
from voicecosts.analytics.answers.layers import left_out
from voicecosts.analytics.answers.prices import source_of
from voicecosts.analytics.answers.report import CURRENCY, Completeness, Outbox, Row
from voicecosts.analytics.answers.states import each_session
from voicecosts.analytics.errors import (
    BadQuestion,
    SealedDamaged,
    SealedMissing,
    SeveralCalls,
    UnknownCall,
)
from voicecosts.analytics.numbers import counted
from voicecosts.analytics.question.filters import NONE, Selection, select, shown
from voicecosts.analytics.question.times import Period
from voicecosts.analytics.snapshot.connection import closing, open_newest, read
from voicecosts.analytics.snapshot.sealed import check_sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

LAST: Final = "last"
"""The name of the call that began last."""

_NAMED: Final = 10
_DESCRIBED: Final = 5
"""How many of several calls are told with what tells them apart."""

_DIGITS: Final = 32
_PREFIX: Final = re.compile(r"[0-9a-f]{1,32}")

_KNOWN: Final = """
WITH known AS (FROM ({known}) WHERE ?::VARCHAR IS NULL OR project = ?)
"""
_ORDER: Final = "ORDER BY session_id DESC, project LIMIT ?"
_BY_ID: Final = "FROM known WHERE session_id BETWEEN ?::UUID AND ?::UUID"
_BY_NAME: Final = """
FROM sessions
WHERE (room_name = ? OR job_id = ?) AND (?::VARCHAR IS NULL OR project = ?)
"""

_DAYS: Final = (
    "SELECT day, sum(rows)::BIGINT FROM session_usage WHERE {which} GROUP BY day ORDER BY day"
)
_TURNS: Final = """
SELECT
    CASE WHEN operation IS NOT NULL THEN 2 WHEN coalesce(speech_id, '') = '' THEN 1 ELSE 0 END AS kind,
    CASE WHEN operation IS NULL THEN coalesce(speech_id, '') ELSE '' END AS speech,
    modality, min(occurred_at), max(occurred_at), count(*), sum(cost),
    count(*) FILTER (cancelled), sum(cost) FILTER (cancelled),
    sum(requests)::BIGINT, sum(input_tokens)::BIGINT, sum(output_tokens)::BIGINT, sum(characters)::BIGINT,
    sum(audio_us)::BIGINT, bool_or(unpriced_reason IS NOT NULL), sum(session_us)::BIGINT
FROM usage
WHERE {which} AND day IN ({days})
GROUP BY kind, speech, modality
ORDER BY kind, min(occurred_at), speech, modality
"""
_PRICES: Final = """
SELECT
    modality, provider, model, service_tier, estimated, sum(cost), sum(billed), sum(requests)::BIGINT,
    sum(input_tokens)::BIGINT, sum(output_tokens)::BIGINT, sum(characters)::BIGINT, sum(audio_us)::BIGINT,
    arg_max_null(price_source, last_place), arg_max_null(price_version, last_place),
    arg_max_null(price_model, last_place), sum(session_us)::BIGINT
FROM session_usage
WHERE {which}
GROUP BY modality, provider, model, service_tier, estimated, price_id
ORDER BY min(first_place)
"""
_VOIDED: Final = "SELECT operation FROM voided WHERE operation IS NOT NULL AND {which}"


class Turn(Struct, frozen=True, kw_only=True):
    """What was used for one speech; or, with an empty `speech`, what was used for none.

    `costs` is the cost by modality. A cost is None where nothing of it has a price; `lacks_prices` says that
    something lacked one when it was booked. `cancelled` counts the requests that were cut off.
    """

    speech: str
    first_at: datetime
    last_at: datetime
    cost: Decimal | None
    costs: dict[str, Decimal | None]
    rows: int
    cancelled: int
    cancelled_cost: Decimal | None
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    audio_seconds: Decimal
    lacks_prices: bool
    session_seconds: Decimal


class Priced(Struct, frozen=True, kw_only=True):
    """What the call used of one model at one price, and where that came from; None where there was none."""

    modality: str
    provider: str
    model: str
    service_tier: str
    estimated: bool
    cost: Decimal | None
    billed: Decimal | None
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    audio_seconds: Decimal
    price: str | None
    session_seconds: Decimal


class Receipt(Struct, frozen=True, kw_only=True):
    """One call in parts: `parts` by modality, the dearest first, and `turns` in their order.

    `outside` is what is in no turn, `by_operations` what re-ratings and other operations booked; None where there
    is none. With the turns they add up to `total`. `detail_missing` says why there are no turns, although there
    were single rows; else it is None. `completeness`, `warnings` and `notes` are those of a query, about this call.
    """

    call: Call
    total: Row
    parts: tuple[Row, ...]
    turns: tuple[Turn, ...]
    outside: Turn | None
    by_operations: Turn | None
    detail_missing: str | None
    priced: tuple[Priced, ...]
    currency: str
    as_of: datetime | None
    completeness: Completeness
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def dearest(self) -> Turn | None:
        """The turn that cost most, the first of several; None where nothing is known to have cost anything."""
        costly = [it for it in self.turns if it.cost]
        return max(costly, key=lambda it: it.cost or Decimal(0), default=None)


class Question(Struct, frozen=True, kw_only=True):
    """A checked question: the name of a call, in a project if one is named."""

    name: str
    project: str | None


def ask(name: str, *, project: str | None) -> Question:
    """Return the question; raises `BadQuestion` where nothing is named."""
    if not name.strip():
        raise BadQuestion(
            "no call is named: give an id or the beginning of one, a room, a job, or `last`"
        )
    return Question(name=name.strip(), project=project)


def answer(
    question: Question,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
    spill: Path | None = None,
) -> Receipt:
    """Return the answer of the newest snapshot of `data_dir`, which lacks what waits in `outbox`.

    With the folder `spill` it takes a bounded amount of memory.

    Raises:
        UnknownCall: There is no such call.
        SeveralCalls: There are several.
        NoLedger: There is no snapshot there, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
    """
    connection, snapshot = open_newest(data_dir, spill=spill)
    with closing(connection):
        schema = check(connection, snapshot)
        key = find(connection, snapshot, question, schema)
        moment = as_of(connection, snapshot)
        these = of_calls([key])
        with lists.reading(connection, snapshot, [key], moment=moment, outbox=outbox) as (
            read_all,
            lacking,
        ):
            turns, outside, by_operations, why = _detail(connection, snapshot, these)
            priced = tuple(_priced(connection, snapshot, these))
            voided = list(_voided(connection, snapshot, these))
            corrected = list(lists.say_corrected(connection, snapshot, these, schema))
            [call] = read_all()
            total, parts = _parts(connection, snapshot, call, now)
            not_in_it = list(left_out(connection, snapshot, these, total))
            missing = tell(lacking(), snapshot, outbox, moment=moment, now=now, with_prices=True)
        said = [*voided, *(finding.text for finding in missing.findings)]
        explained = f"`costs prices explain {call.session}` multiplies its prices out"
        noted = [
            *([explained] if any(it.price for it in priced) else []),
            *notes(missing),
            *not_in_it,
            *corrected,
        ]
        return Receipt(
            call=call,
            total=total,
            parts=parts,
            turns=turns,
            outside=outside,
            by_operations=by_operations,
            detail_missing=why,
            priced=priced,
            currency=CURRENCY,
            as_of=moment,
            completeness=missing,
            warnings=tuple(said),
            notes=tuple(noted),
        )


def find(connection: Connection, snapshot: Snapshot, question: Question, schema: int) -> Key:
    """Return the call that is meant; raises `UnknownCall` or `SeveralCalls`.

    An id that is written in full means that call, whatever a room is called.
    """
    every, own = select(Period(), ()), [question.project, question.project]
    known = _KNOWN.format(known=each_session(every, schema))

    def found(source: str, parameters: Sequence[object], limit: int) -> list[tuple[int, str, UUID]]:
        statement = f"{known} SELECT count(*) OVER (), project, session_id FROM ({source}) {_ORDER}"  # noqa: S608 - our own names
        return read(
            connection,
            snapshot.path,
            statement,
            [*own, *parameters, limit],
            row=tuple[int, str, UUID],
        )

    if question.name == LAST:
        rows = found("FROM known", [], 1)
        if not rows:
            raise _unknown(connection, snapshot, question)
        return rows[0][1:]
    span = _span(question.name)
    by_name, named = f"SELECT project, session_id {_BY_NAME}", [question.name] * 2 + own
    rows = []
    if span is not None and span[0] == span[1]:
        rows = found(_BY_ID, span, _NAMED)
    elif span is not None:
        rows = found(f"({_BY_ID}) UNION ({by_name})", [*span, *named], _NAMED)
    if not rows:
        rows = found(by_name, named, _NAMED)
    if not rows:
        raise _unknown(connection, snapshot, question)
    if len(rows) > 1:
        candidates = [(project, str(session)) for _, project, session in rows]
        keys = [row[1:] for row in rows]
        said = partial(say, connection, snapshot, keys, as_of(connection, snapshot))
        newest = read_calls(connection, snapshot, keys, said)
        raise SeveralCalls(
            question.name,
            candidates,
            rows[0][0],
            described=_described(newest)[:_DESCRIBED],
            shown_by=_shown_by(question.name, newest),
        )
    return rows[0][1:]


def _unknown(connection: Connection, snapshot: Snapshot, question: Question) -> UnknownCall:
    """Return that there is no such call, or no such project."""
    is_project = question.project is None or bool(
        read(
            connection,
            snapshot.path,
            "SELECT 1 FROM session_usage WHERE project = ? UNION ALL SELECT 1 FROM sessions WHERE project = ? LIMIT 1",
            [question.project] * 2,
            row=tuple[int],
        )
    )
    return UnknownCall(question.name, project=question.project, is_project=is_project)


def _described(found: Sequence[Call]) -> list[str]:
    """Return of each call as much of its id as tells it from the others, when it began, and whose it is."""
    ids = lists.as_short([str(it.session) for it in found])
    with_project = len({it.project for it in found}) > 1
    described = []
    for short, it in zip(ids, found, strict=True):
        project = [f"project {it.project or NONE}"] if with_project else []
        tenant, agent = f"tenant {shown(it.tenant)}", f"agent {shown(it.agent or None)}"
        said = ", ".join([f"{it.started_at:%Y-%m-%d %H:%M}", *project, tenant, agent])
        described.append(f"{short} ({said})")
    return described


_STAR: Final = re.compile(r"(\\*)\*")


def _as_text(name: str) -> str:
    """Return a name as a condition has it behind `=`, where a star is for any text."""
    return _STAR.sub(lambda found: "\\" * (2 * len(found[1]) + 1) + "*", shown(name))


def _shown_by(name: str, found: Sequence[Call]) -> str:
    """Return the command that lists the calls of a room or a job; of others, that which lists all."""
    is_plain = name.isprintable() and "`" not in name
    for column in ("room", "job"):
        if is_plain and all(getattr(it, column) == name for it in found):
            return f"costs calls --where {quote(f'{column}={_as_text(name)}')}"
    return "costs calls"


def _span(name: str) -> tuple[UUID, UUID] | None:
    """Return the first and the last id that begin with a text, None where none can."""
    digits = name.lower().replace("-", "")
    if not _PREFIX.fullmatch(digits):
        return None
    first, last = (UUID(digits.ljust(_DIGITS, fill)) for fill in "0f")
    is_spelled_so = "-" not in name or str(first).startswith(name.lower())
    return (first, last) if is_spelled_so else None


def _parts(
    connection: Connection, snapshot: Snapshot, call: Call, now: datetime
) -> tuple[Row, tuple[Row, ...]]:
    """Return what a query says of the call, in all and by modality."""
    if not call.used.rows:  # nor is its project known, where nothing but its id could be read
        return structs.replace(call.used, sessions=0), ()
    where = {"session": str(call.session), "project": call.project}
    asked = costs.ask("modality", since=None, until=None, where=where, top=None, sort=None, now=now)
    total, rows = costs.add_up(connection, snapshot, asked)
    return total, tuple(rows)


def _detail(
    connection: Connection, snapshot: Snapshot, these: Selection
) -> tuple[tuple[Turn, ...], Turn | None, Turn | None, str | None]:
    """Return the turns, what is in none, what operations booked, and why there are none where there were."""
    which = " AND ".join(these.conditions)
    booked = read(
        connection, snapshot.path, _DAYS.format(which=which), these.parameters, row=tuple[date, int]
    )
    if not booked:
        return (), None, None, None
    days = ", ".join(f"DATE '{day}'" for day, _ in booked)  # so only the files of these are read
    statement = _TURNS.format(which=which, days=days)
    try:
        check_sealed(connection, snapshot, f"day IN ({days})")
        rows = read(connection, snapshot.path, statement, these.parameters, row=_Used)
    except (SealedMissing, SealedDamaged) as error:
        return (), None, None, f"its turns are not here: {error}"
    lacking = sum(count for _, count in booked) - sum(it.rows for it in rows)
    if lacking:
        why = f"{counted(lacking, 'single row')} of it were removed by age (`costs retention`)"
        return (), None, None, f"its turns are not there: {why}; its sums are whole"
    by_turn: dict[tuple[int, str], list[_Used]] = {}
    for row in rows:
        by_turn.setdefault((row.kind, row.speech), []).append(row)
    turns = {key: _turn(key[1], used) for key, used in by_turn.items()}
    in_turns = sorted(
        (turn for (kind, _), turn in turns.items() if kind == 0),
        key=lambda it: (it.first_at, it.speech),
    )
    return tuple(in_turns), turns.get((1, "")), turns.get((2, "")), None


class _Used(Struct, frozen=True, array_like=True):
    """What was used of one modality for one speech."""

    kind: int
    speech: str
    modality: str
    first_at: datetime
    last_at: datetime
    rows: int
    cost: Decimal | None
    cancelled: int
    cancelled_cost: Decimal | None
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    audio_us: int
    lacks_prices: bool
    session_us: int


def _turn(speech: str, used: Sequence[_Used]) -> Turn:
    return Turn(
        speech=speech,
        first_at=min(it.first_at for it in used).replace(tzinfo=UTC),
        last_at=max(it.last_at for it in used).replace(tzinfo=UTC),
        cost=_summed(it.cost for it in used),
        costs={it.modality: it.cost for it in used},
        rows=sum(it.rows for it in used),
        cancelled=sum(it.cancelled for it in used),
        cancelled_cost=_summed(it.cancelled_cost for it in used),
        requests=sum(it.requests for it in used),
        input_tokens=sum(it.input_tokens for it in used),
        output_tokens=sum(it.output_tokens for it in used),
        characters=sum(it.characters for it in used),
        audio_seconds=Decimal(sum(it.audio_us for it in used)).scaleb(-6),
        lacks_prices=any(it.lacks_prices for it in used),
        session_seconds=Decimal(sum(it.session_us for it in used)).scaleb(-6),
    )


def _summed(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum of what has an amount, None where nothing has."""
    found = [it for it in amounts if it is not None]
    return sum(found, Decimal(0)) if found else None


def _priced(connection: Connection, snapshot: Snapshot, these: Selection) -> Iterator[Priced]:
    statement = _PRICES.format(which=" AND ".join(these.conditions))
    for row in read(
        connection, snapshot.path, statement, these.parameters, row=tuple[
            str, str, str, str, bool, Decimal | None, Decimal | None, int, int, int, int, int,
            str | None, str | None, str | None, int,
        ],
    ):  # fmt: skip
        yield Priced(
            modality=row[0],
            provider=row[1],
            model=row[2],
            service_tier=row[3],
            estimated=row[4],
            cost=row[5],
            billed=row[6],
            requests=row[7],
            input_tokens=row[8],
            output_tokens=row[9],
            characters=row[10],
            audio_seconds=Decimal(row[11]).scaleb(-6),
            price=source_of(*row[12:15]) or None,
            session_seconds=Decimal(row[15]).scaleb(-6),
        )


def _voided(connection: Connection, snapshot: Snapshot, these: Selection) -> Iterator[str]:
    statement = _VOIDED.format(which=" AND ".join(these.conditions))
    for (number,) in read(connection, snapshot.path, statement, these.parameters, row=tuple[int]):
        yield (
            f"operation {number} voided this call: it is in no sum, but for a month that was closed before "
            f"(`costs operations show {number}`)"
        )
