"""Own prices while a ledger runs: a file that changes is read, and one with mistakes stops nothing."""

from __future__ import annotations

import logging
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.events import message, reading
from tests.support.waiting import wait_until
from voicecosts import connect
from voicecosts.analytics.commands import asking
from voicecosts.consumer.booking.operations import Rerate
from voicecosts.consumer.local import open_and_book
from voicecosts.consumer.pricing import ListPrices, Rate, rate_by
from voicecosts.consumer.store import operations, price_file
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.heartbeat import Heartbeat, read_heartbeat
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import PriceFile

START = datetime(2026, 11, 26, 5, tzinfo=UTC)
MILLION = 1_000_000
LIST = Decimal("0.400000000")
"""What a million input tokens of the model of `reading` cost by the list."""


class Time:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> Clock:
        """Return it as the ledger reads it."""
        return Clock(
            now=lambda: START + timedelta(seconds=self.seconds), ticks=lambda: self.seconds
        )


def price(dollars: str) -> str:
    """Return a file that says what a million tokens of the model of `reading` cost."""
    return (
        '[[cost]]\nprovider = "openai"\nmodel = "gpt-4.1-mini"\nunit = "million tokens"\n'
        f'price = "{dollars}"\n'
    )


BROKEN = price("1.50") + 'colour = "red"\nincrement = "red"\n'


@pytest.fixture(scope="module")
def listed() -> ListPrices:
    """The list prices, loaded once."""
    return ListPrices()


class Running:
    """A ledger on a data directory whose `prices.toml` a test writes."""

    def __init__(self, folder: Path, listed: ListPrices) -> None:
        self.path = folder / "prices.toml"
        self._folder = folder
        self._time = Time()
        self._calls = 0
        self._listed = listed
        self.ledger: Ledger
        self.own: PriceFile
        self.open()

    def open(self) -> None:
        """Open the ledger, anew."""
        own = self.own = PriceFile(self.path)
        rate: Rate = rate_by(self._listed, own)
        self.ledger = Ledger.open(self._folder, rate, clock=self._time.clock(), own_prices=own)

    def looks(self, times: int = 2) -> None:
        """Let so many seconds go by, as a ledger that runs does."""
        for _ in range(times):
            self.tick()
            wait_until(lambda: not self.own.is_looking)
            self.ledger.look_at_prices()
            self.ledger.heartbeat()

    def tick(self) -> None:
        """Let a second go by, and wait for nothing."""
        self._time.seconds += 1
        self.ledger.look_at_prices()

    def cost(self) -> Decimal:
        """Book a million tokens of a new call, and return what they cost."""
        self._calls += 1
        call = reading(1, of=self._calls, input_tokens=MILLION, text_input_tokens=MILLION)
        self.ledger.apply([message(self._calls, call, number=self._calls)])
        self.ledger.publish_snapshot()
        with connect(self._folder) as ledger:
            found = ledger.execute("SELECT cost FROM usage ORDER BY booked_at, number, session_id")
            return Decimal(found.fetchall()[-1][0])

    def beat(self) -> Heartbeat:
        """Return what readers are told."""
        beat = read_heartbeat(Layout(self._folder).heartbeat)
        assert beat is not None
        return beat


@pytest.fixture
def running(tmp_path: Path, listed: ListPrices) -> Running:
    """A ledger whose file of prices says 1.50."""
    (tmp_path / "prices.toml").write_text(price("1.50"))
    return Running(tmp_path, listed)


def test_calls_are_priced_by_the_file(running: Running) -> None:
    """The price in the file is what the operator pays, and nobody is told of trouble."""
    assert running.cost() == Decimal("1.5")
    assert running.beat().prices is None


def test_a_changed_file_is_read_while_the_ledger_runs(running: Running) -> None:
    """What changed, and stayed the same for a second, is in force for the next call."""
    assert running.cost() == Decimal("1.5")
    running.path.write_text(price("2.25"))
    running.looks(1)
    assert running.cost() == Decimal("1.5")
    running.looks(1)
    assert running.cost() == Decimal("2.25")


def replaced(path: Path, text: str) -> None:
    """Write a text of the same length, and leave the file's time as it was."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_an_edit_that_leaves_time_and_size_is_read(running: Running) -> None:
    """Some tools set the time back, and some disks count whole seconds: what a file holds is compared."""
    replaced(running.path, price("2.25"))
    running.looks()
    assert running.cost() == Decimal("2.25")
    replaced(running.path, price("3.25"))  # and one more between the two looks that it needs
    running.looks(1)
    replaced(running.path, price("4.25"))
    running.looks()
    assert running.cost() == Decimal("4.25")


def test_an_embedded_ledger_sees_a_correction_that_leaves_time_and_size(tmp_path: Path) -> None:
    """It is opened to say that the mistakes are gone, though nothing waits."""
    path = tmp_path / "prices.toml"
    path.write_text(price("x.50"))
    own = PriceFile(path)
    Ledger.open(tmp_path, rate_by(ListPrices(), own), embedded=True, own_prices=own).close()
    for text, is_told in ((price("y.50"), True), (price("1.50"), False)):
        replaced(path, text)
        open_and_book(tmp_path, None, asked_at=datetime.now(UTC))
        beat = read_heartbeat(Layout(tmp_path).heartbeat)
        assert beat is not None
        assert (beat.prices is not None) is is_told


def test_a_slow_file_keeps_nothing_from_being_booked(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a disk does not answer, calls are booked at the last good prices; then the new ones count."""
    answers = threading.Event()
    real = price_file.data_of

    def slow(path: Path) -> bytes | None:
        assert answers.wait(60)
        return real(path)

    monkeypatch.setattr(price_file, "data_of", slow)
    running.path.write_text(price("2.25"))
    for _ in range(5):
        running.tick()
        assert running.own.is_looking
        assert running.cost() == Decimal("1.5")
    answers.set()
    running.looks(3)
    assert running.cost() == Decimal("2.25")


def test_a_file_with_mistakes_changes_no_price(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good prices stay in force; log and readers are told once, with all mistakes."""
    running.path.write_text(BROKEN)
    with caplog.at_level(logging.WARNING):
        running.looks(10)
    [line] = [record.getMessage() for record in caplog.records]
    assert "prices.toml:6: " in line
    assert "prices.toml:7: " in line
    assert "last good prices stay in force" in line
    assert running.cost() == Decimal("1.5")
    told = running.beat().prices
    assert told is not None
    assert (told.file, told.problems, told.uses_last_good) == (str(running.path), 2, True)
    assert told.since == "2026-11-26T05:00:02.000000Z"


def test_a_corrected_file_is_in_force_again(running: Running) -> None:
    """What was wrong is no news any more as soon as it is corrected."""
    running.path.write_text(BROKEN)
    running.looks()
    running.path.write_text(price("3"))
    running.looks()
    assert running.beat().prices is None
    assert running.cost() == Decimal(3)


def test_the_last_good_prices_outlive_a_restart(running: Running) -> None:
    """A ledger that starts with a broken file uses the copy that it kept, which is private."""
    copy = running.path.parent / "ledger" / "prices.toml"
    assert copy.read_text() == price("1.50")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    running.path.write_text(BROKEN)
    running.looks()
    since = running.beat().prices
    running.ledger.close()
    running.open()
    assert running.cost() == Decimal("1.5")
    assert running.beat().prices == since


def test_a_broken_file_without_any_good_one_leaves_the_list_prices(
    tmp_path: Path, listed: ListPrices
) -> None:
    """A ledger that never had good prices books at list prices, and says that it does."""
    (tmp_path / "prices.toml").write_text(BROKEN)
    running = Running(tmp_path, listed)
    assert running.cost() == LIST
    told = running.beat().prices
    assert told is not None
    assert not told.uses_last_good


def test_a_file_that_is_gone_changes_no_price(running: Running) -> None:
    """A file that was moved away by mistake does not make calls cheaper."""
    running.path.unlink()
    running.looks()
    assert running.cost() == Decimal("1.5")
    assert running.beat().prices is not None
    running.ledger.close()
    running.open()
    assert running.cost() == Decimal("1.5")


def test_a_file_that_lost_its_prices_changes_no_price_until_it_says_so(running: Running) -> None:
    """A shell empties a file before it writes it, and a program that fails leaves it so."""
    running.path.write_text("\n")
    running.looks()
    assert running.cost() == Decimal("1.5")
    assert running.beat().prices is not None
    running.ledger.close()
    running.open()
    assert running.cost() == Decimal("1.5")
    running.path.write_text("# no prices\n")
    running.looks()
    assert running.cost() == LIST
    assert running.beat().prices is None


def test_without_a_file_nothing_is_said(tmp_path: Path, listed: ListPrices) -> None:
    """List prices alone are no trouble, and a file that is written later is read."""
    running = Running(tmp_path, listed)
    running.looks()
    assert running.cost() == LIST
    assert running.beat().prices is None
    running.path.write_text(price("1.50"))
    running.looks()
    assert running.cost() == Decimal("1.5")


def test_answers_say_that_the_prices_have_mistakes(running: Running) -> None:
    """Whoever asks what was spent is told, with the command that names the mistakes."""
    running.path.write_text(BROKEN)
    running.looks()
    running.cost()
    folder = running.path.parent
    for answer in (
        asking.query(data_dir=folder, now=START + timedelta(minutes=1)),
        asking.audit(data_dir=folder, now=START + timedelta(minutes=1)),
    ):
        [said] = [text for text in answer.warnings if "prices" in text]
        assert said == (
            f"{running.path} has 2 mistakes since 05:00:02Z, 58 s ago, and its last good prices are "
            f"in force: `costs prices validate {running.path}`"
        )
        assert answer.completeness.whole is not True


def test_mistakes_in_the_prices_fail_no_strict_audit(running: Running) -> None:
    """What was used is known whatever it costs, and that is what a strict audit asks."""
    running.path.write_text(BROKEN)
    running.looks()
    running.ledger.publish_snapshot()
    found = asking.audit(data_dir=running.path.parent)
    assert not [it for it in found.failures if "prices" in it.text]


def test_a_re_rating_works_by_the_prices_it_began_with(
    tmp_path: Path, listed: ListPrices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an edited file nor a death in the middle gives equal calls two prices."""
    monkeypatch.setattr(operations, "SLICE_SESSIONS", 2)
    running = Running(tmp_path, listed)
    calls = [message(n, reading(1, of=n, input_tokens=MILLION)) for n in range(1, 41)]
    running.ledger.apply(calls)  # a slice that was quick is followed by a larger one
    running.path.write_text(price("3.00"))
    running.looks()
    running.ledger.operate(Rerate(), reason="contract")
    assert running.ledger.work()
    running.path.write_text(price("5.00"))
    running.looks()
    assert running.ledger.work()
    running.ledger.close()
    running.open()
    while running.ledger.work():
        pass
    running.ledger.apply(
        [message(41, reading(1, of=41, input_tokens=MILLION))]
    )  # by the file of now
    running.ledger.close()
    with connect(tmp_path) as ledger:
        found = ledger.execute("SELECT cost, count(*) FROM sessions GROUP BY cost ORDER BY cost")
        assert found.fetchall() == [(3, 40), (5, 1)]
