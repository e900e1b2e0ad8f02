"""Imports: a worker's process, and a reader of the contract, load only what they use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import voicecosts

ROOT = Path(__file__).parents[1]
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
