"""The operator's own prices as a ledger uses them: a file that may change, or break, at any time.

A file with mistakes never stops booking: the last good prices stay in force, and a copy of them is
kept beside the ledger, so that they outlive a restart. A file that is gone or empty is a mistake too: it
may be being written. Who wants no prices of his own any more leaves one with the line `# no prices`. What
is wrong is said once in the log, and to readers for as long as it lasts. Without any good prices there are
list prices alone, and that is said as well.

Nor does a file that is slow: while a ledger runs, the file is read and checked in a thread of its own, and
its contents are compared, because an edit may leave time and size as they were.

A call is billed to its end by the prices under which it began. So what they were before an edit is kept beside that
copy, each text under its digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Final, NamedTuple

from voicecosts.consumer.errors import InvalidPrices
from voicecosts.consumer.pricing.own import OwnBook
from voicecosts.consumer.pricing.own.book import (
    MAX_FORMER,
    data_of,
    decoded,
    digest_of,
    former,
    read,
    text_of,
)
from voicecosts.consumer.store.files import write_private
from voicecosts.consumer.store.heartbeat import PricesTrouble, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from msgspec import UnsetType

    from voicecosts.consumer.pricing import Scope
    from voicecosts.consumer.pricing.charge import Charge
    from voicecosts.producer.events import Meter

LOOK_INTERVAL_S: Final = 1.0
"""How often the file is looked at. It is read when it changed, and then stayed the same from one look
to the next: what an editor has half written is not taken for prices."""

_log = logging.getLogger(__name__)


class _Found(NamedTuple):
    """What a look found: the file's content, and where it was to be read, its prices or what is wrong."""

    content: str
    text: str | None = None
    prices: OwnBook | InvalidPrices | None = None


class PriceFile:
    """The prices of one file, looked up while it changes. One thread uses it.

    Until `start` there are none. `trouble` is what is wrong with the file now. Prices that were found
    stay with their meter: a change of the file concerns meters that have no price yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: Path | None = None
        self._book = OwnBook(name=path.name)
        self._other: tuple[str | None, OwnBook] | None = None
        self._in_force: str | None = None  # the text that `_book` was read from
        self._is_good = False  # whether `_book` comes from a file without mistakes
        self._read = self._seen = ""  # as what `content_of` names it
        self._looking: Future[_Found] | None = None
        self._next_look: float | None = None
        self.trouble: PricesTrouble | None = None

    def __repr__(self) -> str:
        state = f", {self.trouble.problems} problems" if self.trouble else ""
        return f"<PriceFile {self._path}: {self._book!r}{state}>"

    @property
    def digest(self) -> str:
        """What names the prices that are in force."""
        return self._book.digest

    def find(self, meter: Meter, scope: Scope, at: datetime) -> tuple[Charge | None, Charge | None]:
        """Return what the operator pays and what the tenant is charged, in force at `at`."""
        return self._book.find(meter, scope, at)

    def billed_by(
        self, digest: str, meter: Meter, scope: Scope, at: datetime
    ) -> Charge | UnsetType | None:
        """Return what the tenant is charged by former prices; unset where their text is kept nowhere any more."""
        if digest != self.digest and former(digest) is None:
            self._read_former(digest)
        return self._book.billed_by(digest, meter, scope, at)

    def _read_former(self, digest: str) -> None:
        """Read prices that another process kept, if they can be read."""
        with contextlib.suppress(InvalidPrices):
            if self._kept is not None and (text := text_of(_former_of(self._kept, digest))):
                read(text, self._path.name, path=str(self._path))

    @property
    def is_looking(self) -> bool:
        """Whether the file is being read."""
        return self._looking is not None and not self._looking.done()

    @property
    def text(self) -> str | None:
        """The text of the prices that are in force, `None` without any."""
        return self._in_force

    @contextlib.contextmanager
    def as_in(self, text: str | None) -> Iterator[None]:
        """Look prices up in another text for a while: in the one that an operation began with."""
        if text == self._in_force:
            yield
            return
        now = self._book
        if self._other is None or self._other[0] != text:
            self._other = text, self._book_of(text)
        self._book = self._other[1]
        try:
            yield
        finally:
            self._book = now

    def start(self, kept: Path, now: datetime, last: PricesTrouble | None = None) -> None:
        """Read the file, or the copy in `kept` where it has mistakes; `last` is what readers were told.

        Only the holder of the ledger's lock may call it.
        """
        self._kept = kept
        self.trouble = last if last is not None and last.file == str(self._path) else None
        self._take(self._look(None, self._read), now)

    def look(self, ticks: float, now: datetime) -> None:
        """Take in what the last look found, and look again once a second. Cheap to call often.

        The look is in a thread of its own, which nobody waits for: the disk may be slow, or gone.
        """
        if self._looking is not None and self._looking.done():
            looked, self._looking = self._looking, None
            self._take(looked.result(), now)
        if self._looking is not None or (self._next_look is not None and ticks < self._next_look):
            return
        self._next_look = ticks + LOOK_INTERVAL_S
        self._looking = _started(self._look, self._read, self._seen)

    def _look(self, read_before: str | None, seen: str) -> _Found:
        """Return what is in the file, with its prices if it changed and then stayed as it was `seen`.

        It changes nothing here. Without `read_before` the prices are read in any case.
        """
        content, data, error = content_of(self._path)
        if read_before is not None and (content == read_before or content != seen):
            return _Found(content)
        try:
            if error is not None:
                raise error
            text = None if data is None else decoded(data, self._path)
            return _Found(content, text, self._book_of(text))
        except InvalidPrices as problem:
            return _Found(content, None, problem)

    def _take(self, found: _Found, now: datetime) -> None:
        self._seen = found.content
        if found.prices is None:
            return
        self._read = found.content
        book = found.prices
        if isinstance(book, OwnBook):
            book = self._lost(found.text) or book
        if isinstance(book, InvalidPrices):
            self._refuse(book, now)
            return
        if self._is_good or self.trouble is not None:
            one = "entry" if len(book.entries) == 1 else "entries"
            _log.info("%s is read: %d %s", self._path, len(book.entries), one)
        self._other = self._in_force, self._book  # an operation may have begun with it
        self._book, self._is_good, self.trouble = book, found.text is not None, None
        self._in_force = found.text
        if found.text is not None:
            self._keep(found.text)

    def _lost(self, text: str | None) -> InvalidPrices | None:
        """Return what is wrong where a file that had prices is empty or gone."""
        if text is not None and not text.strip() and self._had_prices():
            return InvalidPrices(str(self._path), [emptied(self._path)])
        if text is None and (self._is_good or self._has_copy()):
            return InvalidPrices(str(self._path), [gone(self._path)])
        return None

    def _book_of(self, text: str | None) -> OwnBook:
        name = self._path.name
        return OwnBook(name=name) if text is None else read(text, name, path=str(self._path))

    def _refuse(self, error: InvalidPrices, now: datetime) -> None:
        if not self._is_good:
            self._take_copy()
        in_force = (
            "the last good prices stay in force" if self._is_good else "list prices alone are used"
        )
        _log.warning("%s %s meanwhile.", error, in_force[0].upper() + in_force[1:])
        self.trouble = PricesTrouble(
            file=str(self._path),
            problems=len(error.problems),
            since=self.trouble.since if self.trouble else utc_text(now),
            uses_last_good=self._is_good,
            content=self._read,
        )

    def _had_prices(self) -> bool:
        if self._in_force is not None:
            return bool(self._in_force.strip())
        return self._kept is not None and has_text(self._kept)

    def _has_copy(self) -> bool:
        return self._kept is not None and self._kept.is_file()

    def _take_copy(self) -> None:
        """Use the copy of the last good prices, if there is one that can be read."""
        if self._kept is None:
            return
        try:
            text = text_of(self._kept)
            if text is not None:
                self._book = read(text, self._path.name, path=str(self._kept))
                self._is_good, self._in_force = True, text
        except InvalidPrices as error:
            _log.warning("the copy of the last good prices is of no use: %s", error)

    def _keep(self, text: str) -> None:
        """Keep a copy of good prices; where the disk refuses it, booking goes on without one."""
        if self._kept is None:
            return
        data = text.encode()
        try:
            if not self._kept.is_file() or self._kept.read_bytes() != data:
                keep_former(self._kept)
                write_private(self._kept, data, synced=True)
        except OSError as error:
            _log.warning("no copy of the prices could be kept in %s: %s", self._kept, error)


def former_prices(kept: Path) -> list[Path]:
    """Return the copies of good prices that were edited since, the oldest first."""
    found = kept.parent.glob(f"{kept.stem}-*{kept.suffix}")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def keep_former(kept: Path) -> None:
    """Keep the copy of the last good prices under a name of its own, for calls that began under them."""
    try:
        text = text_of(kept)
    except InvalidPrices:  # it was damaged, so no call of this process began under it
        return
    if text is None:
        return
    former_copy = _former_of(kept, digest_of(text))
    if former_copy.exists() and not former_copy.stat().st_size:
        return  # to be forgotten
    write_private(former_copy, text.encode(), synced=True)
    for old in former_prices(kept)[:-MAX_FORMER]:
        old.unlink(missing_ok=True)


def forget_prices(kept: Path, names: Callable[[str], bool]) -> None:
    """Remove the former texts that name what was erased; that of now is not kept when it is edited."""
    for path in former_prices(kept):
        if names(path.read_text(encoding="utf-8", errors="replace")):
            path.unlink()
    with contextlib.suppress(InvalidPrices):
        text = text_of(kept)
        if text is not None and names(text):
            write_private(_former_of(kept, digest_of(text)), b"", synced=True)


def _former_of(kept: Path, digest: str) -> Path:
    return kept.with_name(f"{kept.stem}-{digest}{kept.suffix}")


def content_of(path: Path) -> tuple[str, bytes | None, InvalidPrices | None]:
    """Return a name for what a file holds, the same for the same content; its bytes; or why it is not read."""
    try:
        data = data_of(path)
    except InvalidPrices as error:
        return f"unread: {error}", None, error
    digest = "gone" if data is None else hashlib.blake2b(data, digest_size=16).hexdigest()
    return digest, data, None


def _started(look: Callable[[str, str], _Found], read_before: str, seen: str) -> Future[_Found]:
    """Look in a thread that keeps no process from ending; a disk may never answer."""
    future: Future[_Found] = Future()

    def run() -> None:
        try:
            future.set_result(look(read_before, seen))
        except BaseException as error:  # noqa: BLE001 - whoever takes the result raises it
            future.set_exception(error)

    Thread(target=run, name="prices", daemon=True).start()
    return future


def gone(path: Path) -> str:
    """Return what to do about a file that was there."""
    return (
        f"{path} is gone: put it back, or leave a file with the line `# no prices` where no price of "
        "yours is to apply any more"
    )


def emptied(path: Path) -> str:
    """Return what to do about a file that had prices: a program may have failed that writes it."""
    return (
        f"{path} is empty: put its prices back, or write the line `# no prices` where no price of "
        "yours is to apply any more"
    )


def is_as_kept(path: Path, kept: Path) -> bool:
    """Return whether a file says what the copy of good prices says; both may be missing."""
    try:
        return text_of(path) == text_of(kept)
    except InvalidPrices:
        return False


def has_text(kept: Path) -> bool:
    """Return whether a copy of good prices is there and not empty."""
    try:
        return bool((text_of(kept) or "").strip())
    except InvalidPrices:
        return False


def prices_in_force(path: Path, kept: Path) -> tuple[OwnBook, str]:
    """Return the prices that a ledger would use now, and what is to be said of the file, if anything.

    `kept` is the ledger's copy of the last good ones. Nothing is written.
    """
    try:
        text = text_of(path)
        is_emptied = text is not None and not text.strip() and has_text(kept)
        if text is not None and not is_emptied:
            return read(text, path.name, path=str(path)), ""
        if not kept.is_file():
            return OwnBook(name=path.name), ""
        said = f"{path} is empty" if is_emptied else f"{path} is gone"
    except InvalidPrices as error:
        said = f"{path} has mistakes ({len(error.problems)}), which `costs prices validate` names"
    try:
        text = text_of(kept)
        if text is not None:
            return read(text, path.name, path=str(kept)), f"{said}: its last good prices are used"
    except InvalidPrices:
        pass
    return OwnBook(name=path.name), f"{said}: list prices alone are used"
