"""The pages of `--help`, read on terminals of several widths."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from voicecosts.analytics.commands.app import COMMANDS, load, main

PAGES = [
    [],
    *(
        [name, *more]
        for name in COMMANDS
        for more in ([], *([sub] for sub in getattr(load(name), "commands", {})))
    ),
]


def page(
    arguments: list[str], width: int, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> str:
    """Return what `costs … --help` prints on a terminal of this width."""
    patch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_page_is_as_wide_as_the_terminal_and_no_sentence_is_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is folded by the terminal itself, or ends in dots, has to be read twice."""
    for arguments in PAGES:
        shown = page(arguments, width, capsys, monkeypatch)
        assert max(map(len, shown.splitlines())) <= width, arguments
        assert "..." not in shown.split("\n", 1)[1], arguments
        assert "\u00a0" not in shown
        assert "\b" not in shown
        assert "x<=" not in shown
        assert not any(line != line.rstrip() for line in shown.splitlines())


def test_on_a_narrow_terminal_descriptions_keep_most_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long option stands above what it means."""
    shown = page(["consume"], 60, capsys, monkeypatch)
    assert "  --snapshot-bytes-per-day BYTES\n                        What snapshots may" in shown


def test_a_setting_is_not_torn_from_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks for a variable finds it behind `env:`."""
    shown = page(["consume"], 60, capsys, monkeypatch)
    for name in ("SERVERS", "CREDENTIALS", "TLS_CA", "TLS_CERT", "TLS_KEY", "MAX_READING"):
        assert f"[env: COSTS_{name}" in shown


def test_an_example_that_is_folded_is_still_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be copied into a shell, and no option is torn from its value."""
    for arguments in (["query"], ["audit"]):
        examples = [
            [shlex.split(line) for line in commands(page(arguments, width, capsys, monkeypatch))]
            for width in (50, 200)
        ]
        assert examples[0] == examples[1]
    shown = page(["query"], 60, capsys, monkeypatch)
    assert "--since \\\n" not in shown


def commands(shown: str) -> Iterator[str]:
    """Yield the examples of a page, each on one line as a shell reads it."""
    for line in shown.split("Examples:\n")[1].replace("\\\n", "").splitlines():
        yield line.strip()


def test_the_commands_are_those_of_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is listed with its whole first sentence."""
    shown = " ".join(page([], 60, capsys, monkeypatch).split())
    for name in COMMANDS:
        sentence = " ".join((load(name).help or "").split("\n\n")[0].split())
        assert f"{name} {sentence}" in shown
