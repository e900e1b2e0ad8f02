"""Tests of the allow-list of columns and of the order of rows."""

from __future__ import annotations

import pytest

from voicecosts.analytics.answers.report import measure_names
from voicecosts.analytics.errors import BadQuestion, UnknownColumn
from voicecosts.analytics.question.columns import COLUMN, MEASURES, Group, Sort, groups


def test_groups_may_be_given_one_by_one_or_with_commas() -> None:
    """Both ways name the same, in the order they were named, each once."""
    assert groups("tenant,agent") == (Group.TENANT, Group.AGENT)
    assert groups(["agent", "tenant, model", "agent"]) == (
        Group.AGENT,
        Group.TENANT,
        Group.MODEL,
    )


@pytest.mark.parametrize("names", [(), [], iter(())])
def test_nothing_to_group_by_is_refused(names: tuple[str, ...]) -> None:
    """A question without a column has no rows to answer with."""
    with pytest.raises(BadQuestion, match="name at least one of tenant"):
        groups(names)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("tenants", "tenant"), ("Model", "model"), ("agent_id", "agent"), ("zzz", None)],
)
def test_an_unknown_column_is_named_with_what_may_have_been_meant(
    name: str, suggestion: str | None
) -> None:
    """The error carries the name, the list, and the nearest name on it if one is near."""
    with pytest.raises(UnknownColumn) as caught:
        groups(name)
    assert caught.value.name == name
    assert caught.value.allowed == (*map(str, Group), "label.NAME")
    assert caught.value.suggestion == suggestion
    assert ("did you mean" in str(caught.value)) == (suggestion is not None)


@pytest.mark.parametrize("name", ["", "tenant;", "tenant--", "1", "(SELECT 1)", '"tenant"'])
def test_nothing_but_a_listed_name_is_a_column(name: str) -> None:
    """SQL in place of a name is an unknown name like any other."""
    with pytest.raises(UnknownColumn):
        groups([name])


def test_every_group_and_measure_is_complete() -> None:
    """Each group has a column, and measures come in the order of the rows they fill."""
    assert set(COLUMN) == set(Group)
    assert tuple(MEASURES) == measure_names()


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        (None, '"cost" DESC NULLS LAST, "day" NULLS LAST'),
        ("day", '"day" ASC NULLS LAST, "day" NULLS LAST'),
        ("day:desc", '"day" DESC NULLS LAST, "day" NULLS LAST'),
        ("sessions:asc", '"sessions" ASC NULLS LAST, "day" NULLS LAST'),
    ],
)
def test_amounts_fall_and_names_rise_unless_told_otherwise(text: str | None, sql: str) -> None:
    """The largest cost comes first, the earliest day too, and unknown values come last."""
    assert Sort(text, (Group.DAY,)).sql() == sql


def test_only_what_is_shown_can_be_sorted_by() -> None:
    """A group that was not asked for has no single value in a row."""
    with pytest.raises(UnknownColumn, match="sort column 'tenant'"):
        Sort("tenant", (Group.DAY,))
    with pytest.raises(BadQuestion, match=":asc or :desc"):
        Sort("cost:up", (Group.DAY,))


@pytest.mark.parametrize("name", ["lable.campaign", "labels.campaign", "Label.campaign"])
def test_a_misspelled_label_is_known(name: str) -> None:
    """What stands behind the point is the label's own name."""
    with pytest.raises(UnknownColumn, match=r"did you mean 'label\.campaign'\?"):
        groups(name)
