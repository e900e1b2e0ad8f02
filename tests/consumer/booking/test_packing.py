"""Sessions as bytes: nothing is lost, and what another version packed is not read."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import PROJECT, session_id
from voicecosts.consumer.booking.counted import Counted
from voicecosts.consumer.booking.difference import NO_LABELS, MeterState
from voicecosts.consumer.booking.packing import _Meter, _Session, pack, unpack
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.sessions import Identity, SessionKey, SessionState
from voicecosts.consumer.pricing import Terms
from voicecosts.consumer.pricing.unpriced import UNPRICED, UnpricedUsage
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

KEY = SessionKey(PROJECT, session_id(1))
COUNT = st.integers(0, 2**53 - 1)
NAME = st.text(st.characters(codec="utf-8"), max_size=20)
MONEY = st.decimals(0, Decimal(999_999_999), places=9)
NUMBERED = [Terms(unlisted="one"), Terms(unlisted="two")]
TERMS = st.none() | st.sampled_from([*NUMBERED, Terms(unlisted="was never booked")])


def amounts(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, int]]:
    """Return some amounts by name."""
    return st.dictionaries(st.sampled_from(names), COUNT, max_size=4)


METER = st.builds(
    Meter, st.just(KEY.session_id), NAME, NAME, NAME, NAME, st.booleans(), COUNT, NAME
)
STATE = st.builds(
    MeterState,
    COUNT,
    amounts(QUANTITIES).map(lambda some: Quantities(**some)),
    MONEY,
    MONEY,
    amounts(UNPRICED).map(lambda some: UnpricedUsage(**some)),
    MONEY,
    MONEY,
    TERMS,
    NAME,
    st.builds(Counted, COUNT, COUNT, COUNT, COUNT),
)
SESSION = st.tuples(
    st.none()
    | st.tuples(NAME, st.none() | NAME, st.none() | NAME, st.none() | st.dates()).map(
        lambda fields: Identity(*KEY, *fields)
    ),
    st.dictionaries(METER, STATE, max_size=4),
    st.booleans(),
    COUNT,
    st.sets(NAME, max_size=2),
    st.dictionaries(st.tuples(NAME, METER), MONEY, max_size=2),
    st.just(NO_LABELS) | st.dictionaries(NAME, NAME, min_size=1, max_size=2),
    COUNT,
    st.booleans(),
    st.booleans(),
).map(lambda fields: SessionState(*fields))


def numbered() -> PricesUsed:
    """Return prices of which two have a number."""
    prices = PricesUsed()
    for number, terms in enumerate(NUMBERED, 1):
        text = f'{{"unlisted":"{terms.unlisted}"}}'
        prices._terms[number], prices._numbers[text.encode()] = terms, number
    return prices


def test_nothing_is_left_out() -> None:
    """A field that a state gets is packed with it."""
    of_meters = {*Meter.__struct_fields__, *MeterState.__struct_fields__} - {"session_id"}
    assert set(_Meter.__struct_fields__) == of_meters
    assert len(_Session.__struct_fields__) == len(SessionState.__struct_fields__)


@given(SESSION)
def test_a_packed_session_comes_out_as_it_went_in(session: SessionState) -> None:
    """Whatever is in it."""
    prices = numbered()
    packed = pack(session, prices)
    assert unpack(KEY, packed, prices) == session
    assert prices.take_new() == []  # to pack books nothing, so it gives no numbers


def test_what_another_version_packed_is_not_read() -> None:
    """Its session is derived from the rows."""
    prices = PricesUsed()
    packed = pack(SessionState(), prices)
    assert unpack(KEY, packed, prices) == SessionState()
    assert unpack(KEY, bytes([packed[0] + 1]) + packed[1:], prices) is None


@given(SESSION, st.data())
def test_what_is_spoiled_is_not_read(session: SessionState, data: st.DataObject) -> None:
    """Its session is derived from the rows too."""
    prices = numbered()
    packed = pack(session, prices)
    upto = data.draw(st.integers(1, len(packed) - 1))
    assert unpack(KEY, packed[:upto], prices) in (None, session)
    assert unpack(KEY, packed[:1] + b"\xff" + packed[2:upto], prices) is None
