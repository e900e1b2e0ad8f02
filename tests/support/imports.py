"""Who imports what: read from the source, also inside functions and for types only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("producer", "consumer", "analytics")
FILES: Final = tuple(
    path.relative_to(ROOT)
    for folder in (*(f"{package}/**" for package in PACKAGES), "voicecosts")
    for path in sorted(ROOT.glob(f"{folder}/*.py"))
)

_BUILT_IN: Final = {"__import__", "eval", "exec", "input", "open"}
"""What needs no import to read a file, or to import without one."""


def imported(source: str) -> Iterator[str]:
    """Yield the modules that a source imports, and the built-in functions that do as much."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (_module(base, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from {node.func.id} & _BUILT_IN


@cache
def from_outside(source: str) -> set[str]:
    """Return what a source imports that is not ours: packages, and modules of the standard library."""
    names = {(name.partition(".")[0], name) for name in imported(source)}
    return {
        name if top in sys.stdlib_module_names else top or name
        for top, name in names
        if top != "voicecosts"
    }


def reached_from(given: Mapping[str, set[str]], start: str) -> int:
    """Return how many steps the longest way has that leads down from `start`."""

    @cache
    def depth(name: str) -> int:
        return 1 + max((depth(below) for below in given[name]), default=0)

    return depth(start)


def within(package: str) -> dict[str, set[str]]:
    """Return which rooms of a package, and files beside them, import which of it."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        room = _room(_name(path))
        if path.parts[0] == package:
            below = {
                _room(it) for it in imported((ROOT / path).read_text("utf-8")) if it in _ours()
            }
            ours = {it for it in below if it.startswith(f"voicecosts.{package}.")}
            graph.setdefault(room, set()).update(ours - {room})
    return graph


def _room(name: str) -> str:
    return ".".join(name.split(".")[:3])


@cache
def _ours() -> frozenset[str]:
    return frozenset(map(_name, FILES))


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    within = parts if parts[0] == "voicecosts" else ("voicecosts", *parts)
    return ".".join(within).removesuffix(".__init__")


@cache
def _module(base: str, name: str) -> str:
    """Return `base.name` where that is a module of ours or of the standard library, else `base`."""
    whole = f"{base}.{name}"
    if base.partition(".")[0] not in sys.stdlib_module_names:
        return whole if whole in _ours() else base
    try:
        return whole if find_spec(whole) else base
    except ModuleNotFoundError:  # `base` is no package
        return base
