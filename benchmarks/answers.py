"""What a question costs on a large ledger, beside what nothing at all and the bare sum cost there.

Each question of many calls is asked in a warm process (`voicecosts.query`, the best of five) and as a
command (the best of three, started anew, with its peak of memory), and the other commands that answer so
alone; of fewer where they would take over half a minute. CPU is of all threads, and of the run that took
the least of it: on a machine that others use as well, it says more than time does, and the ratios are of
it. The floors: the start of Python with DuckDB, and in the same warm process the sum of one column over the
bookings, which no answer from them can beat. The seven days are the ledger's last ones, so that a ledger
that was made a while ago is asked the same.

    python benchmarks/answers.py [--rows 1000000] [--data-dir DIR]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import large_ledgers
from benchmarks.measuring import Took, timed
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
took, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, took, used.ru_utime + used.ru_stime, used.ru_maxrss)
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


COMMANDS: Final = {
    "the last calls": ("calls",),
    "the dearest calls of 7 days": ("calls", "--sort", "cost", "--since", "{since}"),
    "one call": ("call", "last"),
    "a statement": ("statement", "--tenant", "{tenant}", "--month", "{month}"),
    "compared with last week": (
        "query",
        "--by",
        "tenant",
        "--since",
        "{since}",
        "--compare",
        "previous",
    ),
    "sql": ("sql", "SELECT tenant, sum(cost) FROM cost_by_day GROUP BY tenant"),
}
"""What a person asks beside: only as a command."""


class Measured(Struct, frozen=True):
    """What a question took, and megabytes of the command where there was one."""

    name: str
    warm: Took | None = None
    cold: Took | None = None
    peak_mb: float | None = None


def names(data_dir: Path) -> dict[str, str]:
    """Return when the last seven days of a ledger begin, their month, and the tenant that cost most."""
    connection, _ = open_newest(data_dir)
    with closing(connection):
        [(newest,)] = connection.execute(_NEWEST).fetchall()
        [(tenant,)] = connection.execute(_LARGEST).fetchall()
    since = f"{newest - timedelta(days=7):%Y-%m-%dT%H:%M:%SZ}"
    return {"since": since, "month": f"{newest:%Y-%m}", "tenant": tenant}


def questions(since: str, tenant: str) -> list[Question]:
    """Return what is asked of many calls."""
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


def best(runs: int, run: Callable[[], Took]) -> Took:
    """Return the least of some runs, or of as many as begin in time."""
    every: list[Took] = []
    while len(every) < runs and sum(it.clock_s for it in every) < ENOUGH_S:
        every.append(run())
    return Took(min(it.clock_s for it in every), min(it.cpu_s for it in every))


def cold(*words: object, codes: tuple[int, ...] = (0,)) -> tuple[Took, float]:
    """Return what a program takes, and its highest peak of memory in MB."""
    peaks: list[float] = []

    def run() -> Took:
        told = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-c", _STARTER, sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        code, clock_s, cpu_s, peak_kb = told.stdout.split()
        assert int(code) in codes, f"{words} ended with {code}"
        peaks.append(int(peak_kb) / 1024)
        return Took(float(clock_s), float(cpu_s))

    return best(COLD, run), max(peaks)


def measure(data_dir: Path) -> Iterator[Measured]:
    """Yield the floors, then what every question took."""
    imported, peak = cold("-c", "import duckdb")
    yield Measured("floor: import duckdb", cold=imported, peak_mb=peak)
    connection, _ = open_newest(data_dir)
    with closing(connection):
        bare = best(WARM, lambda: timed(lambda: connection.execute(_BARE).fetchall()))
    yield Measured("floor: sum(cost) over the bookings", warm=bare)
    named = names(data_dir)
    for question in questions(named["since"], named["tenant"]):
        warm = best(WARM, partial(timed, partial(question.ask, data_dir)))
        # an audit that finds a session short says so with its code
        codes = (0, 1) if question.words[0] == "audit" else (0,)
        took, peak = cold("-m", "voicecosts", *question.words, "--data-dir", data_dir, codes=codes)
        yield Measured(question.name, warm, took, peak)
    for name, words in COMMANDS.items():
        said = [word.format_map(named) for word in words]
        took, peak = cold("-m", "voicecosts", *said, "--data-dir", data_dir)
        yield Measured(name, cold=took, peak_mb=peak)


def show(data_dir: Path) -> None:
    """Print what the ledger holds, and the table."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        [(rows, sessions)] = connection.execute(_SIZE).fetchall()
    size = snapshot.path.stat().st_size / 1e6
    print(f"{rows:,} rows, {sessions:,} sessions, a snapshot of {size:,.0f} MB\n")
    print(
        "| question | warm, ms | CPU, ms | by bare sum | command, ms | CPU, ms | above import, ms | MB |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    bare: Took | None = None
    imported: Took | None = None
    for it in measure(data_dir):
        bare, imported = bare or it.warm, imported or it.cold
        cells = (it.name, *_cells(it.warm, bare), *_above(it.cold, imported), _told(it.peak_mb))
        print(f"| {' | '.join(cells)} |", flush=True)


def _cells(took: Took | None, floor: Took | None) -> tuple[str, str, str]:
    if took is None or floor is None:
        return "", "", ""
    ratio = took.cpu_s / floor.cpu_s
    return _told(took.clock_s * 1e3), _told(took.cpu_s * 1e3), _told(ratio)


def _above(took: Took | None, floor: Took | None) -> tuple[str, str, str]:
    if took is None or floor is None:
        return "", "", ""
    above = took.clock_s - floor.clock_s
    return _told(took.clock_s * 1e3), _told(took.cpu_s * 1e3), _told(above * 1e3)


def _told(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004 - digits


def main() -> None:
    """Measure and print."""
    chosen = large_ledgers.arguments(__doc__).parse_args()
    with large_ledgers.made(chosen.rows, chosen.data_dir, chosen.days) as data_dir:
        show(data_dir)


if __name__ == "__main__":
    main()
