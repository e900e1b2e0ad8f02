"""Copies of a file that changes: only what is new is written, and no reader sees it happen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicecosts.consumer.store import copying, files
from voicecosts.consumer.store.blocks import (
    HEADERS,
    SIZE,
    BlockError,
    blocks_of,
    is_whole,
    place_of,
    read_blocks,
)
from voicecosts.consumer.store.copying import Copy, Versions, next_copy
from voicecosts.consumer.store.files import take_unread

CONFIG: Final = {"storage_compatibility_version": "v1.5.0", "wal_autocheckpoint": "1TB"}
ALL: Final = "SELECT count(*), bit_xor(hash(COLUMNS(*))) FROM rows"

BULK: Final = "INSERT INTO rows SELECT i, md5(i::VARCHAR), i FROM range(130_000) r(i)"
"""A whole row group, which stays as it is."""

CHANGES: Final = (
    "INSERT INTO rows SELECT i, random()::VARCHAR, i FROM range(10) r(i)",
    "INSERT INTO rows SELECT i, random()::VARCHAR, i FROM range(5_000) r(i)",
    "INSERT INTO rows SELECT i, 'the same', i FROM range(150_000) r(i)",
    "UPDATE rows SET amount = amount + 1 WHERE number % 7 = 3",
    "UPDATE rows SET word = 'another' WHERE number < 50",
    "DELETE FROM rows WHERE number % 5 = 1",
    "DELETE FROM rows",
    "CREATE OR REPLACE TABLE others AS SELECT * FROM rows",
    "DROP TABLE IF EXISTS others",
)


class Published:
    """A database that changes, and copies of it of which the third last may become the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "changing.duckdb"
        self.versions = Versions()
        self.number = 0
        self.connection = duckdb.connect(self.file, config=CONFIG)
        self.connection.execute(
            "CREATE TABLE rows (number BIGINT, word VARCHAR, amount DECIMAL(18, 9))"
        )
        self.publish()

    def path(self, number: int) -> Path:
        """Return where a copy is."""
        return self.folder / f"copy-{number}.duckdb"

    @property
    def draft(self) -> Path:
        """Where the next copy is made."""
        return self.folder / "draft.tmp"

    def begin(self) -> Copy:
        """Write what changed into the file, and begin a copy of it."""
        self.connection.execute("CHECKPOINT")
        self.versions.note(blocks_of(self.file))
        spares = {self.number - 2: self.path(self.number - 2)} if self.number > 2 else {}
        return next_copy(self.file, self.draft, self.versions, spares, self.number)

    def publish(self) -> Copy:
        """Make the next copy."""
        copy = self.begin()
        assert copy.advance(never)
        self.appear(copy)
        return copy

    def appear(self, copy: Copy) -> None:
        """Give a complete copy its name."""
        copy.close()
        self.number += 1
        self.draft.rename(self.path(self.number))
        self.versions.publish(self.number, copy.blocks)
        self.versions.keep(range(self.number - 2, self.number + 1))


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """A database with five copies: from here on old ones become new ones."""
    made = Published(tmp_path)
    made.connection.execute(BULK)
    for _ in range(4):
        made.connection.execute(CHANGES[1])
        made.publish()
    return made


def never() -> bool:
    """Say that there is time."""
    return False


def read(path: Path) -> object:
    """Return what a reader finds who reads all of a file."""
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        return connection.execute(ALL).fetchall()


def is_copy(path: Path, of: Path) -> bool:
    """Whether all blocks in use are the same in both, and the headers."""
    blocks = blocks_of(of)
    with path.open("rb") as copy, of.open("rb") as source:
        places = [(0, place_of(0)), *((place_of(block), SIZE) for block in blocks.used())]
        return all(
            os.pread(copy.fileno(), size, place) == os.pread(source.fileno(), size, place)
            for place, size in places
        )


class TestBlocks:
    def test_they_are_what_duckdb_says(self, published: Published) -> None:
        """How many there are, how many are free, which hold metadata; and all have their checksum."""
        published.connection.execute(CHANGES[5])
        published.publish()
        blocks = blocks_of(published.file)
        [counts] = published.connection.execute(
            "SELECT total_blocks, used_blocks FROM pragma_database_size()"
        ).fetchall()
        assert (blocks.count, len(blocks.used())) == counts
        metadata = published.connection.execute(
            "SELECT DISTINCT block_id FROM pragma_metadata_info()"
        ).fetchall()
        assert {(block,) for block in blocks.metadata} == {*metadata}
        with published.file.open("rb") as file:
            for block in blocks.used():
                found = os.pread(file.fileno(), SIZE, place_of(block))
                assert is_whole(found)
                assert not is_whole(found[:-1] + bytes([found[-1] ^ 1]))

    @pytest.mark.parametrize("cut", [0, 5000, place_of(0) + 1000])
    def test_what_is_cut_short_is_no_file_of_blocks(self, published: Published, cut: int) -> None:
        """It raises; nothing is taken for free that may not be."""
        os.truncate(published.path(5), cut)
        with pytest.raises(BlockError):
            blocks_of(published.path(5))


@settings(max_examples=3, deadline=None)
@given(st.lists(st.sampled_from(CHANGES), min_size=5, max_size=9))
def test_a_copy_is_what_was_copied(
    tmp_path_factory: pytest.TempPathFactory, changes: list[str]
) -> None:
    """Whatever changed: each block in use is the same, and who has an old copy open keeps it."""
    check_copies(tmp_path_factory.mktemp("copies"), changes)


@pytest.mark.faults
@pytest.mark.timeout(900)
@settings(max_examples=35, deadline=None)
@given(st.lists(st.sampled_from(CHANGES), min_size=6, max_size=40))
def test_a_copy_is_what_was_copied_at_length(
    tmp_path_factory: pytest.TempPathFactory, changes: list[str]
) -> None:
    """The same, with many more examples."""
    check_copies(tmp_path_factory.mktemp("copies"), changes)


def check_copies(folder: Path, changes: list[str]) -> None:
    """Publish after each change; a reader opens every fourth copy and keeps it open."""
    published = Published(folder)
    held = []
    for place, change in enumerate(changes):
        published.connection.execute(change)
        published.publish()
        assert is_copy(published.path(published.number), published.file)
        assert (
            read(published.path(published.number)) == published.connection.execute(ALL).fetchall()
        )
        if place % 4 == 0:
            reader = duckdb.connect(
                published.path(published.number), read_only=True, config={"threads": 1}
            )
            held.append((reader, reader.execute(ALL).fetchall()))
    for reader, found in held:
        with reader.cursor() as again:
            assert again.execute(ALL).fetchall() == found
        reader.close()
    published.connection.close()


class TestWhatIsNew:
    def test_only_what_changed_is_written(self, published: Published) -> None:
        """An old copy becomes the new one: a few blocks of it are written, however many there are."""
        published.connection.execute(CHANGES[0])
        before = published.path(3).stat().st_ino
        copy = published.publish()
        assert published.path(6).stat().st_ino == before
        assert not published.path(3).exists()
        assert len(copy.blocks.used()) > 10
        assert copy.cost_bytes < 8 * SIZE

    def test_without_a_history_everything_is_compared(self, published: Published) -> None:
        """After a death nobody knows what changed; what is written is no more for it."""
        published.versions = Versions()
        published.connection.execute(CHANGES[0])
        copy = published.publish()
        assert copy.cost_bytes < 12 * SIZE
        assert is_copy(published.path(6), published.file)

    def test_what_should_be_the_same_and_is_not_is_found(
        self, published: Published, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The checksums have to say what the lists of blocks say; else everything is compared."""
        left = [blocks_of(published.path(number)) for number in (3, 4, 5)]
        used = set.intersection(*({*each.used()} for each in left))
        block = min(used.difference(*(each.metadata for each in left)))
        with published.path(3).open("r+b") as file:
            file.seek(place_of(block))
            file.write(bytes(SIZE))
        published.connection.execute(CHANGES[0])
        published.publish()
        assert "all of it is compared" in caplog.text
        assert is_copy(published.path(6), published.file)

    def test_a_checkpoint_without_a_copy_is_known(self, published: Published) -> None:
        """Blocks that it freed, and others took, differ as well."""
        for change in (CHANGES[6], CHANGES[2], CHANGES[3]):
            published.connection.execute(change)
            published.connection.execute("CHECKPOINT")
            published.versions.note(blocks_of(published.file))
        assert published.versions.changed(3, blocks_of(published.file)) is not None
        published.publish()
        assert is_copy(published.path(6), published.file)

    def test_it_goes_on_where_it_was_left(self, published: Published) -> None:
        """A copy is made in parts; until the last one it cannot be opened."""
        published.versions = Versions()
        published.connection.execute(CHANGES[2])
        copy = published.begin()
        parts = 0
        while not copy.advance(lambda: True):
            parts += 1
            with pytest.raises(BlockError):
                read_blocks(copy._target)
        assert parts > 10
        published.appear(copy)
        assert is_copy(published.path(6), published.file)


class TestReaders:
    @pytest.mark.parametrize("opened", ["by a reader", "by a copy of the file", "as another name"])
    def test_what_somebody_has_is_not_written(self, published: Published, opened: str) -> None:
        """Not what is open, here or anywhere, and not what has a second name: a new file is made."""
        before = published.path(3).read_bytes()
        leave: Callable[[], None]
        if opened == "by a reader":
            reader = duckdb.connect(published.path(3), read_only=True)
            leave = reader.close
        elif opened == "by a copy of the file":
            file = published.path(3).open("rb")
            leave = file.close
        else:
            os.link(published.path(3), published.folder / "backup")
            leave = (published.folder / "backup").unlink
        published.connection.execute(CHANGES[1])
        published.publish()
        assert published.path(3).read_bytes() == before
        assert is_copy(published.path(6), published.file)
        leave()

    def test_who_comes_in_time_gets_all_of_it_or_waits(self, tmp_path: Path) -> None:
        """Who has found a file by its old name cannot open it while it is written."""
        path, name = tmp_path / "old", tmp_path / "new"
        path.write_bytes(b"old")
        found = os.open(path, os.O_PATH)
        file = take_unread(path, name)
        assert file is not None
        with pytest.raises(BlockingIOError):
            os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK)
        os.close(found)
        os.close(file)
        assert name.read_bytes() == b"old"

    def test_a_reader_at_every_step_finds_a_whole_copy(
        self, published: Published, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before each write: the newest copy can be opened, those open stay, the draft is no database."""
        newest = read(published.path(5))
        held = duckdb.connect(published.path(4), read_only=True, config={"threads": 1})
        kept = held.execute(ALL).fetchall()
        steps = 0

        def write(file: int, data: bytes, place: int) -> int:
            nonlocal steps
            steps += 1
            assert read(published.path(5)) == newest
            assert held.execute(ALL).fetchall() == kept
            if steps > 1:
                with pytest.raises(BlockError):
                    read_blocks(file)
            return real(file, data, place)

        real = os.pwrite
        monkeypatch.setattr(copying.os, "pwrite", write)
        published.connection.execute(CHANGES[1])
        published.publish()
        assert steps > 3
        assert is_copy(published.path(6), published.file)
        held.close()

    def test_a_power_cut_leaves_no_half_copy_under_a_name_that_is_opened(
        self, published: Published, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before a block is written into an old copy, it is on the disk that it has another name and no header."""
        on_disk: dict[str, object] = {"names": set(), "header": None}
        steps = 0

        def sync_names(folder: Path) -> None:
            real_sync(folder)
            on_disk["names"] = {it.name for it in folder.iterdir()}

        def sync_data(file: int) -> None:
            real_fdatasync(file)
            on_disk["header"] = os.pread(file, HEADERS, 0)

        def write(file: int, data: bytes, place: int) -> int:
            nonlocal steps
            steps += 1
            if place >= HEADERS:
                assert on_disk["header"] == bytes(HEADERS)
            assert published.draft.name in on_disk["names"]  # type: ignore[operator]
            assert published.path(3).name not in on_disk["names"]  # type: ignore[operator]
            return real_write(file, data, place)

        real_sync, real_fdatasync, real_write = files.sync_folder, os.fdatasync, os.pwrite
        monkeypatch.setattr(files, "sync_folder", sync_names)
        monkeypatch.setattr(copying.os, "fdatasync", sync_data)
        monkeypatch.setattr(copying.os, "pwrite", write)
        published.connection.execute(CHANGES[1])
        published.publish()
        assert steps > 3
