"""Signals: while asyncio runs, and while an answer has files of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import typer

from voicecosts.analytics.commands.signals import run_in_order
from voicecosts.analytics.commands.spill import spilling


def test_the_first_ctrl_c_cancels_and_later_ones_wait_until_all_has_ended() -> None:
    """The main task and one beside it end in order, whatever comes meanwhile."""
    ended = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            ended.append("background")

    async def main() -> None:
        kept = asyncio.create_task(background())
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        try:
            await kept
        finally:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            ended.append("main")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_in_order(main())
    assert ended == ["background", "main"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_when_all_is_done_is_not_lost() -> None:
    """The command still ends as one that was interrupted."""

    async def main() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_in_order(main())


def test_without_ctrl_c_the_result_is_returned() -> None:
    """As `asyncio.run` returns it."""

    async def main() -> int:
        await asyncio.sleep(0)
        return 3

    assert run_in_order(main()) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("in_statement", [False, True])
def test_an_answer_that_is_ended_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, *, in_statement: bool
) -> None:
    """By a signal, also while DuckDB runs, which then raises an error of its own; the code is that of the signal."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def answer() -> None:
        with spilling() as folder:
            assert folder is not None
            assert folder.parent == tmp_path
            (folder / "spilled").write_bytes(b"rows")
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                if in_statement:
                    raise RuntimeError("Query interrupted") from None
                raise

    with pytest.raises(typer.Exit) as ended:
        answer()
    assert ended.value.exit_code == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["folder", "duckdb"])
def test_a_signal_waits_until_an_answer_can_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, moment: str
) -> None:
    """One while its folder is made leaves no folder, one while DuckDB is loaded does not disturb that."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loaded = []

    class Loading:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "duckdb":
                signal.raise_signal(number)
                loaded.append(name)

    def made(*given: object, **named: object) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(dir=tmp_path)
        signal.raise_signal(number)
        return folder

    if moment == "duckdb":
        monkeypatch.delitem(sys.modules, "duckdb")
        monkeypatch.setattr(sys, "meta_path", [Loading(), *sys.meta_path])
    else:
        monkeypatch.setattr("voicecosts.analytics.commands.spill.TemporaryDirectory", made)
    with pytest.raises((typer.Exit, KeyboardInterrupt)), spilling():
        pytest.fail("it has begun")
    assert loaded == (["duckdb"] if moment == "duckdb" else [])
    assert list(tmp_path.iterdir()) == []
