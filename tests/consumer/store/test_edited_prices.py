"""A price file that is edited while calls go on, operations that come and go meanwhile, and restarts in between."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from tests.support.events import PROJECT, message, reading, session_id, started
from voicecosts.consumer.booking.operations import Rerate, Revert, Void
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.pricing.own import book as own
from voicecosts.consumer.store.files import write_private
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import (
    PriceFile,
    forget_prices,
    former_prices,
    keep_former,
)

MILLION: Final = 1_000_000
NONE: Final = "# no prices\n"
MARKUP: Final = '[[billed]]\nmarkup = "20 %"\n'
BY_THE_MINUTE: Final = '[[billed]]\nunit = "minute"\nprice = "0.12"\n'
DEARER: Final = BY_THE_MINUTE.replace("0.12", "0.24")
BESIDE: Final = '[[billed]]\nprovider = "own"\nunit = "million tokens"\nprice = "{}"\n'
OF_GOLD: Final = '[[billed]]\nlabel = { plan = "gold" }\nmarkup = "40 %"\n'
LLAMA: Final = '[[cost]]\nprovider = "own"\nunit = "million tokens"\nprice = "1"\n'
TIME: Final = {"modality": "agent_session", "provider": "livekit", "model": "agent-session"}
OWN: Final = {"provider": "own", "model": "llama"}
BILLED: Final = "SELECT model, summed(billed, billed_meters, meters) FROM usage GROUP BY model"


class Books:
    """A ledger with a price file of its own, which a test edits. Every step may be in another process."""

    def __init__(self, folder: Path, prices: str, *, restarts: bool = False) -> None:
        self._folder = folder / "data"
        self._path = folder / "prices.toml"
        self._restarts = restarts
        self._ledger: Ledger | None = None
        self._number = 0
        self.edit(prices)

    def edit(self, prices: str) -> None:
        """Write another text into the file, and have it read."""
        self.close()
        self._path.write_text(prices)

    def close(self) -> None:
        """Close the ledger, so that the next one reads everything anew."""
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None

    def ledger(self) -> Ledger:
        """Open the ledger, in a process that has read no other prices if there are `restarts`."""
        if self._restarts:
            self.close()
            own._former.clear()
        if self._ledger is None:
            file = PriceFile(self._path)
            self._ledger = Ledger.open(self._folder, rate_by(ListPrices(), file), own_prices=file)
        return self._ledger

    def read(self, millions: int = 1, **meter: Any) -> None:
        """Book a reading: of some million tokens, or of connected time."""
        self._number += 1
        used = (
            {"session_us": 60 * MILLION * millions}
            if meter == TIME
            else {"input_tokens": millions * MILLION}
        )
        event = reading(self._number, **used, **meter)
        self.ledger().apply([message(self._number, event, number=self._number)])

    def start(self, **labels: str) -> None:
        """Book the start of the call, with its labels."""
        self._number += 1
        event = started(labels=labels)
        self.ledger().apply([message(self._number, event, number=self._number)])

    def run(self, work: Any) -> int:
        """Do an operation to its end."""
        ledger = self.ledger()
        number = ledger.operate(work, reason="because")
        while ledger.work():
            pass
        return number

    def billed(self) -> dict[str, Decimal | None]:
        """Return what each model is billed."""
        ledger = self.ledger()
        ledger.publish_snapshot()
        path = ledger._layout.current.resolve()
        with duckdb.connect(path, read_only=True) as connection:
            return dict(connection.execute(BILLED).fetchall())


WHOLE: Final = {"gpt-4.1-mini": 0, "gpt-4.1": 0, "agent-session": Decimal("0.12")}


@pytest.mark.parametrize("restarts", [False, True])
class TestACall:
    def test_it_is_billed_by_prices_that_are_not_in_the_file_any_more(
        self, tmp_path: Path, *, restarts: bool
    ) -> None:
        """Also by a ledger that was started after the edit."""
        books = Books(tmp_path, BY_THE_MINUTE, restarts=restarts)
        books.read()
        for prices in (MARKUP, DEARER, NONE):
            books.edit(prices)
        books.read(model="gpt-4.1")
        books.read(**TIME)
        assert books.billed() == WHOLE
        books.close()

    def test_a_reverted_re_rating_leaves_no_price_behind(
        self, tmp_path: Path, *, restarts: bool
    ) -> None:
        """Neither at what it changed, nor at what was first read while it was in force, before it or after it."""
        books = Books(tmp_path, BY_THE_MINUTE, restarts=restarts)
        books.read()
        books.edit(MARKUP)
        number = books.run(Rerate())
        books.read(model="gpt-4.1")
        assert books.billed()["gpt-4.1"] == Decimal("2.4")
        books.run(Revert(operation=number))
        assert books.billed() == {
            "gpt-4.1-mini": None,
            "gpt-4.1": None,
        }  # until its time is counted
        books.read(**TIME)
        assert books.billed() == WHOLE
        void = books.run(Void(project=PROJECT, session_id=session_id(1)))
        books.run(Revert(operation=void))
        assert books.billed() == WHOLE
        books.close()

    def test_a_price_that_only_a_re_rating_let_in_goes_with_it(
        self, tmp_path: Path, *, restarts: bool
    ) -> None:
        """Three dollars a million before it, none while it was in force, and four in the file since."""
        books = Books(tmp_path, LLAMA + BESIDE.format(3), restarts=restarts)
        books.read(**OWN)
        books.edit(LLAMA)
        number = books.run(Rerate())
        books.edit(LLAMA + BESIDE.format(4))
        books.read(2, **OWN)
        assert books.billed() == {"llama": None}
        books.run(Revert(operation=number))
        assert books.billed() == {"llama": 6}
        books.close()

    def test_labels_that_came_meanwhile_bill_the_call(
        self, tmp_path: Path, *, restarts: bool
    ) -> None:
        """Under a re-rating in which they make no difference: when that is reverted, they make one."""
        books = Books(tmp_path, LLAMA + MARKUP + OF_GOLD, restarts=restarts)
        books.read(**OWN)
        books.edit(LLAMA + MARKUP.replace("20", "50"))
        number = books.run(Rerate())
        books.start(plan="gold")
        assert books.billed() == {"llama": Decimal("1.5")}
        books.run(Revert(operation=number))
        assert books.billed() == {"llama": Decimal("1.4")}
        books.close()

    def test_a_re_rating_that_changes_nothing_yet_bills_what_comes_later(
        self, tmp_path: Path, *, restarts: bool
    ) -> None:
        """Of a call that goes on: all of it is billed by the file of that day."""
        books = Books(tmp_path, LLAMA + MARKUP, restarts=restarts)
        books.read(**OWN)
        books.edit(
            LLAMA
            + MARKUP
            + MARKUP.replace("20", "50").replace("markup", 'provider = "openai"\nmarkup')
        )
        books.run(Rerate())
        books.read(model="gpt-4.1")
        assert books.billed() == {"llama": Decimal("1.2"), "gpt-4.1": 3}
        books.close()

    def test_nothing_in_between_changes_nothing(self, tmp_path: Path, *, restarts: bool) -> None:
        """A void, and a re-rating by other prices, each undone: also where the first meter has no price."""
        books = Books(tmp_path, MARKUP, restarts=restarts)
        books.read(**OWN)
        books.edit(BY_THE_MINUTE)
        books.read(**TIME)
        books.read()
        before = books.billed()
        assert before == {"llama": None, "agent-session": None, "gpt-4.1-mini": Decimal("0.48")}
        books.run(Revert(operation=books.run(Void(project=PROJECT, session_id=session_id(1)))))
        assert books.billed() == before
        books.edit(DEARER)
        number = books.run(Rerate())
        assert books.billed() == {"llama": 0, "agent-session": Decimal("0.24"), "gpt-4.1-mini": 0}
        books.run(Revert(operation=number))
        assert books.billed() == before
        books.close()


def test_a_label_that_comes_when_the_text_is_gone_makes_the_bill_unknown(tmp_path: Path) -> None:
    """What it would have changed, nobody can say; nothing is billed as if it had not come."""
    books = Books(tmp_path, LLAMA + MARKUP + OF_GOLD, restarts=True)
    books.read(**OWN)
    books.edit(LLAMA + MARKUP)
    for path in former_prices(books.ledger()._layout.prices):
        path.unlink()
    books.start(plan="gold")
    assert books.billed() == {"llama": None}
    books.close()


class DiedError(BaseException):
    """The process died."""


@pytest.mark.parametrize("place", [1, 2])
def test_a_death_while_an_edit_is_taken_in_loses_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Before the former text is under its own name, and before the new one is the copy."""
    books = Books(tmp_path, BY_THE_MINUTE, restarts=True)
    books.read()
    books.edit(DEARER)
    places = iter(range(1, 9))

    def write(path: Path, data: bytes, *, synced: bool = False) -> None:
        if next(places) == place:
            raise DiedError
        write_private(path, data, synced=synced)

    with monkeypatch.context() as patch:
        patch.setattr("voicecosts.consumer.store.price_file.write_private", write)
        with pytest.raises(DiedError):
            books.ledger()
    books.read(**TIME)
    assert books.billed() == {"gpt-4.1-mini": 0, "agent-session": Decimal("0.12")}
    books.close()


def test_the_revert_of_one_re_rating_takes_nothing_from_another(tmp_path: Path) -> None:
    """One of a part stands: what was read under the one that is reverted is billed as the rest of the call is."""
    books = Books(tmp_path, LLAMA + BY_THE_MINUTE + BESIDE.format(3))
    books.read(**OWN)
    books.read(provider="own", model="mist")
    books.edit(LLAMA + BESIDE.format(4) + MARKUP)
    books.run(Rerate(where={"model": ("mist",)}))
    books.read(**TIME)
    books.edit(LLAMA + MARKUP.replace("20", "70"))
    number = books.run(Rerate())
    books.read(model="gpt-4.1")
    books.run(Revert(operation=number))
    time = Decimal("0.12")
    assert books.billed() == {"llama": 3, "mist": 4, "gpt-4.1": 0, "agent-session": time}
    books.close()


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"x" * 1_000_001])
def test_a_damaged_copy_of_the_prices_stops_nothing(tmp_path: Path, damage: bytes) -> None:
    """It is replaced by the file that is good."""
    books = Books(tmp_path, BY_THE_MINUTE)
    books.read()
    copy = books.ledger()._layout.prices
    books.edit(DEARER)
    copy.write_bytes(damage)
    books.read(model="gpt-4.1")
    assert copy.read_text() == DEARER
    books.close()


def test_a_re_rating_of_the_time_alone_does_not_charge_the_call(tmp_path: Path) -> None:
    """Also where nothing of the call would be included: what it used beside is billed otherwise."""
    books = Books(tmp_path, LLAMA + MARKUP)
    books.read(**OWN)
    books.read(**TIME)
    before = {"llama": Decimal("1.2"), "agent-session": None}
    assert books.billed() == before
    books.edit(LLAMA + BY_THE_MINUTE + BESIDE.format(3))
    books.run(Rerate(where={"modality": ("agent_session",)}))
    assert books.billed() == before
    books.run(Rerate())
    assert books.billed() == {"llama": 3, "agent-session": Decimal("0.12")}
    books.close()


def test_what_is_kept_of_earlier_prices_is_private_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text once, the newest ones, and for the owner alone."""
    monkeypatch.setattr("voicecosts.consumer.store.price_file.MAX_FORMER", 2)
    books = Books(tmp_path, MARKUP)
    for prices in (BY_THE_MINUTE, DEARER, MARKUP, BY_THE_MINUTE):
        books.ledger()
        books.edit(prices)
    layout = books.ledger()._layout
    kept = former_prices(layout.prices)
    assert [path.read_text() for path in kept] == [DEARER, MARKUP]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    books.close()


def test_what_names_an_erased_tenant_is_not_kept_when_it_is_edited(tmp_path: Path) -> None:
    """Neither what was kept by then, nor what the file said when it was erased."""
    kept = tmp_path / "prices.toml"
    for text in ("# of acme, first\n", "# of globex\n", "# of acme\n"):
        kept.write_text(text)
        keep_former(kept)
    kept.write_text("# of acme, last\n")
    forget_prices(kept, lambda text: "acme" in text)
    keep_former(kept)
    assert [path.read_text() for path in former_prices(kept) if path.stat().st_size] == [
        "# of globex\n"
    ]
