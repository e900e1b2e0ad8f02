"""Backups of a ledger: what is restored from one is the ledger that it was, and none is half."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from msgspec import Struct

from tests.support.erasures import GONE, ids_of, traces
from tests.support.events import message, reading
from tests.support.history import Step, Told, figures, history, often
from tests.support.oracle import rate
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import Erase, Retain
from voicecosts.consumer.booking.progress import Seen
from voicecosts.consumer.errors import BackupFailed, BackupInUse, BackupRefused
from voicecosts.consumer.store import backup as backups_of
from voicecosts.consumer.store.backup import MANIFEST, MARK, Manifest, back_up, backups, check
from voicecosts.consumer.store.files import WriterLock
from voicecosts.consumer.store.ledger import Ledger

NOW = datetime(2026, 12, 2, 3, 4, 5, tzinfo=UTC)


def made(data_dir: Path, folder: Path, **more: Any) -> backups_of.Made:
    """Make a backup of a data directory with its own prices."""
    return back_up(data_dir, folder, prices=data_dir / "prices.toml", now=lambda: NOW, **more)


def restore(backup: Path, data_dir: Path) -> Path:
    """Do what docs/operations.md says."""
    shutil.copytree(backup, data_dir, symlinks=True)
    (data_dir / "ledger").mkdir(exist_ok=True)
    [snapshot] = data_dir.glob("costs-*.duckdb")
    shutil.copyfile(snapshot, data_dir / "ledger" / "ledger.duckdb")
    return data_dir


def seen(data_dir: Path) -> dict[str, list[Any]]:
    """Return what readers of a data directory see."""
    with duckdb.connect((data_dir / "costs.duckdb").resolve(), read_only=True) as snapshot:
        snapshot.execute("SET VARIABLE costs_dir = ?", [str(data_dir)])
        return figures(snapshot)


def small_ledger(data_dir: Path, *, producer: str = "worker-1") -> Path:
    """Make a ledger of one row."""
    with Ledger.open(data_dir, rate) as ledger:
        ledger.apply([message(1, reading(1), producer=producer)])
    return data_dir


class Lived(Struct, frozen=True):
    """A ledger that has sealed days and was closed, and two backups of the middle of its life."""

    data_dir: Path
    now: datetime
    folder: Path
    last: backups_of.Made
    steps: list[Step]
    at: int
    """The step before which the last backup was made."""


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Tell a ledger a history."""
    root = tmp_path_factory.mktemp("lived")
    steps = list(history(6))
    at = (2 * len(steps)) // 3
    with pytest.MonkeyPatch.context() as patch:
        often(patch)
        told = Told(root / "d")
        (root / "d" / "prices.toml").write_text("# none yet\n")
        for place, step in enumerate(steps):
            if place in (at // 2, at):
                told.ledger.publish_snapshot()
                last = made(root / "d", root / "backups")
            told.take(step, seals=True)
        told.close()
    return Lived(root / "d", told.now, root / "backups", last, steps, at)


@pytest.mark.slow
def test_a_ledger_that_is_restored_goes_on_as_if_nothing_had_been(
    tmp_path: Path, lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backed up in the middle of its life and told everything again, it has each figure of one that lived on."""
    often(monkeypatch)
    restored = Told(restore(lived.last.path, tmp_path / "d"), lived.steps[lived.at].now)
    works = 0
    for step in lived.steps:
        works += step.work is not None
        if step.work is None or restored.ledger.operation(works) is None:
            restored.take(step, seals=step.now >= lived.steps[lived.at].now)
    restored.close()
    assert seen(tmp_path / "d") == seen(lived.data_dir)
    assert (tmp_path / "d" / "prices.toml").read_text() == "# none yet\n"
    assert all(each.is_whole for each in check(lived.folder))  # the copy was changed, not they


def test_the_next_backup_writes_what_is_new(lived: Lived) -> None:
    """It links to what the one before has, and its manifest says up to which message it has everything."""
    first, second = backups(lived.folder)
    assert (lived.last.path, second.name) == (second, f"{first.name}-2")
    sealed = [path.relative_to(first) for path in first.glob("sealed/usage/*/*.parquet")]
    assert sealed
    assert all((second / path).samefile(first / path) for path in sealed)
    manifest = lived.last.manifest
    assert lived.last.linked >= len(sealed)
    assert lived.last.written < sum(file.bytes for file in manifest.files)
    told = [step.messages[-1].sequence for step in lived.steps[: lived.at] if step.messages]
    assert (manifest.sequence, manifest.lacks) == (max(told), ())


def test_dead_letters_of_the_same_size_are_not_taken_for_the_same(tmp_path: Path) -> None:
    """A ledger that was restored writes others under the same names: only equal bytes are linked."""
    with Ledger.open(tmp_path / "d", rate) as ledger:
        ledger.apply([Message("costs.v1.x", 1, b"first")])
    made(tmp_path / "d", tmp_path / "backups")
    assert made(tmp_path / "d", tmp_path / "backups").linked == 1
    [letters] = (tmp_path / "d" / "dead-letters").iterdir()
    letters.write_bytes(b"other")
    last = made(tmp_path / "d", tmp_path / "backups")
    assert last.linked == 0
    assert (last.path / "dead-letters" / letters.name).read_bytes() == b"other"
    assert all(each.is_whole for each in check(tmp_path / "backups"))


def in_the_data_directory(tmp_path: Path) -> Path:
    """A folder that goes with the ledger's disk."""
    return tmp_path / "d" / "backups"


def around_it(tmp_path: Path) -> Path:
    """A folder that has the data directory in it."""
    (tmp_path / MARK).touch()
    return tmp_path


def of_somebody(tmp_path: Path) -> Path:
    """A folder with a letter in it."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter").touch()
    return tmp_path / "documents"


def a_file(tmp_path: Path) -> Path:
    """No folder at all."""
    (tmp_path / "file").touch()
    return tmp_path / "file"


def by_a_link(tmp_path: Path) -> Path:
    """A name that leads into the data directory."""
    (tmp_path / "link").symlink_to(tmp_path / "d")
    return tmp_path / "link" / "backups"


def of_another_ledger(tmp_path: Path) -> Path:
    """A folder of backups of another ledger: `--keep` would remove them one after the other."""
    made(small_ledger(tmp_path / "other"), tmp_path / "backups")
    return tmp_path / "backups"


@pytest.mark.usefixtures("made_anew")  # each ledger has an id of its own
@pytest.mark.parametrize(
    "where",
    [in_the_data_directory, around_it, of_somebody, a_file, by_a_link, of_another_ledger],
)
def test_a_folder_that_is_something_else_is_refused(
    tmp_path: Path, where: Callable[[Path], Path]
) -> None:
    """It is left as it was, and the error says what it is and what to give instead."""
    small_ledger(tmp_path / "d")
    folder = where(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BackupRefused, match="Give a new or empty directory"):
        made(tmp_path / "d", folder, keep=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_backups_at_a_time_are_one(tmp_path: Path) -> None:
    """The second one names the process of the first."""
    small_ledger(tmp_path / "d")
    made(tmp_path / "d", tmp_path / "backups")
    lock = WriterLock.acquire(tmp_path / "backups" / MARK)
    with pytest.raises(BackupInUse, match=r"Process \d+ makes a backup"):
        made(tmp_path / "d", tmp_path / "backups")
    lock.release()


def test_a_link_in_place_of_its_mark_is_not_followed(tmp_path: Path) -> None:
    """Who may write in the folder of backups could have any file of the ledger's user emptied."""
    small_ledger(tmp_path / "d")
    (tmp_path / "backups").mkdir()
    (tmp_path / "other").write_text("kept")
    (tmp_path / "backups" / MARK).symlink_to(tmp_path / "other")
    with pytest.raises(BackupFailed, match="symbolic link"):
        made(tmp_path / "d", tmp_path / "backups")
    assert (tmp_path / "other").read_text() == "kept"


def test_the_place_in_the_stream_is_of_the_stream_that_is_read(tmp_path: Path) -> None:
    """One that was made anew begins at 1 again."""
    with Ledger.open(tmp_path / "d", rate) as ledger:
        for stream_us, last in ((1_000_000, 700), (2_000_000, 3)):
            ledger.reconcile(Seen(stream_us=stream_us, first=last, last=last))
            ledger.apply([message(last, reading(last))])
    assert made(tmp_path / "d", tmp_path / "backups").manifest.sequence == 3


def test_no_snapshot_no_backup(tmp_path: Path) -> None:
    """What cannot be made leaves nothing that could be taken for a backup."""
    (tmp_path / "d").mkdir()
    with pytest.raises(BackupFailed, match="leads to no snapshot"):
        made(tmp_path / "d", tmp_path / "backups")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [MARK]


def test_the_newest_are_kept_and_what_somebody_left_there_stays(tmp_path: Path) -> None:
    """With `keep` the oldest go; what has no name of a backup is not touched, nor is a draft taken for one."""
    small_ledger(tmp_path / "d")
    folder = tmp_path / "backups"
    paths = [made(tmp_path / "d", folder).path for _ in range(3)]
    (folder / "notes").touch()
    (folder / "2026-12-02T03-04-06Z.tmp").mkdir()
    paths.append(made(tmp_path / "d", folder, keep=2).path)
    assert backups(folder) == paths[2:]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(path.name for path in paths[2:]), "notes", MARK]
    )


def test_what_is_not_what_was_written_is_named(tmp_path: Path) -> None:
    """A byte that was changed, a file that is gone, a manifest that cannot be read."""
    small_ledger(tmp_path / "d")
    folder = tmp_path / "backups"
    paths = [made(tmp_path / "d", folder).path for _ in range(4)]
    snapshots = [next(path.glob("costs-*.duckdb")) for path in paths]
    with snapshots[0].open("r+b") as file:
        file.seek(20_000)
        byte = file.read(1)
        file.seek(20_000)
        file.write(bytes([byte[0] ^ 1]))
    snapshots[1].unlink()
    (paths[2] / MANIFEST).write_text("{}")
    name = snapshots[0].name
    assert [each.problems for each in check(folder)] == [
        (f"{name} is not what was written",),
        (f"{name} cannot be read: No such file or directory",),
        (f"{MANIFEST} cannot be read",),
        (),
    ]


def test_a_sealed_file_that_the_ledger_lost_is_said_or_taken_from_the_backup_before(
    tmp_path: Path, lived: Lived
) -> None:
    """Gone or damaged, it never becomes part of a backup, and no older one is removed that may have it."""
    shutil.copytree(lived.data_dir, tmp_path / "d", symlinks=True)
    first = made(tmp_path / "d", tmp_path / "backups")
    names = [file.path for file in first.manifest.files if file.path.startswith("sealed")]
    damaged, gone = (tmp_path / "d" / name for name in names[:2])
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    gone.unlink()
    second = made(tmp_path / "d", tmp_path / "backups", keep=1)
    assert second.manifest.lacks == ()
    assert all(each.is_whole for each in check(tmp_path / "backups"))
    third = made(tmp_path / "d", tmp_path / "others")
    fourth = made(tmp_path / "d", tmp_path / "others", keep=1)
    assert third.manifest.lacks == fourth.manifest.lacks == tuple(names[:2])
    assert not any((fourth.path / name).exists() for name in names[:2])
    assert backups(tmp_path / "others") == [third.path, fourth.path]
    restored = Told(restore(fourth.path, tmp_path / "restored"), lived.now)
    sums = "SELECT * FROM cost_by_day ORDER BY ALL"
    assert restored.ledger._connection.execute(sums).fetchall() == seen(second.path)["cost_by_day"]
    restored.close()


def test_a_file_that_retention_removes_meanwhile_is_not_missed(
    tmp_path: Path, lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup begins again, with the snapshot that does not name it."""
    shutil.copytree(lived.data_dir, tmp_path / "d", symlinks=True)
    told = Told(tmp_path / "d", lived.now)
    copy_of = backups_of.copy_of

    def late(*paths: Path) -> Any:
        monkeypatch.setattr(backups_of, "copy_of", copy_of)
        copy = copy_of(*paths)
        told.ledger.operate(Retain(days=1), reason="the law")
        while told.ledger.work():
            pass
        told.ledger.publish_snapshot()
        told.ledger._removal.finish()
        return copy

    monkeypatch.setattr(backups_of, "copy_of", late)
    found = made(tmp_path / "d", tmp_path / "backups")
    assert found.manifest.snapshot == told.ledger.snapshot
    assert found.manifest.lacks == ()
    assert not list(found.path.glob("sealed/usage/*/*"))
    told.close()


def test_what_was_erased_is_in_older_backups_alone(tmp_path: Path) -> None:
    """A backup that is made after an erasure has no trace of the tenant, whatever it links to."""
    with Ledger.open(tmp_path / "d", rate) as ledger:
        ledger.apply([message(1, reading(1, tenant=GONE))])
        ids = ids_of(ledger._connection)
        ledger.publish_snapshot()
        before = made(tmp_path / "d", tmp_path / "backups")
        assert traces(before.path, ids)
        ledger.operate(Erase(tenant=GONE), reason="ticket 7")
        while ledger.work():
            pass
    after = made(tmp_path / "d", tmp_path / "backups", keep=1)
    assert traces(after.path, ids) == []
    assert backups(tmp_path / "backups") == [after.path]


def test_the_manifest_is_json_that_any_program_reads(tmp_path: Path) -> None:
    """Its keys are a contract: they are only ever added."""
    path = made(small_ledger(tmp_path / "d"), tmp_path / "backups").path
    found = msgspec.json.decode((path / MANIFEST).read_bytes())
    keys = "form made_at ledger_id schema snapshot sequence as_of files lacks"
    assert [*found] == keys.split() == [*Manifest.__struct_fields__]
    assert [*found["files"][0]] == ["path", "bytes", "sha256"]
    assert {it.stat().st_mode & 0o077 for it in path.rglob("*") if not it.is_symlink()} == {0}
