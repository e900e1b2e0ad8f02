"""What a question costs on a large ledger, beside what nothing at all and the bare sum cost there.

Each question is asked in a warm process (`voicecosts.query`, the best of five) and as a command (the
best of three, started anew, with its peak of memory); of fewer where they would take over half a
minute. The floors: the start of Python with DuckDB, and
in the same warm process the sum of one column over the bookings, which no answer from them can beat.
The seven days are the ledger's last ones, so that a ledger that was made a while ago is asked the
same.

    python benchmarks/answers.py [--rows 1000000] [--data-dir DIR]
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import large_ledgers
from voicecosts.analytics.commands import asking
from voicecosts.analytics.snapshot.connection import closing, open_newest

WARM: Final = 5
COLD: Final = 3
ENOUGH_S: Final = 30.0
"""After so long nothing is asked once more."""

_BARE: Final = "SELECT sum(cost) FROM usage"
_NEWEST: Final = "SELECT max(occurred_at) FROM usage WHERE operation IS NULL"
_LARGEST: Final = """
SELECT tenant FROM usage WHERE tenant IS NOT NULL GROUP BY tenant ORDER BY sum(cost) DESC LIMIT 1
"""
_SIZE: Final = """
SELECT (SELECT count(*) FROM usage), (SELECT count(*) FROM session_identities)
"""


# A process has the memory of the one that started it until it is the new program, and that counts as
# its peak; so a small one starts what is measured.
_STARTER: Final = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
took = time.perf_counter() - began
print(code, took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Question(Struct, frozen=True):
    """A question as a person asks it: the words of the command, from which the function's follow."""

    name: str
    words: tuple[str, ...]

    def ask(self, data_dir: Path) -> object:
        """Ask it in this process."""
        command, *options = self.words
        given = dict(zip(options[::2], options[1::2], strict=True))
        names = {"--by": "by", "--since": "since", "--where": "where"}
        asked = {names[option]: value for option, value in given.items()}
        if "where" in asked:
            asked["where"] = [asked["where"]]
        return {"query": asking.query, "audit": asking.audit}[command](data_dir=data_dir, **asked)


class Measured(Struct, frozen=True):
    """Seconds, and megabytes of the child where there was one."""

    name: str
    warm_s: float | None
    cold_s: float | None
    peak_mb: float | None


def questions(data_dir: Path) -> list[Question]:
    """Return what is asked of a ledger."""
    connection, _ = open_newest(data_dir)
    with closing(connection):
        [(newest,)] = connection.execute(_NEWEST).fetchall()
        [(tenant,)] = connection.execute(_LARGEST).fetchall()
    since = f"{newest - timedelta(days=7):%Y-%m-%dT%H:%M:%SZ}"
    asked = {
        "by tenant": ("query", "--by", "tenant"),
        "by session": ("query", "--by", "session"),
        "by model": ("query", "--by", "model"),
        "by day": ("query", "--by", "day"),
        "by tenant, 7 days": ("query", "--by", "tenant", "--since", since),
        "one tenant by session": ("query", "--by", "session", "--where", f"tenant={tenant}"),
        "audit": ("audit",),
        "audit, 7 days": ("audit", "--since", since),
    }
    return [Question(name, words) for name, words in asked.items()]


def best(times: int, work: Callable[[], object]) -> float:
    """Return the shortest of some runs, in seconds."""
    took: list[float] = []
    while len(took) < times and sum(took) < ENOUGH_S:
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def cold(*words: object, codes: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Return the shortest time of a program, in seconds, and its highest peak of memory, in MB."""
    took: list[float] = []
    peaks: list[float] = []
    while len(took) < COLD and sum(took) < ENOUGH_S:
        told = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-c", _STARTER, sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        code, seconds, peak_kb = told.stdout.split()
        assert int(code) in codes, f"{words} ended with {code}"
        took.append(float(seconds))
        peaks.append(int(peak_kb) / 1024)
    return min(took), max(peaks)


def measure(data_dir: Path) -> Iterator[Measured]:
    """Yield the floors, then what every question took."""
    imported, peak = cold("-c", "import duckdb")
    yield Measured("floor: import duckdb", None, imported, peak)
    connection, _ = open_newest(data_dir)
    with closing(connection):
        bare = best(WARM, lambda: connection.execute(_BARE).fetchall())
    yield Measured("floor: sum(cost) over the bookings", bare, None, None)
    for question in questions(data_dir):
        warm = best(WARM, lambda question=question: question.ask(data_dir))  # type: ignore[misc]
        # an audit that finds a session short says so with its code
        codes = (0, 1) if question.words[0] == "audit" else (0,)
        took, peak = cold("-m", "voicecosts", *question.words, "--data-dir", data_dir, codes=codes)
        yield Measured(question.name, warm, took, peak)


def show(data_dir: Path) -> None:
    """Print what the ledger holds, and the table."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        [(rows, sessions)] = connection.execute(_SIZE).fetchall()
    size = snapshot.path.stat().st_size / 1e6
    print(f"{rows:,} rows, {sessions:,} sessions, a snapshot of {size:,.0f} MB\n")
    print("| question | warm, ms | by bare sum | command, ms | by import | peak, MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    bare = imported = None
    for it in measure(data_dir):
        bare, imported = bare or it.warm_s, imported or it.cold_s
        cells = (
            it.name,
            _told(it.warm_s, 1e3),
            _told(it.warm_s, 1 / (bare or 1)),
            _told(it.cold_s, 1e3),
            _told(it.cold_s, 1 / (imported or 1)),
            _told(it.peak_mb, 1),
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def _told(value: float | None, factor: float) -> str:
    if value is None:
        return ""
    scaled = value * factor
    return f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.1f}"  # noqa: PLR2004 - digits


def main() -> None:
    """Measure and print."""
    chosen = large_ledgers.arguments(__doc__).parse_args()
    with large_ledgers.made(chosen.rows, chosen.data_dir, chosen.days) as data_dir:
        show(data_dir)


if __name__ == "__main__":
    main()
