"""Back a ledger up into a folder, also while it runs, and check what is there.

A backup is a folder of its own, which a restore copies as it is: a snapshot, the files of sealed days and of
dead letters that it names, the operator's prices, and a manifest with the checksum of each file. It is made
under the name of a draft, is on the disk when it is renamed, and is never changed afterwards; so what has the
name of a backup is whole, whenever we die. Files that the backup before has too are linked to, not copied. The ledger is not
asked and not locked: what is read of it are files that nobody changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import msgspec
from msgspec import Struct

from voicecosts.consumer.errors import (
    BackupFailed,
    BackupInUse,
    BackupRefused,
    LedgerInUse,
    LedgerNewer,
)
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.blocks import BlockError
from voicecosts.consumer.store.copying import copy_of
from voicecosts.consumer.store.database import close
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import (
    PRIVATE,
    PRIVATE_FOLDER,
    WriterLock,
    make_folder,
    sync_folder,
    write_private,
)
from voicecosts.consumer.store.heartbeat import read_heartbeat, utc_text
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.payloads import Payloads
from voicecosts.consumer.store.streams import load_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MANIFEST: Final = "backup.json"

PRICES: Final = "prices.toml"
LAST_GOOD_PRICES: Final = "ledger/prices.toml"
"""Where a ledger looks for its operator's prices in its data directory, and for the last good ones."""

MARK: Final = "voicecosts-backups"
"""A file in each folder of backups: a folder without it is somebody else's. Who writes there holds its lock."""

_NAME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?")
_DRAFT: Final = ".tmp"
_OLDEST_SCHEMA: Final = 13  # the first that records sealed files
_TRIES: Final = 5
_PIECE: Final = 2**20


class Kept(Struct, frozen=True):
    """A file of a backup: its path in it, its size, and the SHA-256 of what was copied."""

    path: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup holds, in its file `backup.json`.

    `sequence` is the highest place that is booked in it of the stream that the ledger reads now, 0 where nothing came
    from it; `as_of` is until when it holds all that was sent to the ledger. `lacks` are files of sealed days
    that were gone or damaged when it was made: their sums are in it, their single rows are not.
    """

    form: int = 1
    made_at: str
    ledger_id: str
    schema: int
    snapshot: int
    sequence: int
    as_of: str
    files: tuple[Kept, ...]
    lacks: tuple[str, ...] = ()

    @property
    def moment(self) -> datetime:
        """`as_of` as a time in UTC."""
        return datetime.fromisoformat(self.as_of)


class Made(Struct, frozen=True, kw_only=True):
    """A backup that is on the disk: its folder, how many of its files were linked to, and what was written."""

    path: Path
    manifest: Manifest
    linked: int
    written: int


class Checked(Struct, frozen=True, kw_only=True):
    """A backup that was read to its end; `problems` names each file that is not what was written."""

    path: Path
    manifest: Manifest | None
    problems: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all of it can be restored."""
        return not self.problems


class _Gone(Exception):  # noqa: N818 - it says what happened
    """A file that the snapshot names is not there any more: a newer snapshot does not name it."""


def backups(folder: Path) -> list[Path]:
    """Return the backups of a folder, the oldest first. All of them are complete."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found)


def back_up(
    data_dir: Path,
    folder: Path,
    *,
    prices: Path,
    keep: int | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Made:
    """Make a backup of the newest snapshot of `data_dir` in `folder`, and remove all but the newest `keep`.

    `prices` is the operator's file, which may be absent. Where something is lacking, none is removed.

    Raises:
        BackupRefused: The folder is something else, or of another ledger; nothing was written.
        BackupInUse: Another backup is being made in it.
        BackupFailed: There is no snapshot or a damaged one, no room, or no right; the others are as they were.
        LedgerNewer: A newer version wrote it.
    """
    layout = Layout(data_dir)
    folder = folder.absolute()
    _refuse_others(folder, layout)
    try:
        make_folder(folder)
        lock = WriterLock.acquire(folder / MARK)
    except LedgerInUse as error:
        raise BackupInUse(folder, error.pid) from error
    except OSError as error:
        raise BackupFailed(folder, error.strerror or str(error)) from error
    try:
        _remove_drafts(folder)
        made = _Backup(layout, folder, prices, now()).make()
        if keep is not None and not made.manifest.lacks:
            _remove_older(folder, made.path, keep)
    except OSError as error:
        raise BackupFailed(folder, error.strerror or str(error)) from error
    finally:
        with contextlib.suppress(OSError):
            _remove_drafts(folder)
        lock.release()
    return made


def check(folder: Path) -> list[Checked]:
    """Read every backup of a folder, and compare each file with what was written. Nothing is changed.

    A file that several backups have by links is read once.
    """
    digests: dict[tuple[int, int], str] = {}
    found = [_check(path, digests) for path in backups(folder)]
    return [each for each in found if each.path.is_dir()]  # one may have been removed meanwhile


class _Backup:
    """One backup on its way."""

    def __init__(self, layout: Layout, folder: Path, prices: Path, now: datetime) -> None:
        self._layout = layout
        self._folder = folder
        self._prices = prices
        self._now = now
        self._before, self._known = _newest(folder)
        known = () if self._known is None else self._known.files
        self._kept_before = {each.path: each for each in known}
        self._draft = folder / _DRAFT
        self._files: list[Kept] = []
        self._lacks: list[str] = []
        self._linked = 0
        self._written = 0

    def make(self) -> Made:
        path = _free_name(self._folder, self._now)
        self._draft = path.with_name(path.name + _DRAFT)
        for left in reversed(range(_TRIES)):
            try:
                # 1. A draft. If we die, it has no name of a backup, and the next one removes it.
                manifest = self._copy_all(is_last_try=not left)
                break
            except _Gone:  # from the beginning, of the snapshot that does not name it
                shutil.rmtree(self._draft)
        write_private(self._draft / MANIFEST, _json(manifest), synced=True)
        for each, _, _ in os.walk(self._draft):
            sync_folder(Path(each))
        # 2. All of it is on the disk. From the rename on it is a backup.
        self._draft.rename(path)
        sync_folder(self._folder)
        return Made(path=path, manifest=manifest, linked=self._linked, written=self._written)

    def _copy_all(self, *, is_last_try: bool) -> Manifest:
        self._files, self._lacks, self._linked, self._written = [], [], 0, 0
        self._draft.mkdir(PRIVATE_FOLDER)
        snapshot = self._copy_snapshot()
        manifest, sealed = self._read(snapshot)
        for file in sealed:
            self._keep_sealed(file, snapshot.name, is_last_try=is_last_try)
        # Their bytes were there before the row that names them, so they are in what is copied now.
        for name in Payloads(self._layout.dead_letters).names():
            self._keep_letters(f"{self._layout.dead_letters.name}/{name}")
        for source, path in ((self._prices, PRICES), (self._layout.prices, LAST_GOOD_PRICES)):
            with contextlib.suppress(FileNotFoundError):
                self._files.append(self._copy(source, path))
        return msgspec.structs.replace(manifest, files=tuple(self._files), lacks=tuple(self._lacks))

    def _copy_snapshot(self) -> Path:
        """Copy the newest snapshot, with a look at the checksum of each block, and link to it."""
        for _ in range(_TRIES):
            source = self._layout.current.resolve()
            target = self._draft / source.name
            try:
                copy = copy_of(source, target)
                try:
                    copy.advance(lambda: False)
                finally:
                    copy.close()
            except FileNotFoundError:  # a newer one has taken its place
                continue
            except BlockError as error:
                problem = f"the snapshot {source} is damaged ({error}): delete it, and the ledger publishes another"
                raise BackupFailed(self._folder, problem) from error
            with contextlib.suppress(OSError):  # a file system without links; a restore needs none
                (self._draft / self._layout.current.name).symlink_to(target.name)
            size = target.stat().st_size
            self._written += size
            self._files.append(Kept(target.name, size, _digest(target)))
            return target
        raise BackupFailed(self._folder, f"{self._layout.current} leads to no snapshot")

    def _read(self, snapshot: Path) -> tuple[Manifest, list[Kept]]:
        """Return what a snapshot says of itself, and the files of sealed days that it names."""
        with translated(snapshot):
            connection = duckdb.connect(snapshot, read_only=True, config={"threads": 1})
            try:
                (schema,), known = _one(connection, sql.LOAD_VERSION), max(sql.migrations())
                if schema > known:
                    raise LedgerNewer(self._layout.ledger, schema, known)
                if schema < _OLDEST_SCHEMA:
                    problem = "the ledger is of an older version: start it once with this one"
                    raise BackupFailed(self._folder, problem)
                _, number, as_of = _one(connection, sql.LOAD_STATE)
                sequence = load_streams(connection).progress.highest
                (ledger_id,) = _one(connection, sql.LOAD_LEDGER_ID)
                sealed = [Kept(*row) for row in connection.execute(sql.KEPT_FILES).fetchall()]
            finally:
                close(connection)
        if self._known is not None and self._known.ledger_id != ledger_id:
            raise BackupRefused(
                self._folder,
                "it has backups of another ledger, which these would push out",
            )
        last = read_heartbeat(self._layout.heartbeat)
        until = as_of.replace(tzinfo=UTC)
        if last is not None and last.snapshot == number:
            until = max(until, last.moment)
        manifest = Manifest(
            made_at=utc_text(self._now),
            ledger_id=ledger_id,
            schema=schema,
            snapshot=number,
            sequence=sequence,
            as_of=utc_text(until),
            files=(),
        )
        return manifest, sealed

    def _keep_sealed(self, file: Kept, snapshot: str, *, is_last_try: bool) -> None:
        if self._link(file):
            return
        try:
            found = self._copy(self._layout.data_dir / file.path, file.path)
        except FileNotFoundError:
            if not is_last_try and self._layout.current.resolve().name != snapshot:
                raise _Gone from None
        else:
            if found == file:
                self._files.append(found)
                return
            (self._draft / file.path).unlink()
        self._lacks.append(file.path)

    def _keep_letters(self, path: str) -> None:
        source = self._layout.data_dir / path
        with contextlib.suppress(FileNotFoundError):  # dropped meanwhile to make room for others
            size = source.stat().st_size
            known = self._kept_before.get(path)
            # After a restore the same name may get as many bytes again, and others.
            is_same = known is not None and known.sha256 == _digest(source)
            if known is None or not is_same or not self._link(known):
                self._files.append(self._copy(source, path, size))

    def _link(self, file: Kept) -> bool:
        """Have a file of the backup before in this one as well; return whether it is there."""
        if self._before is None or self._kept_before.get(file.path) != file:
            return False
        source, target = self._before / file.path, self._draft / file.path
        try:
            if source.stat().st_size != file.bytes:
                return False
            make_folder(target.parent)
            target.hardlink_to(source)
        except OSError:  # it is gone, or the file system has no links
            return False
        self._files.append(file)
        self._linked += 1
        return True

    def _copy(self, source: Path, path: str, size: int | None = None) -> Kept:
        """Copy a file, or its first bytes, to a path in the draft, onto the disk."""
        target = self._draft / path
        digest, count = hashlib.sha256(), 0
        with source.open("rb") as read:
            make_folder(target.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(target, flags, PRIVATE), "wb") as written:
                while piece := read.read(_PIECE if size is None else min(_PIECE, size - count)):
                    written.write(piece)
                    digest.update(piece)
                    count += len(piece)
                written.flush()
                os.fsync(written.fileno())
        self._written += count
        return Kept(path, count, digest.hexdigest())


def _refuse_others(folder: Path, layout: Layout) -> None:
    """Raise `BackupRefused` for a folder that is something else than a folder of backups, or a new one."""
    there, root = folder.resolve(), layout.data_dir.resolve()
    if there == root or root in there.parents:
        raise BackupRefused(
            folder, f"it is in the data directory {root}, and would be lost with it"
        )
    if there in root.parents:
        raise BackupRefused(folder, f"the data directory {root} is in it")
    if there.exists() and not there.is_dir():
        raise BackupRefused(folder, "it is a file")
    try:
        is_empty = not there.exists() or not any(there.iterdir())
    except OSError as error:
        raise BackupFailed(folder, error.strerror or str(error)) from error
    if not is_empty and not (there / MARK).is_file():
        raise BackupRefused(folder, "it has files in it that are no backups of a ledger")


def _remove_drafts(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name.endswith(_DRAFT) and _NAME.fullmatch(path.name.removesuffix(_DRAFT)):
            shutil.rmtree(path)


def _remove_older(folder: Path, made: Path, keep: int) -> None:
    """Remove the oldest backups, but never the one just made: a clock may have been set back."""
    others = [path for path in backups(folder) if path != made]
    for path in others[: max(0, len(others) - keep + 1)]:
        # If we die in the middle of it, it has no name of a backup any more.
        draft = path.with_name(path.name + _DRAFT)
        path.rename(draft)
        shutil.rmtree(draft)
    sync_folder(folder)


def _newest(folder: Path) -> tuple[Path | None, Manifest | None]:
    """Return the newest backup whose manifest can be read, and that."""
    for path in reversed(backups(folder)):
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return path, _manifest_of(path)
    return None, None


def _manifest_of(path: Path) -> Manifest:
    return msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)


def _free_name(folder: Path, now: datetime) -> Path:
    stem = f"{now:%Y-%m-%dT%H-%M-%SZ}"
    number, name = 1, stem
    while (folder / name).exists():
        number += 1
        name = f"{stem}-{number}"
    return folder / name


def _check(path: Path, digests: dict[tuple[int, int], str]) -> Checked:
    try:
        manifest = _manifest_of(path)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Checked(path=path, manifest=None, problems=(f"{MANIFEST} cannot be read",))
    return Checked(
        path=path, manifest=manifest, problems=tuple(_problems(path, manifest.files, digests))
    )


def _problems(
    path: Path, files: Iterable[Kept], digests: dict[tuple[int, int], str]
) -> Iterable[str]:
    for file in files:
        try:
            status = (path / file.path).stat()
            which = status.st_dev, status.st_ino
            if which not in digests:
                digests[which] = _digest(path / file.path)
        except OSError as error:
            yield f"{file.path} cannot be read: {error.strerror}"
            continue
        if (status.st_size, digests[which]) != (file.bytes, file.sha256):
            yield f"{file.path} is not what was written"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[Any, ...]:
    row = connection.execute(statement).fetchone()
    assert row is not None  # noqa: S101 - every ledger has this row
    return row


def _json(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2)
