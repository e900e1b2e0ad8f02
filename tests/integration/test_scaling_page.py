"""docs/scaling.md: its programs read what a ledger sealed, to the last digit; they are run as they stand there."""

from __future__ import annotations

import ast
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support.history import Told, history, often
from tests.support.processes import ROOT
from tests.support.waiting import wait_until
from voicecosts.consumer.booking.operations import Erase, Retain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE: Final = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
PROGRAMS: Final = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SHELL: Final = re.findall(r"^\$ (.*)$", PAGE, flags=re.MULTILINE)
PACKAGES: Final = (
    "duckdb==1.5.5",
    "duckdb-extension-ducklake==1.5.5",
    "duckdb-extension-postgres-scanner==1.5.5",
    "polars>=2.1,<2.2",
    "pandas>=3.1,<3.2",
    "pyarrow>=26,<27",
)
"""What the page says that it was tried with. DuckDB's own host of extensions need not be reached for it."""

INSTALL: Final = """
import importlib, duckdb, pathlib
for name in ("ducklake", "postgres_scanner"):
    [folder] = importlib.import_module(f"duckdb_extension_{name}").__path__
    [file] = pathlib.Path(folder).rglob("*.duckdb_extension")
    duckdb.execute(f"INSTALL '{file}'")
"""

BY_TENANT: Final = "SELECT tenant, sum(cost) FROM usage GROUP BY tenant ORDER BY tenant"


def program(*words: str) -> str:
    """Return the one program of the page that has these words."""
    [found] = [it for it in PROGRAMS if all(word in it for word in words)]
    return str(found)


def printed(output: str) -> str:
    """Return what a program printed, without the progress that DuckDB shows where a statement takes long."""
    return re.sub(r".*elapsed\)\s*", "", output, flags=re.DOTALL).strip()


class Site:
    """The directories of the page in a folder of a test, and an environment with the packages."""

    def __init__(self, root: Path, python: Path, home: Path, socket: Path = Path()) -> None:
        self.root = root
        self._socket = socket
        self._python = python
        kept = {
            name: it for name, it in os.environ.items() if not name.startswith(("COSTS_", "PYTHON"))
        }
        self.environ = {**kept, "HOME": str(home), "PGUSER": "postgres", "PGHOST": str(socket)}
        self.environ["PATH"] = f"{python.parent}:{kept['PATH']}"

    def here(self, text: str) -> str:
        """Return a text of the page with the directories of this site."""
        for name, path in (("/srv", self.root), ("/var/run/postgresql", self._socket)):
            text = text.replace(name, str(path))
        return text

    def data_files(self) -> set[Path]:
        """Return the files of the lake."""
        return set((self.root / "lake").rglob("*.parquet"))

    def shell(self, line: str) -> str:
        """Run a command of the page, and return what it printed."""
        done = subprocess.run(
            ["bash", "-c", self.here(line)],
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return printed(done.stdout)

    def start(self, text: str) -> subprocess.Popen[str]:
        """Start a program of the page."""
        return subprocess.Popen(
            [self._python, "-c", self.here(text)],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, text: str) -> str:
        """Run a program of the page to its end, and return what it printed."""
        started = self.start(text)
        output, error = started.communicate(timeout=120)
        assert started.returncode == 0, error
        return printed(output)


def read(shown: str) -> list[tuple[str | None, Decimal]]:
    """Return the rows that a program printed: the tenant and its cost."""
    names = {"Decimal": Decimal, "nan": None}
    tree = ast.parse(shown, mode="eval")
    return [
        (None if str(tenant) == "nan" else tenant, cost)
        for tenant, cost in eval(compile(tree, "printed", "eval"), names)  # noqa: S307 - our own output
    ]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The Python of an environment with the packages of the page, and a home with DuckDB's extensions."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    found = folder / "bin" / "python"
    pip = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    subprocess.run(pip, check=True, timeout=600)
    home = folder / "home"
    home.mkdir()
    subprocess.run(
        [found, "-c", INSTALL], check=True, timeout=120, env={**os.environ, "HOME": str(home)}
    )
    yield found, home
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Path]:
    """The folder of the socket of a PostgreSQL server without a database of ours."""
    if shutil.which("initdb") is None:
        pytest.skip("there is no PostgreSQL on this machine to keep a catalog in")
    folder = Path("/tmp") / f"costs-{secrets.token_hex(6)}"  # noqa: S108 - a socket's path must be short
    folder.mkdir()
    owner = {"user": "nobody"} if os.geteuid() == 0 else {}  # it does not run as root
    if owner:
        shutil.chown(folder, "nobody")
    data = ["-D", str(folder / "data")]
    subprocess.run(
        ["initdb", *data, "-U", "postgres", "--auth=trust"],
        cwd=folder,
        check=True,
        capture_output=True,
        **owner,
    )  # type: ignore[call-overload]  # a user is an option
    options = ["-o", f"-k {folder} -c listen_addresses=''", "-l", str(folder / "log"), "-w"]
    subprocess.run(
        ["pg_ctl", *data, *options, "start"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        **owner,
    )  # type: ignore[call-overload]  # same
    yield folder
    subprocess.run(
        ["pg_ctl", *data, "-m", "fast", "-w", "stop"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        **owner,
    )  # type: ignore[call-overload]  # same
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data directory `costs` of a ledger, all of whose days are sealed."""
    root = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        often(patch)
        told = Told(root / "costs")
        for step in history(6):
            told.take(step, seals=True)
        told.close()
    return root


def in_the_ledger(data_dir: Path) -> list[tuple[str | None, Decimal]]:
    """Return what the ledger's own view says, of which all days are sealed."""
    with duckdb.connect((data_dir / "costs.duckdb").resolve(), read_only=True) as snapshot:
        assert snapshot.execute("SELECT count(*) FROM bookings").fetchone() == (0,)
        return snapshot.execute(BY_TENANT).fetchall()


def test_every_library_reads_the_same_money(python: tuple[Path, Path], sealed: Path) -> None:
    """DuckDB, polars and pandas find what the ledger's view says, to the ninth digit."""
    site = Site(sealed, *python)
    expected = in_the_ledger(sealed / "costs")
    assert len(expected) > 3
    for words in ("duckdb.sql(", "read_parquet("), ("import polars",), ("import pandas",):
        assert read(site.run(program(*words))) == expected, words


def test_readings_are_counted_and_two_ledgers_are_added_up(
    python: tuple[Path, Path], sealed: Path
) -> None:
    """What a reader puts into the arithmetic comes from a ledger, and several ledgers are one sum."""
    site = Site(sealed, *python)
    with duckdb.connect((sealed / "costs" / "costs.duckdb").resolve(), read_only=True) as snapshot:
        ends = snapshot.execute(
            "SELECT rows, epoch_us(ended_at) - epoch_us(started_at) FROM sessions WHERE ended_at > started_at"
        ).fetchall()
    a_second, long_s, calls = ast.literal_eval(site.run(program("readings_a_second")))
    lasted_s = sum(us for _, us in ends) / 1e6
    assert calls == len(ends) > 3
    assert a_second == pytest.approx(sum(rows for rows, _ in ends) / lasted_s, abs=0.001)
    assert long_s == pytest.approx(lasted_s / calls, abs=1)

    for name in ("costs-eu", "costs-us"):
        shutil.copytree(sealed / "costs", sealed / name, symlinks=True)
    expected = [(tenant, 2 * cost) for tenant, cost in in_the_ledger(sealed / "costs")]
    assert read(site.run(program("eu.cost_by_day"))) == expected


def test_a_lake_is_what_was_sealed_whatever_happened(
    tmp_path: Path, python: tuple[Path, Path], postgres: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirrored in parts, killed, after an erasure and after retention: the rows of the ledger, and no others."""
    often(monkeypatch)
    site = Site(tmp_path, *python, postgres)
    mirror, reader, cleaner = (
        program("CREATE TABLE lake"),
        program("READ_ONLY)", "FROM lake.usage GROUP"),
        program("rewrite_data_files"),
    )
    (site.root / "mirror.py").write_text(site.here(mirror))
    told = Told(site.root / "costs")
    steps = list(history(6))
    half = len(steps) // 2
    create, mirrored = (line.partition("#")[0] for line in SHELL)
    site.shell(create)
    assert site.run(mirror) == ""  # nothing is sealed yet
    for step in steps[:half]:
        told.take(step, seals=True)
    told.ledger.publish_snapshot()
    assert " new files, 0 rows removed" in site.shell(mirrored)
    for step in steps[half:]:
        told.take(step, seals=True)
    told.ledger.publish_snapshot()

    before = site.data_files()
    killed = site.start(mirror)
    wait_until(lambda: site.data_files() != before or killed.poll() is not None)
    killed.kill()
    killed.communicate()
    site.shell(mirrored)
    assert read(site.run(reader)) == in_the_ledger(told.data_dir)
    assert site.shell(mirrored).startswith("0 new files, 0 rows removed")

    told.ledger.operate(Erase(tenant="tenant-2"), reason="ticket 7")
    while told.ledger.work():
        pass
    told.ledger.publish_snapshot()
    assert "0 rows removed" not in site.shell(mirrored)
    left = read(site.run(reader))
    assert left == in_the_ledger(told.data_dir)
    assert "tenant-2" not in dict(left)
    site.run(cleaner)
    assert read(site.run(reader)) == left
    dumped = subprocess.run(["pg_dump", "lake"], env=site.environ, capture_output=True, check=True)
    for content in (dumped.stdout, *(path.read_bytes() for path in site.data_files())):
        assert b"tenant-2" not in content

    told.ledger.operate(Retain(days=1), reason="the law")
    while told.ledger.work():
        pass
    told.ledger.publish_snapshot()
    told.close()
    assert site.shell(mirrored) == ""
