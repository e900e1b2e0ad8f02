"""Erase a tenant: all that the data directory holds of it, so that no file has its name or the id of a session of it.

It is a long operation, done in steps that are each a transaction or can be done again: sealed files are written
anew without it, then the files of dead letters, then words of other operations are taken out, then its
sessions go, some at a time, and last the rows that belong to no session. From the moment at which it is
recorded, what comes of the tenant is refused. A death anywhere leaves what is left to do where the next ledger
finds it: the sessions go after everything that is found by them.

What the ledger's file still has in free blocks, and the copies of it, go at the end: `Ledger` does that.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from typing import TYPE_CHECKING, Final

import duckdb
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.letters import without
from voicecosts.consumer.booking.message import WHOLE_MESSAGE
from voicecosts.consumer.booking.operations import Adjust, Erase, Operation, Redacted, Rerate, Void
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.store import months, sql
from voicecosts.consumer.store.files import PRIVATE, sync_folder
from voicecosts.consumer.store.letters import PURGED
from voicecosts.consumer.store.price_file import forget_prices
from voicecosts.consumer.store.sealing import name_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from voicecosts.consumer.store.layout import Layout
    from voicecosts.consumer.store.operations import Operations
    from voicecosts.consumer.store.payloads import Payloads
    from voicecosts.consumer.store.removal import Removal

_log = logging.getLogger(__name__)

SLICE_SESSIONS: Final = 2_000
"""Sessions of one transaction, at most."""

LONG_NAME: Final = 8
"""A name of so many bytes is looked for in bytes that nobody can read, a shorter one only as a tenant."""

_OF_SESSIONS: Final = (
    "bookings",
    "folded_usage",
    "session_readings",
    "session_starts",
    "session_ends",
    "session_notes",
    "settled_sessions",
    "pending_sessions",
    "void_marks",
    "session_identities",
)
_WITH_TENANT: Final = (
    "bookings",
    "folded_usage",
    "folded_months",
    "session_starts",
    "session_ends",
    "settled_sessions",
)
_CURE: Final = "put a good copy in its place, or move it out of the data directory"
_ID: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class SealedUnreadable(OSError):  # noqa: N818 - it says what happened
    """A sealed file is not what was written, so that nobody knows whose rows it has. The ledger is as good as before."""


class Name:
    """A tenant's name, and how it is found in words and in bytes."""

    def __init__(self, tenant: str, project: str | None) -> None:
        self.tenant = tenant
        self.project = project
        raw = tenant.encode("utf-8", "surrogatepass")
        # A domain, a file or the end of a sentence names it; another name that begins or ends so does not.
        self._words = re.compile(rf"(?<![^\W_])(?<!-){re.escape(tenant)}(?![^\W_])(?!-)")
        pack = msgspec.msgpack.encode
        self._packed = pack("tenant") + pack(tenant)
        apart = rb"%b|(?<![\w.-])%b(?![\w-]|\.\w)" % (re.escape(pack(tenant)), re.escape(raw))
        self._apart = re.compile(apart) if len(raw) >= LONG_NAME else None
        self._project = None if project is None else project.encode()

    @property
    def values(self) -> dict[str, object]:
        """What the statements call it."""
        return {"tenant": self.tenant, "project": self.project}

    def is_in_words(self, text: str | None) -> bool:
        """Whether a text names it."""
        return bool(text) and self._words.search(str(text)) is not None

    def is_in(self, data: bytes) -> bool:
        """Whether an event, or something that nobody can read, names it as its tenant."""
        if self._project is not None and self._project not in data:
            return False
        return self._packed in data or bool(self._apart and self._apart.search(data))


class _OfOthers(Struct, frozen=True):
    """A letter that stays. What is given beside its bytes is new: it has fewer events than before."""

    letter: str
    payload: bytes
    events: int | None = None
    size: int | None = None
    sha256: str | None = None


class Erasing:
    """The erasure that is under way in one ledger."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        layout: Layout,
        *,
        operations: Operations,
        payloads: Payloads,
        removal: Removal,
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._operations = operations
        self._payloads = payloads
        self._removal = removal
        self._number = 0
        self._files: list[str] | None = None
        self._letters: list[str] | None = None
        self._is_redacted = False

    def __repr__(self) -> str:
        return f"<Erasing: operation {self._number}>"

    def step(
        self, operation: Operation, work: Erase, now_us: int, snapshot: int
    ) -> list[SessionKey]:
        """Do a bounded part, and return the sessions that are gone; `work` names the tenant."""
        name = Name(work.tenant, work.project)
        if operation.number != self._number:
            self._number, self._is_redacted = operation.number, False
            self._connection.execute(sql.OF_ERASED, name.values)
            self._files = self._letters = None
        if self._files is None:
            self._files = self._find_files(name)
        elif self._files:
            self._rewrite_file(self._files.pop(), name, now_us, snapshot)
        elif self._letters is None:
            self._remove_details(name)
            self._letters = self._payloads.names()
        elif self._letters:
            self._rewrite_letters(self._letters.pop(), name, now_us)
        elif not self._is_redacted:
            self._redact(name)
            self._is_redacted = True
        else:
            return self._remove_sessions(name, operation)
        return []

    def forget(self) -> None:
        """Look for everything again at the next step: the last one failed, and nobody knows how far it came."""
        self._number = 0

    def _find_files(self, name: Name) -> list[str]:
        """Return the sealed files that have rows of it, by their paths in the data directory.

        Files that the ledger does not name are looked through as well: a newer ledger left them, of which an older
        copy was restored. Damaged ones that were laid aside go. What it names and is not there holds nothing.
        """
        for (
            path
        ) in self._layout.damaged():  # nobody knows whose rows it has, and no answer has them
            path.unlink()
            sync_folder(path.parent)
        there = self._layout.sealed_files()
        known = self._connection.execute(sql.SEALED_FILES).fetchall()
        groups = [[file for file in files if file in there] for _, files in known]
        lacking = sum(len(files) for _, files in known) - sum(len(files) for files in groups)
        if lacking:
            _log.warning(
                "%d files of sealed days are not there, and were not looked through: if they come back, erase again",
                lacking,
            )
        named = {file for files in groups for file in files}
        named |= self._removal.waiting  # they go at the end
        groups += [[file] for file in there if file not in named]  # of any version
        found: list[str] = []
        for files in filter(None, groups):
            paths = {str(there[file].absolute()): file for file in files}
            values = {"files": [sql.literal(path) for path in paths], **name.values}
            with _readable():
                rows = self._connection.execute(sql.FILES_OF_ERASED, values).fetchall()
            found += [paths[path] for (path,) in rows]
        return found

    def _rewrite_file(self, file: str, name: Name, now_us: int, snapshot: int) -> None:
        """Have the rows of others in a new file, and none of them in the old one, which goes at the end."""
        source = self._layout.data_dir.absolute() / file
        known = self._connection.execute(sql.SEALED_FILE, {"file": file}).fetchone()
        day, first, last, version, sha256 = known or (*self._layout.sealed_span(file), 0, "")
        if known and _checksum(source) != sha256:
            raise SealedUnreadable(f"{source} is not what was written to it: {_CURE}")
        values = {"source": sql.literal(str(source)), **name.values}
        with _readable():
            others = self._connection.execute(sql.SUM_OF_OTHERS, values).fetchone() or (0, None)
        new = self._layout.sealed_name(day, first, last, now_us)
        path = self._layout.data_dir.absolute() / new
        checksum = ""
        if not known:
            if others[0]:
                self._write(path, values, others)
            source.unlink()
            sync_folder(source.parent)
            return
        if others[0]:
            # 1. It is known that nobody needs the new file. If we die, it is removed.
            self._connection.begin()
            self._removal.note([new], 0)
            self._connection.commit()
            checksum = self._write(path, values, others)
        # 2. All or nothing: the views name the one, or the other.
        self._connection.begin()
        self._connection.execute(sql.FORGET_FILES, {"files": [file]})
        self._removal.withdraw([new])
        if others[0]:
            self._connection.execute(
                sql.RECORD_SEALED,
                {
                    "day": day,
                    "file": new,
                    "rows": others[0],
                    "first": first,
                    "last": last,
                    "bytes": path.stat().st_size,
                    "sha256": checksum,
                    "version": version,
                    "sealed_at": now_us,
                },
            )
        self._removal.note([file], snapshot)
        name_sealed(self._connection, self._layout, may_be_last=True)
        self._connection.commit()
        self._removal.load()

    def _write(self, path: Path, values: dict[str, object], expected: tuple[object, ...]) -> str:
        draft = path.with_name(path.name + ".tmp")
        try:
            self._connection.execute(sql.SEAL_OTHERS, {**values, "file": str(draft)})
            draft.chmod(PRIVATE)
            read = {"file": sql.literal(str(draft))}
            found = self._connection.execute(sql.SUM_OF_FILE, read).fetchone()
            if found != expected:
                raise OSError(f"{draft} does not hold what was written to it")  # noqa: TRY301 - it is removed
            with draft.open("rb") as opened:
                os.fsync(opened.fileno())
            checksum = _checksum(draft)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        draft.rename(path)
        sync_folder(path.parent)
        return checksum

    def _remove_details(self, name: Name) -> None:
        """Remove the letters whose bytes may be gone, and of which it is said what was wrong with whom."""
        found = self._connection.execute(sql.DETAILS_OF_LETTERS, {"tenant": name.tenant}).fetchall()
        ids = self._ours(detail.encode("utf-8", "surrogatepass") for _, detail in found)
        gone = [
            letter
            for letter, detail in found
            if name.is_in_words(detail) or _ids(detail.encode("utf-8", "surrogatepass")) & ids
        ]
        if gone:
            self._connection.begin()
            self._remove_letters(gone)
            self._connection.commit()

    def _rewrite_letters(self, file: str, name: Name, now_us: int) -> None:
        """Have the bytes of letters of others in a new file, and remove the old one.

        Of a batch that nobody could read yet the events of others stay.
        """
        try:
            data = (self._layout.dead_letters / file).read_bytes()
        except FileNotFoundError:
            return
        ours = self._ours([data])
        if not (ours or name.is_in(data)):
            return
        gone: list[str] = []
        alone: set[str] = set()
        others: list[_OfOthers] = []
        letters = self._connection.execute(sql.LETTERS_OF_FILE, {"file": file}).fetchall()
        for letter, index, place, length in letters:
            payload = data[place : place + length]
            left = _of_others(letter, index, payload, lambda part: _is_ours(part, name, ours))
            if left is not None:
                others.append(left)
                continue
            gone.append(letter)
            if index != WHOLE_MESSAGE:
                alone |= _ids(payload)
        # 1. The bytes of the others are on the disk. If we die, no row names them.
        places = self._payloads.add_apart(
            file.rpartition("-")[0], [each.payload for each in others]
        )
        # 2. All or nothing: rows name the new file, and the old one is recorded as gone.
        self._connection.begin()
        kept = [(each, at) for each, at in zip(others, places, strict=True) if at]
        if kept:
            self._connection.execute(
                sql.MOVE_LETTERS,
                {
                    "ids": [each.letter for each, _ in kept],
                    "files": [at.file for _, at in kept],
                    "places": [at.offset for _, at in kept],
                    "events": [each.events for each, _ in kept],
                    "bytes": [each.size for each, _ in kept],
                    "sha256": [each.sha256 for each, _ in kept],
                },
            )
        self._remove_letters(gone)
        self._connection.execute(
            sql.MARK_FILE, {"file": file, "state": PURGED, "changed_at": now_us}
        )
        found = self._connection.execute(sql.OF_NOTES_ALONE, {"ids": sorted(alone)}).fetchall()
        if found:
            ids = [str(row[0]) for row in found]
            for table in ("session_notes", "pending_sessions", "settled_sessions"):
                self._connection.execute(sql.erase_notes_alone(table), {"ids": ids})
        self._connection.commit()
        # 3. Nobody names it. If we die before, the next opening removes it.
        self._payloads.remove([file])

    def _remove_letters(self, letters: Sequence[str]) -> None:
        if not letters:
            return
        self._connection.execute(sql.REMOVE_LETTERS, {"ids": list(letters)})
        self._connection.execute(sql.REMOVE_CHANGES, {"ids": list(letters)})
        self._connection.execute(
            sql.COUNT_ERASED_LETTERS, {"letters": len(letters), "number": self._number}
        )

    def _ours(self, texts: Iterable[bytes]) -> set[str]:
        """Return the ids in some bytes that are of its sessions."""
        ids: set[str] = set()
        for text in texts:
            ids |= _ids(text)
        if not ids:
            return set()
        found = self._connection.execute(sql.IDS_OF_ERASED, {"ids": sorted(ids)}).fetchall()
        return {row[0] for row in found}

    def _redact(self, name: Name) -> None:
        """Take its name and the ids of its sessions out of what was asked of the ledger, and why."""
        for path in self._asked():
            with contextlib.suppress(FileNotFoundError):
                asked = path.read_bytes()
                is_told = name.is_in_words(asked.decode("utf-8", "replace")) or self._ours([asked])
                if is_told or msgspec.json.encode(name.tenant) in asked:
                    path.unlink()
        forget_prices(self._layout.prices, name.is_in_words)
        changed = [new for old in self._operations.all if (new := self._without(old, name)) != old]
        self._operations.rewrite(changed)

    def _asked(self) -> list[Path]:
        folder = self._layout.requests
        return list(folder.glob("*.asked")) if folder.is_dir() else []

    def _without(self, operation: Operation, name: Name) -> Operation:
        work = operation.work
        if isinstance(work, Adjust) and work.tenant == name.tenant:
            if name.project in (None, work.project):
                work = Redacted(was=work.kind, by=self._number)
        elif isinstance(work, Void) and self._ours([work.session_id.encode()]):
            work = Redacted(was=work.kind, by=self._number)
        elif isinstance(work, Rerate) and name.tenant in work.where.get("tenant", ()):
            left = tuple(it for it in work.where["tenant"] if it != name.tenant)
            work = (
                replace(work, where={**work.where, "tenant": left})
                if left
                else Redacted(was=work.kind, by=self._number)
            )
        said = f"(erased by operation {self._number})"

        def cleaned(text: str) -> str:
            has = name.is_in_words(text) or bool(self._ours([text.encode("utf-8", "replace")]))
            return said if has else text

        prices = operation.prices
        return replace(
            operation,
            work=work,
            reason=cleaned(operation.reason),
            source=cleaned(operation.source),
            left_why=cleaned(operation.left_why),
            prices=None if name.is_in_words(prices) else prices,
        )

    def _remove_sessions(self, name: Name, operation: Operation) -> list[SessionKey]:
        """Remove some sessions; when none is left, the rest, and the name from the operation itself."""
        self._connection.begin()
        self._connection.execute(sql.SLICE_OF_ERASED, {"most": SLICE_SESSIONS})
        count, first, last = self._connection.execute(sql.SPAN_OF_ERASED).fetchone() or (
            0,
            None,
            None,
        )
        if not count:
            self._remove_rest(name, operation)
            return []
        keys = [SessionKey(*row) for row in self._connection.execute(sql.LIST_OF_ERASED).fetchall()]
        months.take_erased(self._connection, first, last)
        for table in (*_OF_SESSIONS, "erasing"):
            self._connection.execute(sql.erase_sessions(table), {"first": first, "last": last})
        # 1. Some sessions whole. If we die, the next ledger goes on with those that have an identity.
        self._connection.commit()
        return keys

    def _remove_rest(self, name: Name, operation: Operation) -> None:
        """Remove what is left, in the open transaction, and commit."""
        for table in _WITH_TENANT:
            self._connection.execute(sql.erase_tenant(table), name.values)
        self._connection.execute("DROP TABLE erasing")
        self._connection.execute("DROP TABLE erased_now")
        # 1. No row names it. If we die, the next ledger removes the copies.
        self._operations.rewrite(
            [replace(operation, work=Erase(project=name.project))], is_begun=True
        )
        self._number = 0


def _is_ours(data: bytes, name: Name, ours: set[str]) -> bool:
    return name.is_in(data) or not ours.isdisjoint(_ids(data))


def _of_others(
    letter: str, index: int, payload: bytes, is_out: Callable[[bytes], bool]
) -> _OfOthers | None:
    """Return what is left of a letter, `None` if nothing is."""
    if not is_out(payload):
        return _OfOthers(letter, payload)
    left = without(payload, is_out) if index == WHOLE_MESSAGE else None
    if left is None:
        return None
    data, events = left
    return _OfOthers(letter, data, events, len(data), hashlib.sha256(data).hexdigest())


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Say what to do about a sealed file that cannot be read: nobody knows whose rows it has."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        problem = str(error).partition("\n")[0]
        raise SealedUnreadable(f"a sealed file cannot be read ({problem}): {_CURE}") from error


def _checksum(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _ids(data: bytes) -> set[str]:
    return {it.decode() for it in _ID.findall(data)}
