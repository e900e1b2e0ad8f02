"""No float comes near money, anywhere between a worker and an answer.

In pricing and booking there is none at all (`tests/consumer/pricing/test_no_float.py`). Elsewhere
seconds and shares are floats, so rooms that show and correct money have none either, but for the
modules that are named here with a reason; and nowhere do a float and money meet in one statement. In
SQL a division, an average or a binary type would bring one in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.consumer.pricing.test_no_float import offences_in
from tests.support.sample_ledger import write_snapshot
from voicecosts import query

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = (
    "analytics/answers",
    "analytics/commands",
    "analytics/question",
    "analytics/text",
    "consumer/store",
)
"""Where money passes. A module that is new in one of them is scanned from its first day."""

NO_MONEY: Final = {
    "analytics/answers/findings.py": "how full a stream is, as a share",
    "analytics/commands/dashboard_app/app.py": "gaps of a layout",
    "analytics/commands/dashboard_app/figures.py": "a folder",
    "analytics/commands/dashboard_app/page.py": "the height of a bar of a chart, and nothing else (`MEET`)",
    "analytics/commands/demo.py": "seconds to sleep; folders",
    "analytics/commands/ledger.py": "hours and seconds of options",
    "analytics/commands/local_outbox.py": "a time; folders",
    "analytics/commands/outbox.py": "seconds of an option; a time; sizes",
    "analytics/commands/stream.py": "hours of an option; sizes of a stream",
    "analytics/text/plain.py": "seconds are JSON numbers",
    "analytics/text/sql.py": "what a person's own SQL divides",
    "consumer/store/backup.py": "folders; sizes",
    "consumer/store/clock.py": "clocks",
    "consumer/store/erasing.py": "folders",
    "consumer/store/in_hand.py": "a clock",
    "consumer/store/layout.py": "folders",
    "consumer/store/payloads.py": "folders",
    "consumer/store/price_file.py": "a clock",
    "consumer/store/removal.py": "folders",
    "consumer/store/retention.py": "a clock",
    "consumer/store/sealing.py": "a clock; folders",
    "consumer/store/snapshots.py": "a clock",
}
"""Modules of these rooms that have other floats than seconds whose name says so, and what they are."""

MEET: Final = {
    "analytics/commands/dashboard_app/page.py": "a bar of a chart is a picture of money, not money",
    "analytics/notebooks/first_look.py": "a bar of a chart is a picture of money, not money",
    "analytics/notebooks/one_call.py": "a bar of a chart is a picture of money, not money",
    "producer/capture/recorded.py": "seconds may be given as either; a cost that is a float is refused",
    "producer/dispatch.py": "a label may be any number",
}
"""Where a float and a Decimal meet, and what of."""

MONEY: Final = re.compile(
    r"(^|_)(cost|billed|money|dollars|price|amount|reading|markup|discount)($|_)|^Decimal$",
    re.IGNORECASE,
)

_SECONDS: Final = re.compile(r"_s$", re.IGNORECASE)
_HEADS: Final = ("test", "iter", "subject", "context_expr")


def sources(*folders: str) -> list[Path]:
    """Return the modules of folders."""
    return sorted(it for folder in folders for it in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """Return a module as a path below the root."""
    return path.relative_to(ROOT).as_posix()


def parts(source: str) -> Iterator[ast.AST]:
    """Yield what is looked at as one, where a float is in the source at all.

    Simple statements, the heads of others, and what each argument and each function is said to be,
    as the assignment that it amounts to.
    """
    tree = ast.parse(source)
    if not offences_in(tree):
        return
    for node in ast.walk(Unjoined().visit(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from signature(node)
        elif isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield node
        elif not isinstance(node, ast.expr):
            yield from (head for name in _HEADS if (head := getattr(node, name, None)))


def signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Yield `name: annotation = default` for each argument, and `function: annotation`."""
    given = function.args
    named = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(named) - len(given.defaults)), *given.defaults, *given.kw_defaults]
    for arg, default in zip([*named, *given.kwonlyargs], defaults, strict=True):
        yield said(arg.arg, arg.annotation, default)
    yield said(function.name, function.returns, None)


def said(name: str, kind: ast.expr | None, value: ast.expr | None) -> ast.AST:
    """Return `name: kind = value`."""
    target = ast.Name(name, ast.Store())
    return ast.AnnAssign(target, kind or ast.Name("object", ast.Load()), value, simple=1)


def words(node: ast.AST) -> set[str]:
    """Return the names in a piece of code, also those that are texts, such as a column's."""
    found = set()
    for each in ast.walk(node):
        found |= {getattr(each, kind, None) for kind in ("id", "attr", "arg", "name")}
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            found |= set(each.value.split()) if each.value.isidentifier() else set()
    return {word for word in found if isinstance(word, str)}


def meetings(source: str) -> list[str]:
    """Return the statements in which a float and money meet."""
    return [
        ast.unparse(part)
        for part in parts(source)
        if offences_in(part) and any(MONEY.search(word) for word in words(part))
    ]


def floats(source: str) -> list[str]:
    """Return the statements with a float in them, but for a time in seconds whose name says so."""
    return [
        ast.unparse(part)
        for part in parts(source)
        if offences_in(part) and not _SECONDS.search(getattr(target_of(part), "id", ""))
    ]


def target_of(part: ast.AST) -> ast.AST | None:
    """Return what is assigned to."""
    if isinstance(part, ast.AnnAssign):
        return part.target
    return part.targets[0] if isinstance(part, ast.Assign) and len(part.targets) == 1 else None


class Unjoined(ast.NodeTransformer):
    """Takes paths that are joined to a text for what they are: no divisions."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Replace `folder / "name"` by the folder."""
        self.generic_visit(node)
        is_text = isinstance(node.right, ast.JoinedStr) or (
            isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
        )
        return node.left if is_text and isinstance(node.op, ast.Div) else node


SCANNED: Final = [path for path in sources(*ROOMS) if name_of(path) not in NO_MONEY]
EVERYWHERE: Final = sources("analytics", "consumer", "producer")


@pytest.mark.parametrize("path", SCANNED, ids=name_of)
def test_no_module_that_money_passes_knows_a_float(path: Path) -> None:
    """Answers, tables, commands and the ledger's own writing are without any but seconds."""
    assert floats(path.read_text(encoding="utf-8")) == []


def test_what_is_not_scanned_has_no_money_and_still_needs_it() -> None:
    """A module is left out of the scan only for floats that it has; without them it is taken in."""
    assert [name for name in NO_MONEY if not floats((ROOT / name).read_text("utf-8"))] == []


def test_a_float_and_money_meet_nowhere() -> None:
    """In the whole package no statement has both, but for five places that are not about money."""
    met = {name_of(path): meetings(path.read_text(encoding="utf-8")) for path in EVERYWHERE}
    assert {name for name, found in met.items() if found} == set(MEET)
    assert len(met["analytics/commands/dashboard_app/page.py"]) == 1
    assert len(met["analytics/notebooks/first_look.py"]) == 1
    assert len(met["analytics/notebooks/one_call.py"]) == 1
    assert len(EVERYWHERE) > 150


@pytest.mark.parametrize(
    "source",
    [
        "total = float(row.cost)",
        'bar = {"y": float(row["cost"])}',
        "half = cost / 2",
        "if cost > 0.5: pass",
        "for each in [cost * 1.5]: pass",
        "with opened(cost * 1.0): pass",
        "def charge(cost: float) -> None: ...",
        "class Row:\n    billed: float",
        "x = Decimal(0.1)",
        "limit = f(max_reading=5.0)",
        "def charge(*, cost=0.5): ...",
        "def cost_of(model: str) -> float: ...",
    ],
)
def test_the_scan_sees_where_they_meet(source: str) -> None:
    """The scan is itself tested: each of these is one meeting."""
    assert len(meetings(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        'path = folder / "cost.json"',
        "timeout_s: float = 5.0",
        "def price_of(model: str, wait_s: float) -> None: ...",
        "cost = money * 2",
        "async def look(cost: Decimal, *, wait_s: float = 1.0) -> Decimal: ...",
    ],
)
def test_the_scan_lets_times_and_paths_pass(source: str) -> None:
    """Else it would be switched off."""
    assert meetings(source) == []


SQL: Final = sorted((ROOT / "consumer/store").rglob("*.sql"))
INEXACT: Final = re.compile(r"/|\b(avg|mean|double|float\d?|real|stddev\w*)\b", re.IGNORECASE)
"""What DuckDB makes a DOUBLE of. A median stays DECIMAL."""

_QUERY: Final = re.compile(r"\b(SELECT|FROM|JOIN|CASE|GROUP BY)\b|sum\(")


def inexact(sql: str) -> list[str]:
    """Return what in a query would make a DOUBLE of money; comments and texts do not."""
    code = re.sub(r"--.*", "", sql)
    return INEXACT.findall(re.sub(r"'[^']*'", "''", code))


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.stem)
def test_no_sql_makes_a_double(path: Path) -> None:
    """DuckDB divides into a DOUBLE: money is only added and compared, as DECIMAL."""
    assert inexact(path.read_text(encoding="utf-8")) == []


def test_no_query_in_the_code_makes_a_double() -> None:
    """Nor does what a module or the notebook asks."""
    asked = [
        (name_of(path), node.value)
        for path in sources("analytics", "consumer")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if _QUERY.search(node.value)
    ]
    assert len(asked) > 20
    assert [it for it in asked if inexact(it[1])] == []


def test_every_column_of_money_is_decimal(tmp_path: Path) -> None:
    """In every table and view of the ledger, and no column of any is binary."""
    with duckdb.connect(write_snapshot(tmp_path / "s.duckdb"), read_only=True) as reader:
        columns = reader.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns()"
            " WHERE NOT internal ORDER BY ALL"
        ).fetchall()
    money = [it for it in columns if re.search(r"(cost|billed)$", it[1])]
    assert len(money) > 20
    assert [it for it in money if not it[2].startswith("DECIMAL")] == []
    assert [it for it in columns if it[2] in {"DOUBLE", "FLOAT"}] == []


def test_answers_hold_decimals(tmp_path: Path) -> None:
    """Each amount of a row is one, also where the ledger has none to add up."""
    report = query("tenant,modality", data_dir=write_snapshot(tmp_path / "s.duckdb"))
    found = {
        type(getattr(row, name))
        for row in (*report.rows, report.total)
        for name in ("cost", "list_cost", "billed", "estimated_cost")
    }
    assert found <= {Decimal, type(None)}
    assert Decimal in found
