"""Tests of a re-rating as a table: what changes is in it at every width, and nothing that stays hides it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from voicecosts.analytics.commands.repricing import Change
from voicecosts.analytics.text.changes import by_model, by_tenant, models_in_order


def change(cost: str, after: str, billed: str | None, billed_after: str | None) -> Change:
    """Return what some meters cost and are billed, before and after."""
    before, now = (None if it is None else Decimal(it) for it in (billed, billed_after))
    return Change(
        list_before=Decimal(cost),
        list_after=Decimal(cost),
        cost_before=Decimal(cost),
        cost_after=Decimal(after),
        billed_before=before,
        billed_after=now,
        meters=1,
    )


SAME = change("2.5", "2.5", "3", "3")
DEARER = change("1.5", "1.5", "0.12", "0.15")
MODELS = {
    ("agent_session", "livekit", "agent"): DEARER,
    ("llm", "openai", "gpt-4.1-mini"): SAME,
    ("tts", "elevenlabs", "eleven_turbo_v2_5"): SAME,
}
TOTAL = change("6.5", "6.5", "6.12", "6.15")


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_what_is_billed_otherwise_is_shown_at_every_width(width: int | None) -> None:
    """The difference goes last, the amounts that make it before that, and what stays as it is goes first."""
    table = by_model(MODELS.items(), TOTAL, width=width)
    assert all(len(line) <= (width or 200) for line in table)
    assert "billed difference" in table[0]
    assert "cost difference" not in table[0]
    assert [line for line in table if line.startswith(("agent_session", "llm", "tts"))] == [
        line for line in table if "+0.030000" in line and not line.startswith("total")
    ]
    said = " ".join(" ".join(table).split())
    assert "nothing changes for 2 more models, in the total too" in said
    tenants = by_tenant({"globex": DEARER, None: SAME}.items(), TOTAL, width=width)
    assert {"billed before", "billed after"} <= set(tenants[0].replace("   ", "  ").split("  "))


def test_where_nothing_changes_all_of_it_is_shown() -> None:
    """One column of each layer says what it is and stays."""
    table = by_tenant({"acme": SAME, "globex": SAME}.items(), SAME, width=None)
    assert table[0].split() == ["tenant", "cost", "billed"]
    assert [line.split()[0] for line in table[2:4]] == ["acme", "globex"]


def test_what_is_paid_is_shown_before_what_is_billed() -> None:
    """Where both change both differences are kept, and the largest is on top."""
    rows = {**MODELS, ("stt", "deepgram", "nova-3"): change("1", "3", "4", "5")}
    table = by_model(rows.items(), change("1", "3", "9", "7"), width=80)
    assert "cost difference" in table[0]
    assert "billed difference" in table[0]
    assert table[2].startswith("stt")
    assert [key[0] for key, _ in models_in_order(rows.items())][:2] == ["stt", "agent_session"]


def test_a_bill_that_depends_on_a_cost_that_nobody_knows_is_unknown() -> None:
    """Another model has no price: what a share of it comes to is neither nothing nor without a rule."""
    lacks = change("1", "1", "1.5", None)
    lacks.cost_after, lacks.is_unknown, lacks.is_bill_unknown = None, True, True
    free = change("1", "2", None, None)
    table = by_tenant({"initech": lacks, "acme": free}.items(), lacks, width=None)
    rows = {line.split()[0]: line.split() for line in table}
    assert rows["initech"][-3:] == ["1.500000", "unknown", "unknown"]
    assert rows["acme"][-1] == "0.000000"
