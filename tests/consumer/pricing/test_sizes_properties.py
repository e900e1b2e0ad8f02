"""Prices by size, from the worker's count to the money: as if each request were priced alone.

The worker's own counting makes the meters, the ledger's rating prices them, and the price list's own
calculator, one request at a time, is the oracle.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
import voice_prices
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.agents.metrics.base import Metadata, RealtimeModelMetrics
from voice_prices.data import providers

from tests.consumer.pricing.asking import ANYBODY, BOOK, START
from tests.producer.capture.livekit_metrics import llm, realtime
from voicecosts.consumer.pricing import Price, Rated, rate_by
from voicecosts.consumer.pricing import providers as labels
from voicecosts.consumer.pricing.catalogue import Row
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.capture.meters import Meters
from voicecosts.producer.capture.usage import usage_of
from voicecosts.producer.events import SIZE_TIERS, SessionEnded, meter_of

if TYPE_CHECKING:
    from datetime import datetime

    from voice_prices.types import ModelInfo, Provider

LISTED: Final = [
    (owner, row, price)
    for owner in providers
    if owner.id in labels._NAMES.values()
    for row in owner.models
    if isinstance(price := Row(owner.id, row, "llm").at(START), Price)
    if price.rates.keys() >= {"input_tokens", "output_tokens"} and "requests" not in price.rates
]
TIERED: Final = [each for each in LISTED if each[2].tiers]
FLAT: Final = [each for each in LISTED if not each[2].tiers]

EDGES: Final = st.sampled_from(SIZE_TIERS).flatmap(lambda edge: st.integers(edge - 1, edge + 1))
PROMPT: Final = EDGES | st.integers(1, 600_000)
REQUEST: Final = st.tuples(PROMPT, st.fractions(0, 1), st.fractions(0, 1), st.integers(0, 5_000))
"""Input tokens, the cached share of them, the cached share that was written, output tokens."""


class OneRow:
    """A book with one row."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def find(
        self, *, modality: str, provider: str, provider_raw: str, model: str, at: datetime
    ) -> Any:
        """Return the row's price."""
        return self._row.at(at)


def session() -> Meters:
    """Return the meters of a session."""
    return Meters(
        SessionIdentity(
            session_id=new_session_id(1_795_000_000_000_000),
            project="prod",
            agent_id="dental",
            tenant=None,
            started_at=1_795_000_000_000_000,
            job_id="",
            room_name="",
            room_sid="",
            worker_id="",
            deployment="",
            fake_job=False,
            labels={},
        )
    )


def add(meters: Meters, metrics: Any) -> None:
    """Count a report as the worker does."""
    usage = usage_of(metrics, now_us=5)
    assert usage is not None
    meters.add(usage, "a")


def rated(meters: Meters, book: Any) -> list[Rated]:
    """Price the final totals of every meter as the ledger does."""
    end: SessionEnded = meters.ended(ended_at=9, status="success", reason="")
    rate = rate_by(book)
    return [
        rate(
            meter_of(end, final),
            final.totals,
            START,
            provider_raw=final.provider_raw,
            scope=ANYBODY,
        )
        for final in end.meters
    ]


def cost(meters: Meters, book: Any) -> Decimal:
    """Return what all meters cost."""
    return sum((each.cost or Decimal(0) for each in rated(meters, book)), Decimal(0))


ONE_PRICE: Final = st.sampled_from(TIERED) | st.sampled_from(FLAT)
REQUESTS: Final = st.lists(REQUEST, min_size=1, max_size=12)


@settings(max_examples=40)
@given(ONE_PRICE, REQUESTS)
def test_money_by_size_is_the_sum_of_the_requests_priced_one_by_one(
    listed: tuple[Provider, ModelInfo, Price], requests: list[tuple[int, Any, Any, int]]
) -> None:
    """Whatever sizes a call's requests have, each costs what the list's calculator asks for it."""
    check_sum(listed, requests)


@pytest.mark.slow
@settings(max_examples=250)
@given(ONE_PRICE, REQUESTS)
def test_money_by_size_is_the_sum_of_the_requests_of_hundreds_of_calls(
    listed: tuple[Provider, ModelInfo, Price], requests: list[tuple[int, Any, Any, int]]
) -> None:
    """The same, for longer."""
    check_sum(listed, requests)


def check_sum(
    listed: tuple[Provider, ModelInfo, Price], requests: list[tuple[int, Any, Any, int]]
) -> None:
    """Rate a call by its sizes, and each of its requests alone."""
    owner, row, _ = listed
    meters, alone = session(), Decimal(0)
    for prompt, cached_share, written_share, output in requests:
        cached = int(prompt * cached_share)
        written = int(cached * written_share)
        add(
            meters,
            llm(
                prompt_tokens=prompt,
                prompt_cached_tokens=cached - written,
                cache_creation_tokens=written,
                completion_tokens=output,
                reasoning_tokens=0,
            ),
        )
        usage = voice_prices.Usage(
            input_tokens=prompt,
            cache_read_tokens=cached - written,
            cache_write_tokens=written,
            output_tokens=output,
        )
        alone += row.calc_price(usage, owner, genai_request_timestamp=START).total_price
    found = rated(meters, OneRow(Row(owner.id, row, "llm")))
    assert [each.reason for each in found] == [None] * len(found)
    total = sum((each.cost or Decimal(0) for each in found), Decimal(0))
    assert abs(total - alone) <= len(found) * Decimal("0.0000000005")


AMOUNT: Final = st.integers(0, 300) | st.sampled_from([0, 0, 32_001, 130_000, 200_001])
ODD: Final = st.builds(
    llm,
    prompt_tokens=AMOUNT,
    prompt_cached_tokens=AMOUNT,
    cache_creation_tokens=AMOUNT,
    completion_tokens=AMOUNT,
    reasoning_tokens=AMOUNT,
    total_tokens=AMOUNT,
)
SPLIT: Final = st.fixed_dictionaries(
    dict.fromkeys(["text_tokens", "audio_tokens", "image_tokens"], AMOUNT)
)
ODD_REALTIME: Final = st.builds(
    lambda read, written, total, kinds, cached, of, spoken: realtime(
        input_tokens=read,
        output_tokens=written,
        total_tokens=total,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(
            **kinds,
            cached_tokens=cached,
            cached_tokens_details=RealtimeModelMetrics.CachedTokenDetails(**of),
        ),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(**spoken),
    ),
    AMOUNT,
    AMOUNT,
    AMOUNT,
    SPLIT,
    AMOUNT,
    SPLIT,
    SPLIT,
)
ASKED: Final = st.sampled_from(
    [
        ("llm", "Gemini", "gemini-2.5-pro"),
        ("llm", "api.openai.com", "gpt-5.4"),
        ("llm", "api.anthropic.com", "claude-sonnet-4-5"),
        ("realtime", "api.openai.com", "gpt-realtime"),
        ("realtime", "Gemini", "gemini-live-2.5-flash-preview"),
    ]
)


@settings(max_examples=40)
@given(st.data(), ASKED)
def test_no_response_however_odd_takes_back_what_was_priced(
    data: st.DataObject, asked: tuple[str, str, str]
) -> None:
    """The cost of a session never falls, and what it lacks is said."""
    check_odd(data, asked)


@pytest.mark.slow
@settings(max_examples=250)
@given(st.data(), ASKED)
def test_none_of_hundreds_of_odd_responses_takes_back_what_was_priced(
    data: st.DataObject, asked: tuple[str, str, str]
) -> None:
    """The same, for longer."""
    check_odd(data, asked)


def check_odd(data: st.DataObject, asked: tuple[str, str, str]) -> None:
    """Add odd responses to a session, one after the other."""
    modality, provider, model = asked
    odd = ODD if modality == "llm" else ODD_REALTIME
    named = {"metadata": Metadata(model_provider=provider, model_name=model)}
    meters, before = session(), Decimal(0)
    for metrics in data.draw(st.lists(odd, min_size=1, max_size=8)):
        add(meters, metrics.model_copy(update=named))
        after = cost(meters, BOOK)
        assert after >= before
        before = after
    for each in rated(meters, BOOK):
        assert each.cost is not None or each.reason is not None
