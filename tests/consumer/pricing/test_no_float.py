"""Money never meets a binary fraction: the source of everything that computes it is scanned."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

_CONSUMER: Final = Path(__file__).parents[3] / "consumer"
_CLOCKS: Final = {"active.py"}
"""Modules that tell time by the process's own clock, in seconds, and know no money."""

MODULES: Final = [
    *sorted((_CONSUMER / "pricing").rglob("*.py")),
    *sorted(it for it in (_CONSUMER / "booking").rglob("*.py") if it.name not in _CLOCKS),
]


def offences(source: str) -> list[str]:
    """Name what brings a float into `source`: a literal, the type, or a true division."""
    return offences_in(ast.parse(source))


def offences_in(tree: ast.AST) -> list[str]:
    """Name what brings a float into a piece of code."""
    found = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            found.append(f"{line}: literal {node.value}")
        elif isinstance(node, ast.Name | ast.Attribute | ast.alias):
            name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)
            if "float" in {name, getattr(node, "name", None)}:
                found.append(f"{line}: the name float")
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            found.append(f"{line}: a division with '/', use Context.divide on Decimal")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_that_computes_money_knows_a_float(module: Path) -> None:
    """Money is Decimal from strings and whole numbers; division goes through a Decimal context."""
    assert offences(module.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["x = 0.5", "x = float(1)", "x = y / 2", "x /= 2", "x: float", "x = 1j", "x = np.float(2)"],
)
def test_the_scan_sees_every_way_a_float_comes_in(source: str) -> None:
    """The scan is itself tested: each of these lines is an offence."""
    assert len(offences(source)) == 1


def test_the_scan_covers_the_package() -> None:
    """An empty list of modules would prove nothing."""
    assert {path.stem for path in MODULES} >= {"units", "rating", "rates", "billing", "difference"}
