"""Looking up host names: in threads that hold up neither the loop nor the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from voicecosts.producer.publishing.lookups import Lookups


async def test_a_loop_gets_results_and_errors_from_it() -> None:
    """It is what a loop expects of an executor."""
    loop = asyncio.get_running_loop()
    lookups = Lookups()
    assert await loop.run_in_executor(lookups, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(lookups, divmod, 7, 0)


async def test_what_was_cancelled_is_forgotten_and_nothing_waits_for_what_hangs() -> None:
    """The loop may end while a lookup hangs."""
    hang = threading.Event()
    lookups = Lookups()
    waiting = asyncio.get_running_loop().run_in_executor(lookups, hang.wait)
    waiting.cancel()
    lookups.shutdown(wait=True)
    hang.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_resolver_that_hangs_does_not_hold_up_the_exit_of_a_process(tmp_path: Path) -> None:
    """A worker whose name server is away ends when its time for flushing is over."""
    program = """
        import socket, sys, threading
        from pathlib import Path

        looked_up = threading.Event()

        def hang(*arguments, **options):
            looked_up.set()
            threading.Event().wait()

        socket.getaddrinfo = hang

        from tests.support.events import reading
        from voicecosts.producer.config import ProducerConfig
        from voicecosts.producer.process import PROCESS

        config = ProducerConfig(
            project="p",
            servers=("nats://bus.example:4222",),
            outbox_dir=Path(sys.argv[1]),
            flush_timeout_s=0.5,
        )
        PROCESS.publisher(config).put(reading(1))
        assert looked_up.wait(60)
    """
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        check=True,
        cwd=root,
        timeout=120,  # without the rule it never ends
    )
    assert len(list(tmp_path.glob("*.sqlite3"))) == 1
