"""`costs backup`: what it says, and its exit codes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.events import message, reading, started
from tests.support.history import Told, history, often
from tests.support.oracle import rate
from tests.support.outboxes import orphan
from voicecosts import query
from voicecosts.analytics.commands.app import main
from voicecosts.consumer.store.backup import MARK, backups
from voicecosts.consumer.store.files import WriterLock
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.outbox.row import EMBEDDED


class Costs:
    """The command on a data directory, and what it says."""

    def __init__(self, home: Path, shown: pytest.CaptureFixture[str]) -> None:
        self.data_dir = home / "d"
        self.folder = home / "backups"
        self._shown = shown

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Run `costs backup`, and return all that it wrote."""
        options = () if "--verify" in arguments else ("--data-dir", self.data_dir)
        with pytest.raises(SystemExit) as ended:
            main([*map(str, ("backup", self.folder, *arguments, *options))])
        shown = self._shown.readouterr()
        assert ended.value.code == code, shown
        return shown.out + shown.err


@pytest.fixture
def costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Costs:
    """The command, without settings of the environment."""
    for name in ("COSTS_PRICES", "COSTS_DATA_DIR", "COSTS_OUTBOX_DIR"):
        monkeypatch.delenv(name, raising=False)
    return Costs(tmp_path, capsys)


def test_without_a_server_what_waits_on_this_host_is_booked_before(costs: Costs) -> None:
    """It is said what is in the backup, how large it is, and what to do next; the backup answers questions."""
    packed = Packer("worker").pack([started(), reading(1)])
    orphan(costs.data_dir / "outbox", "worker", packed, destination=EMBEDDED)
    said = costs()
    [made] = backups(costs.folder)
    assert said.startswith(f"backed up in {made}\nbooked    until ")
    assert "s ago\nsize " in said
    assert said.endswith(
        f"`costs backup {costs.folder} --verify` checks it; docs/operations.md says how to restore it\n"
    )
    assert query(data_dir=made).total.requests == query(data_dir=costs.data_dir).total.requests == 1
    costs("--keep", 1)
    [second] = backups(costs.folder)
    assert second != made
    assert costs("--verify").startswith(f"{second.name}  whole: 1 file, ")


def test_what_a_killed_ledger_did_not_publish_is_not_in_it_and_is_said(costs: Costs) -> None:
    """The snapshot is what is backed up: the ledger's own file is its alone."""
    Ledger.open(costs.data_dir, rate).close()
    dead = Ledger.open(costs.data_dir, rate)
    dead.apply([message(1, reading(1))])
    dead.heartbeat(0)
    dead._connection.close()
    dead._lock.release()
    said = costs()
    assert (
        "! the ledger was ended: what it booked after its last snapshot is not in this backup"
        in said
    )


@pytest.mark.parametrize(
    ("arguments", "code", "cure"),
    [
        ((), 3, "no ledger at "),
        (("--verify",), 2, "has no backup: `costs backup "),
        (("--verify", "--keep", "3"), 2, "give --keep without it"),
        (("--keep", "0"), 2, "--keep"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    costs: Costs, arguments: tuple[str, ...], code: int, cure: str
) -> None:
    """With a code, and nothing is made."""
    said = costs(*arguments, code=code)
    assert said.startswith("error: ")
    assert cure in said
    assert not costs.folder.exists()


def test_a_backup_that_is_not_whole_is_a_failed_check(costs: Costs) -> None:
    """It names the file, and says how the next backup has a good one."""
    with Ledger.open(costs.data_dir, rate) as ledger:
        ledger.apply([message(1, reading(1))])
    costs()
    costs.folder = costs.data_dir / "backups"
    assert "it is in the data directory" in costs(code=2)
    costs.folder = costs.data_dir.parent / "backups"
    [made] = backups(costs.folder)
    [snapshot] = made.glob("costs-*.duckdb")
    snapshot.write_bytes(b"")
    said = costs("--verify", code=1)
    assert f"{made.name}  not whole\n  ! {snapshot.name} is not what was written\n" in said
    assert f"run `costs backup {costs.folder}`: it copies them anew" in said
    lock = WriterLock.acquire(costs.folder / MARK)
    assert "Wait until it has ended" in costs(code=7)
    lock.release()


def test_a_ledger_that_lost_a_file_has_a_backup_that_says_so(
    costs: Costs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with 1, so that a job of each night is looked at."""
    often(monkeypatch)
    told = Told(costs.data_dir)
    for step in history(6)[:40]:
        told.take(step, seals=False)
    told.now += timedelta(days=3)
    while told.ledger.work():
        pass
    told.close()
    name, path = next(iter(Layout(costs.data_dir).sealed_files().items()))
    path.unlink()
    assert f"1 file of sealed days, the first is {name}. " in costs(code=1)
    assert "it lacks 1 file of sealed days" in costs("--verify")
