"""What an answer costs when a ledger has several times its history: sums of earlier times beside its own.

A large ledger is made, or copied, and everything that it keeps for ever of its calls is copied to earlier times, as
often as `--times` says: sums, ends, states, reports of workers. Single rows are not, so only questions that read sums are
asked: by tenant, by model and the audit, each of both ledgers in turn, in a warm process, the best of five.
CPU is of all threads.

    python benchmarks/longer_history.py [--rows 1000000] [--data-dir DIR] [--times 5]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import large_ledgers
from benchmarks.answers import best
from benchmarks.measuring import timed
from voicecosts.analytics.commands import asking
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store import months
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger

RUNS: Final = 5

KEPT: Final = (
    "folded_usage",
    "session_readings",
    "session_starts",
    "session_ends",
    "session_notes",
    "session_identities",
    "settled_sessions",
    "producer_reports",
)
"""The tables that grow with calls and stay. What operations have booked is of closed months, and is not copied."""

_DAYS: Final = "SELECT max(day) - min(day) + 1 FROM folded_usage WHERE session_id IS NOT NULL"
_COLUMNS: Final = """
SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND schema_name = 'main'
"""
_EARLIER_ID: Final = """
CASE WHEN session_id IS NOT NULL THEN (
    format('{:012x}', ('0x' || replace(session_id::VARCHAR, '-', '')[:12])::BIGINT - ?::BIGINT * 86400000)
    || replace(session_id::VARCHAR, '-', '')[13:]
)::UUID END AS session_id
"""


def lengthen(data_dir: Path, times: int) -> None:
    """Give the ledger of a directory the history of so many times its days."""
    with duckdb.connect(Layout(data_dir).ledger) as books:
        [(days,)] = books.execute(_DAYS).fetchall()
        books.begin()
        for table in KEPT:
            _copy_to_earlier(books, table, [days * at for at in range(1, times)])
        books.execute("DELETE FROM folded_months")
        months.add_all(books)
        books.commit()
        books.execute("CHECKPOINT")
    with Ledger.open(data_dir, rate_by(ListPrices())) as ledger:
        ledger.publish_snapshot()


def _copy_to_earlier(books: duckdb.DuckDBPyConnection, table: str, days: list[int]) -> None:
    kinds = dict(books.execute(_COLUMNS, [table]).fetchall())
    own = " WHERE operation IS NULL AND corrects IS NULL" if "operation" in kinds else ""
    books.execute(f"CREATE TEMP TABLE own AS SELECT * FROM {table}{own}")  # noqa: S608 - our own names
    for back in days:
        changed, given = [], []
        for name, kind in kinds.items():
            if name == "session_id":
                changed.append(_EARLIER_ID)
            elif name == "producer_id":
                changed.append("concat(producer_id, '-', ?) AS producer_id")
            elif kind == "DATE":
                changed.append(f"{name} - ?::INTEGER AS {name}")
            elif kind == "TIMESTAMP":
                changed.append(f"{name} - to_days(?::INTEGER) AS {name}")
            else:
                continue
            given.append(back)
        books.execute(
            f"INSERT INTO {table} SELECT * REPLACE ({', '.join(changed)}) FROM own",  # noqa: S608 - same
            given,
        )
    books.execute("DROP TABLE own")


def show(own: Path, longer: Path) -> None:
    """Print what each question takes of both."""
    asked: dict[str, Callable[[Path], object]] = {
        "by tenant, with session counts": partial(_query, "tenant"),
        "by model": partial(_query, "model"),
        "audit": lambda data_dir: asking.audit(data_dir=data_dir),
    }
    print("| question | CPU, ms | with the longer history, ms | times |")
    print("| --- | ---: | ---: | ---: |")
    for name, ask in asked.items():
        one, other = (best(RUNS, partial(timed, partial(ask, each))) for each in (own, longer))
        print(
            f"| {name} | {one.cpu_s * 1e3:.0f} | {other.cpu_s * 1e3:.0f} | {other.cpu_s / one.cpu_s:.1f} |",
            flush=True,
        )


def _query(by: str, data_dir: Path) -> object:
    return asking.query(by, data_dir=data_dir)


def main() -> None:
    """Measure and print."""
    parser = large_ledgers.arguments(__doc__)
    parser.add_argument("--times", type=int, default=5, help="its history, with its own")
    chosen = parser.parse_args()
    with large_ledgers.made(chosen.rows, chosen.data_dir, chosen.days) as own:
        # Files of sealed days are not needed: nothing asks for a single row.
        left_out = shutil.ignore_patterns(
            "costs*.duckdb", "verified.duckdb", "ledger.json", "sealed"
        )
        with tempfile.TemporaryDirectory(prefix="longer-", dir=own.absolute().parent) as folder:
            longer = Path(folder)
            shutil.copytree(own, longer, ignore=left_out, dirs_exist_ok=True)
            lengthen(longer, chosen.times)
            show(own, longer)


if __name__ == "__main__":
    main()
