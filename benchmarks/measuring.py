"""What the benchmarks measure with: CPU of a thread and of the process, memory, percentiles.

Variants that must not share an allocator run in child processes: a program starts itself again with
`--child` and reads one line of JSON from it. The parent ends every child that it started.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

_KB: Final = 1024
_CHILD_DEADLINE_S: Final = 600.0


class Took(Struct, frozen=True):
    """Seconds on the clock, and of CPU of all threads: on a shared machine that says more."""

    clock_s: float
    cpu_s: float


def timed(work: Callable[[], object]) -> Took:
    """Do some work in this process, and return what it took."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - began, time.process_time() - cpu)


def thread_cpu_s(thread: threading.Thread) -> float:
    """Return the CPU seconds that a live thread has used so far."""
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def rss_kb() -> float:
    """Return the resident memory of this process in kB, once garbage and free pages are given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / _KB


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: Sequence[float]) -> str:
    """Return a median and its range, as text."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def child(program: str, *arguments: object) -> dict[str, Any]:
    """Run a program's `--child` in a fresh process; return the JSON of its last line."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, program, "--child", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=_CHILD_DEADLINE_S)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise SystemExit(f"{program} --child {arguments} ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found
