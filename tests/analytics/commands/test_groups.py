"""`costs stream`, `costs outbox` and `costs dead-letters` alone, without a second word."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from voicecosts.analytics.commands import dead_letters, outbox, stream

SHOWN_FIRST = [
    (outbox.app, "status", "--outbox-dir"),
    (stream.app, "status", "--data-dir"),
    (dead_letters.app, "list", "--data-dir"),
]


@pytest.fixture(autouse=True)
def nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has settings of their own."""
    for name in ("COSTS_SERVERS", "COSTS_OUTBOX_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path / "set"))


def outcome(app: Typer, *arguments: str) -> tuple[int, str, str]:
    """Return what a command did: its exit code, output and error."""
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output, repr(done.exception)


@pytest.mark.parametrize(("app", "first", "option"), SHOWN_FIRST)
def test_a_command_without_a_second_word_shows(
    app: Typer, first: str, option: str, tmp_path: Path
) -> None:
    """It is the first command of its group, with and without options."""
    other = str(tmp_path / "other")
    assert outcome(app) == outcome(app, first)
    assert outcome(app, option, other) == outcome(app, first, option, other)
    assert other in "".join(outcome(app, option, other)[1:])


@pytest.mark.parametrize(("app", "first", "option"), SHOWN_FIRST)
def test_its_help_still_lists_every_command(app: Typer, first: str, option: str) -> None:
    """`--help` is that of the group, which says what the command does alone."""
    code, text, _ = outcome(app, "--help")
    assert code == 0
    assert f"alone is `costs {app.info.name} {first}`" in text
    assert "[COMMAND] [ARGS]..." in text
    assert option not in text


@pytest.mark.parametrize(("app", "wrong"), [(outbox.app, "--all"), (stream.app, "--yes")])
def test_what_changes_something_is_always_named(app: Typer, wrong: str) -> None:
    """An option of a command that writes does not choose it."""
    code, text, _ = outcome(app, wrong)
    assert code == 2
    assert f"No such option: {wrong}" in text
