r"""Reading `--where name=value` and `name!=value`: which rows a question is about.

The same name twice means either value, different names mean all of them; `!=` leaves rows out, and twice
leaves out both. A `*` stands for any text, `\*` is a star, and `\\*` is a backslash before any text. An empty
value, or `(none)`, means the rows that have no tenant, or name no agent or model as an adjustment may; `\(none)` means
a tenant of that name, and so on with more backslashes. The standard service tier has no name: an empty value means it, or
`(standard)`. Values are parameters, whatever they contain.

Python may give a mapping instead, `{"tenant": "acme", "model!": "gpt-5"}`: its values are taken as they are, stars
too, one or several of a column, and None is the absent tenant. A name with `!` behind it leaves them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from voicecosts.analytics.errors import BadFilter
from voicecosts.analytics.question.columns import (
    APART,
    Column,
    Group,
    alias_of,
    column_of,
    fact,
    group,
    may_be_absent,
    may_be_empty,
    of_a_session,
)
from voicecosts.analytics.question.relation import (
    FIRST_COUNTED_SCHEMA,
    FIRST_LAYERS_SCHEMA,
    given_back,
    relation,
    united,
)
from voicecosts.analytics.question.times import Period, first_day
from voicecosts.analytics.question.turns import turns
from voicecosts.analytics.question.zones import UTC_NAME, utc
from voicecosts.analytics.question.zones import zone as zone_of

Where = str | Iterable[str] | Mapping[str, object]
"""Conditions: `name=value`, several of them, or values by name."""

NONE: Final = "(none)"
"""How a row without a tenant is shown and asked for, or one that names no agent."""

STANDARD: Final = "(standard)"
"""How the service tier without a name is shown and asked for."""


def shown(name: str | None) -> str:
    """Return a name as it is asked for: one that is `(none)` gets a backslash in front."""
    if name is None:
        return NONE
    return f"\\{name}" if _is_none(name) else name


class Selection(Struct, frozen=True, kw_only=True):
    """The rows that a question is about: conditions, the columns that they name, and their parameters.

    `by` has the columns that its rows must have beside what all have, `wanted` the values that were asked for.
    """

    conditions: list[str]
    parameters: list[object]
    named: tuple[Column, ...] = ()
    when: Period = Period()
    by: tuple[Column, ...] = ()
    wanted: tuple[tuple[Column, object], ...] = ()

    def relation(self, schema: int) -> str:
        """Return what stands behind FROM for all rows of a ledger of some schema."""
        return turns(schema) if Group.TURN in (*self.named, *self.by) else relation(schema)

    def sql(self, *also: str, schema: int, more: Iterable[str] = ()) -> str:
        """Return the FROM and WHERE of it in a ledger of some schema, with constant conditions added.

        `more` are statements whose rows are chosen from as well.
        """
        conditions = [*self.conditions, *also]
        return f"FROM {united(self.relation(schema), more)}{_joined(self.by)}" + (
            f" WHERE {' AND '.join(conditions)}" if conditions else ""
        )

    def standing(
        self, *also: str, schema: int, by_day: bool = False, more: Iterable[str] = ()
    ) -> str:
        """Return the same for sums of what meters have and lack now, of a ledger that corrects closed months.

        With `by_day`, or where a day or a corrected month is named, rows of each day are summed apart.
        """
        by_day = by_day or not APART.isdisjoint(self.named)
        before = self.when.sql_of_corrections()
        if schema < FIRST_COUNTED_SCHEMA or not (before or by_day):
            return self.sql(*also, schema=schema, more=more)
        back = given_back([] if by_day else before, by_day=by_day)
        return self.sql(*also, schema=schema, more=[*more, back])

    def of_rows(self, schema: int) -> Selection:
        """Return the same of rows, for which a period is more than the start of their session.

        A ledger before schema 8 has no others.
        """
        if schema < FIRST_LAYERS_SCHEMA:
            return self
        before, _ = self.when.sql()
        after, given = self.when.sql_of_rows()
        return structs.replace(
            self,
            conditions=[*after, *self.conditions[len(before) :]],
            parameters=[*given, *self.parameters[len(before) :]],
        )

    def of_later_corrections(self) -> Selection:
        """Return the corrections that belong to the period and are dated after it."""
        before, _ = self.when.sql()
        conditions, given = self.when.sql_of_later_corrections()
        return structs.replace(
            self,
            conditions=[*conditions, *self.conditions[len(before) :]],
            parameters=[*given, *self.parameters[len(before) :]],
        )

    def until(self, schema: int) -> Selection:
        """Return all rows from before the end of the period."""
        ends = structs.replace(self.when, since=None)
        conditions, given = ends.sql() if schema < FIRST_LAYERS_SCHEMA else ends.sql_of_rows()
        return Selection(conditions=conditions, parameters=given, when=ends, by=self.named)


def _joined(by: Iterable[Column]) -> str:
    """Return the join that adds what is known of sessions alone, where it is wanted."""
    facts = [f"{sql} AS {alias_of(it)}" for it in by if (sql := fact(it))]
    if not facts:
        return ""
    return (
        f" AS used LEFT JOIN (SELECT project, session_id, {', '.join(facts)} FROM sessions) AS facts "  # noqa: S608 - our own names
        "USING (project, session_id)"
    )


def select(span: Period, where: Where) -> Selection:
    """Return the rows of a period that meet all conditions; raises as `conditions` does."""
    where = where if isinstance(where, str | Mapping) else tuple(where)
    when, moments = span.sql()
    which, values = conditions(where, span.zone)
    return Selection(
        conditions=[*when, *which],
        parameters=[*moments, *values],
        named=columns(where),
        when=span,
        wanted=tuple(
            (it.column, it.value)
            for it in _tests(where)
            if not it.is_left_out and not _is_like(it.value)
        ),
    )


def conditions(where: Where, zone: str = UTC_NAME) -> tuple[list[str], list[object]]:
    """Return the SQL conditions and their parameters; days and hours are those of a zone.

    Raises:
        BadFilter: A condition is not `name=value`, or its column cannot hold such a value.
        UnknownColumn: It names no column on the list.
    """
    sql: list[str] = []
    parameters: list[object] = []
    wanted: dict[tuple[Column, bool], list[object]] = {}
    for it in _tests(where):
        value = _hour_in(zone, it.value) if it.column is Group.HOUR else it.value
        wanted.setdefault((it.column, it.is_left_out), []).append(value)
    for (column, is_left_out), values in wanted.items():
        meets = _meets(column, values, zone)
        sql.append(_left_out(column, meets, values, zone) if is_left_out else meets)
        parameters.extend(value for value in values if value is not None and not _is_like(value))
        parameters.extend(value.like for value in values if isinstance(value, Pattern))
    return sql, parameters


def columns(where: Where) -> tuple[Column, ...]:
    """Return the columns that conditions name; raises as `conditions` does."""
    return tuple(dict.fromkeys(it.column for it in _tests(where)))


def values_by_column(where: Where) -> dict[Column, list[object]]:
    """Return the values that are meant of each column, None for the absent one, where each is named.

    Raises:
        BadFilter: A condition leaves something out, or has a `*` for any text; and as `conditions` does.
    """
    wanted: dict[Column, list[object]] = {}
    for it in _tests(where):
        if it.is_left_out or isinstance(it.value, Pattern):
            said = "does not name its value, which is needed here: write each (a star in a name is \\*)"
            raise BadFilter(it.condition, said)
        wanted.setdefault(it.column, []).append(it.value)
    return wanted


def named(column: Column, text: str) -> object:
    """Return the one value that a text names, stars and all, None for the absent one; raises `BadFilter`."""
    return _value(column, text, f"{column}={text}")


class Pattern(Struct, frozen=True):
    """Values that look alike, as SQL has it behind LIKE."""

    like: str


class _Test(Struct, frozen=True):
    """One condition: rows whose column has a value, or all others."""

    column: Column
    value: object
    condition: str
    is_left_out: bool = False


def _tests(where: Where) -> Iterator[_Test]:
    return _of_mapping(where) if isinstance(where, Mapping) else _of_texts(where)


def _of_texts(where: str | Iterable[str]) -> Iterator[_Test]:
    for text in [where] if isinstance(where, str) else where:
        if not isinstance(text, str):
            raise BadFilter(repr(text), "is no text: write 'tenant=acme', or {'tenant': 'acme'}")
        name, equals, value = text.partition("=")
        if not equals:
            raise BadFilter(text, "is not of the form name=value, such as tenant=acme")
        name, is_left_out = _named(name)
        if name.endswith(tuple("<>~")):
            raise BadFilter(text, "compares by something else than = and !=: name the values")
        column = group(name)
        meant = _pattern(column, value, text) or _value(column, _STAR.sub(_unescaped, value), text)
        yield _Test(column, meant, text, is_left_out)


def _of_mapping(where: Mapping[str, object]) -> Iterator[_Test]:
    for name, given in where.items():
        bare, is_left_out = _named(str(name))
        column = group(bare)
        several = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
        values = list(given) if several and isinstance(given, Iterable) else [given]
        if not values:
            raise BadFilter(str(name), "has no value: give one or several")
        for value in values:
            condition = f"{name}={value}"
            meant = _exactly(column, value, condition)
            yield _Test(column, meant, condition, is_left_out)


def _named(name: str) -> tuple[str, bool]:
    """Return the column of a condition, and whether its rows are left out."""
    bare = name.strip()
    return bare.removesuffix("!").strip(), bare.endswith("!")


_STAR: Final = re.compile(r"(\\*)\*")
"""A star, and the backslashes in front of it: of two, one is meant, and the last odd one makes the star a star."""


def _unescaped(found: re.Match[str]) -> str:
    return "\\" * (len(found[1]) // 2) + "*"


def _pattern(column: Column, text: str, condition: str) -> Pattern | None:
    """Return the pattern that a text is, None for one that names a value."""
    if not any(len(star[1]) % 2 == 0 for star in _STAR.finditer(text)):
        return None
    if column in _WANTED:
        raise BadFilter(condition, f"has a *, which is for names, and needs {_WANTED[column]}")
    _check(text, condition)
    parts, at = [], 0
    for star in _STAR.finditer(text):
        parts += [_like(text[at : star.start()]), _like("\\" * (len(star[1]) // 2))]
        parts.append("*" if len(star[1]) % 2 else "%")
        at = star.end()
    return Pattern("".join([*parts, _like(text[at:])]))


def _like(text: str) -> str:
    """Return a text as LIKE has it for itself."""
    return re.sub(r"[\\%_]", r"\\\g<0>", text)


def _exactly(column: Column, value: object, condition: str) -> object:
    """Return a value of a mapping as one of `column`; only None is the absent one."""
    if may_be_absent(column) and value is None:
        return None
    if column is Group.SESSION and isinstance(value, UUID):
        return value
    if column in APART and column is not Group.HOUR and type(value) is date:
        return _from_day(column, value)
    if value == "" and may_be_absent(column):
        raise BadFilter(condition, f"is empty: None means without a {column}")
    if not isinstance(value, str):
        raise BadFilter(condition, f"has a value of type {type(value).__name__}: give it as text")
    is_a_name = (may_be_absent(column) or may_be_empty(column)) and _is_none(value)
    return _value(column, f"\\{value}" if is_a_name else value, condition)


def _is_none(name: str) -> bool:
    """Return whether a name is `(none)`, with backslashes before it or not."""
    return name.lstrip("\\") == NONE


def _is_like(value: object) -> bool:
    return isinstance(value, Pattern)


_KEY: Final = "(coalesce(project, ''), session_id)"
_FACTS: Final = f"{_KEY} IN (SELECT {_KEY} FROM sessions WHERE {{0}})"  # noqa: S608 - our own names


def _meets(column: Column, values: list[object], zone: str) -> str:
    """Return the condition that a column is one of `values`, where None stands for NULL.

    Its parameters are the values that are no patterns, and then the patterns. What is known of sessions alone is
    asked of these, so that the condition can be met by whatever has a session.
    """
    sql = fact(column)
    if sql is None:
        return _either(column_of(column, zone), values)
    some = [value for value in values if value is not None]
    parts = [_FACTS.format(_either(sql, some))] if some else []
    if None in values:
        parts.append(f"NOT coalesce({_FACTS.format(f'{sql} IS NOT NULL')}, FALSE)")
    return f"coalesce({' OR '.join(parts)}, FALSE)"


def _either(column: str, values: list[object]) -> str:
    """Return the condition that an SQL column is one of `values`, as `_meets` says."""
    places = ", ".join("?" for value in values if value is not None and not _is_like(value))
    parts = [f"{column} IN ({places})"] if places else []
    parts += [f"{column} LIKE ? ESCAPE '\\'" for value in values if _is_like(value)]
    if None in values:
        parts.append(f"{column} IS NULL")
    return f"({' OR '.join(parts)})"


def _left_out(column: Column, meets: str, values: list[object], zone: str) -> str:
    """Return the condition that a row does not meet another one.

    What has no tenant is not `acme`, and what is known of a session without its usage is of no model.
    """
    if fact(column) is not None:
        return f"NOT {meets}"
    sql = column_of(column, zone)
    if None in values or not (of_a_session([column]) or may_be_absent(column)):
        return f"({sql} IS NOT NULL AND NOT {meets})"
    return f"({sql} IS NULL OR NOT {meets})"


def _value(column: Column, text: str, condition: str) -> object:
    """Return `text` as a value of `column`, None when it means an absent one."""
    if may_be_absent(column) or may_be_empty(column):
        if text in ("", NONE):
            return None if may_be_absent(column) else ""
        if text.startswith("\\") and _is_none(text):
            return text[1:]
    elif column is Group.SERVICE_TIER and text in ("", STANDARD):
        return ""
    elif not text:
        raise BadFilter(condition, f"is empty, and no row lacks its {column}")
    _check(text, condition)
    return _typed(column, text, condition)


def _check(text: str, condition: str) -> None:
    try:
        text.encode()  # bytes of a terminal that were no UTF-8 cannot be in the ledger
    except UnicodeEncodeError:
        raise BadFilter(condition, "holds bytes that are not UTF-8 text") from None


_WANTED: Final[dict[Column, str]] = {
    Group.SESSION: "a whole session id (UUID), as `costs calls` shows it",
    Group.HOUR: "an hour such as 2026-11-21T14:00Z",
    Group.DAY: "a day such as 2026-11-21",
    Group.WEEK: "a week such as 2026-W47",
    Group.MONTH: "a month such as 2026-11",
    Group.CORRECTS: "a month such as 2026-11, or (none)",
}


def _typed(column: Column, text: str, condition: str) -> object:
    """Return `text` as the column has it: a session id, a day, a week or a month by its first day, or a text."""
    if column not in _WANTED:
        return text
    try:
        if column is Group.SESSION:
            return UUID(text)
        if column is Group.HOUR:
            return _hour(text)
        return date.fromisoformat(text) if column is Group.DAY else _first_day(column, text)
    except ValueError:
        raise BadFilter(condition, f"needs {_WANTED[column]}") from None


def _first_day(column: Column, text: str) -> date:
    """Return the first day of a week or a month; raises `ValueError` where the text is none, or the other."""
    found = first_day(text)
    if found is None or ("W" in text) is not (column is Group.WEEK):
        raise ValueError(text)
    return found


def _from_day(column: Column, day: date) -> date:
    """Return the first day of the week or the month of a day, for the columns of these."""
    if column is Group.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if column is Group.MONTH else day


def _hour(text: str) -> datetime:
    """Return an hour that a text names, with its offset if it has one; raises `ValueError`."""
    found = datetime.fromisoformat(text)
    if len(text) < _HOUR_LENGTH or found.minute or found.second or found.microsecond:
        raise ValueError(text)
    return found


_HOUR_LENGTH: Final = len("2026-11-21T14:00")


def _hour_in(name: str, value: object) -> object:
    """Return an hour as the rows have it: in UTC its beginning, in another zone its text.

    Without an offset it is of the zone; with the offset of another zone it may be no hour of this one. Of an hour
    within which the clocks change, the beginning may be skipped: what is left of it has its name all the same.
    """
    if not isinstance(value, datetime):
        return value
    moment = value.astimezone(UTC) if value.tzinfo else utc(value, name)
    if name == UTC_NAME:
        return moment.replace(tzinfo=None)
    there = moment.astimezone(zone_of(name))
    last = (moment + _TO_LAST).astimezone(zone_of(name))
    if value.tzinfo is None or _hour_of(last) == _hour_of(value):
        return _hour_of(value if value.tzinfo else there)
    return there.isoformat(timespec="minutes")


_TO_LAST: Final = timedelta(hours=1) - timedelta(microseconds=1)


def _hour_of(moment: datetime) -> str:
    """Return the text of the hour in which a moment is, with the offset of that moment."""
    return f"{moment:%Y-%m-%dT%H:00}{moment.isoformat(timespec='minutes')[-6:]}"
