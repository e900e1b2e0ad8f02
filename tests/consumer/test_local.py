"""Booking without a broker: the same ledger as from a stream, whatever is interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.events import SUBJECT
from tests.support.oracle import booked
from tests.support.traffic import batches, bill, calls
from voicecosts import query
from voicecosts.analytics.commands.exits import USAGE, code_of
from voicecosts.analytics.errors import NoLedger
from voicecosts.consumer import local
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.errors import InvalidConfig, LedgerInUse, LedgerMissing
from voicecosts.consumer.local import NO_SEQUENCE, LocalLog, book_waiting
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.pricing.own.units import MODALITIES
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import encode

CALLS = calls(5, 20)


class Log:
    """A log of the messages it was given, two at a time; what is not booked comes again."""

    def __init__(self, waiting: Iterable[tuple[str, bytes]]) -> None:
        self.waiting = list(waiting)
        self.problems: list[str] = []
        self.ended: list[str] = []
        self._read = 0

    def next_group(self) -> Sequence[tuple[str, bytes]]:
        """Return the next two."""
        group = self.waiting[:2]
        self._read = len(group)
        return group

    def own(self) -> bool:
        """This ledger owns it."""
        return True

    def booked(self) -> None:
        """Take them out."""
        del self.waiting[: self._read]

    def noted(self) -> None:
        """Forget who has ended."""
        self.ended = []

    def close(self) -> None:
        """There is nothing to close."""


class Interrupted(Log):
    """A log whose reader dies after a commit, before the messages are taken out."""

    def booked(self) -> None:
        """Take them out, until there are few left."""
        if len(self.waiting) < 12:
            raise KeyboardInterrupt
        super().booked()


def open_and_book(data_dir: Path, log: LocalLog | None) -> int:
    """Book what waits now."""
    return local.open_and_book(data_dir, log, asked_at=datetime.now(UTC))


def offered(seed: int = 1) -> list[tuple[str, bytes]]:
    """Return the messages of all calls."""
    return [(SUBJECT, encode(batch)) for batch in batches(CALLS, seed=seed)]


def heartbeat(data_dir: Path) -> dict[str, object]:
    """Return what the ledger says of itself."""
    found: dict[str, object] = json.loads((data_dir / "ledger.json").read_text())
    return found


def from_a_stream(data_dir: Path) -> None:
    """Book the same messages as a stream brings them."""
    with Ledger.open(data_dir, rate_by(ListPrices())) as ledger:
        for place, (where, data) in enumerate(offered(), start=1):
            ledger.apply([Message(where, place, data)])


def test_what_waits_is_booked_as_a_stream_is(tmp_path: Path) -> None:
    """Totals and money are the same to the last digit."""
    log = Log(offered())
    assert open_and_book(tmp_path / "local", log) == len(offered())
    assert log.waiting == []
    assert booked(tmp_path / "local") == bill(CALLS)
    from_a_stream(tmp_path / "stream")
    assert booked(tmp_path / "stream") == booked(tmp_path / "local")


def test_what_comes_both_ways_is_booked_once(tmp_path: Path) -> None:
    """A host that changes from one way to the other may have messages in both."""
    from_a_stream(tmp_path)
    open_and_book(tmp_path, Log(offered(seed=2)))
    assert booked(tmp_path) == bill(CALLS)
    with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
        assert ledger.booked_sequence == len(offered())  # the place in the stream is not touched


def test_a_reader_that_dies_after_the_commit_costs_nothing(tmp_path: Path) -> None:
    """Its messages come again and book nothing; what it did not reach is booked by the next."""
    log = Interrupted(offered())
    with pytest.raises(KeyboardInterrupt):
        open_and_book(tmp_path, log)
    left = log.waiting
    assert 0 < len(left) < len(offered())
    assert open_and_book(tmp_path, Log(left)) == len(left)
    assert booked(tmp_path) == bill(CALLS)


def test_bad_messages_are_dead_letters_once(tmp_path: Path) -> None:
    """They are taken out of the outbox, kept in the ledger, and not doubled by a repetition."""
    bad = [(SUBJECT, b"garbage"), (SUBJECT, b"other garbage"), ("costs.v1.x", b"garbage")]
    for _ in range(2):
        log = Log(bad)
        open_and_book(tmp_path, log)
        assert log.waiting == []
    with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
        found = ledger._connection.execute(
            "SELECT stream_sequence, count(*) FROM dead_letters GROUP BY ALL"
        ).fetchall()
    assert found == [(NO_SEQUENCE, len(bad))]


def test_a_ledger_that_runs_books_what_waits_too(tmp_path: Path) -> None:
    """Beside a stream the same booking is used."""
    log = Log(offered())
    with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
        done = book_waiting(ledger, log)
    assert sum(applied.events for applied in done) == 20 * 14
    assert booked(tmp_path) == bill(CALLS)


def test_a_ledger_that_is_open_elsewhere_is_left_alone(tmp_path: Path) -> None:
    """There is one writer; what waits goes on waiting."""
    log = Log(offered())
    with (
        Ledger.open(tmp_path, rate_by(ListPrices())),
        pytest.raises(LedgerInUse),
    ):
        open_and_book(tmp_path, log)
    assert len(log.waiting) == len(offered())


class Refused(Log):
    """A log that this ledger cannot own."""

    def own(self) -> bool:
        """Another ledger may own it."""
        return False


def test_nothing_is_booked_from_a_log_that_is_not_ours(tmp_path: Path) -> None:
    """Whose it is stands before the first commit, else two ledgers could book it."""
    log = Refused(offered())
    assert open_and_book(tmp_path, log) == 0
    assert log.waiting == offered()
    assert booked(tmp_path) == {}


class TestReaders:
    def test_an_embedded_ledger_says_that_it_need_not_run(self, tmp_path: Path) -> None:
        """Readers must not be told to start something."""
        open_and_book(tmp_path, Log(offered()))
        told = heartbeat(tmp_path)
        assert (told["running"], told["embedded"], told["whole"]) == (False, True, True)

    def test_when_nothing_waits_the_answer_is_as_fresh_as_now(self, tmp_path: Path) -> None:
        """The snapshot stays, and the moment it speaks of moves on."""
        open_and_book(tmp_path, Log(offered()))
        before = heartbeat(tmp_path)
        assert open_and_book(tmp_path, Log([])) == 0
        assert open_and_book(tmp_path, None) == 0
        after = heartbeat(tmp_path)
        assert after["snapshot"] == before["snapshot"]
        moments = [datetime.fromisoformat(str(told["as_of"])) for told in (before, after)]
        assert moments[0] < moments[1]

    def test_what_cannot_be_read_is_not_claimed(self, tmp_path: Path) -> None:
        """The moment stands still while a file of the outbox may hold more."""
        open_and_book(tmp_path, Log(offered()))
        before = heartbeat(tmp_path)
        log = Log([])
        log.problems = ["local-1.sqlite3: disk I/O error"]
        open_and_book(tmp_path, log)
        assert heartbeat(tmp_path)["as_of"] == before["as_of"]
        log = Refused(offered(seed=2))
        open_and_book(tmp_path, log)
        assert heartbeat(tmp_path)["as_of"] == before["as_of"]

    def test_the_moment_is_when_the_outbox_was_looked_at(self, tmp_path: Path) -> None:
        """What is stored while the ledger books may be missing, so the end of booking is too late."""
        asked_at = datetime(2026, 11, 21, 14, tzinfo=UTC)
        local.open_and_book(tmp_path, Log(offered()), asked_at=asked_at)
        assert heartbeat(tmp_path)["as_of"] == "2026-11-21T14:00:00.000000Z"

    def test_nothing_new_publishes_nothing_new(self, tmp_path: Path) -> None:
        """What comes again needs no other snapshot."""
        open_and_book(tmp_path, Log(offered()))
        before = heartbeat(tmp_path)
        open_and_book(tmp_path, Log(offered()))
        assert heartbeat(tmp_path)["snapshot"] == before["snapshot"]

    def test_after_a_death_the_next_one_publishes_what_was_booked(self, tmp_path: Path) -> None:
        """Between commit and snapshot no reader may take the old snapshot for complete."""
        open_and_book(tmp_path, Log(offered()[:10]))
        ledger = Ledger.open(tmp_path, rate_by(ListPrices()), embedded=True)
        for where, data in offered():
            ledger.apply([Message(where, NO_SEQUENCE, data)])
        # As a kill does: locks and files are released, and nothing is published or written.
        ledger._connection.close()
        ledger._lock.release()
        assert booked(tmp_path) != bill(CALLS)
        assert open_and_book(tmp_path, Log([])) == 0
        assert booked(tmp_path) == bill(CALLS)

    def test_a_ledger_that_a_service_runs_is_not_spoken_for(self, tmp_path: Path) -> None:
        """That `costs up` has ended stays visible: its workers may have published meanwhile."""
        from_a_stream(tmp_path)
        before = heartbeat(tmp_path)
        assert open_and_book(tmp_path, None) == 0
        assert heartbeat(tmp_path) == before


@pytest.mark.parametrize("name", ["costs-1.duckdb", "costs.duckdb"])
def test_a_snapshot_that_was_deleted_is_published_again(tmp_path: Path, name: str) -> None:
    """No ledger runs here that would notice, so the next question does it, with nothing waiting."""
    messages = [(SUBJECT, encode(batch)) for batch in batches(CALLS, seed=1)]
    local.open_and_book(tmp_path, Log(messages), asked_at=datetime.now(UTC))
    before = booked(tmp_path / "costs.duckdb")
    (tmp_path / name).unlink()
    local.open_and_book(tmp_path, Log([]), asked_at=datetime.now(UTC))
    assert booked(tmp_path / "costs.duckdb") == before


@pytest.mark.parametrize("left", ["a snapshot", "nothing"])
def test_a_ledger_that_is_gone_is_not_an_empty_one(tmp_path: Path, left: str) -> None:
    """Also while nothing waits: a new ledger would say that nothing was ever used."""
    open_and_book(tmp_path, Log(offered()))
    shutil.rmtree(tmp_path / "ledger")
    if left == "nothing":
        for path in tmp_path.glob("*.duckdb"):
            path.unlink()
    with pytest.raises(LedgerMissing, match="is gone"):
        open_and_book(tmp_path, Log([]))
    assert not list(tmp_path.glob("ledger/*.duckdb"))
    said = query(data_dir=tmp_path).warnings[0] if left == "a snapshot" else refused(tmp_path)
    assert "/ledger.duckdb is gone" in said
    assert "costs up" not in said
    assert "in the outbox of this host" not in said


def refused(data_dir: Path) -> str:
    """Return why a question has no answer."""
    with pytest.raises(NoLedger) as caught:
        query(data_dir=data_dir)
    return str(caught.value)


class TestOwnPrices:
    """An embedded ledger has the prices of the data directory, or of the file that is named."""

    def test_what_waits_is_booked_at_own_prices(self, tmp_path: Path) -> None:
        """The file in the data directory counts, and a file that is named counts instead."""
        free = "".join(
            f'[[cost]]\nmodality = "{modality}"\ndiscount = "100 %"\n' for modality in MODALITIES
        )
        (tmp_path / "prices.toml").write_text(free)
        open_and_book(tmp_path, Log(offered()))
        assert query(data_dir=tmp_path).total.cost == 0
        other, named = tmp_path / "other", tmp_path / "named.toml"
        named.write_text(free.replace("100 %", "50 %"))
        local.open_and_book(other, Log(offered()), asked_at=datetime.now(UTC), prices=named)
        found = query(data_dir=other).total
        assert found.cost is not None
        assert found.list_cost is not None
        assert 0 < found.cost < found.list_cost

    def test_a_correction_of_the_file_is_seen_while_nothing_waits(self, tmp_path: Path) -> None:
        """Readers are told of mistakes until they are corrected, and no longer."""
        (tmp_path / "prices.toml").write_text("[[cost]]\n")
        open_and_book(tmp_path, Log(offered()))
        assert heartbeat(tmp_path)["prices"]
        open_and_book(tmp_path, None)
        assert heartbeat(tmp_path)["prices"]
        (tmp_path / "prices.toml").write_text("# nothing yet\n")
        open_and_book(tmp_path, None)
        assert heartbeat(tmp_path)["prices"] is None
        (tmp_path / "prices.toml").write_text("[[cost]]\n")
        open_and_book(tmp_path, None)
        assert heartbeat(tmp_path)["prices"]

    def test_the_mistakes_of_a_draft_are_gone_with_the_next_question(self, tmp_path: Path) -> None:
        """Whoever names another file is told of that one, and nobody else is."""
        (tmp_path / "prices.toml").write_text("# nothing yet\n")
        open_and_book(tmp_path, Log(offered()))
        draft = tmp_path / "draft.toml"
        draft.write_text("[[cost]]\n")
        local.open_and_book(tmp_path, None, asked_at=datetime.now(UTC), prices=draft)
        assert heartbeat(tmp_path)["prices"]["file"] == str(draft)
        open_and_book(tmp_path, None)
        assert heartbeat(tmp_path)["prices"] is None

    def test_a_file_that_is_named_and_not_there_is_an_error_of_the_question(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is answered by other prices than were asked for, and nothing is booked."""
        open_and_book(tmp_path, Log(offered()))
        assert query(data_dir=tmp_path).total.rows
        monkeypatch.setenv("COSTS_PRICES", str(tmp_path / "nosuch.toml"))
        with pytest.raises(InvalidConfig, match="there is no file of prices") as raised:
            query(data_dir=tmp_path)
        assert code_of(raised.value) == USAGE
