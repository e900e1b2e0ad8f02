r"""Reading `--where name=value`: which rows a question is about.

The same name twice means either value, different names mean all of them. An empty value, or `(none)`,
means the rows that have no tenant; `\(none)` means a tenant of that name, and so on with more
backslashes. An agent or a model that is named `(none)` is asked for by that name. Values are parameters,
whatever they contain.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec import Struct

from voicecosts.analytics.errors import BadFilter
from voicecosts.analytics.question.columns import COLUMN, Group, group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voicecosts.analytics.question.times import Period

NONE: Final = "(none)"
"""How a row without a tenant is shown and asked for."""


def shown(name: str | None) -> str:
    """Return a tenant as it is asked for: one that is named `(none)` gets a backslash in front."""
    if name is None:
        return NONE
    return f"\\{name}" if name.lstrip("\\") == NONE else name


class Selection(Struct, frozen=True, kw_only=True):
    """The rows of the view `usage` that a question is about: conditions, and their parameters."""

    conditions: list[str]
    parameters: list[object]

    def sql(self, *also: str) -> str:
        """Return the FROM and WHERE of it, with constant conditions added."""
        conditions = [*self.conditions, *also]
        return "FROM usage" + (f" WHERE {' AND '.join(conditions)}" if conditions else "")


def select(span: Period, where: str | Iterable[str]) -> Selection:
    """Return the rows of a period that meet all conditions; raises as `conditions` does."""
    when, moments = span.sql()
    which, values = conditions(where)
    return Selection(conditions=[*when, *which], parameters=[*moments, *values])


def conditions(where: str | Iterable[str]) -> tuple[list[str], list[object]]:
    """Return the SQL conditions on the view `usage` and their parameters.

    Raises:
        BadFilter: A condition is not `name=value`, or its column cannot hold such a value.
        UnknownColumn: It names no column on the list.
    """
    wanted: dict[Group, list[object]] = {}
    for text in [where] if isinstance(where, str) else where:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadFilter(text, "is not of the form name=value, such as tenant=acme")
        if name.rstrip().endswith(tuple("!<>~")):
            raise BadFilter(text, "compares by something else than =: name the values to include")
        column = group(name.strip())
        wanted.setdefault(column, []).append(_value(column, value, text))
    sql: list[str] = []
    parameters: list[object] = []
    for column, values in wanted.items():
        sql.append(_either(COLUMN[column], values))
        parameters.extend(value for value in values if value is not None)
    return sql, parameters


def _either(column: str, values: list[object]) -> str:
    """Return the condition that `column` is one of `values`, where None stands for NULL."""
    places = ", ".join("?" for value in values if value is not None)
    parts = [f"{column} IN ({places})"] if places else []
    if None in values:
        parts.append(f"{column} IS NULL")
    return f"({' OR '.join(parts)})"


def _value(column: Group, text: str, condition: str) -> object:
    """Return `text` as a value of `column`, None when it means an absent one."""
    if column is Group.TENANT:
        if text in ("", NONE):
            return None
        if text.startswith("\\") and text.lstrip("\\") == NONE:
            return text[1:]
    elif not text:
        raise BadFilter(condition, "is empty, and only a tenant can be absent")
    try:
        text.encode()  # bytes of a terminal that were no UTF-8 cannot be in the ledger
    except UnicodeEncodeError:
        raise BadFilter(condition, "holds bytes that are not UTF-8 text") from None
    try:
        if column is Group.SESSION:
            return UUID(text)
        if column is Group.DAY:
            return date.fromisoformat(text)
    except ValueError:
        wanted = "a session id (UUID)" if column is Group.SESSION else "a day such as 2026-11-21"
        raise BadFilter(condition, f"needs {wanted}") from None
    return text
