"""The contract as plain dictionaries, and strategies for everything that it allows.

The strategies are built from the structs themselves, so a new field is tested from its first day.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import msgspec.inspect as mi
from hypothesis import strategies as st
from msgspec import Struct

from voicecosts.producer.events import (
    Batch,
    MeterReading,
    MeterTotals,
    Outcome,
    ProducerReport,
    Quantities,
    RequestDetail,
    SessionEnded,
    SessionStarted,
)

STRUCTS: tuple[type[Struct], ...] = (
    Batch,
    SessionStarted,
    MeterReading,
    MeterTotals,
    SessionEnded,
    ProducerReport,
    Outcome,
    Quantities,
    RequestDetail,
)


def unpacked(data: bytes) -> Any:
    """Return the bytes as plain dictionaries, as a reader without our structs sees them."""
    return msgspec.msgpack.decode(data)


def packed(raw: Any) -> bytes:
    """Return plain dictionaries as bytes, as a producer without our structs would send them."""
    return msgspec.msgpack.encode(raw)


def values(kind: mi.Type) -> st.SearchStrategy[Any]:
    """Return a strategy for everything that the contract allows in a field of this type."""
    return STRATEGIES[type(kind)](kind)


def _texts(kind: mi.StrType) -> st.SearchStrategy[str]:
    if kind.pattern is not None:
        return st.from_regex(kind.pattern, fullmatch=True)
    letters = st.characters(exclude_categories=["Cs"])
    return st.text(letters, min_size=kind.min_length or 0, max_size=kind.max_length)


def _structs(kind: mi.StructType) -> st.SearchStrategy[Any]:
    return st.builds(kind.cls, **{field.name: values(field.type) for field in kind.fields})


STRATEGIES: dict[type[mi.Type], Callable[[Any], st.SearchStrategy[Any]]] = {
    mi.Metadata: lambda kind: values(kind.type),
    mi.StrType: _texts,
    mi.IntType: lambda kind: st.integers(kind.ge, kind.le),
    mi.BoolType: lambda _: st.booleans(),
    mi.NoneType: lambda _: st.none(),
    mi.UnionType: lambda kind: st.one_of(*map(values, kind.types)),
    mi.ListType: lambda kind: st.lists(values(kind.item_type), max_size=3),
    mi.DictType: lambda kind: st.dictionaries(
        values(kind.key_type), values(kind.value_type), max_size=3
    ),
    mi.StructType: _structs,
}
"""How each kind of field is filled; a kind that is missing here is new to the contract."""

BATCHES = values(mi.type_info(Batch))


def with_extras(raw: Any) -> Any:
    """Return `raw` with fields that today's structs do not know, in every struct of it."""
    if isinstance(raw, list):
        return [with_extras(item) for item in raw]
    if not isinstance(raw, dict):
        return raw
    known = {k: v if k == "labels" else with_extras(v) for k, v in raw.items()}
    return {"new_map": {"nested": [1, None]}, **known, "new_text": "x", "new_number": 1.5}


def without_defaults(kind: mi.Type, raw: Any) -> Any:
    """Return `raw` without every field that has a default, in every struct of it."""
    if isinstance(kind, mi.ListType):
        return [without_defaults(kind.item_type, item) for item in raw]
    if isinstance(kind, mi.UnionType):
        kind = next(one for one in kind.types if getattr(one, "tag", None) == raw["type"])
    if not isinstance(kind, mi.StructType):
        return raw
    required = {f.name: without_defaults(f.type, raw[f.name]) for f in kind.fields if f.required}
    return {"type": kind.tag, **required} if kind.tag else required
