"""The built package as a stranger meets it: in a clean environment, among names that clash."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OTHER = "analytics-python==1.4.post1"
"""A package of the registry that installs a folder `analytics`."""


class Environment:
    """A fresh virtual environment and the programs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        run(sys.executable, "-m", "venv", str(folder))
        (self.packages,) = folder.glob("lib/python*/site-packages")

    def program(self, name: str) -> str:
        """Return the path of an installed program."""
        return str(self.folder / "bin" / name)

    def pip(self, *arguments: str) -> None:
        """Run its pip."""
        run(self.program("pip"), "--disable-pip-version-check", *arguments)

    def damaged(self) -> list[str]:
        """Return the files of voicecosts that are not as pip installed them."""
        (record,) = self.packages.glob("voicecosts-*.dist-info/RECORD")
        with record.open(newline="") as lines:
            files = [(name, digest) for name, digest, _size in csv.reader(lines) if digest]
        assert files
        return [name for name, digest in files if digest != _digest(self.packages / name)]


def _digest(file: Path) -> str:
    """Return the digest of a file as RECORD writes it; of a file that is gone, nothing."""
    if not file.exists():
        return ""
    found = hashlib.sha256(file.read_bytes()).digest()
    return f"sha256={base64.urlsafe_b64encode(found).decode().rstrip('=')}"


def run(*command: str, cwd: Path | None = None, **environ: str) -> str:
    """Run a program to its end, as a user's shell would; return what it printed."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COSTS_", "PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(build: Build) -> Path:
    """The wheel that is built from the sdist, as a registry's users get it."""
    return build()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with all extras, after another package that calls itself `analytics`."""
    environment = Environment(tmp_path_factory.mktemp("clean") / "venv")
    environment.pip("install", "--no-deps", OTHER)
    environment.pip("install", "-c", str(ROOT / "constraints.txt"), f"{wheel}[all]")
    return environment


@pytest.fixture
def clash(tmp_path: Path) -> Path:
    """A worker's folder in which the folders' old names are modules of somebody else."""
    folder = tmp_path / "clash"
    (folder / "analytics").mkdir(parents=True)
    for name in ("analytics/__init__.py", "producer.py", "consumer.py"):
        (folder / name).write_text(f'raise RuntimeError("{name} is not voicecosts")\n')
    shutil.copy(Path(__file__).with_name("worker.py"), folder)
    return folder


def test_the_sdist_and_the_checkout_build_the_same_wheel(wheel: Path, build: Build) -> None:
    """Nothing that the wheel needs is missing in the sdist: the two wheels are equal to the byte."""
    assert wheel.read_bytes() == build("--wheel").read_bytes()


def test_another_package_that_is_called_analytics_touches_no_file_of_ours(
    installed: Environment,
) -> None:
    """It may be installed before or after voicecosts, and removed, without harm to either."""
    other = installed.packages / "analytics" / "__init__.py"
    assert other.exists()
    assert installed.damaged() == []
    installed.pip("install", "--no-deps", "--force-reinstall", OTHER)
    assert installed.damaged() == []
    installed.pip("uninstall", "--yes", OTHER.partition("=")[0])
    assert not other.exists()
    assert installed.damaged() == []


def test_the_command_runs_beside_modules_with_clashing_names(
    installed: Environment, clash: Path
) -> None:
    """The demo and a question, as a script and as a module, in a folder full of foreign names."""
    shown = run(installed.program("costs"), "demo", "--calls", "4", "--keep", "kept", cwd=clash)
    assert "agrees with the providers' own books" in shown
    ask = ("query", "--by", "tenant", "--data-dir", "kept", "--format", "json")
    by_script = json.loads(run(installed.program("costs"), *ask, cwd=clash))
    by_module = json.loads(run(installed.program("python"), "-m", "voicecosts", *ask, cwd=clash))
    assert by_script["total"] == by_module["total"]
    assert by_script["total"]["sessions"] == 4


def test_a_worker_runs_beside_modules_with_clashing_names(
    installed: Environment, clash: Path
) -> None:
    """A worker meters its call without a server, and the next question books what was billed."""
    home = {"COSTS_DATA_DIR": str(clash / "data")}
    billed = json.loads(run(installed.program("python"), "worker.py", cwd=clash, **home))
    ask = ("query", "--by", "tenant", "--format", "json")
    answer = json.loads(run(installed.program("costs"), *ask, cwd=clash, **home))
    (row,) = answer["rows"]
    assert row["tenant"] == "acme"
    assert {name: row[name] for name in ("requests", "input_tokens", "output_tokens")} == {
        name: billed[name] for name in ("requests", "input_tokens", "output_tokens")
    }


def test_an_editable_installation_adds_a_path_and_nothing_to_import(tmp_path: Path) -> None:
    """Beside its dist-info it leaves one .pth file, so that no old copy can be imported."""
    environment = Environment(tmp_path / "venv")
    before = set(environment.packages.iterdir())
    environment.pip("install", "--no-deps", "--editable", str(ROOT))
    added = {path.name for path in set(environment.packages.iterdir()) - before}
    assert {name for name in added if not name.endswith(".dist-info")} == {"_voicecosts.pth"}
    assert len(added) == 2
