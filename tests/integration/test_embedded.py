"""One host and no server: workers write, `costs query` books and answers, whatever else happens."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import reading, started
from tests.support.long_forms import later
from tests.support.oracle import booked
from tests.support.outboxes import orphan as left_behind
from tests.support.processes import READY, ROOT, CostsProcess, costs, program
from tests.support.traffic import bill, calls
from tests.support.waiting import wait_until
from voicecosts import query
from voicecosts.analytics.commands.local_outbox import book
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import now_us
from voicecosts.producer.outbox.adopted import adopt
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.outbox.row import EMBEDDED, file_of
from voicecosts.producer.outbox.survey import outboxes

UP = ("up", "--snapshot-interval", "0.1")


class Worker:
    """A worker process without a server, and what it says."""

    def __init__(self, folder: Path, seed: int, count: int, pace_s: float = 0.0) -> None:
        self.made = calls(seed, count)
        self.process = program(
            "embedded_worker",
            *(folder, seed, count, pace_s),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_stored(self, number: int) -> None:
        """Return when that call is in the outbox."""
        self._wait(f"stored {number}\n")

    def wait_done(self) -> None:
        """Return when every call is in the outbox."""
        self._wait("done\n")

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Let it end in order."""
        if self.process.poll() is None:
            self.process.communicate(timeout=30)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _wait(self, wanted: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == wanted:
                return
        raise AssertionError(f"the worker ended before it said {wanted!r}")


@contextlib.contextmanager
def working(*arguments: object, **options: object) -> Iterator[Worker]:
    """A worker that has ended when the body has."""
    worker = Worker(*arguments, **options)  # type: ignore[arg-type]  # passed on as they are
    try:
        yield worker
    finally:
        worker.end()


def environ_of(data_dir: Path) -> dict[str, str]:
    """Return the environment that a worker and a person on one host share."""
    return {"COSTS_DATA_DIR": str(data_dir)}


def asked(data_dir: Path) -> Any:
    """Return the answer of `costs query`, as a program reads it."""
    return json.loads(costs(data_dir, "query", "--format", "json"))


def waiting(data_dir: Path) -> int:
    """Return how many messages wait, as `costs outbox status` says."""
    found = json.loads(costs(data_dir, "outbox", "status", "--json"))
    return sum(outbox["messages"] for outbox in found["outboxes"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the data directory of this host."""
    return tmp_path / "home"


def test_a_question_books_what_a_living_worker_has_captured(home: Path) -> None:
    """Nothing has to run beside the worker; the answer holds all that was stored before it."""
    with working(home / "outbox", 1, 4) as worker:
        worker.wait_done()
        answer = asked(home)
        assert booked(home) == bill(worker.made)
        assert answer["total"]["sessions"] == 4
        (unpriced,) = answer["warnings"]
        assert "has no price" in unpriced  # and nothing of a ledger that should be running
        assert answer["source"] == "snapshot"
        again = asked(home)
        assert again["total"] == answer["total"]
        assert str(again["as_of"]) > str(answer["as_of"])
    assert waiting(home) == 0


def test_a_killed_worker_has_lost_nothing_that_it_had_stored(home: Path) -> None:
    """Its outbox is taken over by the question; the call that was cut off is known to be over at once."""
    with working(home / "outbox", 2, 50, 0.01) as worker:
        worker.wait_stored(3)
        worker.kill()
    assert waiting(home) > 0
    audit = json.loads(costs(home, "audit", "--format", "json"))
    states = {state["state"]: state["sessions"] for state in audit["states"]}
    assert states["complete"] >= 4
    assert "open" not in states
    whole = bill(worker.made[:4])
    assert {key: value for key, value in booked(home).items() if key in whole} == whole
    assert list((home / "outbox").glob("*.sqlite3")) == []


def test_the_call_of_a_killed_worker_is_abandoned_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of its outbox is free, also if everything was booked before it died; a living one's is not."""
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    begun = [started(), reading(1)]
    outbox = Outbox.create(file_of(home / "outbox", EMBEDDED, "worker"))
    outbox.add(Packer("worker").pack(begun), now_us=now_us())
    living = query(data_dir=home).completeness
    assert (living.open_sessions, living.abandoned_sessions) == (1, 0)
    outbox.close(keep=True)
    dead = query(data_dir=home).completeness
    assert (dead.open_sessions, dead.abandoned_sessions) == (0, 1)


def test_the_call_of_a_worker_that_a_neighbour_adopted_is_abandoned_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages are in the file of a living process by then."""
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    path = left_behind(
        home / "outbox",
        "worker",
        Packer("worker").pack([started(), reading(1)]),
        destination=EMBEDDED,
    )
    adopted = adopt(path, now_us=now_us())
    assert adopted is not None
    found = query(data_dir=home).completeness
    assert (found.open_sessions, found.abandoned_sessions) == (0, 1)
    adopted.close()


@pytest.mark.slow
def test_many_questions_at_once_book_everything_once(home: Path) -> None:
    """Two workers write while processes ask at the same time: each answers, and no sum is doubled."""
    with (
        working(home / "outbox", 3, 6, 0.01) as one,
        working(home / "outbox", 4, 6, 0.01) as two,
    ):
        one.wait_stored(0)
        asking = [
            CostsProcess(["query"], home.parent / f"ask-{number}", environ_of(home)).start()
            for number in range(4)
        ]
        for question in asking:
            assert question.wait() == 0, question.log
            said = question.output.splitlines()
            lacking = [line for line in said if "not in these numbers" in line]
            # On a busy machine the others may take longer than a question waits for them.
            assert all("process" in line for line in lacking), lacking
        one.wait_done()
        two.wait_done()
        asked(home)
        assert booked(home) == bill([*one.made, *two.made])


def test_a_ledger_that_runs_books_what_workers_without_a_server_leave(home: Path) -> None:
    """`costs up` and workers of both kinds on one host end in one ledger."""
    with CostsProcess(UP, home.parent / "up", environ_of(home)) as up:
        up.wait_ready()
        with working(home / "outbox", 5, 3) as worker:
            worker.wait_done()
            wait_until(lambda: booked(home) == bill(worker.made))
        assert up.stop(signal.SIGINT) == 0
    assert READY in up.log


@pytest.mark.parametrize(
    ("options", "variables", "outbox"),
    [
        pytest.param((), {"COSTS_DATA_DIR": "home"}, "home/outbox", marks=pytest.mark.slow),
        (("--data-dir", "home"), {"COSTS_DATA_DIR": "other"}, "home/outbox"),
        *later((("--data-dir", "home"), {"COSTS_OUTBOX_DIR": "spool"}, "spool")),
    ],
)
def test_a_ledger_that_runs_publishes_what_dead_workers_of_its_server_left(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str], outbox: str
) -> None:
    """`costs up` alone is enough, in the outbox of its own data directory or in the one named."""
    arguments = [*UP, *(str(tmp_path / it) if it == "home" else it for it in options)]
    environ = {name: str(tmp_path / value) for name, value in variables.items()}
    home, folder = tmp_path / "home", tmp_path / outbox
    with CostsProcess(arguments, tmp_path / "up", environ) as up:
        up.wait_ready()
        servers = json.loads((home / "up.json").read_text())["servers"]
        assert up.stop(signal.SIGINT) == 0
    left = calls(6, 3)
    subprocess.run(
        [sys.executable, "-c", _LEAVE_BEHIND, servers, str(folder)],
        cwd=ROOT,
        check=True,
        timeout=60,
        stderr=subprocess.DEVNULL,
    )
    assert sum(found.messages for found in outboxes(folder)) > 0
    with CostsProcess(arguments, tmp_path / "up", environ) as up:
        up.wait_ready()
        wait_until(lambda: booked(home) == bill(left))
        wait_until(lambda: not any(found.messages for found in outboxes(folder)))


_LEAVE_BEHIND = """
import sys
from pathlib import Path
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.publishing.publisher import Publisher
from tests.support.traffic import calls
from tests.support.waiting import wait_until
config = ProducerConfig(project="test", servers=(sys.argv[1],), outbox_dir=Path(sys.argv[2]))
publisher = Publisher(config)
for call in calls(6, 3):
    for event in call.events:
        publisher.put(event)
wait_until(lambda: publisher.stats().outbox_rows > 0 and not len(publisher.buffer))
publisher.close(0.1)
"""


def test_an_outbox_is_booked_by_one_ledger_alone(tmp_path: Path, home: Path) -> None:
    """Asking another ledger about the same outbox answers from that ledger, and says why."""
    spool = tmp_path / "spool"
    with working(spool, 7, 2) as worker:
        worker.wait_done()
    environ = {"COSTS_OUTBOX_DIR": str(spool)}

    def ask(data_dir: Path, *command: str) -> CostsProcess:
        arguments = [*command, "--data-dir", str(data_dir)]
        process = CostsProcess(arguments, tmp_path / "run", environ)
        process.start().wait()
        return process

    mere_look = ask(tmp_path / "other", "query")
    assert mere_look.wait() == 3
    assert "no ledger owns this outbox yet" in mere_look.log
    assert ask(home, "outbox", "drain").wait() == 0
    assert booked(home) == bill(worker.made)
    with working(spool, 8, 1) as worker:
        worker.wait_done()
    other = ask(tmp_path / "other", "query")
    assert other.wait() == 3
    assert "belongs to the ledger in" in other.log
    assert "no ledger at" in other.log
    assert ask(home, "query").wait() == 0
    assert len(booked(home)) > len(bill(worker.made))


def test_an_answer_says_what_it_does_not_hold(home: Path) -> None:
    """While another process has the ledger, the answer comes at once, and counts what waits."""
    with working(home / "outbox", 10, 1) as worker:
        worker.wait_done()
    asked(home)
    with working(home / "outbox", 11, 1) as worker:
        worker.wait_done()
    waits = waiting(home)
    assert waits > 0
    with Ledger.open(home, rate_by(ListPrices())):
        answer = asked(home)
    assert answer["total"]["sessions"] == 1
    assert answer["completeness"]["waiting"] == waits
    (lacking,) = [it for it in answer["warnings"] if it.startswith("not in these numbers: ")]
    assert f"process {os.getpid()} has the ledger open" in lacking
    assert asked(home)["total"]["sessions"] == 2


@pytest.mark.parametrize("waits", [True, False])
def test_an_answer_without_the_means_to_book_says_so_only_when_something_waits(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    """A reader without the ledger's extra is told what the numbers lack, and nothing when they are whole."""
    with working(home / "outbox", 4, 1) as worker:
        worker.wait_done()
        worker.end()
    if not waits:
        asked(home)
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    monkeypatch.setitem(sys.modules, "voice_prices", None)
    booked_now = book(home)
    assert booked_now.messages == 0
    assert (booked_now.left is not None) is waits


def test_drain_books_without_asking(home: Path) -> None:
    """The same booking, for a script; the second time nothing is left."""
    with working(home / "outbox", 9, 2) as worker:
        worker.wait_done()
    assert costs(home, "outbox", "drain").startswith("booked ")
    assert booked(home) == bill(worker.made)
    assert costs(home, "outbox", "drain") == "nothing waits for the ledger of this host\n"


def kill_questions(home: Path, kills: int, *, seed: int) -> None:
    """Ask and kill the question anywhere in its work, while two workers write; one of them dies."""
    chance = random.Random(seed)  # noqa: S311 - the same for the same seed
    killed = 0
    with (
        working(home / "outbox", seed, 40, 0.004) as one,
        working(home / "outbox", seed + 1, 40, 0.004) as two,
    ):
        one.wait_stored(0)
        while killed < kills:
            question = CostsProcess(["query"], home.parent / "run", environ_of(home)).start()
            with contextlib.suppress(subprocess.TimeoutExpired):
                question.wait(deadline_s=chance.uniform(0.1, 0.8))  # type: ignore[arg-type]  # any time
            if not question.ended():
                killed += 1
                question.kill()
        one.wait_done()
        two.wait_done()
        one.kill()
        asked(home)
        assert booked(home) == bill([*one.made, *two.made])
        print(f"{killed} questions killed; 80 calls stored, 80 booked, none twice")  # noqa: T201 - the outcome
    assert waiting(home) == 0


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_questions_that_are_killed_many_times_lose_and_double_nothing(home: Path) -> None:
    """Killed two dozen times anywhere in its work, the next one ends with the exact totals."""
    kill_questions(home, 24, seed=31)
