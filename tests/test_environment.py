"""Where the environment is read: in the config modules, and nowhere else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
READERS = {
    "producer/config.py": {"resolve", "outbox_folder", "command_project"},
    "producer/demo/calls.py": {"run"},  # takes out what the shell has for other servers
    "consumer/config.py": {"from_env", "max_reading_from_env", "prices_from_env"},
    "analytics/config.py": {
        *(
            "data_dir",
            "names_servers",
            "is_debug",
            "without_settings",
            "has_screen",
            "wants_colours",
        ),
    },
}
"""The functions that may read it, by file."""

READS = re.compile(r"\bos\.(environ|getenv)|\bfrom os import .*(environ|getenv)")


def readers(path: Path) -> set[str]:
    """Return the functions, classes and other statements of a file that read the environment."""
    return {
        getattr(statement, "name", ast.unparse(statement))
        for statement in ast.parse(path.read_text("utf-8")).body
        if READS.search(ast.unparse(statement))
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
