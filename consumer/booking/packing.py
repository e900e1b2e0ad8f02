"""Sessions as bytes: a seventh of the memory that their objects take, and nothing lost.

So they are held in memory while nothing comes for them, and kept on disk once they are settled. The first
byte is their form. What has another one is not read, and the session is derived from its rows: a change of
what a session holds needs nothing but the next number.
"""

from __future__ import annotations

import zlib
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from voicecosts.consumer.booking.counted import Counted
from voicecosts.consumer.booking.difference import NO_LABELS, MeterState
from voicecosts.consumer.booking.sessions import Identity, SessionKey, SessionState
from voicecosts.consumer.pricing.unpriced import UnpricedUsage
from voicecosts.producer.events import Meter, Quantities

if TYPE_CHECKING:
    from voicecosts.consumer.booking.prices import PricesUsed

_FORM: Final = bytes([1])
"""To be raised with every change of the structs below, of what they hold, and of `_WORDS`."""

# What most sessions have in common, as it is packed, the most frequent last: deflate points back to it.
_WORDS: Final = (
    b"image_input_tokens image_output_tokens other_tokens large_requests text_cache_read_input_tokens "
    b"audio_cache_read_input_tokens reasoning_output_tokens cache_creation_input_tokens session_us "
    b"google anthropic elevenlabs assemblyai realtime connection eou vad "
    b"text_input_tokens audio_input_tokens text_output_tokens audio_output_tokens "
    b"\xa5front\xa3llm\xa6openai\xacgpt-4.1-mini\xc2\x00\xa0\x08\xde\x00\x04\xa8requests\x01"
    b"\xacinput_tokens\xcd\x05\xb7cache_read_input_tokens\xcd\x02\xadoutput_tokens\xcc\x80"
    b"\xab0.001\xa40E-9\x80\xab0.001\xa40E-9\x01\xaeapi.openai.com"
    b"\xdc\x00\x10\xa5agent\xa3stt\xa8deepgram\xa6nova-3\xc2\x00\xa0\x08\xde\x00\x02\xa8requests\x01"
    b"\xa8audio_us\xce\x01\xab0.00\xa40E-9\x80\xab0.00\xa40E-9\x02\xa8Deepgram"
    b"\xdc\x00\x10\xa5agent\xa3tts\xa8cartesia\xa7sonic-3\xc2\x00\xa0\x08\xde\x00\x03\xa8requests\x01"
    b"\xaacharacters\xcc\xa8audio_us\xce\x00\xab0.00\xa40E-9\x80\xab0.00\xa40E-9\x03\xa8Cartesia"
    b"\xc3\x14\x90\x90\x80\x00\xc3\xc2"
)


class _Meter(Struct, frozen=True, array_like=True):
    """One meter and its state; `terms` as `PricesUsed.name_of` has it."""

    agent_label: str
    modality: str
    provider: str
    model: str
    estimated: bool
    size_tier: int
    service_tier: str
    number: int
    totals: Quantities
    cost: Decimal
    reported_cost: Decimal
    unpriced: UnpricedUsage
    list_cost: Decimal
    billed: Decimal
    terms: int | str | None
    provider_raw: str
    counted: Counted

    @classmethod
    def of(cls, meter: Meter, state: MeterState, prices: PricesUsed) -> _Meter:
        return cls(
            meter.agent_label,
            meter.modality,
            meter.provider,
            meter.model,
            meter.estimated,
            meter.size_tier,
            meter.service_tier,
            state.number,
            state.totals,
            state.cost,
            state.reported_cost,
            state.unpriced,
            state.list_cost,
            state.billed,
            None if state.terms is None else prices.name_of(state.terms),
            state.provider_raw,
            state.counted,
        )

    def meter(self, session_id: str) -> Meter:
        return Meter(
            session_id,
            self.agent_label,
            self.modality,
            self.provider,
            self.model,
            self.estimated,
            self.size_tier,
            self.service_tier,
        )

    def state(self, prices: PricesUsed) -> MeterState:
        return MeterState(
            self.number,
            self.totals,
            self.cost,
            self.reported_cost,
            self.unpriced,
            self.list_cost,
            self.billed,
            None if self.terms is None else prices.named(self.terms),
            self.provider_raw,
            self.counted,
        )


class _Session(Struct, frozen=True, array_like=True):
    """A session; whose it is as agent, tenant, producer and day."""

    whose: tuple[str, str | None, str | None, date | None] | None
    meters: list[_Meter]
    started: bool
    ended: int
    noted: list[str]
    refused: list[tuple[str, Meter, Decimal]]
    labels: dict[str, str]
    voided: int
    counted: bool
    pending: bool


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Session)


def pack(session: SessionState, prices: PricesUsed) -> bytes:
    """Return a session as bytes, its prices as names that `prices` knows them by."""
    whose = session.identity
    packed = _encoder.encode(
        _Session(
            None if whose is None else (whose.agent_id, whose.tenant, whose.producer_id, whose.day),
            [_Meter.of(meter, state, prices) for meter, state in session.meters.items()],
            session.started,
            session.ended,
            sorted(session.noted),
            [(*place, cost) for place, cost in session.refused.items()],
            dict(session.labels),
            session.voided,
            session.counted,
            session.pending,
        )
    )
    work = zlib.compressobj(wbits=-15, zdict=_WORDS)
    return _FORM + work.compress(packed) + work.flush()


def is_of_this_version(packed: bytes) -> bool:
    """Return whether a session was packed as this version does."""
    return packed.startswith(_FORM)


def unpack(key: SessionKey, packed: bytes, prices: PricesUsed) -> SessionState | None:
    """Return the session that was packed, a copy of its own; `None` where another version packed it, or it is spoiled."""
    if not is_of_this_version(packed):
        return None
    work = zlib.decompressobj(wbits=-15, zdict=_WORDS)
    try:
        made = _decoder.decode(work.decompress(packed[len(_FORM) :]))
        meters = {each.meter(key.session_id): each.state(prices) for each in made.meters}
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return None
    return SessionState(
        None if made.whose is None else Identity(key.project, key.session_id, *made.whose),
        meters,
        made.started,
        made.ended,
        set(made.noted),
        {(producer, meter): cost for producer, meter, cost in made.refused},
        made.labels or NO_LABELS,
        made.voided,
        made.counted,
        made.pending,
    )
