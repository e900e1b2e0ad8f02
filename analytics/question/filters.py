r"""Reading `--where name=value`: which rows a question is about.

The same name twice means either value, different names mean all of them. An empty value, or `(none)`,
means the rows that have no tenant; `\(none)` means a tenant of that name, and so on with more
backslashes. An agent or a model that is named `(none)` is asked for by that name; an empty value means the rows
that name none, as an adjustment may. The standard service tier has no name: an empty value means it, or
`(standard)`. Values are parameters, whatever they contain.

Python may give a mapping instead, `{"tenant": "acme"}`: its values are taken as they are, one or several of
a column, and None is the absent tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from voicecosts.analytics.errors import BadFilter
from voicecosts.analytics.question.columns import APART, COLUMN, Group, group
from voicecosts.analytics.question.relation import (
    FIRST_COUNTED_SCHEMA,
    FIRST_LAYERS_SCHEMA,
    given_back,
    relation,
    united,
)
from voicecosts.analytics.question.times import Period

Where = str | Iterable[str] | Mapping[str, object]
"""Conditions: `name=value`, several of them, or values by name."""

NONE: Final = "(none)"
"""How a row without a tenant is shown and asked for."""


_MAY_BE_EMPTY: Final = (Group.AGENT, Group.AGENT_LABEL, Group.PROVIDER, Group.MODEL)
"""What an adjustment need not name."""

_MAY_BE_NONE: Final = (Group.TENANT, Group.CORRECTS)
"""What a row may be without; `(none)` asks for those."""

STANDARD: Final = "(standard)"
"""How the service tier without a name is shown and asked for."""


def shown(name: str | None) -> str:
    """Return a tenant as it is asked for: one that is named `(none)` gets a backslash in front."""
    if name is None:
        return NONE
    return f"\\{name}" if _is_none(name) else name


class Selection(Struct, frozen=True, kw_only=True):
    """The rows that a question is about: conditions, the columns that they name, and their parameters."""

    conditions: list[str]
    parameters: list[object]
    named: tuple[Group, ...] = ()
    when: Period = Period()

    def sql(self, *also: str, schema: int, more: Iterable[str] = ()) -> str:
        """Return the FROM and WHERE of it in a ledger of some schema, with constant conditions added.

        `more` are statements whose rows are chosen from as well.
        """
        conditions = [*self.conditions, *also]
        return f"FROM {united(relation(schema), more)}" + (
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
        return Selection(
            conditions=[*after, *self.conditions[len(before) :]],
            parameters=[*given, *self.parameters[len(before) :]],
            named=self.named,
            when=self.when,
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
        return Selection(conditions=conditions, parameters=given, when=ends)


def select(span: Period, where: Where) -> Selection:
    """Return the rows of a period that meet all conditions; raises as `conditions` does."""
    when, moments = span.sql()
    which, values = conditions(where)
    named = tuple(values_by_column(where))
    return Selection(
        conditions=[*when, *which], parameters=[*moments, *values], named=named, when=span
    )


def conditions(where: Where) -> tuple[list[str], list[object]]:
    """Return the SQL conditions and their parameters.

    Raises:
        BadFilter: A condition is not `name=value`, or its column cannot hold such a value.
        UnknownColumn: It names no column on the list.
    """
    sql: list[str] = []
    parameters: list[object] = []
    for column, values in values_by_column(where).items():
        sql.append(_either(COLUMN[column], values))
        parameters.extend(value for value in values if value is not None)
    return sql, parameters


def values_by_column(where: Where) -> dict[Group, list[object]]:
    """Return the values that are meant of each column, None for the absent one; raises as `conditions`."""
    wanted: dict[Group, list[object]] = {}
    for column, value in _of_mapping(where) if isinstance(where, Mapping) else _of_texts(where):
        wanted.setdefault(column, []).append(value)
    return wanted


def _of_texts(where: str | Iterable[str]) -> Iterator[tuple[Group, object]]:
    for text in [where] if isinstance(where, str) else where:
        if not isinstance(text, str):
            raise BadFilter(repr(text), "is no text: write 'tenant=acme', or {'tenant': 'acme'}")
        name, equals, value = text.partition("=")
        if not equals:
            raise BadFilter(text, "is not of the form name=value, such as tenant=acme")
        if name.rstrip().endswith(tuple("!<>~")):
            raise BadFilter(text, "compares by something else than =: name the values to include")
        column = group(name.strip())
        yield column, _value(column, value, text)


def _of_mapping(where: Mapping[str, object]) -> Iterator[tuple[Group, object]]:
    for name, given in where.items():
        column = group(str(name))
        several = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
        values = list(given) if several and isinstance(given, Iterable) else [given]
        if not values:
            raise BadFilter(str(name), "has no value: give one or several")
        for value in values:
            yield column, _exactly(column, value, f"{name}={value}")


def _exactly(column: Group, value: object, condition: str) -> object:
    """Return a value of a mapping as one of `column`; only None is the absent one."""
    if column in _MAY_BE_NONE and value is None:
        return None
    if column is Group.SESSION and isinstance(value, UUID):
        return value
    if column in APART and type(value) is date:
        return value.replace(day=1) if column is Group.MONTH else value
    if value == "" and column is Group.TENANT:
        raise BadFilter(condition, "is empty: None means without a tenant")
    if not isinstance(value, str):
        raise BadFilter(condition, f"has a value of type {type(value).__name__}: give it as text")
    return _value(column, f"\\{value}" if _is_none(value) else value, condition)


def _is_none(name: str) -> bool:
    """Return whether a name is `(none)`, with backslashes before it or not."""
    return name.lstrip("\\") == NONE


def _either(column: str, values: list[object]) -> str:
    """Return the condition that `column` is one of `values`, where None stands for NULL."""
    places = ", ".join("?" for value in values if value is not None)
    parts = [f"{column} IN ({places})"] if places else []
    if None in values:
        parts.append(f"{column} IS NULL")
    return f"({' OR '.join(parts)})"


def _value(column: Group, text: str, condition: str) -> object:
    """Return `text` as a value of `column`, None when it means an absent one."""
    if column in _MAY_BE_NONE:
        if text in ("", NONE):
            return None
        if text.startswith("\\") and _is_none(text):
            return text[1:]
    elif column is Group.SERVICE_TIER and text in ("", STANDARD):
        return ""
    elif not text and column not in _MAY_BE_EMPTY:
        raise BadFilter(condition, f"is empty, and no row lacks its {column}")
    try:
        text.encode()  # bytes of a terminal that were no UTF-8 cannot be in the ledger
    except UnicodeEncodeError:
        raise BadFilter(condition, "holds bytes that are not UTF-8 text") from None
    return _typed(column, text, condition)


_WANTED: Final = {
    Group.SESSION: "a session id (UUID)",
    Group.DAY: "a day such as 2026-11-21",
    Group.MONTH: "a month such as 2026-11",
    Group.CORRECTS: "a month such as 2026-11, or (none)",
}


def _typed(column: Group, text: str, condition: str) -> object:
    """Return `text` as the column has it: a session id, a day, a month by its first day, or a text."""
    try:
        if column is Group.SESSION:
            return UUID(text)
        if column is Group.DAY:
            return date.fromisoformat(text)
        if column in (Group.MONTH, Group.CORRECTS):
            return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise BadFilter(condition, f"needs {_WANTED[column]}") from None
    return text
