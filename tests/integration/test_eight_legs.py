"""A telephone call with eight legs: to the nano-dollar, in every layer, against the providers' books.

Expected money is worked out here by fractions, from what each provider counted for itself and from
the rates as they are published or written in `prices.toml`: no code of the ledger takes part.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from livekit.agents.voice import agent_activity

from tests.support.conservation import Amounts
from tests.support.detectors import ScriptedInterruptionDetector
from tests.support.eight_legs import PRICES, EightLegs
from tests.support.processes import costs
from tests.support.rooms import own_clock
from tests.support.script_run import SkippingLoop
from voicecosts import CostObserver, connect, query
from voicecosts.analytics.answers.report import Row
from voicecosts.producer.process import PROCESS

Money = Decimal | None


class Costs(NamedTuple):
    """What a leg comes to in each layer, as the ledger rounds it."""

    list: Money
    cost: Money
    billed: Money


def nano(amount: Fraction) -> Decimal:
    """Round half-even to nine digits."""
    return Decimal(round(amount * 10**9)).scaleb(-9)


def mtok(*legs: tuple[str, int]) -> Decimal:
    """Add up tokens at dollars per million."""
    return nano(sum((Fraction(rate) * amount / 10**6 for rate, amount in legs), Fraction(0)))


def minutes(rate: str, us: int) -> Decimal:
    """Return begun minutes at dollars per minute."""
    return nano(Fraction(rate) * math.ceil(Fraction(us, 60_000_000)))


def costs_of(books: Amounts) -> dict[str, tuple[Money, Money]]:
    """Return list and cost of each leg."""
    stt, llm, tts, voiced = (books[leg] for leg in ("stt", "llm", "tts", "realtime"))
    cached = llm["cache_read_input_tokens"]
    text_cached = voiced["text_cache_read_input_tokens"]
    spoken = nano(Fraction("0.05") * tts["characters"] / 1000)
    modelled = mtok(
        ("0.4", llm["input_tokens"] - cached), ("0.1", cached), ("1.6", llm["output_tokens"])
    )
    speech = mtok(
        ("4", voiced["text_input_tokens"] - text_cached),
        ("0.4", text_cached),
        ("32", voiced["audio_input_tokens"]),
        ("16", voiced["text_output_tokens"]),
        ("64", voiced["audio_output_tokens"]),
    )
    shown_s = max(30, math.ceil(Fraction(books["avatar"]["session_us"], 10**6)))
    at_livekit, at_twilio = (
        books[f"telephony at {it}"]["session_us"] for it in ("livekit", "twilio")
    )
    return {
        "stt": (
            nano(Fraction("0.208333") * stt["audio_us"] / 10**9),
            nano(Fraction("0.6100") * Fraction("1.0850") * stt["audio_us"] / 3_600_000_000),
        ),
        "llm": (modelled, modelled),
        "tts": (spoken, nano(Fraction("0.85") * Fraction(spoken))),
        "realtime": (speech, speech),
        "interruption": (None, nano(Fraction("0.0001") * books["interruption"]["requests"])),
        "turn_detector": (None, nano(Fraction("0.00025") * books["turn_detector"]["requests"])),
        "agent_session": (None, minutes("0.01", books["agent_session"]["session_us"])),
        "telephony at livekit": (minutes("0.004", at_livekit), minutes("0.004", at_livekit)),
        "telephony at twilio": (minutes("0.0085", at_twilio), minutes("0.0078", at_twilio)),
        "avatar": (None, nano(Fraction("0.37") * shown_s / 60)),
    }


def marked_up(leg: str, cost: Money, books: Amounts) -> Money:
    """What acme is charged: a fifth more than the operator pays."""
    return None if cost is None else nano(Fraction("1.2") * Fraction(cost))


def by_the_minute(leg: str, cost: Money, books: Amounts) -> Money:
    """What globex is charged: 12 cents a begun minute of the call, everything else included."""
    if leg != "agent_session":
        return Decimal(0)
    return minutes("0.12", books["agent_session"]["session_us"])


BILLED: Final = {"acme": marked_up, "globex": by_the_minute}


class Booked(NamedTuple):
    """The calls by their tenants, and where their ledger is."""

    calls: dict[str, EightLegs]
    data_dir: Path

    def expected(self, tenant: str) -> dict[str, Costs]:
        """Return what each leg of a tenant's call comes to."""
        books = self.calls[tenant].books()
        return {
            leg: Costs(listed, cost, BILLED[tenant](leg, cost, books))
            for leg, (listed, cost) in costs_of(books).items()
        }

    def rows(self, tenant: str) -> dict[str, Row]:
        """Return the answer for a tenant: leg → row."""
        report = query("modality,provider", where={"tenant": [tenant]}, data_dir=self.data_dir)
        assert not report.warnings
        return {leg_of(row): row for row in report.rows}


def leg_of(row: Row) -> str:
    """Return the leg that a row is about."""
    modality, provider = row.group["modality"], row.group.get("provider")
    assert modality is not None
    return f"telephony at {provider}" if provider and modality == "telephony" else modality


def total(amounts: list[Money]) -> Money:
    """Add up what is known."""
    return sum((amount for amount in amounts if amount is not None), Decimal(0))


@pytest.fixture(scope="module")
def booked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booked]:
    """One call of each tenant, and the ledger that both are in."""
    data_dir = tmp_path_factory.mktemp("ledger")
    calls = [EightLegs(1, "acme"), EightLegs(2, "globex")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSTS_DATA_DIR", str(data_dir))
        patch.setenv("COSTS_OUTBOX_DIR", str(data_dir / "outbox"))  # an outbox has one owner
        (data_dir / "prices.toml").write_text(PRICES, encoding="utf-8")
        patch.setattr(
            agent_activity.inference, "AdaptiveInterruptionDetector", ScriptedInterruptionDetector
        )
        observer = CostObserver(project="prod")
        try:
            with own_clock() as clock, asyncio.Runner(loop_factory=SkippingLoop) as runner:
                for call in calls:
                    runner.run(call.run(observer, clock))
        finally:
            PROCESS.close()
        query(data_dir=data_dir)  # books what waits
        yield Booked({call.tenant: call for call in calls}, data_dir)


each_tenant = pytest.mark.parametrize("tenant", sorted(BILLED))


@each_tenant
def test_each_leg_is_priced_to_the_nano_dollar_in_every_layer(booked: Booked, tenant: str) -> None:
    """List, cost and billed of each leg are the sums of its parts, worked out from the books."""
    found = {
        leg: Costs(row.list_cost, row.cost, row.billed) for leg, row in booked.rows(tenant).items()
    }
    assert found == booked.expected(tenant)
    assert len({leg.partition(" ")[0] for leg in found} - {"turn_detector"}) == 8


@each_tenant
def test_each_leg_has_what_its_provider_counted(booked: Booked, tenant: str) -> None:
    """Requests, tokens, characters and times are those of the providers' own books."""
    measures = ("requests", "input_tokens", "output_tokens", "characters")
    times = {"audio_seconds": "audio_us", "session_seconds": "session_us"}
    found = {
        leg: {name: getattr(row, name) for name in measures if getattr(row, name)}
        | {us: int(getattr(row, s) * 10**6) for s, us in times.items() if getattr(row, s)}
        for leg, row in booked.rows(tenant).items()
    }
    shown = {*measures, *times.values()}
    assert found == {
        leg: {name: amount for name, amount in amounts.items() if name in shown}
        for leg, amounts in booked.calls[tenant].books().items()
    }


@each_tenant
def test_the_modalities_add_up_to_the_call(booked: Booked, tenant: str) -> None:
    """`--by modality`, the total of the answer and the view `sessions` say the same of each layer."""
    expected = booked.expected(tenant)
    whole = tuple(
        total([getattr(costs, layer) for costs in expected.values()]) for layer in Costs._fields
    )
    report = query("modality", where={"tenant": [tenant]}, data_dir=booked.data_dir)
    assert len(report.rows) == len(expected) - 1  # both telephony legs are one group
    layers = ("list_cost", "cost", "billed")
    assert tuple(getattr(report.total, layer) for layer in layers) == whole
    assert whole == tuple(total([getattr(row, layer) for row in report.rows]) for layer in layers)
    with connect(booked.data_dir) as reader:
        call = reader.execute(
            "SELECT list_cost, cost, billed, stt_cost, llm_cost, tts_cost, realtime_cost,"
            " unpriced_rows FROM sessions WHERE tenant = ?",
            [tenant],
        ).fetchall()
    models = tuple(expected[leg].cost for leg in ("stt", "llm", "tts", "realtime"))
    assert call == [(*whole, *models, 0)]


def test_the_command_says_the_same(booked: Booked) -> None:
    """`costs query --by modality` has both calls in each group, and their sum in its total."""
    document = json.loads(costs(booked.data_dir, "query", "--by", "modality", "--format", "json"))
    expected: dict[str, Decimal] = {}
    for tenant in BILLED:
        for leg, found in booked.expected(tenant).items():
            modality = leg.partition(" ")[0]
            expected[modality] = expected.get(modality, Decimal(0)) + (found.cost or 0)
    assert {row["modality"]: Decimal(row["cost"]) for row in document["rows"]} == expected
    assert Decimal(document["total"]["cost"]) == sum(expected.values())


def test_a_call_by_the_minute_is_billed_by_its_minutes_alone(booked: Booked) -> None:
    """100 seconds are two begun minutes, whatever the eight legs cost."""
    assert total([row.billed for row in booked.rows("globex").values()]) == Decimal("0.24")
