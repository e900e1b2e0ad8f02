"""Fixtures every test may use: real parts, started once and cheaply."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.broker import Broker
from tests.support.history import partly
from tests.support.new_ledgers import NewLedgers

# How long an example takes says how busy the machine is. The examples are the same in every run, so
# that a red run is about the change; `--hypothesis-profile random` looks for others.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile("random", settings.get_profile("tests"), derandomize=False)
settings.load_profile("tests")

# Tests and the processes that they start end on these, also where the tests themselves were started
# by nohup, or by a shell in the background.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what is imported by now, and the tests themselves, out of all later garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _outbox_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that a test starts, leaves anything in the user's own outbox."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSTS_OUTBOX_DIR", str(tmp_path_factory.mktemp("outbox")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _new_ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewLedgers]:
    """New ledgers of the tests' own process are copies of one."""
    ledgers = NewLedgers(tmp_path_factory.mktemp("ledgers"))
    with pytest.MonkeyPatch.context() as patch:
        ledgers.use(patch)
        yield ledgers


@pytest.fixture(scope="session")
def partly_sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed ledger that is to be copied: most of it is folded, settled and sealed, and some is not."""
    return partly(tmp_path_factory.mktemp("partly"))


@pytest.fixture
def made_anew(_new_ledgers: NewLedgers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers of this test are made by the ledger's own code, step by step."""
    _new_ledgers.make_anew(monkeypatch)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A nats-server of this test alone, which it may kill and restart."""
    with Broker(tmp_path / "broker") as broker:
        yield broker
