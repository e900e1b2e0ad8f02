"""Meters: totals only rise, are exact to the last unit, and split where a price could differ."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.capture.meters import MAX_METERS, Meters
from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.events import (
    SIZE_TIERS,
    Meter,
    MeterReading,
    Quantities,
    SessionEnded,
    decode_event,
    encode_event,
    meter_of,
)

STARTED_AT = 1_700_000_000_000_000
MEGABYTE = 1_048_576
"""What a NATS server accepts in one message, unless it is told otherwise."""

IDENTITY = SessionIdentity(
    session_id=new_session_id(STARTED_AT),
    project="prod",
    agent_id="dental",
    tenant="acme",
    started_at=STARTED_AT,
    job_id="AJ_1",
    room_name="room",
    room_sid="RM_1",
    worker_id="AW_1",
    deployment="v42",
    fake_job=True,
    labels={"region": "eu"},
)


def used(
    modality: str = "llm",
    *,
    provider: str = "openai",
    model: str = "m-1",
    audio_s: float = 0.0,
    session_s: float = 0.0,
    at: int = STARTED_AT + 1,
    **quantities: int,
) -> Usage:
    """Return usage of a model."""
    return Usage(
        modality=modality,
        provider_raw=provider,
        model=model,
        occurred_at=at,
        quantities=quantities,
        audio_s=audio_s,
        session_s=session_s,
    )


def end(meters: Meters) -> SessionEnded:
    """Return the event that ends the session."""
    return meters.ended(ended_at=STARTED_AT + 9, status="success", reason="")


def meter(
    label: str, modality: str, provider: str, model: str, *, estimated: bool = False
) -> Meter:
    """Return a meter of the session."""
    return Meter(IDENTITY.session_id, label, modality, provider, model, estimated)


def test_the_start_says_who_the_session_belongs_to() -> None:
    """The identity travels as it was fixed when the session was attached."""
    started = Meters(IDENTITY).started()
    for field in IDENTITY.__struct_fields__:
        assert getattr(started, field) == getattr(IDENTITY, field)


def test_a_reading_says_who_used_what_and_when() -> None:
    """A reading repeats the identity, names its meter, and carries the request as detail."""
    reading = Meters(IDENTITY).add(used(input_tokens=5, at=STARTED_AT + 7), "Greeter")
    for field in ("session_id", "project", "agent_id", "tenant"):
        assert getattr(reading, field) == getattr(IDENTITY, field)
    assert meter_of(reading) == meter("Greeter", "llm", "openai", "m-1")
    assert reading.occurred_at == STARTED_AT + 7
    assert reading.totals == Quantities(input_tokens=5)
    assert decode_event(encode_event(reading)) == reading


def test_a_reading_carries_totals_and_not_increments() -> None:
    """The second reading holds what the first one held, and more."""
    meters = Meters(IDENTITY)
    meters.add(used(input_tokens=5, requests=1), "a")
    reading = meters.add(used(input_tokens=7, output_tokens=3, requests=1), "a")
    assert reading.totals == Quantities(requests=2, input_tokens=12, output_tokens=3)


def test_a_thousand_thirds_of_a_second_do_not_drift() -> None:
    """Durations are rounded once, on the total: after every report it is the exact sum's rounding."""
    meters = Meters(IDENTITY)
    for count in range(1, 1001):
        totals = meters.add(used("stt", audio_s=1 / 3, session_s=1 / 3), "a").totals
        exact = round(Fraction(1, 3) * count * 1_000_000)
        assert (totals.audio_us, totals.session_us) == (exact, exact)


@given(st.lists(st.floats(1e-6, 3600, allow_nan=False), min_size=1, max_size=50))
def test_summed_durations_are_exact_to_a_microsecond(durations: list[float]) -> None:
    """A total of seconds is never further than a microsecond from the sum of its parts."""
    meters = Meters(IDENTITY)
    before = 0
    for seconds in durations:
        total = meters.add(used("tts", audio_s=seconds), "a").totals.audio_us
        assert total >= before
        before = total
    exact = sum((Fraction(seconds) for seconds in durations), Fraction(0)) * 1_000_000
    assert abs(before - exact) <= 1


def test_numbers_rise_over_all_meters_of_a_session() -> None:
    """Readings are numbered per session, its end comes after them, and a late reading after that."""
    meters = Meters(IDENTITY)
    numbers = [meters.add(used(model=f"m-{n % 3}", requests=1), "a").number for n in range(9)]
    assert numbers == list(range(1, 10))
    assert end(meters).number == 10
    assert meters.add(used(requests=1), "a").number == 11


def test_a_reading_after_the_end_goes_on_with_the_totals() -> None:
    """Usage that is reported late adds to its meter: the ledger books the difference."""
    meters = Meters(IDENTITY)
    meters.add(used(input_tokens=5), "a")
    end(meters)
    assert meters.add(used(input_tokens=2), "a").totals == Quantities(input_tokens=7)


def test_a_hand_off_starts_meters_of_its_own() -> None:
    """What the next agent uses is counted for it alone, and the first one's count stays."""
    meters = Meters(IDENTITY)
    meters.add(used(input_tokens=5), "Greeter")
    second = meters.add(used(input_tokens=7), "Booker")
    assert second.totals == Quantities(input_tokens=7)
    assert meters.add(used(input_tokens=1), "Greeter").totals == Quantities(input_tokens=6)


@pytest.mark.parametrize(
    "other",
    [used("tts", requests=1), used(provider="groq", requests=1), used(model="m-2", requests=1)],
    ids=["modality", "provider", "model"],
)
def test_what_may_have_another_price_has_another_meter(other: Usage) -> None:
    """Modality, provider and model tell meters apart."""
    meters = Meters(IDENTITY)
    meters.add(used(requests=1), "a")
    assert meters.add(other, "a").totals == Quantities(requests=1)
    assert len(end(meters).meters) == 2


def test_two_spellings_of_a_provider_share_a_meter() -> None:
    """The ledger knows a meter by its normalised names, so a second one would run backwards."""
    meters = Meters(IDENTITY)
    meters.add(used(provider="api.openai.com", input_tokens=5), "a")
    reading = meters.add(used(provider="OpenAI", input_tokens=7), "a")
    assert (reading.provider, reading.totals.input_tokens) == ("openai", 12)
    assert reading.provider_raw == "api.openai.com"
    assert len(end(meters).meters) == 1


def test_estimated_usage_is_counted_apart() -> None:
    """What was estimated never enters the total of what was measured."""
    meters = Meters(IDENTITY)
    meters.add(used("tts", characters=10), "a")
    estimated = meters.add(used("tts", characters=4), "a", estimated=True)
    assert (estimated.estimated, estimated.totals.characters) == (True, 4)
    measured = meters.add(used("tts", characters=1), "a")
    assert (measured.estimated, measured.totals.characters) == (False, 11)


def test_names_that_a_plugin_leaves_out_or_overdoes_still_make_a_valid_reading() -> None:
    """Blank names become `unknown`, long ones are shortened: refusing would lose the usage."""
    meters = Meters(IDENTITY)
    blank = meters.add(used(provider="", model=" ", requests=1), "")
    assert meter_of(blank) == meter(UNKNOWN, "llm", UNKNOWN, UNKNOWN)
    long = meters.add(used(provider="p" * 999, model="m" * 999, requests=1), "l" * 999)
    for reading in (blank, long):
        assert decode_event(encode_event(reading)) == reading


def test_the_end_holds_every_meters_last_totals() -> None:
    """The end alone is enough to book the session, whatever reading was lost."""
    meters = Meters(IDENTITY)
    last: dict[Meter, Quantities] = {}
    for place in range(12):
        reading = meters.add(
            used(model=f"m-{place % 3}", input_tokens=place, audio_s=0.1),
            f"agent-{place % 2}",
            estimated=place % 4 == 0,
        )
        last[meter_of(reading)] = reading.totals
    ended = meters.ended(ended_at=STARTED_AT + 9, status="failed", reason="error", coalesced=3)
    assert {meter_of(ended, final): final.totals for final in ended.meters} == last
    assert (ended.readings, ended.coalesced) == (12, 3)
    assert (ended.status, ended.reason, ended.ended_at) == ("failed", "error", STARTED_AT + 9)
    assert decode_event(encode_event(ended)) == ended


def test_a_long_reason_does_not_make_the_end_invalid() -> None:
    """Status and reason are cut to what the contract carries."""
    ended = Meters(IDENTITY).ended(ended_at=0, status="s" * 999, reason="r" * 999)
    assert decode_event(encode_event(ended)) == ended


def test_endless_model_names_merge_and_lose_no_usage() -> None:
    """A model name that changes with every request grows neither the worker nor the end.

    The end stays within the contract and within one message, and its meters still add up.
    """
    meters = Meters(IDENTITY)
    requests = 3 * MAX_METERS
    for place in range(requests):
        model = f"m-{place}".ljust(128, "x")
        meters.add(
            used(model=model, requests=1, input_tokens=10_000, output_tokens=1000), "Greeter"
        )
    ended = end(meters)
    data = encode_event(ended)
    assert decode_event(data) == ended
    assert len(data) < MEGABYTE
    assert len(ended.meters) == MAX_METERS + 1
    assert sum(meter.totals.requests for meter in ended.meters) == requests
    assert ended.meters[-1].totals.requests == requests - MAX_METERS
    assert len(meters._counts._shortcuts) <= 2 * MAX_METERS


def test_merged_meters_keep_modality_and_estimates_apart() -> None:
    """Beyond the limit it is still known what was measured, and which kind of usage it was."""
    meters = Meters(IDENTITY)
    for place in range(MAX_METERS):
        meters.add(used(model=f"m-{place}", requests=1), "a")
    assert meters.add(used(model="m-0", requests=1), "a").totals.requests == 2
    for modality, estimated in (("llm", False), ("tts", False), ("tts", True)):
        for model in ("new-1", "new-2"):
            reading = meters.add(used(modality, model=model, requests=1), "a", estimated=estimated)
        assert reading.totals.requests == 2
        assert (reading.modality, reading.estimated) == (modality, estimated)
    assert len(end(meters).meters) == MAX_METERS + 3


INCREMENTS = st.dictionaries(
    st.sampled_from(["requests", "input_tokens", "output_tokens", "characters"]),
    st.integers(1, 10**9),
    max_size=3,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["Greeter", "Booker"]),
        st.sampled_from(["llm", "tts"]),
        st.sampled_from(["openai", "api.openai.com", "groq"]),
        st.sampled_from(["m-1", "m-2"]),
        st.booleans(),
        INCREMENTS,
    ),
    max_size=40,
)


@given(STEPS)
def test_the_last_reading_of_a_meter_is_the_sum_of_its_increments(
    steps: list[tuple[str, str, str, str, bool, dict[str, int]]],
) -> None:
    """Whatever is used in whatever order, no unit is lost, doubled, or booked elsewhere."""
    meters = Meters(IDENTITY)
    sums: dict[Meter, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    last: dict[Meter, MeterReading] = {}
    for label, modality, provider, model, estimated, quantities in steps:
        reading = meters.add(
            used(modality, provider=provider, model=model, **quantities), label, estimated=estimated
        )
        name = "openai" if "openai" in provider else provider
        # Several requests in one usage are taken at their mean size.
        tokens = -(-quantities.get("input_tokens", 0) // quantities.get("requests", 1))
        size = max((tier for tier in SIZE_TIERS if tier < tokens), default=0)
        counted = meter(label, modality, name, model, estimated=estimated)
        assert meter_of(reading) == replace(counted, size_tier=size if modality == "llm" else 0)
        for quantity, amount in quantities.items():
            sums[meter_of(reading)][quantity] += amount
        last[meter_of(reading)] = reading
    assert {key: reading.totals for key, reading in last.items()} == {
        key: Quantities(**sums[key]) for key in last
    }


def test_names_of_plugins_that_are_no_text_can_still_be_sent() -> None:
    """Half a surrogate pair in a label, a provider or a model is replaced."""
    usage = used(model="m\ud800", provider="p\ud800", requests=1)
    reading = Meters(IDENTITY).add(usage, "l\ud800")
    assert decode_event(encode_event(reading)) == reading


def test_the_end_of_a_session_fits_a_message_with_the_longest_names() -> None:
    """However many models a session went through, its final totals can be published."""
    meters = Meters(IDENTITY)
    totals = {name: 10**6 for name in Quantities.__struct_fields__ if not name.endswith("_us")}
    for number in range(1000):
        provider, model = f"p{number}".ljust(300, "語"), f"m{number}".ljust(128, "語")
        usage = used("realtime", provider=provider, model=model, **totals)
        usage = replace(usage, service_tier=f"t{number}".ljust(64, "語"))
        meters.add(usage, "l".ljust(128, "語"))
    assert len(encode_event(end(meters))) < 1_000_000


@pytest.mark.parametrize("modality", ["llm", "realtime"])
def test_each_request_is_counted_on_the_meter_of_its_size(modality: str) -> None:
    """A request is of the highest size that it has more input tokens than; a limit itself is below."""
    meters = Meters(IDENTITY)
    classes = []
    for size in (0, *SIZE_TIERS):
        for tokens in (size, size + 1):
            reading = meters.add(used(modality, requests=1, input_tokens=tokens), "a")
            classes.append((tokens, reading.size_tier))
    expected = [
        (tokens, max((t for t in SIZE_TIERS if t < tokens), default=0)) for tokens, _ in classes
    ]
    assert classes == expected
    finals = end(meters).meters
    assert [final.size_tier for final in finals] == [0, *SIZE_TIERS]
    assert sum(final.totals.requests for final in finals) == len(classes)
    assert sum(final.totals.input_tokens for final in finals) == sum(t for t, _ in classes)
    assert all(final.service_tier == "" for final in finals)


@pytest.mark.parametrize("modality", ["stt", "tts", "decision"])
def test_usage_that_no_vendor_charges_by_size_has_one_meter(modality: str) -> None:
    """A long transcription is not split: its price does not depend on its length."""
    meters = Meters(IDENTITY)
    meters.add(used(modality, input_tokens=10), "a")
    assert meters.add(used(modality, input_tokens=300_000), "a").size_tier == 0
    assert len(end(meters).meters) == 1


def test_an_estimated_request_has_a_size_too() -> None:
    """What is estimated is priced by the same list."""
    reading = Meters(IDENTITY).add(used(input_tokens=130_000), "a", estimated=True)
    assert (reading.estimated, reading.size_tier) == (True, 128_000)


def test_meters_that_are_merged_keep_their_sizes_apart() -> None:
    """What is merged for want of room still says how large its requests were."""
    meters = Meters(IDENTITY)
    for number in range(MAX_METERS + 5):
        meters.add(used(model=f"m-{number}", input_tokens=1), "a")
    merged = meters.add(used(model="m-new", input_tokens=40_000), "a")
    assert (merged.model, merged.size_tier) == ("(more)", 32_000)


def test_what_several_requests_used_is_counted_at_their_mean_size() -> None:
    """Forty requests that used 400,000 input tokens together are no request of 400,000."""
    assert Meters(IDENTITY).add(used(requests=40, input_tokens=400_000), "a").size_tier == 0
    assert Meters(IDENTITY).add(used(requests=2, input_tokens=400_001), "a").size_tier == 200_000


def test_the_service_tier_is_a_part_of_the_meter() -> None:
    """Requests of two service tiers are counted apart, in readings and at the end."""
    meters = Meters(IDENTITY)
    for tier in ("", "priority", ""):
        reading = meters.add(replace(used(requests=1), service_tier=tier), "a")
        assert reading.service_tier == tier
    assert [(it.service_tier, it.totals.requests) for it in end(meters).meters] == [
        ("", 2),
        ("priority", 1),
    ]


def test_what_a_provider_says_it_charged_is_a_running_total() -> None:
    """A reported cost is summed exactly and rounded to the nano-dollar once, on the total."""
    meters = Meters(IDENTITY)
    third = Decimal(1) / 3
    readings = [meters.add(replace(used(), reported_cost=third), "a") for _ in range(3)]
    assert [it.reported_cost for it in readings] == ["0.333333333", "0.666666667", "1.000000000"]
    assert meters.add(used(requests=1), "a").reported_cost == "1.000000000"
    assert [it.reported_cost for it in end(meters).meters] == ["1.000000000"]
    encoded = encode_event(readings[0])
    assert decode_event(encoded) == readings[0]


def test_service_tiers_without_end_are_merged() -> None:
    """A tier is a name that somebody typed: it cannot grow the worker either."""
    meters = Meters(IDENTITY)
    for number in range(2 * MAX_METERS):
        meters.add(replace(used(requests=1), service_tier=f"t-{number}"), "a")
    finals = end(meters).meters
    assert len(finals) == MAX_METERS + 1
    assert (finals[-1].model, finals[-1].service_tier) == ("(more)", "")
    assert sum(final.totals.requests for final in finals) == 2 * MAX_METERS
