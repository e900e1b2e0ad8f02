"""The book: the bundled list at the moment a session started, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
import voice_prices
from voice_prices import data_snapshot

from tests.consumer.pricing.asking import START
from voicecosts.consumer.errors import MissingExtra
from voicecosts.consumer.pricing import ListPrices, Price, Unpriced
from voicecosts.consumer.pricing import list_prices as book

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(
    prices: ListPrices, modality: str, provider: str, model: str, at: datetime = START
) -> Price | Unpriced:
    """Look up without a raw label."""
    return prices.find(modality=modality, provider=provider, provider_raw="", model=model, at=at)


def test_a_price_says_where_it_comes_from() -> None:
    """Source, installed version and resolved row travel with every price."""
    price = find(ListPrices(), "llm", "openai", "GPT-4o-mini-2024-07-18")
    assert isinstance(price, Price)
    assert price.source == "voice-prices"
    assert price.version == version("voice-prices")
    assert price.model == "openai/gpt-4o-mini"
    assert price.rates["output_tokens"] == Decimal("0.6")


def test_a_resold_model_shows_whose_price_it_has() -> None:
    """Azure's own row wins; a model only OpenAI lists carries OpenAI's name in the ledger."""
    own = find(ListPrices(), "llm", "azure.ai.openai", "o1")
    resold = find(ListPrices(), "llm", "azure.ai.openai", "gpt-4o-mini")
    assert [own.model, resold.model] == ["azure/o1", "openai/gpt-4o-mini"]  # type: ignore[union-attr]  # both are prices


def test_a_name_is_looked_up_once() -> None:
    """The second time the same object comes back, found or not."""
    prices = ListPrices()
    for model in ("gpt-4o", "no-such-model"):
        assert find(prices, "llm", "openai", model) is find(prices, "llm", "openai", model)
    assert repr(prices) == "<ListPrices: 2 names looked up>"


def test_names_that_change_with_every_call_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond a bound the names are forgotten and looked up anew."""
    monkeypatch.setattr(book, "_MAX_NAMES", 3)
    prices = ListPrices()
    for number in range(10):
        find(prices, "llm", "openai", f"made-up-{number}")
    assert len(prices._rows) <= 3


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("acme", "m-1", "no price list for provider 'acme'"),
        ("openai", "m-1", "no list price for model 'm-1' of provider 'openai'"),
        ("deepgram", "nova", "the price list gives no rate for 'nova' of provider 'deepgram'"),
    ],
)
def test_what_has_no_price_says_why(provider: str, model: str, reason: str) -> None:
    """An unknown vendor, an unknown model and a model without a rate are told apart."""
    assert find(ListPrices(), "stt", provider, model) == Unpriced(reason)


PROMOTION = datetime(2026, 9, 1, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "dollars"),
    [
        (PROMOTION - timedelta(seconds=1), "0.03"),
        (PROMOTION, "0"),
        (PROMOTION.astimezone(timezone(timedelta(hours=-7))), "0"),
        (PROMOTION.replace(tzinfo=None), "0"),
        (datetime(2026, 9, 30, 23, 59, tzinfo=UTC), "0"),
        (datetime(2026, 10, 1, 7, 0, tzinfo=UTC), "0.03"),
    ],
)
def test_the_price_is_the_one_in_force_when_the_session_started(at: datetime, dollars: str) -> None:
    """A price that changes is chosen by the moment asked for, whatever its zone; naive is UTC."""
    price = find(ListPrices(), "tts", "livekit", "rime/mist", at)
    assert isinstance(price, Price)
    assert price.rates["characters"] == Decimal(dollars)


def test_a_price_by_the_time_of_day_follows_the_start_of_the_session() -> None:
    """DeepSeek's off-peak price holds for a session that started off-peak."""
    prices = ListPrices()
    hours = {hour: datetime(2026, 11, 2, hour, tzinfo=UTC) for hour in (12, 20)}
    found = {
        hour: find(prices, "llm", "deepseek", "deepseek-chat", at) for hour, at in hours.items()
    }
    rates = {hour: price.rates["input_tokens"] for hour, price in found.items()}  # type: ignore[union-attr]  # both are prices
    assert rates == {12: Decimal("0.27"), 20: Decimal("0.135")}


def test_importing_the_package_does_not_load_the_list() -> None:
    """Who does not look prices up does not wait for half a million bytes of them."""
    program = "import voicecosts.consumer.pricing, sys; sys.exit('voice_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the price list says what to install, before anything is rated."""
    monkeypatch.setitem(sys.modules, "voice_prices", None)
    monkeypatch.delitem(sys.modules, "voicecosts.consumer.pricing.catalogue")
    with pytest.raises(MissingExtra, match=r"voicecosts\[consumer\]"):
        ListPrices()


@pytest.fixture
def another_snapshot() -> Iterator[None]:
    """A process in which some other part installed a snapshot without any price."""
    data_snapshot.set_custom_snapshot(data_snapshot.DataSnapshot([], from_auto_update=False))
    yield
    data_snapshot.set_custom_snapshot(None)


def test_a_snapshot_installed_by_another_part_of_the_process_changes_nothing(
    another_snapshot: None,
) -> None:
    """Only the bundled list counts, so one version of the package gives one answer."""
    with pytest.raises(LookupError):
        voice_prices.calc_price(voice_prices.Usage(input_tokens=1), "gpt-4o", provider_id="openai")
    assert isinstance(find(ListPrices(), "llm", "openai", "gpt-4o"), Price)


def test_rates_cannot_be_changed_by_who_reads_them() -> None:
    """A price is shared by all meters of a model."""
    price = find(ListPrices(), "llm", "openai", "gpt-4o")
    assert isinstance(price, Price)
    with pytest.raises(TypeError):
        price.rates["input_tokens"] = Decimal(0)  # type: ignore[index]  # that it cannot is the point
