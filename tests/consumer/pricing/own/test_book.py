"""A book from its file to charges: what is paid, what is billed, at which exchange rate."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consumer.pricing.asking import BOOK
from tests.consumer.pricing.own.asking import START, found, line_of, meter, scope
from voicecosts.consumer.errors import InvalidPrices
from voicecosts.consumer.pricing import Terms, rate_by
from voicecosts.consumer.pricing.charge import Charge, Rate, charged
from voicecosts.consumer.pricing.own import load, read
from voicecosts.producer.events import Quantities

NOVA: Final = meter("stt", "deepgram", "nova-3")
SESSION: Final = meter("agent_session", "livekit", "agent-session")
LEG: Final = meter("telephony", "twilio", "us-local-inbound")
EUROS: Final = """
[[exchange]]
currency = "EUR"
from = 2026-01-01
usd = "1.0850"

[[exchange]]
currency = "EUR"
from = 2026-07-01
usd = "1.1"

[[cost]]
provider = "deepgram"
unit = "minute"
price = "0.0043"
currency = "EUR"
at_least = "0.01"
from = 2026-01-01
to = 2026-12-01
minimum = "10 s"
increment = "1 min"
source = "contract 4711, page 3"
"""


def test_a_charge_has_all_that_an_explanation_needs() -> None:
    """The price in the ledger's currency, what stands in the file, and where it comes from."""
    cost, _ = found(EUROS, NOVA)
    assert cost == Charge(
        entry="prices.toml line 12",
        parts=(Rate("audio_us", Decimal("0.00473"), 60_000_000),),
        minimum=10_000_000,
        increment=60_000_000,
        at_least=Decimal("0.011"),
        unit="minute",
        source="contract 4711, page 3",
        currency="EUR",
        exchange_rate=Decimal("1.1"),
        original_price="0.0043",
        valid_from=date(2026, 1, 1),
        valid_to=date(2026, 12, 1),
    )
    assert msgspec.json.decode(msgspec.json.encode(cost), type=Charge) == cost


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), None),
        (datetime(2026, 1, 1, tzinfo=UTC), "1.0850"),
        (datetime(2026, 6, 30, 23, 59, 59, 999999, tzinfo=UTC), "1.0850"),
        (datetime(2026, 7, 1, tzinfo=UTC), "1.1"),
        (datetime(2026, 7, 1, 1, tzinfo=timezone(timedelta(hours=2))), "1.0850"),
        (datetime(2026, 11, 30, 23, 59, 59), "1.1"),  # noqa: DTZ001 - without a zone it is UTC
        (datetime(2026, 12, 1, tzinfo=UTC), None),
    ],
)
def test_a_price_is_valid_on_days_in_utc_at_the_rate_of_the_day(at: datetime, rate: str) -> None:
    """The first day is in, the last one is out; the session's start decides."""
    cost, _ = found(EUROS, NOVA, at=at)
    assert (cost and str(cost.exchange_rate)) == rate


def test_a_book_gives_a_meter_the_same_charge_every_time() -> None:
    """So that the price of a row can be kept once."""
    book = read(EUROS)
    first, again = (book.find(NOVA, scope(), START)[0] for _ in range(2))
    assert first is again
    assert first == read(EUROS).find(NOVA, scope("acme"), START)[0]


def test_a_worker_that_makes_up_providers_does_not_fill_the_memory() -> None:
    """What was looked up is kept for a few thousand names."""
    book = read(EUROS)
    for number in range(3000):
        assert book.find(meter("stt", f"p{number}", "m"), scope(), START) == (None, None)
    assert len(book._concerned) <= 4096


BILLED: Final = """
[[billed]]
tenant = "acme"
markup = "20 %"

[[billed]]
tenant = "globex"
unit = "minute"
price = "0.12"
increment = "60 s"

[[billed]]
tenant = "globex"
modality = "telephony"
markup = "0 %"

[[billed]]
tenant = "initech"
modality = "stt"
unit = "minute"
price = "0.02"

[[billed]]
tenant = "hooli"
discount = "5 %"
at_least = "0.05"

[[billed]]
tenant = "umbrella"
markup = "30 %"
of = "list"

[[billed]]
tenant = "stark"
unit = "call"
price = "1.50"
"""


def billed(of: object, tenant: str) -> Charge | None:
    """Return what is billed to a tenant."""
    cost, charge = found(BILLED, of, scope(tenant))  # type: ignore[arg-type]
    assert cost is None
    return charge


def test_nobody_is_billed_without_an_entry() -> None:
    """What no entry is for has no billed amount, which is not zero."""
    assert billed(NOVA, "nobody") is None
    assert found(BILLED, NOVA) == (None, None)


@pytest.mark.parametrize(
    ("tenant", "share", "of"),
    [("acme", "1.20", "cost"), ("hooli", "0.95", "list"), ("umbrella", "1.30", "list")],
)
def test_a_markup_is_on_the_cost_and_a_discount_off_the_list(
    tenant: str, share: str, of: str
) -> None:
    """`of` says otherwise."""
    charge = billed(NOVA, tenant)
    assert charge is not None
    assert (charge.share, charge.of, charge.parts) == (Decimal(share), of, ())


def test_a_price_for_the_minute_bills_the_call_and_includes_the_rest() -> None:
    """The time of the session is billed, every other meter is included at zero."""
    totals = Quantities(session_us=61_000_000, audio_us=50_000_000, requests=1)
    whole, included = billed(SESSION, "globex"), billed(NOVA, "globex")
    assert whole is not None
    assert included is not None
    assert charged(whole, SESSION, totals, None).amount == Decimal("0.24")
    assert included.included
    assert charged(included, NOVA, totals, None).amount == 0
    assert line_of(included) == line_of(whole) == 6
    avatar = billed(meter("avatar", "tavus", "phoenix", service_tier="fast"), "globex")
    assert avatar == included


def test_what_is_named_beside_a_price_for_the_call_is_billed_beside_it() -> None:
    """The more specific entry of the same scope wins, as everywhere: here telephony at cost."""
    charge = billed(LEG, "globex")
    assert charge is not None
    assert (charge.share, charge.of, charge.included) == (Decimal(1), "cost", False)


def test_an_entry_for_everybody_adds_nothing_to_a_call_that_is_billed_whole() -> None:
    """For whom goes before what: a general mark-up does not bill what the tenant has included."""
    text = f'{BILLED}\n[[billed]]\nprovider = "deepgram"\nmarkup = "50 %"\n'
    _, charge = found(text, NOVA, scope("globex"))
    assert charge is not None
    assert charge.included


def test_a_price_for_the_call_is_billed_once() -> None:
    """Whatever its length."""
    charge = billed(SESSION, "stark")
    assert charge is not None
    for seconds in (1, 3600):
        totals = Quantities(session_us=seconds * 1_000_000, requests=1)
        assert charged(charge, SESSION, totals, None).amount == Decimal("1.5")


def test_time_of_one_modality_can_be_billed_alone() -> None:
    """With a modality, a price by the minute is for that."""
    charge = billed(NOVA, "initech")
    assert charge is not None
    assert charge.parts == (Rate("audio_us", Decimal("0.02"), 60_000_000),)
    assert billed(SESSION, "initech") is None


def test_without_a_file_there_are_no_prices_of_ones_own(tmp_path: Path) -> None:
    """Most installations have none."""
    book = load(tmp_path / "prices.toml")
    assert (book.entries, book.digest, book.find(NOVA, scope(), START)) == ((), "", (None, None))


def test_a_file_is_read_as_it_is_saved(tmp_path: Path) -> None:
    """With the mark that some editors put at its beginning, and named by its content."""
    path = tmp_path / "prices.toml"
    path.write_bytes(b"\xef\xbb\xbf" + EUROS.encode())
    book = load(path)
    assert repr(book) == "<OwnBook prices.toml: 1 entries>"
    assert line_of(book.find(NOVA, scope(), START)[0]) == 12
    assert book.digest == read(EUROS).digest != read(EUROS + "\n").digest


def mistakes(path: Path) -> list[str]:
    """Return what is wrong with a file."""
    with pytest.raises(InvalidPrices) as caught:
        load(path)
    assert caught.value.name == str(path)
    return list(caught.value.problems)


def test_a_mistake_names_the_file_and_its_line(tmp_path: Path) -> None:
    """As editors and terminals jump to it."""
    path = tmp_path / "ours.toml"
    path.write_text('[[cost]]\nmodel = "m"\nunit = "minute"\nprice = 0.1\n', encoding="utf-8")
    (told,) = mistakes(path)
    assert told.startswith(f"{path}:4: price = 0.1 lacks its quotes")


SOUND: Final = (Path(__file__).with_name("expected.toml")).read_text(encoding="utf-8")
PIECES: Final = st.sampled_from(
    ['"', "'", "[", "]", "{", "}", "=", "\n", "#", "\\", "-", "1", "0.5", "inf", "\x00", "\u202e",
     '"""', "2026-01-01", "true", "[[cost]]\n", "to = ", 'price = ""\n', "label = {}\n", "cost.a = 1\n"]
)  # fmt: skip


@settings(max_examples=60)
@given(st.integers(0, len(SOUND)), st.integers(0, 60), st.lists(PIECES, max_size=4))
def test_whatever_is_in_a_file_it_is_a_book_or_has_mistakes(
    at: int, cut: int, put: list[str]
) -> None:
    """No text ends in another error, and every mistake has a line that is there."""
    text = SOUND[:at] + "".join(put) + SOUND[at + cut :]
    problems: tuple[str, ...] = ()
    try:
        book = read(text)
    except InvalidPrices as error:
        problems = error.problems
    else:
        for of in (NOVA, SESSION, LEG):
            book.find(of, scope("globex"), START)
    for problem in problems:
        assert 1 <= int(problem.split(":")[1]) <= text.count("\n") + 1
        assert problem.isprintable()


def test_a_file_that_cannot_be_read_is_one_mistake(tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to, bytes that are no text, and a file without end."""
    path = tmp_path / "prices.toml"
    assert mistakes(tmp_path) == [f"{tmp_path} is not a file: name one with prices"]
    os.mkfifo(path)
    assert mistakes(path) == [f"{path} is not a file: name one with prices"]
    path.unlink()
    path.write_bytes(b"# a\n# \xff\n")
    assert mistakes(path) == [f"{path}:2: this is not UTF-8 text: save it as UTF-8"]
    path.write_bytes(b"#" * 1_000_001)
    assert mistakes(path) == [f"{path} is larger than 1000000 bytes: it is not a file of prices"]
    path.write_bytes((b"#" * 99 + b"\n") * 10_000)
    assert load(path).entries == ()


WINTER = """
[[cost]]
provider = "deepgram"
unit = "minute"
price = "0.02"

[[cost]]
provider = "deepgram"
unit = "minute"
price = "0.01"
label = { campaign = "winter" }
"""


def test_prices_that_a_meter_has_are_kept_and_others_are_looked_up() -> None:
    """Also when its session turns out to have labels, unless those are asked for."""
    minute = Quantities(audio_us=60_000_000)
    winter = scope("acme", labels={"campaign": "winter"})
    rate = partial(rate_by(BOOK, read(WINTER)), NOVA, minute, START, provider_raw="deepgram")
    first = rate(scope=scope("acme"))
    assert (first.cost, rate(scope=winter).cost) == (Decimal("0.02"), Decimal("0.01"))
    assert rate(scope=winter, terms=first.terms).cost == Decimal("0.02")
    assert rate(scope=winter, terms=first.terms, relabelled=True).cost == Decimal("0.01")
    assert rate(scope=winter, terms=Terms(unlisted="none")).cost == Decimal("0.01")
