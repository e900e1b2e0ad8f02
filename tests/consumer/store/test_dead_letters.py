"""Dead letters: kept beside the ledger, bounded, counted in events, and booked when they are understood."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from threading import Thread

import duckdb
import msgspec
import pytest

from tests.support.events import PRODUCER, SUBJECT, ended, message, reading
from tests.support.older import before_money
from tests.support.oracle import booked, expected, rate
from voicecosts.consumer.booking import decode
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import Retain
from voicecosts.consumer.errors import InvalidConfig, LedgerBusy, LedgerDiskFull
from voicecosts.consumer.store import requests
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.payloads import Payloads, read_payload
from voicecosts.consumer.store.requests import (
    Action,
    Operate,
    Outcome,
    Request,
    answer_requests,
    ask,
    remember,
)
from voicecosts.producer.events import VERSION, Batch, Event, encode

GARBAGE = b"\xff" * 1000


def newer(sequence: int, *events: Event, version: int = VERSION + 1) -> Message:
    """Return a message whose batch is of a version that is not known yet."""
    batch = Batch(producer_id=PRODUCER, number=1, events=list(events))
    fields = msgspec.msgpack.decode(encode(batch))
    return Message(SUBJECT, sequence, msgspec.msgpack.encode({**fields, "version": version}))


def unknown(sequence: int) -> Message:
    """Return a message with an event of a type that is not known yet, which may be a reading."""
    fields = msgspec.msgpack.decode(encode(Batch(producer_id=PRODUCER, number=3, events=[CALL[0]])))
    fields["events"][0]["type"] = "reading_of_tomorrow"
    return Message(SUBJECT, sequence, msgspec.msgpack.encode(fields))


CALL = [reading(1, input_tokens=10), reading(2, input_tokens=30), ended(3)]


def letters(data_dir: Path, columns: str = "reason, events, state") -> list[tuple[object, ...]]:
    """Return what readers see of dead letters, in their order in the stream."""
    query = f"SELECT {columns} FROM dead_letters ORDER BY stream_sequence"  # noqa: S608 - constants
    with duckdb.connect(
        (data_dir / "costs.duckdb").resolve(), read_only=True, config={"threads": 1}
    ) as connection:
        return connection.execute(query).fetchall()


def count_lost(data_dir: Path) -> int:
    """Return how many events the ledger says it could not book."""
    with duckdb.connect(
        (data_dir / "costs.duckdb").resolve(), read_only=True, config={"threads": 1}
    ) as connection:
        [(events,)] = connection.execute("SELECT dead_letters FROM losses").fetchall()
    return int(events)


class TestKept:
    @pytest.mark.parametrize(
        ("subject", "project"),
        [
            ("costs.v1.prod." + "a" * 3000 + ".00", "prod"),
            ("costs.v1.prod" + ".a" * 500, "prod"),
            ("costs.v1.prod.dental.00.more", "prod"),
            ("costs.v1." + "p" * 3000 + ".a.00", None),
            ("costs.v1.prod", None),
            ("costs.v1..a.00", None),
            ("elsewhere.v1.prod.a.00", None),
        ],
        ids=[
            "a long agent",
            "many tokens",
            "one too many",
            "a long project",
            "short",
            "none",
            "foreign",
        ],
    )
    def test_the_project_is_what_the_subject_names(
        self, tmp_path: Path, subject: str, project: str | None
    ) -> None:
        """Permissions pin that token, however long the subject is that a worker made of the rest."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(subject, 1, GARBAGE)])
        assert letters(tmp_path, "project") == [(project,)]

    def test_the_bytes_are_beside_the_ledger(self, tmp_path: Path) -> None:
        """Neither the ledger nor a snapshot grows with what could not be booked."""
        content = os.urandom(2_000_000)
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(SUBJECT, 1, content)])
        assert (tmp_path / "costs.duckdb").stat().st_size < 3_000_000
        [(file, place, size, project)] = letters(tmp_path, "file, place, bytes, project")
        assert (size, project) == (2_000_000, "prod")
        assert isinstance(file, str)
        assert isinstance(place, int)
        assert read_payload(tmp_path / "dead-letters", file, place, 2_000_000) == content
        assert (tmp_path / "dead-letters" / file).stat().st_mode & 0o077 == 0

    def test_a_letter_that_comes_again_is_kept_once(self, tmp_path: Path) -> None:
        """Neither its row nor its bytes, however often it is redelivered."""
        for _ in range(3):
            with Ledger.open(tmp_path, rate) as ledger:
                ledger.apply([Message(SUBJECT, 1, GARBAGE)])
        assert letters(tmp_path) == [("not_a_batch", 1, "open")]
        assert sum(path.stat().st_size for path in (tmp_path / "dead-letters").iterdir()) == 1000

    def test_a_commit_that_failed_leaves_no_letter(self, tmp_path: Path) -> None:
        """Its bytes may be in the file, and no row names them; it comes again and is whole then."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger._connection.execute("ALTER TABLE refused RENAME place TO hidden")
            with pytest.raises(Exception, match="could not be written"):
                ledger.apply([Message(SUBJECT, 1, b"lost")])
            ledger._connection.execute("ALTER TABLE refused RENAME hidden TO place")
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(SUBJECT, 1, b"lost")])
        [(file, place)] = letters(tmp_path, "file, place")
        assert isinstance(file, str)
        assert isinstance(place, int)
        assert read_payload(tmp_path / "dead-letters", file, place, 4) == b"lost"


class TestBounded:
    def test_a_flood_is_dropped_from_its_oldest_bytes_on(self, tmp_path: Path) -> None:
        """The rows stay and say so; what waits for a newer version is not pushed out by garbage."""
        cap = 40_000
        with Ledger.open(tmp_path, rate, dead_letter_bytes=cap) as ledger:
            ledger.apply([newer(1, *CALL)])
            for first in range(2, 202, 20):
                ledger.apply(
                    [Message(SUBJECT, first + at, bytes([first]) + GARBAGE) for at in range(20)]
                )
        kept = sum(path.stat().st_size for path in (tmp_path / "dead-letters").iterdir())
        assert cap / 2 < kept <= cap
        states = letters(tmp_path, "reason, payload_state")
        assert len(states) == 201
        assert states[0] == ("newer_version", "kept")
        garbage = [state for reason, state in states if reason == "not_a_batch"]
        assert garbage == sorted(garbage)  # first the dropped ones, then those that are kept
        assert {"dropped", "kept"} == set(garbage)

    def test_one_that_is_larger_than_all_room_is_dropped_at_once(self, tmp_path: Path) -> None:
        """It must not push out everything else."""
        with Ledger.open(tmp_path, rate, dead_letter_bytes=5000) as ledger:
            ledger.apply([Message(SUBJECT, 1, GARBAGE), Message(SUBJECT, 2, GARBAGE * 6)])
        assert letters(tmp_path, "payload_state") == [("kept",), ("dropped",)]

    def test_a_name_is_never_used_twice(self, tmp_path: Path) -> None:
        """A row of a dropped file must not find the bytes of another one."""
        first = Payloads(tmp_path, max_bytes=100)
        [place] = first.add("not_a_batch", [b"x" * 100])
        assert place is not None
        first.remove([place.file])
        [next_place] = Payloads(tmp_path, max_bytes=100, used=[place.file]).add(
            "not_a_batch", [b"y"]
        )
        assert next_place is not None
        assert next_place.file != place.file

    def test_a_file_that_was_recorded_as_gone_is_removed_at_the_next_opening(
        self, tmp_path: Path
    ) -> None:
        """A death between the commit and the removal leaves it for one more start."""
        with Ledger.open(tmp_path, rate, dead_letter_bytes=5000) as ledger:
            ledger._payloads.remove = lambda _: None  # type: ignore[method-assign]  # dies just before it
            for place in range(1, 10):
                ledger.apply([Message(SUBJECT, place, bytes([place]) + GARBAGE)])
        assert sum(path.stat().st_size for path in (tmp_path / "dead-letters").iterdir()) > 5000
        Ledger.open(tmp_path, rate, dead_letter_bytes=5000).close()
        assert sum(path.stat().st_size for path in (tmp_path / "dead-letters").iterdir()) <= 5000


class TestCounted:
    def test_a_batch_of_a_newer_version_counts_its_events(self, tmp_path: Path) -> None:
        """A worker one version ahead with three events is three events that are in no row."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([newer(1, *CALL), Message(SUBJECT, 2, GARBAGE)])
        assert letters(tmp_path) == [("newer_version", 3, "open"), ("not_a_batch", 1, "open")]
        assert count_lost(tmp_path) == 4

    def test_one_that_cannot_be_counted_says_so(self, tmp_path: Path) -> None:
        """It counts as one, and its detail says that it may be more."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(SUBJECT, 1, msgspec.msgpack.encode({"version": 9}))])
        [(events, detail)] = letters(tmp_path, "events, detail")
        assert events == 1
        assert "cannot be counted" in str(detail)


class TestUnderstood:
    def test_a_ledger_that_knows_the_version_books_what_an_older_one_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At its opening, exactly, and once; nothing is missing any more."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([newer(1, *CALL), Message(SUBJECT, 2, GARBAGE)])
        assert booked(tmp_path / "costs.duckdb") == {}
        monkeypatch.setattr(decode, "VERSION", VERSION + 1)
        for _ in range(2):
            Ledger.open(tmp_path, rate).close()
        assert booked(tmp_path / "costs.duckdb") == expected(CALL)
        assert letters(tmp_path) == [("newer_version", 3, "requeued"), ("not_a_batch", 1, "open")]
        assert count_lost(tmp_path) == 1

    def test_an_event_of_a_type_that_is_known_by_now_is_booked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The good events of its batch were booked at once; it follows under its own producer."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([unknown(1)])
        assert letters(tmp_path, "reason, producer_id, batch_number") == [
            ("unknown_event", PRODUCER, 3)
        ]
        read = decode.decode_event

        def of_tomorrow(raw: bytes | msgspec.Raw) -> Event:
            return read(bytes(raw).replace(b"\xb3reading_of_tomorrow", b"\xadmeter_reading"))

        def whole(data: bytes) -> Batch:
            raise msgspec.ValidationError

        monkeypatch.setattr(decode, "TYPES", decode.TYPES | {"reading_of_tomorrow"})
        monkeypatch.setattr(decode, "decode_event", of_tomorrow)
        monkeypatch.setattr(decode, "decode", whole)
        Ledger.open(tmp_path, rate).close()
        assert booked(tmp_path / "costs.duckdb") == expected(CALL[:1])
        assert letters(tmp_path) == [("unknown_event", 1, "requeued")]

    def test_letters_of_an_older_ledger_are_moved_and_booked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An old ledger kept their bytes in itself: a batch of version 2 among them is booked now."""
        monkeypatch.setattr(decode, "VERSION", 1)
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([newer(1, *CALL, version=2), Message(SUBJECT, 2, GARBAGE)])
        as_before_letters(tmp_path)
        monkeypatch.undo()
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(SUBJECT, 2, GARBAGE)])  # it comes again, and is known
        assert booked(tmp_path / "costs.duckdb") == expected(CALL)
        assert letters(tmp_path) == [("newer_version", 3, "requeued"), ("not_a_batch", 1, "open")]
        with duckdb.connect(tmp_path / "ledger" / "ledger.duckdb") as connection:
            left = connection.execute("SELECT count(payload) FROM refused").fetchall()
        assert left == [(0,)]

    def test_what_is_still_not_understood_stays_open(self, tmp_path: Path) -> None:
        """Reading it again changes nothing, and makes no second letter of it."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([newer(1, *CALL), unknown(2), Message(SUBJECT, 3, GARBAGE)])
            assert ledger.do(Request(action=Action.REQUEUE)) == Outcome(letters=3, left=3)
        assert [state for _, _, state in letters(tmp_path)] == ["open"] * 3

    def test_what_is_refused_of_a_batch_that_is_booked_is_a_letter_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The batch is done with, its good events are booked, and the bad one is counted."""
        bad = reading(2, input_tokens=5, project="other")
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([newer(1, CALL[0], bad)])
        assert count_lost(tmp_path) == 2
        monkeypatch.setattr(decode, "VERSION", VERSION + 1)
        Ledger.open(tmp_path, rate).close()
        assert sorted(letters(tmp_path, "reason, state")) == [
            ("newer_version", "requeued"),
            ("project_mismatch", "open"),
        ]
        assert count_lost(tmp_path) == 1
        assert booked(tmp_path / "costs.duckdb") == expected(CALL[:1])


def as_before_letters(data_dir: Path) -> None:
    """Turn a ledger back into one of the schema before: one table, with the bytes in it."""
    with duckdb.connect(data_dir / "ledger" / "ledger.duckdb") as connection:
        rows = connection.execute(
            "SELECT received_at, subject, stream_sequence, event_index, reason, detail, bytes, file, place "
            "FROM refused"
        ).fetchall()
        connection.execute("DROP VIEW dead_letters")
        for table in ("refused", "refused_changes", "refused_files", "refused_reader"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute(
            "CREATE TABLE dead_letters (received_at TIMESTAMP NOT NULL, subject VARCHAR NOT NULL, "
            "stream_sequence BIGINT NOT NULL, event_index INTEGER NOT NULL, reason VARCHAR NOT NULL, "
            "detail VARCHAR NOT NULL, payload BLOB NOT NULL)"
        )
        for *row, size, file, place in rows:
            payload = read_payload(data_dir / "dead-letters", file, place, size)
            connection.execute(
                "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)", [*row, payload]
            )
        before_money(connection)
        connection.execute("DELETE FROM schema_migrations WHERE version >= 7")
    for path in (data_dir / "dead-letters").iterdir():
        path.unlink()


class TestPurged:
    def test_what_is_given_up_is_counted_no_more_and_its_bytes_go(self, tmp_path: Path) -> None:
        """The row stays and says so; letters of another reason keep theirs."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([newer(1, *CALL), Message(SUBJECT, 2, GARBAGE)])
            assert ledger.do(Request(action=Action.PURGE, reasons=("not_a_batch",))).letters == 1
        assert letters(tmp_path, "reason, state, payload_state") == [
            ("newer_version", "open", "kept"),
            ("not_a_batch", "purged", "purged"),
        ]
        assert count_lost(tmp_path) == 3
        assert [path.name for path in (tmp_path / "dead-letters").iterdir()] == [
            "newer_version-1.bin"
        ]

    def test_letters_are_chosen_by_the_beginning_of_an_id_and_by_age(self, tmp_path: Path) -> None:
        """As a person types it."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(SUBJECT, place, bytes([place])) for place in (200, 201)])
            [(first,), _] = letters_of(ledger)
            assert ledger.do(Request(action=Action.PURGE, before_us=0)).letters == 0
            assert ledger.do(Request(action=Action.PURGE, ids=(first[:6],))).letters == 1
        assert [state for _, _, state in letters(tmp_path)] == ["purged", "open"]


def letters_of(ledger: Ledger) -> list[tuple[str]]:
    """Return the ids of an open ledger's letters."""
    return ledger._connection.execute("SELECT id FROM refused ORDER BY stream_sequence").fetchall()


class TestRequests:
    def test_a_ledger_that_runs_does_what_it_is_asked(self, tmp_path: Path) -> None:
        """The command cannot write beside it, so it leaves a file and reads the answer."""
        folder = tmp_path / "ledger" / "requests"
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(SUBJECT, 1, GARBAGE)])
            asked = {}

            def answering() -> None:
                asked["answer"] = ask(folder, Request(action=Action.PURGE), timeout_s=20)

            worker = Thread(target=answering)
            worker.start()
            while worker.is_alive():
                ledger.answer_requests()
                worker.join(0.01)
            assert letters(tmp_path) == [("not_a_batch", 1, "purged")]  # the next answer knows
        assert asked["answer"] == Outcome(letters=1)
        assert list(folder.iterdir()) == []

    def test_where_nothing_can_be_asked_it_is_said(self, tmp_path: Path) -> None:
        """On a disk that is full, with what to do; of a folder that cannot be used, that the setting is wrong."""
        folder = tmp_path / "requests"
        operate = Operate(work=Retain(days=1), reason="the law")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for asks in (
            lambda: remember(folder, operate),
            lambda: ask(folder, Request(action=Action.PURGE), timeout_s=20),
        ):
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
                with pytest.raises(LedgerDiskFull, match=r"no room to write .*Make room on that"):
                    asks()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert list(folder.iterdir()) == []
        folder.rmdir()
        folder.touch()
        with pytest.raises(InvalidConfig, match="requests cannot be used"):
            remember(folder, operate)

    def test_a_request_that_nobody_answers_is_withdrawn(self, tmp_path: Path) -> None:
        """It must not be done later, when nobody expects it."""
        with pytest.raises(LedgerBusy, match="did not answer"):
            ask(tmp_path / "requests", Request(action=Action.PURGE), timeout_s=0.1)
        assert list((tmp_path / "requests").iterdir()) == []

    def test_a_request_that_was_taken_may_be_done(self, tmp_path: Path) -> None:
        """Who hears nothing then must not ask again before he knows: an amount would be booked twice."""
        folder = tmp_path / "requests"
        asked: dict[str, LedgerBusy] = {}

        def asking() -> None:
            with pytest.raises(LedgerBusy) as busy:
                ask(folder, Request(action=Action.PURGE), timeout_s=0.5)
            asked["busy"] = busy.value

        worker = Thread(target=asking)
        worker.start()
        while worker.is_alive():
            for path in folder.glob("*.json"):  # as a ledger takes it, and dies or hangs
                path.unlink()
            worker.join(0.01)
        assert asked["busy"].took
        assert "do not ask again before you know" in str(asked["busy"])

    def test_a_purge_that_chooses_nothing_changes_nothing(self, tmp_path: Path) -> None:
        """Also when everything is in the snapshot already: the ledger goes on."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([Message(SUBJECT, 1, GARBAGE)])
            ledger.publish_snapshot()
            nothing = Request(action=Action.PURGE, reasons=("nosuch",))
            assert ledger.do(nothing) == Outcome(letters=0)
            assert ledger.apply([message(2, reading(1, input_tokens=1))]).bookings == 1

    def test_a_request_that_fails_is_not_done_by_the_next_ledger(self, tmp_path: Path) -> None:
        """Else one request could end a ledger at every start."""
        folder = tmp_path / "requests"
        folder.mkdir()
        (folder / "x.json").write_bytes(msgspec.json.encode(Request(action=Action.PURGE)))

        def failing(_: Request) -> Outcome:
            raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            answer_requests(folder, failing)
        assert list(folder.iterdir()) == []

    def test_a_request_that_nobody_waits_for_any_more_is_not_done(self, tmp_path: Path) -> None:
        """Who asked was killed, and could not withdraw it."""
        path = tmp_path / "x.json"
        path.write_bytes(msgspec.json.encode(Request(action=Action.PURGE)))
        os.utime(path, (time.time() - 20,) * 2)
        done: list[Request] = []
        answer_requests(tmp_path, lambda request: done.append(request) or Outcome())
        assert (done, list(tmp_path.iterdir())) == ([], [])

    def test_who_is_interrupted_withdraws_the_request(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C at the waiting command leaves nothing that is done later."""
        folder = tmp_path / "requests"

        monkeypatch.setattr(requests, "_answer_of", _interrupting)
        with pytest.raises(KeyboardInterrupt):
            ask(folder, Request(action=Action.PURGE), timeout_s=20)
        assert list(folder.iterdir()) == []

    def test_what_is_no_request_is_removed(self, tmp_path: Path) -> None:
        """Garbage in the folder does not stop a ledger."""
        with Ledger.open(tmp_path, rate) as ledger:
            folder = tmp_path / "ledger" / "requests"
            folder.mkdir()
            (folder / "x.json").write_text("{")
            ledger.answer_requests()
            assert list(folder.iterdir()) == []


def _interrupting(_: Path) -> Path:
    raise KeyboardInterrupt


def test_letters_cost_nothing_where_there_are_none(tmp_path: Path) -> None:
    """No folder, and no row."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=1))])
    assert not (tmp_path / "dead-letters").exists()
