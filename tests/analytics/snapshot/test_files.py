"""Tests of finding the snapshot, and of what its ledger says about itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.sample_ledger import AS_OF, NOW, SAMPLE, write_ledger, write_status
from voicecosts import connect, query
from voicecosts.analytics.errors import NoLedger, NoSnapshotYet, NotALedger, SnapshotGone
from voicecosts.analytics.snapshot.files import locate

LATER = AS_OF + timedelta(minutes=1)


def test_the_link_is_followed_to_the_numbered_file(data_dir: Path) -> None:
    """What is opened is the snapshot itself, so that a newer one is another path."""
    snapshot = locate(data_dir)
    assert snapshot.path == data_dir / "costs-1.duckdb"
    assert snapshot.number == 1


def test_a_new_connection_sees_the_newest_snapshot_and_an_old_one_its_own(tmp_path: Path) -> None:
    """A notebook keeps its consistent picture while the next query already has the new one."""
    write_ledger(tmp_path, SAMPLE[:1], number=1)
    old = connect(tmp_path)
    write_ledger(tmp_path, SAMPLE[:3], number=2)
    new = connect(tmp_path)
    with old, new:
        assert old.execute("SELECT count(*) FROM usage").fetchall() == [(1,)]
        assert new.execute("SELECT count(*) FROM usage").fetchall() == [(3,)]


def test_a_running_ledger_says_how_fresh_its_snapshot_is(tmp_path: Path) -> None:
    """While nothing happens the status moves on and the file does not: the status is right."""
    write_ledger(tmp_path)
    write_status(tmp_path, snapshot=1, as_of=LATER, waiting=2)
    report = query(data_dir=tmp_path, now=NOW)
    assert report.as_of == LATER
    assert report.completeness.running is True
    assert report.completeness.waiting == 2


def test_a_stopped_ledger_is_said_to_be_stopped(tmp_path: Path) -> None:
    """Its snapshot is still the truth of its last moment, and a warning says that it stands still."""
    write_ledger(tmp_path)
    write_status(tmp_path, running=False, waiting=None)
    report = query(data_dir=tmp_path, now=NOW)
    assert report.as_of == AS_OF
    assert report.completeness.running is False
    assert any("the ledger is not running" in warning for warning in report.warnings)


def test_a_status_of_another_snapshot_says_nothing_about_this_one(tmp_path: Path) -> None:
    """Between two publications only the moment inside the file is certain."""
    write_ledger(tmp_path, number=7)
    write_status(tmp_path, snapshot=8, as_of=LATER)
    report = query(data_dir=tmp_path, now=NOW)
    assert report.as_of == AS_OF
    assert report.completeness.running is True


@pytest.mark.parametrize(
    "content",
    [None, "", "{", '{"snapshot": "one"}', '{"snapshot": 1, "as_of": "2026-11-21T15:00:00"}'],
)
def test_without_a_readable_status_the_file_speaks(tmp_path: Path, content: str | None) -> None:
    """A missing, torn or odd status is not an error, and a time without a zone is not believed."""
    write_ledger(tmp_path)
    if content is not None:
        (tmp_path / "ledger.json").write_text(content)
    report = query(data_dir=tmp_path, now=NOW)
    assert report.as_of == AS_OF
    assert report.completeness.running is None
    assert report.completeness.waiting is None


def test_a_ledger_that_received_nothing_is_as_of_no_moment(tmp_path: Path) -> None:
    """The first moment of a new ledger is a placeholder and is not shown as a date."""
    write_ledger(tmp_path, [], as_of=datetime(1970, 1, 1, tzinfo=UTC))
    assert query(data_dir=tmp_path, now=NOW).as_of is None


def test_a_silent_ledger_is_noticed(tmp_path: Path) -> None:
    """A ledger that was killed still says that it runs; its silence gives it away."""
    write_ledger(tmp_path)
    write_status(tmp_path)
    report = query(data_dir=tmp_path, now=AS_OF + timedelta(hours=3))
    assert "the ledger has not reported for 3 h: check whether it still runs" in report.warnings
    assert not [it for it in query(data_dir=tmp_path, now=NOW).warnings if "not reported" in it]


def test_a_snapshot_file_can_be_named_itself(tmp_path: Path) -> None:
    """An old file is read as what it was, and the status beside it counts only if it is its own."""
    write_ledger(tmp_path, SAMPLE[:1], number=1)
    write_ledger(tmp_path, number=2)
    write_status(tmp_path, snapshot=2, as_of=LATER)
    old = query(data_dir=tmp_path / "costs-1.duckdb", now=NOW)
    assert (old.total.rows, old.as_of, old.completeness.running) == (1, AS_OF, None)
    newest = query(data_dir=str(tmp_path / "costs.duckdb"), now=NOW)
    assert (newest.total.rows, newest.as_of, newest.completeness.running) == (10, LATER, True)


def test_a_copied_snapshot_needs_no_data_directory(tmp_path: Path) -> None:
    """A file under any name can be read, and speaks for itself."""
    source = write_ledger(tmp_path / "ledger") / "costs-1.duckdb"
    copy = tmp_path / "november.db"
    copy.write_bytes(source.read_bytes())
    report = query(data_dir=copy, now=NOW)
    assert (report.total.rows, report.as_of) == (10, AS_OF)


@pytest.mark.parametrize("name", ["nothing", "nothing/at/all", "file/below"])
def test_no_ledger_is_said_with_its_place_and_what_to_do(tmp_path: Path, name: str) -> None:
    """The message names the path, the command that starts one, and the option."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NoLedger) as caught:
        locate(tmp_path / name)
    place = tmp_path / name
    said = str(caught.value)
    assert said.startswith(f"no ledger at {place}: run a worker with a CostObserver and ask again")
    assert "--data-dir" in said
    assert f"workers with servers need `costs up --data-dir {place}`" in said


def test_an_empty_directory_and_a_dangling_link_hold_no_ledger(tmp_path: Path) -> None:
    """Neither an empty folder nor a link to a removed file is a ledger."""
    with pytest.raises(NoLedger):
        locate(tmp_path)
    (tmp_path / "costs.duckdb").symlink_to("costs-9.duckdb")
    with pytest.raises(NoLedger):
        locate(tmp_path)


def test_a_ledger_that_has_just_started_is_not_reported_as_missing(tmp_path: Path) -> None:
    """It speaks before it has published; then the answer is to ask again."""
    write_status(tmp_path, as_of=datetime.now(UTC))
    with pytest.raises(NoSnapshotYet, match="ask again"):
        locate(tmp_path)


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_snapshot_that_is_gone_with_its_ledger_down_says_what_to_do(
    tmp_path: Path, end: str
) -> None:
    """Nobody publishes another one while no ledger runs, so asking again would not help."""
    write_status(tmp_path, running=end == "killed", as_of=datetime.now(UTC) - timedelta(minutes=5))
    with pytest.raises(SnapshotGone, match="start `costs up` or `costs consume`"):
        locate(tmp_path)


def test_what_is_no_file_is_no_ledger(tmp_path: Path) -> None:
    """A link that leads to itself or to a folder ends in one of our errors."""
    (tmp_path / "costs.duckdb").symlink_to("costs.duckdb")
    with pytest.raises(NotALedger):
        locate(tmp_path)
    other = tmp_path / "other"
    (other / "costs.duckdb").mkdir(parents=True)
    with pytest.raises(NotALedger, match="not a file"):
        locate(other)


def test_the_environment_names_the_ledger_when_nobody_else_does(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`COSTS_DATA_DIR` is what `connect()` without an argument reads."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    assert locate().path.parent == data_dir
