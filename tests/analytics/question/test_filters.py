"""Tests of reading conditions: what they mean, and that a value stays a value."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest

from tests.support.sample_ledger import ACME
from voicecosts.analytics.errors import BadFilter, UnknownColumn
from voicecosts.analytics.question.columns import Group
from voicecosts.analytics.question.filters import conditions, named, select, values_by_column
from voicecosts.analytics.question.times import Period


def test_the_same_name_means_either_and_other_names_mean_all() -> None:
    """Values of one column are alternatives, columns are joined."""
    sql, parameters = conditions(["tenant=acme", "agent=dental", "tenant=globex"])
    assert sql == ["(tenant IN (?, ?))", "(agent_id IN (?))"]
    assert parameters == ["acme", "globex", "dental"]


@pytest.mark.parametrize("empty", ["tenant=", "tenant=(none)"])
def test_an_empty_tenant_means_the_rows_without_one(empty: str) -> None:
    """NULL is asked for by an empty value or by the way it is shown, alone or beside a value."""
    assert conditions([empty]) == (["(tenant IS NULL)"], [])
    assert conditions(["tenant=acme", empty]) == (["(tenant IN (?) OR tenant IS NULL)"], ["acme"])


@pytest.mark.parametrize("condition", ["project=", "modality=", "session=", "day="])
def test_what_every_row_has_cannot_be_empty(condition: str) -> None:
    """An empty value of such a column matches nothing by mistake, so it is refused."""
    with pytest.raises(BadFilter, match="no row lacks its"):
        conditions([condition])


def test_an_adjustment_is_found_by_what_it_does_not_name() -> None:
    """Its agent, provider and model may be empty, and are asked for so, or as they are shown."""
    assert conditions(["model=", "agent="]) == (["(model IN (?))", "(agent_id IN (?))"], ["", ""])
    assert conditions("agent=(none)") == conditions("agent=") == conditions({"agent": ""})
    assert conditions("agent!=(none)") == conditions("agent!=")


@pytest.mark.parametrize("name", ["(none)", r"\(none)"])
def test_what_every_row_names_is_asked_for_as_it_is_shown(name: str) -> None:
    """Only where there may be none a name has a backslash put in front that would read as that."""
    assert conditions(f"modality={name}") == (["(modality IN (?))"], [name])


@pytest.mark.parametrize("standard", ["service_tier=", "service_tier=(standard)"])
def test_the_standard_service_tier_is_asked_for_as_it_is_shown(standard: str) -> None:
    """It has no name in the ledger; others are asked for by their own."""
    assert conditions([standard]) == (["(service_tier IN (?))"], [""])
    both = conditions(["service_tier=flex", standard])
    assert both == (["(service_tier IN (?, ?))"], ["flex", ""])


def test_a_value_may_hold_an_equals_sign_and_anything_else() -> None:
    """Only the first equals sign divides; the rest is the value, character for character."""
    assert conditions("model=a=b") == (["(model IN (?))"], ["a=b"])
    hostile = "x' OR 1=1; DROP TABLE bookings --"
    assert conditions(f"tenant={hostile}") == (["(tenant IN (?))"], [hostile])


def test_sessions_and_days_are_checked_before_the_ledger_is_asked() -> None:
    """A value that its column cannot have is an error of the question, with an example."""
    assert conditions(f"session={ACME}")[1] == [ACME]
    assert conditions("day=2026-11-20")[1] == [date(2026, 11, 20)]
    with pytest.raises(
        BadFilter, match="needs a whole session id \\(UUID\\), as `costs calls` shows it"
    ):
        conditions("session=last")
    with pytest.raises(BadFilter, match="needs a day such as"):
        conditions("day=20.11.")


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("gpt-*", "gpt-%"),
        ("*", "%"),
        ("a_%*", r"a\_\%%"),
        (r"a\\*", r"a\\%"),
        (r"*\*", "%*"),
        (r"C:\x*", r"C:\\x%"),
    ],
)
def test_a_star_stands_for_any_text(text: str, like: str) -> None:
    """Nothing else does: what LIKE would read as more is escaped."""
    sql, parameters = conditions([f"model={text}", "model=nova-3"])
    assert sql == [r"(model IN (?) OR model LIKE ? ESCAPE '\')"]
    assert parameters == ["nova-3", like]


@pytest.mark.parametrize(("text", "name"), [(r"a\*", "a*"), (r"a\\\*", r"a\*"), (r"a\b", r"a\b")])
def test_a_star_is_written_with_a_backslash(text: str, name: str) -> None:
    """Backslashes mean something in front of a star alone, and half of them are meant there."""
    assert conditions([f"model={text}"]) == (["(model IN (?))"], [name])


def test_an_exclamation_mark_leaves_rows_out() -> None:
    """All named values are left out; a row without a tenant is not acme's, and is not without a model."""
    assert conditions(["tenant!=acme", "tenant!=glo*", "tenant=*e"]) == (
        [
            r"(tenant IS NULL OR NOT (tenant IN (?) OR tenant LIKE ? ESCAPE '\'))",
            r"(tenant LIKE ? ESCAPE '\')",
        ],
        ["acme", "glo%", "%e"],
    )
    assert conditions("tenant!=(none)") == (
        ["(tenant IS NOT NULL AND NOT (tenant IS NULL))"],
        [],
    )
    assert conditions("model!=x") == (["(model IS NOT NULL AND NOT (model IN (?)))"], ["x"])
    assert conditions({"tenant!": ["a*", None], "model": "*"}) == conditions(
        [r"tenant!=a\*", "tenant!=", r"model=\*"]
    )


@pytest.mark.parametrize("condition", ["day=2026-*", "session=*", "month!=*", "corrects=*"])
def test_only_names_have_patterns(condition: str) -> None:
    """A period says it better of days, and no id is meant by a part of it."""
    with pytest.raises(BadFilter, match="for names, and needs a"):
        conditions(condition)


@pytest.mark.parametrize("condition", ["tenant!=acme", "tenant=a*"])
def test_what_writes_names_its_values(condition: str) -> None:
    """A re-rating is of the tenants that were named, and not of one with a star in its name."""
    with pytest.raises(BadFilter, match="does not name its value"):
        values_by_column(condition)
    assert values_by_column(r"tenant=a\*") == {Group.TENANT: ["a*"]}
    assert named(Group.TENANT, "a*") == "a*"


@pytest.mark.parametrize("condition", ["acme", "", "tenant"])
def test_a_condition_needs_a_name_and_a_value(condition: str) -> None:
    """The message shows the form that is wanted."""
    with pytest.raises(BadFilter, match="tenant=acme"):
        conditions([condition])


@pytest.mark.parametrize("name", ["tenant_id", "cost", "1=1; --", "Tenant"])
def test_a_name_that_is_not_listed_is_refused(name: str) -> None:
    """What can be filtered is a list, not a column of whatever table there is."""
    with pytest.raises(UnknownColumn) as caught:
        conditions([f"{name}=x"])
    assert "modality" in str(caught.value)


def test_bytes_of_a_terminal_that_are_no_text_are_refused() -> None:
    """A value that cannot be in the ledger is named, instead of failing inside the database."""
    with pytest.raises(BadFilter, match="not UTF-8"):
        conditions("tenant=\udcff")


def test_a_mapping_means_the_same_and_takes_values_as_they_are() -> None:
    """In Python nothing has to be spelled: None is the absent tenant, and a name is a name."""
    assert conditions({"tenant": ["acme", None], "agent": "dental"}) == conditions(
        ["tenant=acme", "tenant=(none)", "agent=dental"]
    )
    assert conditions({"tenant": "(none)"}) == conditions(r"tenant=\(none)")
    assert conditions({"tenant": r"\(none)"}) == (["(tenant IN (?))"], [r"\(none)"])
    assert conditions({"tenant": "a=b"}) == (["(tenant IN (?))"], ["a=b"])
    assert conditions({"session": ACME, "day": date(2026, 11, 21)}) == conditions(
        [f"session={ACME}", "day=2026-11-21"]
    )
    assert conditions({}) == ([], [])


@pytest.mark.parametrize("name", ["(none)", r"\(none)", r"\\(none)"])
@pytest.mark.parametrize(
    "column", ["agent", "agent_label", "project", "provider", "model", "modality"]
)
def test_a_mapping_takes_a_name_as_it_is(column: str, name: str) -> None:
    """The same as the text, which needs a backslash where there may be none."""
    text = name if column in ("project", "modality") else f"\\{name}"
    assert conditions({column: name}) == conditions(f"{column}={text}")
    assert conditions({f"{column}!": name}) == conditions(f"{column}!={text}")
    assert conditions({column: name})[1] == [name]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"tenant": 7}, "type int: give it as text"),
        ({"tenant": []}, "has no value"),
        ({"tenant": ""}, "None means without a tenant"),
        ({"agent": None}, "type NoneType"),
        ({"day": "tomorrow"}, "needs a day"),
        ([("tenant", "acme")], "or {'tenant': 'acme'}"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(where: Any, said: str) -> None:
    """Before anything is opened, and with what to give instead."""
    with pytest.raises(BadFilter, match=re.escape(said)):
        conditions(where)


def test_no_condition_selects_everything() -> None:
    """Without conditions there is no WHERE, and more can still be added."""
    everything = select(Period(), ())
    assert everything.sql(schema=11) == "FROM session_usage"
    assert everything.sql("cost IS NULL", schema=11) == "FROM session_usage WHERE cost IS NULL"
