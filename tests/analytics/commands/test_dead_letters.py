"""`costs dead-letters`: a person sees what could not be booked, and decides what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.support.events import PRODUCER, SUBJECT, reading
from tests.support.oracle import rate
from voicecosts.analytics.commands.dead_letters import app
from voicecosts.analytics.errors import BadQuestion, NoLedger
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import VERSION, Batch, encode

Run = Callable[..., Result]

ODD = b"\xc1 \x1b[31mred"


def newer(sequence: int) -> Message:
    """Return a message of a version that is not known yet, with two events."""
    batch = Batch(
        producer_id=PRODUCER,
        number=1,
        events=[reading(number, input_tokens=number) for number in (1, 2)],
    )
    fields = msgspec.msgpack.decode(encode(batch))
    return Message(SUBJECT, sequence, msgspec.msgpack.encode({**fields, "version": VERSION + 1}))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A stopped ledger with a batch of a newer version and two messages of garbage."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([newer(1), Message(SUBJECT, 2, ODD), Message(SUBJECT, 3, b"\xc1")])
    return tmp_path


@pytest.fixture
def run(data_dir: Path) -> Run:
    """Return what runs a command on the ledger of this test."""

    def ran(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--data-dir", str(data_dir)])

    return ran


def listed(run: Run) -> dict[str, tuple[int, int]]:
    """Return letters and events of each reason."""
    found = json.loads(run("list", "--format", "json").output)
    return {group["reason"]: (group["letters"], group["events"]) for group in found}


def id_of(run: Run, reason: str) -> str:
    """Return the id of the newest letter of a reason."""
    found = json.loads(run("list", "--format", "json").output)
    [example] = [group["example"] for group in found if group["reason"] == reason]
    return str(example)


def test_they_are_listed_by_reason_with_their_events(run: Run) -> None:
    """How much is missing is said in events, and why in words."""
    output = run("list").output
    assert output.startswith("4 events could not be booked and are in no row (3 letters).")
    assert "newer_version" in output
    assert f"batch version {VERSION + 1}" in output
    assert listed(run) == {"newer_version": (1, 2), "not_a_batch": (2, 2)}


def test_a_ledger_without_any_says_so(tmp_path: Path) -> None:
    """An empty table would leave a doubt."""
    Ledger.open(tmp_path / "whole", rate).close()
    found = CliRunner().invoke(app, ["list", "--data-dir", str(tmp_path / "whole")])
    assert found.output == "Every event that reached the ledger was booked.\n"


def test_one_is_shown_with_its_bytes_and_nothing_that_a_terminal_acts_on(run: Run) -> None:
    """What a stranger sent is text and hexadecimal digits, never control codes."""
    ids = [
        json.loads(run("show", start, "--json").output)["id"]
        for start in [id_of(run, "not_a_batch")]
    ]
    for each in ids:
        output = run("show", each[:8]).output
        assert "\x1b" not in output
        assert "not_a_batch" in output
        assert "c1" in output
    batch = json.loads(run("show", id_of(run, "newer_version"), "--json").output)
    assert batch["event"]["version"] == VERSION + 1
    assert [event["number"] for event in batch["event"]["events"]] == [1, 2]


def test_an_id_that_nothing_has_is_refused(run: Run) -> None:
    """With a sentence that says where ids are."""
    error = run("show", "zzz").exception
    assert isinstance(error, BadQuestion)
    assert "costs dead-letters list" in str(error)


def test_what_is_mistyped_is_an_error_that_names_what_there_is(run: Run) -> None:
    """A letter that was meant and not chosen would be taken for one that is dealt with."""
    there = id_of(run, "newer_version")
    for command in (["requeue"], ["purge", "--yes"]):
        error = run(*command, "--reason", "newer_verison").exception
        assert isinstance(error, BadQuestion)
        assert "newer_version (1)" in str(error)
        assert "not_a_batch (2)" in str(error)
        error = run(*command, there, "zzz").exception
        assert isinstance(error, BadQuestion)
        assert "'zzz'" in str(error)
        assert there in str(error)
        error = run(*command, there, "--reason", "not_a_batch").exception
        assert isinstance(error, BadQuestion)
        assert run(*command, "").exit_code == 2
    assert there in str(run("show", "zzz").exception)
    assert listed(run) == {"newer_version": (1, 2), "not_a_batch": (2, 2)}


def test_a_reason_of_no_letter_is_no_mistake(run: Run) -> None:
    """A script may give up what there is of a reason, also when there is none today."""
    found = run("purge", "--reason", "above_ceiling")
    assert (found.exit_code, found.output) == (0, "0 letters given up\n")
    found = run("requeue", "--reason", "above_ceiling")
    assert (found.exit_code, found.output) == (0, "no letter waits to be read again\n")


def test_it_counts_what_it_gives_up_before_it_asks(run: Run) -> None:
    """Nobody says yes to a number that is not known."""
    asked = run("purge", "--all").output
    assert "Give up 3 letters (1 newer_version, 2 not_a_batch) for good?" in asked
    assert (
        "Give up 1 letter (1 newer_version) for good?"
        in run("purge", id_of(run, "newer_version")[:6]).output
    )
    assert listed(run) == {"newer_version": (1, 2), "not_a_batch": (2, 2)}


def test_a_choice_must_be_made(run: Run) -> None:
    """Without one neither command does anything."""
    for command in ("requeue", "purge"):
        found = run(command)
        assert found.exit_code == 2
        assert listed(run) == {"newer_version": (1, 2), "not_a_batch": (2, 2)}


def test_what_is_understood_by_now_is_booked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade it needs no command; with one, it says what came of it."""
    assert "1 letter refused once more" in run("requeue", "--reason", "newer_version").output
    monkeypatch.setattr("voicecosts.consumer.booking.decode.VERSION", VERSION + 1)
    run("requeue", "--reason", "newer_version")
    assert listed(run) == {"not_a_batch": (2, 2)}


def test_they_are_given_up_on_purpose_only(run: Run) -> None:
    """It asks, and with --yes it does not."""
    refused = run("purge", "--reason", "not_a_batch")
    assert refused.exit_code == 1
    assert listed(run)["not_a_batch"] == (2, 2)
    assert run("purge", "--older", "30d", "--yes").output == "0 letters given up\n"
    assert run("purge", "--reason", "not_a_batch", "--yes").output == "2 letters given up\n"
    assert listed(run) == {"newer_version": (1, 2)}


def test_a_ledger_that_runs_is_asked_to_do_it(run: Run, data_dir: Path) -> None:
    """Nobody has to stop it."""
    stop, ready = Flag(), Flag()

    def serve() -> None:
        with Ledger.open(data_dir, rate) as ledger:
            ready.set()
            while not stop.wait(0.01):
                ledger.answer_requests()

    thread = Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(30)
        assert run("purge", "--all", "--yes").output == "3 letters given up\n"
    finally:
        stop.set()
        thread.join(30)
    assert run("list").output == "Every event that reached the ledger was booked.\n"


def test_without_a_ledger_there_is_nothing_to_give_up(tmp_path: Path) -> None:
    """And none is made by asking."""
    found = CliRunner().invoke(app, ["purge", "--all", "--yes", "--data-dir", str(tmp_path / "no")])
    assert isinstance(found.exception, NoLedger)
    assert not (tmp_path / "no").exists()
