"""What may be asked for: the allow-list of groups and measures, with the SQL of each, and of states.

Every name that a user types is looked up here and nothing of it ever reaches a statement: the SQL is
made of these constants and of parameters. Names here are public, as keys of JSON and CSV output.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.errors import BadQuestion, UnknownColumn
from voicecosts.analytics.question.zones import UTC_NAME, first_moment, shifted, suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Group(StrEnum):
    """What costs can be grouped and filtered by."""

    TENANT = "tenant"
    AGENT = "agent"
    AGENT_LABEL = "agent_label"
    PROJECT = "project"
    PROVIDER = "provider"
    MODEL = "model"
    MODALITY = "modality"
    SERVICE_TIER = "service_tier"
    SESSION = "session"
    TURN = "turn"
    ROOM = "room"
    JOB = "job"
    DEPLOYMENT = "deployment"
    OUTCOME = "outcome"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    CORRECTS = "corrects"


class Label(str):
    """A label that workers gave to sessions, as `label.region`: to group and filter by, like the others."""

    __slots__ = ()

    @property
    def alias(self) -> str:
        """What it is called in SQL: nothing that was typed is part of that."""
        return f"label_{self.removeprefix(LABEL).encode().hex()}"


Column = Group | Label

LABEL: Final = "label."
"""What the name of a label begins with here."""


class State(StrEnum):
    """Whether the ledger has all of a session, as the view `completeness` says it, the worst first."""

    SHORT = "short"
    ABANDONED = "abandoned"
    OPEN = "open"
    REPAIRED = "repaired"
    COMPLETE = "complete"


_STARTED: Final = "make_timestamp(epoch_us(uuid_extract_timestamp(session_id)))"
_IS_OWN: Final = f"day = {_STARTED}::DATE"
"""A row is dated on the day on which its session started."""

COLUMN: Final[dict[Group, str]] = {
    Group.TENANT: "tenant",
    Group.AGENT: "agent_id",
    Group.AGENT_LABEL: "agent_label",
    Group.PROJECT: "project",
    Group.PROVIDER: "provider",
    Group.MODEL: "model",
    Group.MODALITY: "modality",
    Group.SERVICE_TIER: "service_tier",
    Group.SESSION: "session_id",
    Group.TURN: "turn",
    Group.ROOM: "room",
    Group.JOB: "job",
    Group.DEPLOYMENT: "deployment",
    Group.OUTCOME: "outcome",
    # What is dated on another day than its session started on is at the first moment of that.
    Group.HOUR: f"CASE WHEN {_IS_OWN} THEN date_trunc('hour', {_STARTED}) ELSE day::TIMESTAMP END",
    Group.DAY: "day",
    Group.WEEK: "date_trunc('week', day)::DATE",
    Group.MONTH: "date_trunc('month', day)::DATE",
    Group.CORRECTS: "corrects",
}
"""What of the rows of `relation` is behind each group; those of `OF_SESSIONS` are joined."""

OF_SESSIONS: Final[dict[Group, str]] = {
    Group.ROOM: "nullif(room_name, '')",
    Group.JOB: "nullif(job_id, '')",
    Group.DEPLOYMENT: "nullif(deployment, '')",
    Group.OUTCOME: "outcome",
}
"""What the view `sessions` says of a session, and its usage does not; labels too, by `fact`."""

APART: Final = frozenset({Group.HOUR, Group.DAY, Group.WEEK, Group.MONTH, Group.CORRECTS})
"""By what a correction of a closed month is apart from the rows that it corrects."""

OF_VOIDED: Final = (
    "CASE WHEN session_id >= ? AND session_id <= ? THEN list_contains(?::UUID[], session_id) "
    "AND list_contains(?::VARCHAR[], concat(project, ' ', session_id)) ELSE FALSE END"
)
"""A row is of one of the given sessions, which were voided, by the parameters `relation.of_voided`. With CASE only those
that may be are looked for in the list."""

VOIDED: Final = f" AND NOT ({OF_VOIDED})"
"""A row is of none of them."""


def _lacks(amount: str, meters_with_it: str) -> str:
    """Return whether rows are of meters none of which has an amount now, as the view `sessions` has it."""
    return f"sum({meters_with_it}) = 0 AND sum(meters) > 0 AND coalesce(sum({amount}), 0) = 0"


_UNPRICED: Final = _lacks("cost", "priced_meters")
_UNLISTED: Final = _lacks("list_cost", "listed_meters")
_UNBILLED: Final = _lacks("billed", "billed_meters")
_ESTIMATED: Final = (
    "sum(CASE WHEN estimated THEN cost WHEN cost IS NOT NULL THEN 0::DECIMAL(18, 9) END)"
)
_COUNTED: Final = f"count(DISTINCT (project, session_id)) FILTER (operation IS NULL{VOIDED})"

MEASURES: Final[dict[str, str]] = {
    # What used nothing costs nothing; NULL is for what was used and has no price.
    "cost": f"CASE WHEN count(*) = 0 THEN 0 WHEN {_UNPRICED} THEN NULL ELSE sum(cost) END::DECIMAL(38, 9)",
    # The estimated part of the cost: NULL exactly when the cost is, zero when none of it is estimated.
    "estimated_cost": (
        f"CASE WHEN count(*) = 0 THEN NULL WHEN {_UNPRICED} THEN NULL ELSE {_ESTIMATED} END"
    ),
    # What an operation books makes no session count, and one that was voided counts no more.
    "sessions": _COUNTED,
    "rows": "coalesce(sum(rows), 0)",
    "unpriced_rows": "coalesce(sum(unpriced_rows), 0)",
    "requests": "coalesce(sum(requests), 0)",
    "input_tokens": "coalesce(sum(input_tokens), 0)",
    "output_tokens": "coalesce(sum(output_tokens), 0)",
    "characters": "coalesce(sum(characters), 0)",
    "audio_seconds": "coalesce(sum(audio_us), 0)",
    "session_seconds": "coalesce(sum(session_us), 0)",
    "unpriced_requests": "coalesce(sum(unpriced_requests), 0)",
    "unpriced_input_tokens": "coalesce(sum(unpriced_input_tokens), 0)",
    "unpriced_output_tokens": "coalesce(sum(unpriced_output_tokens), 0)",
    "unpriced_other_tokens": "coalesce(sum(unpriced_other_tokens), 0)",
    "unpriced_characters": "coalesce(sum(unpriced_characters), 0)",
    "unpriced_audio_seconds": "coalesce(sum(unpriced_audio_us), 0)",
    "unpriced_session_seconds": "coalesce(sum(unpriced_session_us), 0)",
    "list_cost": (
        f"CASE WHEN count(*) = 0 THEN 0 WHEN {_UNLISTED} THEN NULL "
        "ELSE sum(list_cost) END::DECIMAL(38, 9)"
    ),
    "billed": f"CASE WHEN {_UNBILLED} THEN NULL ELSE sum(billed) END",
}
"""What is summed of the rows of `relation`, in the order of `Row`. Durations are added up in microseconds.

`cost` is what the operator pays, `list_cost` the published price, `billed` what the tenant is charged.
`unpriced_…` is how much of each amount has no cost. It is booked by difference, so a sum is what the
last state of every meter says.
"""

SECONDS: Final = tuple(name for name in MEASURES if name.endswith("_seconds"))

UNPRICED: Final = tuple(
    sql.removeprefix("coalesce(sum(").removesuffix("), 0)")
    for name, sql in MEASURES.items()
    if name.startswith("unpriced_") and name != "unpriced_rows"
)
"""The columns behind the amounts that have no price."""

OPENED: Final = "coalesce(sum(sessions), 0)"
"""The sessions of rows that have all rows of each, or none."""

_IS_ONE: Final = f"(count(*) FILTER (operation IS NULL) > 0{VOIDED})::BIGINT"

_ADDED_UP: Final = (
    "cost", "list_cost", "billed", "meters", "priced_meters", "listed_meters", "billed_meters", "rows", "unpriced_rows", "requests", "input_tokens",
    "output_tokens", "characters", "audio_us", "session_us", *UNPRICED,
)  # fmt: skip

GROUPED: Final = ", ".join(
    [
        f"{_ESTIMATED} AS estimated_cost",
        *(f"sum({name}) AS {name}" for name in _ADDED_UP),
    ]
)
"""What the rows of a group add up to: `OF_GROUPS` and `sessions` say the rest. Groups add up to a total much
faster than their rows do."""

OF_GROUPS: Final[dict[str, str]] = {
    **MEASURES,
    "estimated_cost": MEASURES["estimated_cost"].replace(_ESTIMATED, "sum(estimated_cost)"),
    "sessions": "coalesce(sum(sessions), 0)",
}
"""What is summed of groups, in the order of `Row`."""

_OF_A_SESSION: Final = (
    Group.TENANT, Group.AGENT, Group.PROJECT, Group.SESSION, Group.HOUR, Group.DAY, Group.WEEK, Group.MONTH,
    *OF_SESSIONS,
)  # fmt: skip
"""What all rows of a session have in common, but for the day of those that correct a closed month."""


def of_a_session(columns: Iterable[Column]) -> bool:
    """Return whether all rows of a session have the same in some columns."""
    return all(isinstance(it, Label) or it in _OF_A_SESSION for it in columns)


def column_of(it: Column, zone: str = UTC_NAME) -> str:
    """Return the SQL that has a column in the rows that are added up; days and hours are those of a zone."""
    if isinstance(it, Label):
        return it.alias
    return COLUMN[it] if zone == UTC_NAME or it not in IN_ZONE else _in_zone(it, zone)


IN_ZONE: Final = (Group.HOUR, Group.DAY, Group.WEEK, Group.MONTH)
"""What differs from zone to zone."""

_US: Final = "epoch_us(uuid_extract_timestamp(session_id))"


def _in_zone(it: Group, zone: str) -> str:
    """Return the same in a zone. What is dated on another day than its session started on stays on that day.

    An hour is its text, with its offset: by that two hours of one name are told from each other.
    """
    local = f"make_timestamp({shifted(_US, zone)})"
    if it is Group.HOUR:
        begins, of_day = first_moment("day", zone)
        at = f"CASE WHEN {_IS_OWN} THEN {local} ELSE make_timestamp({begins}) END"
        offset = f"CASE WHEN {_IS_OWN} THEN {suffix(_US, zone)} ELSE {of_day} END"
        return f"(strftime({at}, '%Y-%m-%dT%H:00') || {offset})"
    day = f"CASE WHEN {_IS_OWN} THEN {local}::DATE ELSE day END"
    return {
        Group.DAY: day,
        Group.WEEK: f"date_trunc('week', {day})::DATE",
        Group.MONTH: f"date_trunc('month', {day})::DATE",
    }[it]


def alias_of(it: Column) -> str:
    """Return what a column is called in SQL."""
    return it.alias if isinstance(it, Label) else str(it)


def fact(it: Column) -> str | None:
    """Return the SQL that has a column in the view `sessions`, None where the usage has it."""
    if isinstance(it, Label):
        key = it.removeprefix(LABEL).encode().hex()
        return f"nullif((labels::MAP(VARCHAR, VARCHAR))[decode(unhex('{key}'))], '')"
    return OF_SESSIONS.get(it)


def may_be_absent(it: Column) -> bool:
    """Return whether a row may be without it; `(none)` asks for those."""
    return fact(it) is not None or it in (Group.TENANT, Group.TURN, Group.CORRECTS)


def may_be_empty(it: Column) -> bool:
    """Return whether a row may have the empty name in a column, as an adjustment does that need not name it."""
    return it in (Group.AGENT, Group.AGENT_LABEL, Group.PROVIDER, Group.MODEL)


def sessions(by: Iterable[Column], *, apart: bool, of_one: bool = False) -> str:
    """Return the SQL that counts the sessions of rows that some columns choose, or group.

    Where all rows of a session are together, it is counted with the row that opens it: the others need not
    be looked at, and `relation.TAKEN_BACK` leaves out voided sessions. With `apart` they may not be; `of_one`
    says that all rows of a group are of one session. Then `VOIDED` leaves them out.
    """
    if of_one:
        return _IS_ONE
    return _COUNTED if apart or not of_a_session(by) else OPENED


_WRITTEN: Final = {
    Group.HOUR: "%Y-%m-%dT%H:00Z",
    Group.WEEK: "%G-W%V",
    Group.MONTH: "%Y-%m",
    Group.CORRECTS: "%Y-%m",
}


def written(column: Column, value: str, zone: str = UTC_NAME) -> str:
    """Return the SQL that writes a value of a group as an answer has it."""
    if column is Group.HOUR and zone != UTC_NAME:
        return value
    if isinstance(column, Group) and column in _WRITTEN:
        return f"strftime({value}, '{_WRITTEN[column]}')"
    return f"{value}::VARCHAR"


_DERIVED: Final = {
    "calls": "({sessions})",
    "tokens": "({input_tokens}) + ({output_tokens})",
    "margin": "({billed}) - ({cost})",
    # whole numbers of billionths: exact, and in the order of what they are rounded from
    "cost_per_call": "replace(({cost})::VARCHAR, '.', '')::HUGEINT * 1000 // nullif({sessions}, 0)",
    "billed_per_call": "replace(({billed})::DECIMAL(38, 9)::VARCHAR, '.', '')::HUGEINT * 1000 // nullif({sessions}, 0)",
}

OF_LENGTHS: Final = ("minutes", "cost_per_minute", "billed_per_minute")
"""What needs the lengths of calls."""

OF_OUTCOMES: Final = ("successful_calls", "cost_per_successful_call")
"""What needs the outcomes of calls."""

OF_CALLS: Final = (*OF_LENGTHS, *OF_OUTCOMES)
"""What needs something of single calls: SQL adds it up by itself, and does not order by it."""

METRICS: Final = (*MEASURES, *_DERIVED, *OF_CALLS)
"""All that a row can be asked for; `Row.metric` says what each is."""


def metrics(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return the metrics that were named, as `groups` does, with `-` for `_`; raises `UnknownColumn`."""
    found = [name.replace("-", "_") for name in _split(names)]
    for name in found:
        if name not in METRICS:
            raise UnknownColumn(name, METRICS, role="metric")
    return tuple(dict.fromkeys(found))


class Sort:
    """The order of the rows: by one column, then by all groups, so that ties have an order too."""

    def __init__(self, text: str | None, by: tuple[Column, ...]) -> None:
        name, _, direction = (text or "cost").partition(":")
        if (text or "").startswith(LABEL):  # whose name may have a colon
            name, direction = str(text), ""
            if name not in by:
                name, _, direction = name.rpartition(":")
        allowed = (*by, *METRICS)
        name = name if name in by else name.replace("-", "_")
        if name not in allowed:
            raise UnknownColumn(name, allowed, role="sort column")
        if direction not in ("", "asc", "desc"):
            raise BadQuestion(f"sort {text!r} must end in :asc or :desc, or in neither")
        # Money and amounts come largest first, names and days in their own order.
        self.descending = direction == "desc" or (not direction and name in METRICS)
        self.name = next((alias_of(it) for it in by if it == name), name)
        self.by = by

    @property
    def by_call(self) -> bool:
        """Whether it is by something that only single calls say: SQL does not have these beside the sums."""
        return self.name in OF_CALLS

    def sql(self, sums: Mapping[str, str] = MEASURES, zone: str = UTC_NAME) -> str:
        """Return the ORDER BY list; what is NULL (unpriced, no tenant) comes last either way.

        `sums` are the SQL of the measures where the rows are added up.
        """
        found = _DERIVED.get(self.name)
        value = found.format_map(sums) if found else _ordered(self.name, zone)
        first = "" if self.by_call else f"{value} {'DESC' if self.descending else 'ASC'} NULLS LAST"
        return ", ".join(
            [*filter(None, [first]), *(f'"{alias_of(it)}" NULLS LAST' for it in self.by)]
        )


def _ordered(name: str, zone: str) -> str:
    """Return the SQL by which a column is ordered: hours of a zone as moments, and not as texts with offsets."""
    alias = alias_of(name) if isinstance(name, Label) else name
    if name != Group.HOUR or zone == UTC_NAME:
        return f'"{alias}"'
    return _MOMENT


_MOMENT: Final = """(
    strptime(left("hour", 16), '%Y-%m-%dT%H:%M') - substr("hour", 17, 3)::BIGINT * INTERVAL 1 HOUR
    - (substr("hour", 17, 1) || substr("hour", 21, 2))::BIGINT * INTERVAL 1 MINUTE
)"""


def groups(names: str | Iterable[str]) -> tuple[Column, ...]:
    """Return the groups that were named, each once, in the order they were named.

    A name may hold several, separated by commas: `"tenant,agent"`. A turn is one of its session, which stands
    before it where it was not named.

    Raises:
        UnknownColumn: A name is not a group.
    """
    found = list(dict.fromkeys(map(group, _split(names))))
    if not found:
        raise BadQuestion(f"nothing to group by: name at least one of {', '.join(_ALL)}")
    if Group.TURN in found and Group.SESSION not in found:
        found.insert(found.index(Group.TURN), Group.SESSION)
    return tuple(found)


_ALL: Final = (*Group, f"{LABEL}NAME")


def group(name: str) -> Column:
    """Return the group called `name`; raises `UnknownColumn`."""
    if name.startswith(LABEL) and len(name) > len(LABEL) and name.isprintable():
        return Label(name)
    try:
        return Group(name)
    except ValueError:
        raise UnknownColumn(name, _ALL, role="column to group or filter by") from None


def states(names: str | Iterable[str]) -> tuple[State, ...]:
    """Return the states that were named, as `groups` does; raises `UnknownColumn`."""
    found = []
    for name in _split(names):
        if name not in tuple(State):
            raise UnknownColumn(name, list(State), role="state")
        found.append(State(name))
    return tuple(dict.fromkeys(found))


def _split(names: str | Iterable[str]) -> Iterator[str]:
    for part in [names] if isinstance(names, str) else names:
        for name in part.split(","):
            yield name.strip()
