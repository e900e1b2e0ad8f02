"""docker-compose.yml without Docker: its own configuration, environment and commands, for real.

Nothing is copied from the files: the broker runs docker/nats.conf, the ledger the command line of
its service, and the health checks are the ones that the containers run.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it has no stubs

from tests.support.broker import BINARY, free_port
from tests.support.oracle import booked
from tests.support.processes import ROOT, CostsProcess
from tests.support.stream import publish, settled
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import wait_until

TOKEN = "0123456789"  # noqa: S105 - digits only: what an unquoted setting would misread
CONFIG = ROOT / "docker" / "nats.conf"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


class Unset(Exception):  # noqa: N818 - what it says
    """A variable that must be set is not."""


def interpolated(text: str, environ: Mapping[str, str]) -> str:
    """Fill in variables as compose does: `${A}`, `${A:-default}`, `${A:?message}`."""

    def fill(found: re.Match[str]) -> str:
        name, rule, rest = found[1], found[2], found[3]
        if environ.get(name):
            return environ[name]
        if rule == ":?":
            raise Unset(rest)
        return rest if rule == ":-" else ""

    return re.sub(r"\$\{(\w+)(?:(:[?-])([^}]*))?\}", fill, text)


def services(**environ: str) -> dict[str, Any]:
    """Return the services of the compose file with their variables filled in."""
    text = interpolated((ROOT / "docker-compose.yml").read_text(), environ)
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@contextmanager
def composed_broker(folder: Path) -> Iterator[dict[str, str]]:
    """Run nats-server on the composed configuration, with ports and folder of this machine."""
    folder.mkdir()
    port, monitor = free_port(), free_port()
    environ = dict(services(COSTS_NATS_TOKEN=TOKEN)["nats"]["environment"])
    environ |= {
        "NATS_HOST": '"127.0.0.1"',
        "NATS_PORT": str(port),
        "NATS_MONITOR": f'"127.0.0.1:{monitor}"',
        "NATS_STORE": json.dumps(str(folder / "store")),
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([BINARY, "-c", CONFIG], env=environ, stdout=log, stderr=log)
    try:
        ready = "Server is ready"
        wait_until(lambda: ready in (folder / "log").read_text() or server.poll() is not None)
        assert server.poll() is None, (folder / "log").read_text()
        yield {"address": f"127.0.0.1:{port}", "monitor": f"127.0.0.1:{monitor}"}
    finally:
        server.terminate()
        server.wait(10)


class TestBroker:
    def test_its_configuration_is_valid_in_the_container(self) -> None:
        """nats-server accepts the file with exactly the environment that compose gives it."""
        environ = services(COSTS_NATS_TOKEN=TOKEN)["nats"]["environment"]
        command = [str(BINARY), "-t", "-c", str(CONFIG)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_without_a_token_nothing_starts(self) -> None:
        """An open broker is never the default: compose stops and says what to set."""
        with pytest.raises(Unset, match="openssl rand"):
            services()
        environ = services(COSTS_NATS_TOKEN=TOKEN)["nats"]["environment"]
        del environ["NATS_TOKEN"]
        command = [str(BINARY), "-t", "-c", str(CONFIG)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "NATS_TOKEN" in done.stdout + done.stderr

    def test_it_is_reachable_from_this_machine_only(self) -> None:
        """Opening it to the network is a decision, and the monitor port is never published."""
        ports = services(COSTS_NATS_TOKEN=TOKEN)["nats"]["ports"]
        assert ports == ["127.0.0.1:4222:4222"]

    def test_the_mounted_configuration_is_the_tested_one(self) -> None:
        """What the container reads is the file that these tests run."""
        nats = services(COSTS_NATS_TOKEN=TOKEN)["nats"]
        mounts = dict(volume.split(":")[:2] for volume in nats["volumes"])
        assert mounts["./docker/nats.conf"] == nats["command"][1]


class TestLedger:
    async def test_the_composed_ledger_books_what_the_composed_broker_stores(
        self, tmp_path: Path
    ) -> None:
        """The command line and the environment of the file bring a published call to readers."""
        made = calls(31, 2)
        ledger = services(COSTS_NATS_TOKEN=TOKEN)["ledger"]
        data = tmp_path / "data"
        with composed_broker(tmp_path / "nats") as broker:
            environ = {
                name: value.replace("nats:4222", broker["address"]).replace("/data", str(data))
                for name, value in ledger["environment"].items()
            }
            url = environ["COSTS_SERVERS"]
            assert url == f"nats://{TOKEN}@{broker['address']}"
            with CostsProcess(ledger["command"], tmp_path / "run", environ) as process:
                process.wait_ready()
                await publish(url, batches(made, seed=31))
                await settled(url)
                assert healthy(ledger, data)
                answer = await asyncio.to_thread(get, f"http://{broker['monitor']}{health_path()}")
                assert json.loads(answer) == {"status": "ok"}
                assert process.stop() == 0
        assert booked(data) == bill(made)

    def test_a_ledger_that_stopped_beating_is_unhealthy(self, tmp_path: Path) -> None:
        """The health check looks at the heartbeat, so a loop that hangs is found."""
        ledger = services(COSTS_NATS_TOKEN=TOKEN)["ledger"]
        assert not healthy(ledger, tmp_path)
        (tmp_path / "ledger.json").touch()
        assert healthy(ledger, tmp_path)
        os.utime(tmp_path / "ledger.json", (0, 0))
        assert not healthy(ledger, tmp_path)

    def test_a_wrong_token_is_refused(self, tmp_path: Path) -> None:
        """The token of the file is really asked for."""
        with composed_broker(tmp_path / "nats") as broker:
            servers = f"nats://wrong@{broker['address']}"
            command = [sys.executable, "-c", _CONNECT, servers]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Authorization" in done.stdout


class TestImage:
    def test_it_runs_as_nobody_in_particular(self) -> None:
        """The container is not root, and its data folder belongs to that user."""
        user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
        assert user is not None
        assert int(user[1]) > 0
        assert f"install -d -o {user[1]} -g {user[2]} /data" in DOCKERFILE

    def test_it_installs_the_ledger_and_nothing_else(self) -> None:
        """Only the consumer extra, with the exact versions that were tested."""
        assert re.findall(r"pip install .*", DOCKERFILE) == [
            'pip install --no-cache-dir -c constraints.txt ".[consumer]"'
        ]

    def test_everything_it_copies_is_there_and_not_ignored(self) -> None:
        """A file that was renamed breaks a test, not somebody's first build."""
        ignore = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().split()
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignore


_CONNECT = """
import asyncio, sys, nats
async def main():
    try:
        await nats.connect(sys.argv[1], allow_reconnect=False)
    except nats.errors.Error as error:
        print(error)
asyncio.run(main())
"""


def get(url: str) -> bytes:
    """Return what an address on this machine answers."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
        return body


def healthy(service: dict[str, Any], data_dir: Path) -> bool:
    """Run the health check of a service against a data directory."""
    kind, python, *arguments = service["healthcheck"]["test"]
    assert (kind, python) == ("CMD", "python")
    environ = {**os.environ, "COSTS_DATA_DIR": str(data_dir)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environ, capture_output=True, check=False
    )
    return done.returncode == 0


def health_path() -> str:
    """Return the path that the broker's health check asks for."""
    url: str = services(COSTS_NATS_TOKEN=TOKEN)["nats"]["healthcheck"]["test"][-1]
    return "/" + url.partition("8222/")[2]
