"""Imports: a worker's process, and a reader of the contract, load only what they use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import voicecosts
from tests.support.imports import FILES, ROOT, from_outside, imported

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EVERYWHERE, *PLACES = (
    (place, set(names.split()))
    for place, names in PYPROJECT["tool"]["voicecosts"]["imports"].items()
)
OPTIONAL = {"_typeshed", "aiohttp", "prometheus_client"}
"""Packages that are used where somebody has installed them, and what only a type checker knows."""

HEAVY = {"duckdb", "livekit", "msgspec", "nats", "openrtc", "rich", "typer", "voice_prices"}

CONTRACT = {"voicecosts", "msgspec", "typing_extensions"}
"""What the contract may load: msgspec itself looks for typing_extensions."""

LOADED = """
import json, sys
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(module: str) -> set[str]:
    """Return the modules that importing `module` loads into a fresh interpreter."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return set(json.loads(ran.stdout))


def packages(modules: set[str]) -> set[str]:
    """Return the top-level packages of modules."""
    return {module.partition(".")[0] for module in modules}


def surplus(path: Path, source: str) -> set[str]:
    """Return what a source imports from outside that is not named for its place."""
    named = (names for place, names in PLACES if path.is_relative_to(place))
    return from_outside(source).difference(EVERYWHERE[1], *named)


def test_a_room_imports_from_outside_what_is_named_for_it() -> None:
    """A room says in `pyproject.toml` what it touches, and a file has no more than its room."""
    found = {path: surplus(path, (ROOT / path).read_text("utf-8")) for path in FILES}
    assert {path: names for path, names in found.items() if names} == {}


def test_nothing_is_named_for_a_room_that_it_does_not_import() -> None:
    """What a room has given up can be taken up again by a decision only."""
    for place, names in (("", EVERYWHERE[1]), *PLACES):
        files = [path for path in FILES if path.is_relative_to(place)]
        used = {name for path in files for name in from_outside((ROOT / path).read_text("utf-8"))}
        assert names <= used, place


@pytest.mark.parametrize(
    "planted",
    [
        "import socket",
        "import _socket",
        "import http.client as client",
        "import urllib.request",
        "from urllib import request",
        "from concurrent.futures import ThreadPoolExecutor",
        "import asyncio.subprocess",
        "from importlib import import_module",
        "import logging.handlers",
        "import a_package_nobody_declared",
        "import nats, duckdb, typer, rich, marimo, openrtc, voice_prices, sqlite3",
        "import consumer.store.ledger",
        "from producer.outbox import file",
        "from . import sibling",
        "open('a file')",
        "__import__('socket')",
    ],
)
@pytest.mark.parametrize("place", ["producer/capture/tap.py", "consumer/a_new_room/file.py"])
def test_an_import_that_is_not_named_is_found(place: str, planted: str) -> None:
    """However it is written: in a function, for types only, from a package, without an import."""
    for source in (planted, f"def late():\n    {planted}", f"if TYPE_CHECKING:\n    {planted}"):
        found = surplus(Path(place), source)
        assert len(found) == planted.count(",") + 1, found


def test_a_package_that_is_imported_is_declared() -> None:
    """What only happens to be installed, with another package or for the tests, is missed elsewhere."""
    project = PYPROJECT["project"]
    extras = {**project["optional-dependencies"], "": project["dependencies"], "all": (), "dev": ()}
    declared = {re.split("[^a-z-]", line)[0] for lines in extras.values() for line in lines}
    homes = packages_distributions()
    used = set().union(*(names for _, names in (EVERYWHERE, *PLACES)))
    for name in used - OPTIONAL:
        assert name.partition(".")[0] in sys.stdlib_module_names or declared & {*homes[name]}, name


def test_a_notebook_uses_public_names_alone() -> None:
    """It is there to be copied, and nothing else is promised to whoever copies it."""
    for path in (ROOT / "analytics/notebooks").glob("*.py"):
        ours = {it for it in imported(path.read_text("utf-8")) if it.startswith("voicecosts")}
        assert ours == {"voicecosts"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import voicecosts` alone starts neither LiveKit nor NATS nor a database nor a command line."""
    loaded = loaded_by("voicecosts")
    assert "voicecosts" in loaded
    assert not HEAVY & packages(loaded)


@pytest.mark.parametrize(
    "module",
    [
        "voicecosts.producer.events",
        "voicecosts.producer.settings",
        "voicecosts.producer.subjects",
    ],
)
def test_what_both_sides_share_needs_only_msgspec(module: str) -> None:
    """The ledger reads these three modules, so they bring nothing of the worker with them."""
    loaded = loaded_by(module)
    assert packages(loaded) - sys.stdlib_module_names <= CONTRACT
    ours = {name for name in loaded if name.startswith("voicecosts.")}
    assert ours == {"voicecosts.producer", module}


@pytest.mark.parametrize(
    "module",
    [
        "voicecosts.producer.publishing.buffer",
        "voicecosts.producer.publishing.shortfall",
        "voicecosts.producer.config",
        "voicecosts.producer.errors",
        "voicecosts.producer.capture.identity",
        "voicecosts.producer.counts",
        "voicecosts.producer.dispatch",
        "voicecosts.producer.names",
        "voicecosts.producer.capture.meters",
        "voicecosts.producer.outbox.packing",
        "voicecosts.producer.providers",
        "voicecosts.producer.capture.usage",
    ],
)
def test_the_pure_part_needs_neither_livekit_nor_nats(module: str) -> None:
    """The rules of the producer work without the frameworks at its two ends."""
    assert packages(loaded_by(module)) - sys.stdlib_module_names <= CONTRACT


def test_every_public_name_can_be_used() -> None:
    """Each name in `__all__` is found in its module when it is asked for."""
    for name in voicecosts.__all__:
        assert getattr(voicecosts, name).__name__ == name


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from voicecosts import {name}
"""


@pytest.mark.parametrize(
    ("name", "missing", "extras"),
    [
        ("CostObserver", "livekit", "producer,agents"),
        ("AgentPool", "livekit", "producer,agents"),
        ("agent_config", "livekit", "producer,agents"),
        ("CostObserver", "nats", "producer"),
    ],
)
def test_a_public_name_without_its_packages_says_what_to_install(
    name: str, missing: str, extras: str
) -> None:
    """A worker without LiveKit gets one sentence with the command, not the name of a module alone."""
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing, name=name)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == (
        f"ImportError: voicecosts.{name} needs {missing}: pip install 'voicecosts[{extras}]'"
    )
    assert "ModuleNotFoundError" not in ran.stderr


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """A misspelt name fails as it does in any module."""
    with pytest.raises(AttributeError, match="NoSuchName"):
        _ = voicecosts.NoSuchName
