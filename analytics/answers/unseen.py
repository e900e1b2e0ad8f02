"""Names in the conditions of a question that nothing in the ledger has: a typing error, most likely.

Patterns, days and what is left out are not looked at, nor is a turn, for which every single row would be read.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.question.columns import LABEL, Group, Label, column_of, fact
from voicecosts.analytics.question.relation import relation
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from voicecosts.analytics.question.columns import Column
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_IS_THERE: Final = "SELECT EXISTS (SELECT 1 FROM ({source}) WHERE {column} = ?)"
_NEAR: Final = """
SELECT name
FROM (SELECT DISTINCT {column} AS name FROM ({source}))
WHERE name <> '' AND jaro_winkler_similarity(lower(name), lower(?)) >= 0.8
ORDER BY jaro_winkler_similarity(lower(name), lower(?)) DESC, name
LIMIT 2
"""
_HAS_LABEL: Final = "SELECT EXISTS (SELECT 1 FROM sessions WHERE {column} IS NOT NULL)"
_LABELS: Final = """
SELECT DISTINCT unnest(json_keys(labels)) AS name FROM sessions WHERE labels IS NOT NULL ORDER BY name
"""
_SOME: Final = 5


def say_unseen(
    connection: Connection, snapshot: Snapshot, wanted: Iterable[tuple[Column, object]]
) -> Iterator[str]:
    """Yield a sentence about each name that nothing has, with the names that it may be a slip of."""
    wanted = list(wanted)
    yield from say_unseen_labels(connection, snapshot, (column for column, _ in wanted))
    for column, value in wanted:
        if column == Group.TURN or not isinstance(value, str) or not value:
            continue
        of_session = fact(column)
        names = {
            "column": of_session or column_of(column),
            "source": "FROM sessions"
            if of_session
            else f"FROM {relation(schema_of(connection, snapshot))}",
        }
        [is_there] = read(
            connection, snapshot.path, _IS_THERE.format(**names), [value], row=tuple[bool]
        )
        if is_there[0]:
            continue
        near = read(connection, snapshot.path, _NEAR.format(**names), [value] * 2, row=tuple[str])
        meant = " or ".join(repr(name) for (name,) in near)
        said = f"nothing has the {column} {value!r}"
        yield f"{said}: did you mean {meant}?" if meant else said


def say_unseen_labels(
    connection: Connection, snapshot: Snapshot, columns: Iterable[Column]
) -> Iterator[str]:
    """Yield a sentence about each label that no call has, with those that there are."""
    for label in dict.fromkeys(it for it in columns if isinstance(it, Label)):
        is_there = read(
            connection, snapshot.path, _HAS_LABEL.format(column=fact(label)), row=tuple[bool]
        )
        if is_there[0][0]:
            continue
        there = [name for (name,) in read(connection, snapshot.path, _LABELS, row=tuple[str])]
        name = label.removeprefix(LABEL)
        if name in there:  # with nothing in it
            continue
        near = get_close_matches(name, there, 1)
        meant = f"did you mean {LABEL}{near[0]}?" if near else _listed(there)
        yield f"no call has a label {name!r}: {meant}"


def _listed(labels: Sequence[str]) -> str:
    if not labels:
        return "no call has any label"
    more = f" and {len(labels) - _SOME:,} more" if len(labels) > _SOME else ""
    return f"there is {', '.join(f'{LABEL}{it}' for it in labels[:_SOME])}{more}"
