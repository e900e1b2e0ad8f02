"""Dead letters in the ledger: their rows, what becomes of them, and those of older versions.

The bytes go to files first (`payloads`), then a row records reason, detail, hash, size and place. A
letter is never changed: that it was read again, or given up, is a row of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.consumer.booking.letters import NOT_COUNTED, as_message, events_in
from voicecosts.consumer.booking.message import WHOLE_MESSAGE, DeadLetter, Message, Reason
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.payloads import Payloads, Place, read_payload
from voicecosts.consumer.store.requests import Action, Outcome, Request
from voicecosts.consumer.store.write import texts
from voicecosts.producer.subjects import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import duckdb

REQUEUED: Final = "requeued"
PURGED: Final = "purged"
DROPPED: Final = "dropped"

_ID_LENGTH: Final = 16
_EXAMPLES: Final = 3
_MOVED_AT_ONCE: Final = 1000
_READ_AT_ONCE: Final = 200
_READ_BYTES: Final = 4_000_000


class Open(Struct, frozen=True):
    """A letter that is neither read again nor given up, as `find_dead_letters.sql` returns it."""

    id: str
    subject: str
    sequence: int
    index: int
    reason: str
    producer_id: str | None
    batch_number: int | None
    bytes: int
    file: str | None
    place: int | None

    def message(self, folder: Path) -> Message | None:
        """Return it as a message to read again; None where its bytes, or its batch, are not known."""
        payload = read_payload(folder, self.file, self.place, self.bytes)
        if payload is None:
            return None
        if self.index == WHOLE_MESSAGE:
            return as_message(self.subject, self.sequence, payload, None)
        if self.producer_id is None:
            return None
        batch = (self.producer_id, self.batch_number or 0)
        return as_message(self.subject, self.sequence, payload, batch)


class _Row(Struct, frozen=True):
    """One row, under the names that `insert_dead_letters.sql` reads."""

    subject: str
    sequence: int
    index: int
    reason: str
    detail: str
    id: str
    project: str | None
    events: int
    producer_id: str | None
    batch_number: int | None
    sha256: str
    bytes: int
    file: str | None
    place: int | None
    received_at: int | None


def write_letters(
    connection: duckdb.DuckDBPyConnection,
    letters: Sequence[DeadLetter],
    payloads: Payloads,
    now_us: int,
) -> tuple[int, list[str]]:
    """Record the letters that are not known; return how many, and the files to remove after the commit.

    The caller has begun the transaction.

    Raises:
        OSError: Their bytes could not be written.
    """
    new = _unknown(connection, letters)
    if not new:
        return 0, []
    # 1. The bytes are on the disk. If we die, no row names them, and the messages come again.
    rows = _stored(new, payloads)
    # 2. Part of the caller's transaction, as is what is dropped to make room.
    for lines in texts(rows):
        connection.execute(sql.INSERT_DEAD_LETTERS, {"lines": lines, "received_at": now_us})
    dropped = payloads.too_many()
    for name in dropped:
        connection.execute(sql.MARK_FILE, {"file": name, "state": DROPPED, "changed_at": now_us})
    return len(rows), dropped


def find_open(connection: duckdb.DuckDBPyConnection, chosen: Request) -> list[Open]:
    """Return the chosen letters that are still open."""
    found = connection.execute(
        sql.FIND_DEAD_LETTERS,
        {
            "reasons": "\n".join(chosen.reasons),
            "ids": "\n".join(chosen.ids),
            "before": chosen.before_us,
        },
    ).fetchall()
    return [Open(*row) for row in found]


def look(connection: duckdb.DuckDBPyConnection, request: Request) -> Outcome:
    """Return how many open letters a request chooses, what there is, and what it names and is not there."""
    chosen, every = (
        find_open(connection, request),
        find_open(connection, Request(action=Action.FIND)),
    )
    there = Counter(letter.reason for letter in every)
    reasons = [it for it in request.reasons if it not in there and it not in tuple(Reason)]
    ids = [it for it in request.ids if not any(letter.id.startswith(it) for letter in every)]
    return Outcome(
        letters=len(chosen),
        chosen=dict(Counter(letter.reason for letter in chosen)),
        open=dict(there),
        examples=tuple(letter.id for letter in every[-_EXAMPLES:]),
        unknown=(*reasons, *ids),
    )


def batches(letters: Sequence[Open]) -> Iterator[list[Open]]:
    """Yield letters in groups that are read in one transaction each, of bounded length."""
    group: list[Open] = []
    length = 0
    for letter in letters:
        if group and (len(group) >= _READ_AT_ONCE or length + letter.bytes > _READ_BYTES):
            yield group
            group, length = [], 0
        group.append(letter)
        length += letter.bytes
    if group:
        yield group


def mark(
    connection: duckdb.DuckDBPyConnection, ids: Iterable[str], state: str, now_us: int
) -> None:
    """Record what became of letters. The caller has begun the transaction."""
    lines = "\n".join(ids)
    if lines:
        connection.execute(
            sql.MARK_DEAD_LETTERS, {"ids": lines, "state": state, "changed_at": now_us}
        )


def mark_unused_files(connection: duckdb.DuckDBPyConnection, now_us: int) -> list[str]:
    """Record as gone the files of which no letter is open; return them, to be removed after the commit."""
    names = [name for (name,) in connection.execute(sql.UNUSED_FILES).fetchall()]
    for name in names:
        connection.execute(sql.MARK_FILE, {"file": name, "state": PURGED, "changed_at": now_us})
    return names


def open_payloads(connection: duckdb.DuckDBPyConnection, folder: Path, max_bytes: int) -> Payloads:
    """Return the files of a ledger, without those that it has recorded as gone."""
    used = [name for (name,) in connection.execute(sql.USED_FILES).fetchall()]
    payloads = Payloads(folder, max_bytes=max_bytes, used=used)
    payloads.remove(name for (name,) in connection.execute(sql.GONE_FILES).fetchall())
    return payloads


def move_old(connection: duckdb.DuckDBPyConnection, payloads: Payloads, now_us: int) -> None:
    """Move the bytes that older versions kept in the ledger into files, once.

    All in one transaction: if we die, the next opening does it again.
    """
    counted = connection.execute(sql.COUNT_OLD_LETTERS).fetchone()
    if counted is None or not counted[0]:
        return
    connection.begin()
    cursor = connection.cursor()
    old = cursor.execute(sql.LOAD_OLD_LETTERS)
    while found := old.fetchmany(_MOVED_AT_ONCE):
        letters = [
            DeadLetter(subject, sequence, index, Reason(reason), detail, payload)
            for _, subject, sequence, index, reason, detail, payload in found
        ]
        times = [row[0] for row in found]
        for lines in texts(_stored(letters, payloads, times)):
            connection.execute(sql.INSERT_DEAD_LETTERS, {"lines": lines, "received_at": now_us})
    cursor.close()
    connection.execute(sql.REMOVE_OLD_LETTERS)
    dropped = payloads.too_many()
    for name in dropped:
        connection.execute(sql.MARK_FILE, {"file": name, "state": DROPPED, "changed_at": now_us})
    connection.commit()
    payloads.remove(dropped)


def letter_id(letter: DeadLetter) -> str:
    """Return what names a letter: the same for the same bytes at the same place.

    The bytes are part of it: a stream that was made anew counts from one again and must not hide what
    it brings, and what was in no stream has no place in one.
    """
    content = hashlib.sha256(letter.payload).hexdigest()
    place = f"{letter.subject}\0{letter.sequence}\0{letter.index}\0{content}"
    return hashlib.sha256(place.encode("utf-8", "backslashreplace")).hexdigest()[:_ID_LENGTH]


def _unknown(
    connection: duckdb.DuckDBPyConnection, letters: Sequence[DeadLetter]
) -> list[DeadLetter]:
    if not letters:
        return []
    by_id = {letter_id(letter): letter for letter in letters}
    places = [letter.sequence for letter in letters]
    known = connection.execute(
        sql.KNOWN_DEAD_LETTERS,
        {
            "ids": "\n".join(by_id),
            "first_sequence": min(places),
            "last_sequence": max(places),
        },
    ).fetchall()
    for (found,) in known:
        by_id.pop(found, None)
    return list(by_id.values())


def _stored(
    letters: Sequence[DeadLetter], payloads: Payloads, times: Sequence[int] | None = None
) -> list[_Row]:
    """Write the bytes of letters, one file after the other, and return their rows in order."""
    places: dict[int, Place | None] = {}
    for reason in dict.fromkeys(letter.reason for letter in letters):
        chosen = [at for at, letter in enumerate(letters) if letter.reason == reason]
        stored = payloads.add(reason, [letters[at].payload for at in chosen])
        places.update(zip(chosen, stored, strict=True))
    return [
        _row(letter, places[at], None if times is None else times[at])
        for at, letter in enumerate(letters)
    ]


def _project_token(subject: str) -> str | None:
    """Return the project's token of a subject, which may be of another form or cut: not in the token."""
    named = subject.removeprefix(f"{PREFIX}.")
    project, dot, _ = named.partition(".")
    return project if project and dot and named != subject else None


def _row(letter: DeadLetter, place: Place | None, received_at: int | None) -> _Row:
    events = events_in(letter)
    return _Row(
        letter.subject,
        letter.sequence,
        letter.index,
        letter.reason,
        letter.detail if events is not None else letter.detail + NOT_COUNTED,
        letter_id(letter),
        letter.project or _project_token(letter.subject),
        1 if events is None else events,
        letter.producer_id,
        letter.batch_number,
        hashlib.sha256(letter.payload).hexdigest(),
        len(letter.payload),
        None if place is None else place.file,
        None if place is None else place.offset,
        received_at,
    )
