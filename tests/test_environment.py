"""Where the environment is read: in the config modules, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
READERS = {
    "producer/config.py": {"resolve", "outbox_folder", "command_project"},
    "consumer/config.py": {"from_env"},
    "analytics/config.py": {"from_env"},
}
"""The functions that may read it, by file."""

NAMES = {"environ", "environb", "getenv", "getenvb"}


def is_a_reading(node: ast.AST) -> bool:
    """Whether an expression is `os.environ` or one of its kind, or an import of it."""
    if isinstance(node, ast.Attribute):
        return node.attr in NAMES and isinstance(node.value, ast.Name) and node.value.id == "os"
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "os"
        and any(alias.name in NAMES for alias in node.names)
    )


def readers(path: Path) -> set[str]:
    """Return the top-level functions, or other lines, of a file that read the environment."""
    return {
        getattr(statement, "name", f"line {statement.lineno}")
        for statement in ast.parse(path.read_text("utf-8")).body
        if any(is_a_reading(node) for node in ast.walk(statement))
    }


def test_only_the_config_functions_read_the_environment() -> None:
    """Everything else is told what it needs, so a call, a test or a second ledger can differ."""
    found = {
        path.relative_to(ROOT).as_posix(): names
        for package in ("producer", "consumer", "analytics")
        for path in (ROOT / package).rglob("*.py")
        if (names := readers(path))
    }
    assert found == READERS


def test_every_way_to_read_the_environment_is_found(tmp_path: Path) -> None:
    """The search sees an attribute, a default argument, a call and an import."""
    (tmp_path / "m.py").write_text(
        "import os\nfrom os import getenv\nHOME = os.environ['HOME']\n"
        "def asked(name, source=os.environ): return source[name]\n"
        "class Box:\n    def get(self): return os.getenv('A')\n"
        "def plain(environ): return environ['A']\n"
    )
    assert readers(tmp_path / "m.py") == {"line 2", "line 3", "asked", "Box"}
