"""Completeness: every metrics class and every field of the installed livekit-agents is decided.

When a test here fails after an upgrade, LiveKit has added or renamed something whose usage would
be missing from the costs. The message says what to decide.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator

import pytest
from livekit.agents.metrics import AgentMetrics
from livekit.agents.metrics import base as livekit
from pydantic import BaseModel

from voicecosts.producer.capture.usage import DETAIL_FIELDS, FIELDS, NOT_QUANTITIES, NOT_USAGE
from voicecosts.producer.events import QUANTITIES


def subclasses(of: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield every subclass, however deep."""
    for one in of.__subclasses__():
        yield one
        yield from subclasses(one)


def kind_of(metrics: type[BaseModel]) -> str:
    """Return the `type` by which LiveKit tells its metrics classes apart."""
    return str(metrics.model_fields["type"].default)


def nested(annotation: object) -> type[BaseModel] | None:
    """Return the model that a field holds, if it holds one other than the metadata."""
    for one in (annotation, *typing.get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel) and one is not livekit.Metadata:
            return one
    return None


def paths(metrics: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every field of a class, dotted where a field holds a model."""
    metrics.model_rebuild()  # a field that names a class further down is resolved only then
    for field, info in metrics.model_fields.items():
        inner = nested(info.annotation)
        if inner is None:
            yield prefix + field
        else:
            yield from paths(inner, f"{prefix}{field}.")


def read_fields(kind: str) -> set[str]:
    """Return the fields of a class that our table reads."""
    reading = FIELDS[kind]
    named = {reading.audio, reading.session, reading.first, reading.requests}
    return set(reading.quantities) | {field for field in named if field is not None}


METRICS = {kind_of(metrics): metrics for metrics in subclasses(livekit._BaseMetrics)}


@pytest.mark.parametrize("kind", METRICS)
def test_every_metrics_class_is_known(kind: str) -> None:
    """A metrics class is either read or known to be without usage, never both."""
    assert (kind in FIELDS) != (kind in NOT_USAGE), (
        f"livekit-agents has a metrics class of type {kind!r}. If a provider bills what it "
        "reports, add it to FIELDS in producer/capture/usage.py; if not, to NOT_USAGE with the reason."
    )


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_of_a_metrics_class_is_decided(kind: str) -> None:
    """No field of a class with usage is overlooked: it is read, detail, or no quantity."""
    undecided = {
        path
        for path in paths(METRICS[kind])
        if path not in read_fields(kind) | DETAIL_FIELDS | set(NOT_QUANTITIES)
    }
    assert not undecided, (
        f"{METRICS[kind].__name__} of livekit-agents has fields that producer/capture/usage.py does not "
        f"know: {sorted(undecided)}. Map what is billed in FIELDS; otherwise add the field to "
        "DETAIL_FIELDS, or to NOT_QUANTITIES with the reason."
    )


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_that_is_read_exists(kind: str) -> None:
    """A field that LiveKit renamed does not become a silent zero."""
    gone = read_fields(kind) - set(paths(METRICS[kind]))
    assert not gone, (
        f"producer/capture/usage.py reads {sorted(gone)} of {METRICS[kind].__name__}, which livekit-agents "
        "no longer has: find the field's new name and correct FIELDS."
    )


def test_no_list_names_what_livekit_no_longer_has() -> None:
    """The lists describe the installed version, without relics."""
    fields = {path for kind in FIELDS for path in paths(METRICS[kind])}
    assert set(FIELDS) | set(NOT_USAGE) == set(METRICS), "remove classes that are gone"
    assert fields >= DETAIL_FIELDS, "remove fields that are gone from DETAIL_FIELDS"
    assert fields >= set(NOT_QUANTITIES), "remove fields that are gone from NOT_QUANTITIES"
    assert not DETAIL_FIELDS & set(NOT_QUANTITIES), "a field is in one list only"


def test_every_member_of_livekits_union_is_known() -> None:
    """The classes in a session's metrics event are exactly the classes of these lists."""
    union = {kind_of(member) for member in typing.get_args(AgentMetrics)}
    assert union <= set(FIELDS) | set(NOT_USAGE)
    assert union == set(METRICS)


def test_every_quantity_that_is_read_is_in_the_contract() -> None:
    """A field is mapped to a quantity that exists, and two fields never to the same one."""
    for kind, reading in FIELDS.items():
        names = list(reading.quantities.values())
        assert set(names) <= set(QUANTITIES), kind
        assert len(names) == len(set(names)), kind
