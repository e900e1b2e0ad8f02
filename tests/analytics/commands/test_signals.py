"""Ctrl-C while asyncio runs."""

from __future__ import annotations

import asyncio
import signal

import pytest

from voicecosts.analytics.commands.signals import run_in_order


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
