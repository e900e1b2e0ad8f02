"""Tests of the way from an error to an exit code and one line."""

from __future__ import annotations

import gc
import os
import sys
import termios
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import voicecosts.__main__ as start
from voicecosts.analytics import errors
from voicecosts.analytics.commands.app import main
from voicecosts.analytics.commands.exits import (
    CODES,
    CUT_OFF,
    EXIT_CODES,
    INTERRUPTED,
    OutputLost,
    code_of,
    explain,
    run,
)
from voicecosts.analytics.config import data_dir
from voicecosts.producer.errors import DrainIncomplete, OutboxHeld


@pytest.mark.parametrize("name", EXIT_CODES)
def test_every_listed_error_exists(name: str) -> None:
    """A renamed error would fall back to the code of its parent without anybody noticing."""
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(import_module(module), kind), Exception)


def test_every_listed_code_is_explained() -> None:
    """The help page says what each code means."""
    assert set(EXIT_CODES.values()) <= set(CODES)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadTime("soon"), 2),
        (errors.UnknownColumn("x", ["tenant"]), 2),
        (errors.NoLedger(Path("/nowhere")), 3),
        (errors.NoSnapshotYet(Path("/nowhere")), 3),
        (errors.SnapshotGone(Path("/nowhere")), 3),
        (errors.SnapshotDamaged(Path("/nowhere"), "a checksum"), 3),
        (errors.NotALedger(Path("/nowhere"), "empty"), 3),
        (errors.LedgerNewer(Path("/l"), 2, 1), 4),
        (errors.MissingExtra("costs query", "analytics"), 6),
        (errors.LedgerInUse(Path("/l")), 7),
    ],
)
def test_each_error_has_the_code_of_its_branch(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts tell the cases apart by the code, people by one line on standard error."""
    assert explain(error) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"error: {error}\n"


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (errors.NoLedger(Path("/nowhere")), "run a worker with a CostObserver and ask again"),
        (OutboxHeld(Path("/box")), "ask again when that one has ended"),
        (DrainIncomplete(["not booked: x"]), "Correct what is said there, and drain again"),
        (OutputLost(OSError(28, "No space left on device")), "Write it elsewhere, and ask again"),
    ],
)
def test_an_error_says_what_to_do_next(error: Exception, cure: str) -> None:
    """Whoever reads it alone knows the next command, or what to look at."""
    assert cure in str(error)


def test_all_errors_of_this_package_are_below_one_root() -> None:
    """Whoever catches the root catches everything that is raised on purpose."""
    kinds = [it for it in vars(errors).values() if isinstance(it, type)]
    raised = [kind for kind in kinds if issubclass(kind, Exception)]
    assert len(raised) >= 10
    assert all(issubclass(kind, errors.AnalyticsError) for kind in raised)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["operations", "show", "x"],
            "error: Invalid value for 'N': 'x' is no whole number: write it in digits, such as 5\n",
        ),
        (
            ["adjust", "-12.50"],
            "error: No such option: -1: give a number below zero with its option, as in --amount -12.50\n",
        ),
        (
            ["audit", "--open-for", "90d"],
            "error: a call without an end is settled after 31 days, and is open no more: give at most 31d\n",
        ),
        (
            ["audit", "--state", "done"],
            "error: unknown state 'done'. Choose from short, abandoned, open, repaired, complete\n",
        ),
        (["foo"], "error: No such command 'foo': `costs --help` shows what there is\n"),
        (
            ["agents", "route"],
            "error: Missing option '--agents-dir': `costs agents route --help` shows what there is\n",
        ),
        (
            ["dead-letters", "requeue"],
            "error: say which letters to requeue: an ID, --reason, or --all\n",
        ),
    ],
)
def test_a_command_that_is_mistyped_is_told_where_to_look(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, without words that only a programmer needs."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == said


def test_an_unexpected_error_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback for a user; COSTS_DEBUG=1 shows it to whoever wants to repair."""

    def fail() -> None:
        raise ValueError("first line\nsecond line")

    monkeypatch.delenv("COSTS_DEBUG", raising=False)
    assert run(fail) == 1
    assert capsys.readouterr().err == (
        "error: unexpected ValueError: first line second line (COSTS_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("COSTS_DEBUG", "1")
    assert run(fail) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: unexpected ValueError: first line second line\n")


def test_errors_of_tasks_are_told_by_their_cause(capsys: pytest.CaptureFixture[str]) -> None:
    """What one of several tasks raised is said, not that there was a group of them."""

    def fail() -> None:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [errors.BadTop(0)])

    assert run(fail) == 2
    assert capsys.readouterr().err == f"error: {errors.BadTop(0)}\n"


def test_an_error_nobody_listed_has_no_code() -> None:
    """It is told as unexpected."""
    assert code_of(KeyError("x")) is None


def test_what_a_command_returns_is_its_code() -> None:
    """A check may fail with a code of its own; nothing returned is well."""
    assert run(lambda: None) == 0
    assert run(lambda: 1) == 1


def test_an_interrupt_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is what the user wanted: the shell's own code and no message."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    def interrupt_a_statement() -> None:
        raise RuntimeError("Query interrupted")  # so DuckDB says it

    assert run(interrupt) == run(interrupt_a_statement) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_a_reader_that_goes_away_is_no_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`costs query | head` ends with the shell's own code for it and no message."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as cut:
        monkeypatch.setattr(sys, "stdout", cut)
        assert run(lambda: cut.write("row\n") and None) == CUT_OFF
    assert capfd.readouterr().err == ""


def test_an_unknown_home_directory_is_one_line_that_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user without a home, as in many containers, is told how to name the data directory."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for variable in ("HOME", "XDG_DATA_HOME", "COSTS_DATA_DIR", "COSTS_OUTBOX_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert run(lambda: data_dir() and 0) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is no home directory")
    assert "set COSTS_DATA_DIR" in line


@pytest.fixture
def thawed() -> Iterator[None]:
    """Give back to the garbage collector what a command leaves it out of at its end."""
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_ctrl_c_before_a_command_has_begun_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between loading and running it."""

    def pressed(arguments: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("voicecosts.analytics.commands.app.main", pressed)
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == INTERRUPTED


@pytest.mark.usefixtures("thawed")
def test_ctrl_c_while_the_command_is_loaded_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing was done yet; the code is that of any Ctrl-C."""
    loaded = "voicecosts.analytics.commands.app"

    class Pressed:
        def find_spec(self, name: str, *_: object) -> None:
            if name == loaded:
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == INTERRUPTED


def test_an_error_on_a_terminal_ends_its_lines_between_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is no terminal gets one line, and one of unknown width too."""
    sentence = (
        "the month 2026-W47 is none: write a month such as 2026-11, or requests of last-month"
    )
    for columns in (30, 200):
        leader, follower = os.openpty()
        termios.tcsetwinsize(follower, (24, columns))
        with os.fdopen(follower, "w") as terminal, monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", terminal)
            assert explain(errors.BadQuestion(sentence)) == 2
            terminal.flush()
            said = os.read(leader, 4096).decode().splitlines()
        os.close(leader)
        assert " ".join(line.strip() for line in said) == f"error: {sentence}"
        assert max(map(len, said)) <= columns
        assert (len(said) == 1) is (columns > len(sentence) + 7)
