"""A call at several service tiers, from its requests to the answer: each tier at its own price or at none."""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from livekit.agents import Agent, AgentSession

from tests.support.events import message
from tests.support.interrupted_call import attach
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.tiered import TieredLLM
from voicecosts import query
from voicecosts.analytics.answers.report import Report
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.ledger import Ledger

OPENAI: Final = "api.openai.com"
OURS: Final = """
[[cost]]
provider = "openai"
model = "gpt-4.1"
service_tier = "priority"
unit = "million tokens"
price = { input = "3.50", cached_input = "0.875", output = "14.00" }
source = "https://openai.com/api/pricing"
"""
LIST: Final = {"input_tokens": Decimal("2.00"), "output_tokens": Decimal("8.00")}
OWN: Final = {"input_tokens": Decimal("3.50"), "output_tokens": Decimal("14.00")}


async def played(*tiers: str) -> tuple[TieredLLM, Recorder]:
    """Return a call that asked once at each tier, in turn, and what was recorded of it."""
    logging.getLogger("livekit").setLevel(logging.ERROR)
    model, recorder = TieredLLM(OPENAI, name="gpt-4.1"), Recorder()
    session: AgentSession[Any] = AgentSession(llm=model, **QUIET)
    attachment = attach(session, recorder)
    await session.start(Agent(instructions="Be brief."))
    for tier in tiers:
        model._opts.service_tier = tier
        await session.run(user_input="When do you close?")
    await session.aclose()
    await attachment.closed.wait()
    attachment.detach()
    return model, recorder


def booked(folder: Path, recorder: Recorder, own: str) -> Report:
    """Book what was recorded, and ask by service tier."""
    with Ledger.open(folder, rate_by(ListPrices(), read(own))) as ledger:
        ledger.apply([message(1, *recorder.events, project="tests", agent="talker")])
    return query("service_tier", data_dir=folder)


def at(rates: dict[str, Decimal], bill: dict[str, int]) -> Decimal:
    """Return what a page of the provider's book costs at rates per million."""
    return sum((rate * bill[name] / 10**6 for name, rate in rates.items()), Decimal(0))


@pytest.mark.parametrize("own", ["", OURS], ids=["list prices", "and a price for priority"])
async def test_each_tier_has_its_own_price_or_says_that_it_has_none(
    tmp_path: Path, own: str
) -> None:
    """The standard tier costs the list price; one that no price knows is unpriced, and named."""
    model, recorder = await played("default", "priority", "flex", "auto")
    report = booked(tmp_path, recorder, own)
    bills = model.received
    standard = at(LIST, bills["default"] + bills["auto"])
    costs = {row.group["service_tier"]: row.cost for row in report.rows}
    assert costs == {
        "": standard,
        "priority": at(OWN, bills["priority"]) if own else None,
        "flex": None,
    }
    lacking = {it.service_tier: (it.requests, it.reason) for it in report.completeness.unpriced}
    said = "'openai/gpt-4.1' has no price for the service tier {!r}"
    assert lacking == {
        tier: (1, said.format(tier)) for tier in (("flex",) if own else ("flex", "priority"))
    }
