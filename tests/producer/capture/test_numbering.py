"""A telephone number's place is what its first digits say for certain, or unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicecosts.producer.capture.numbering import (
    _AREAS,
    _BY_CODE,
    _KIND_OF,
    _NORTH_AMERICA,
    _TOLL_FREE,
    place,
)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+15105550100", "us-local"),
        ("+12125550100", "us-local"),
        ("+19075550100", "us-local"),
        ("+14165550100", "ca-local"),
        ("+16045550100", "ca-local"),
        ("+18675550100", "ca-local"),
        ("+17875550100", "pr-local"),
        ("+18765550100", "jm-local"),
        ("+18095550100", "do-local"),
        *((f"+1{code}5550100", "us-tollfree") for code in sorted(_TOLL_FREE)),
        ("+442079460958", "gb-local"),
        ("+447700900123", "gb-mobile"),
        ("+448081570000", "gb-tollfree"),
        ("+447012345678", "gb"),
        ("+448712345678", "gb"),
        ("+441481960194", "gg"),
        ("+4930123456", "de-local"),
        ("+4915112345678", "de-mobile"),
        ("+498001234567", "de-tollfree"),
        ("+499001234567", "de"),
        ("+33612345678", "fr-mobile"),
        ("+33801234567", "fr-tollfree"),
        ("+34912345678", "es-local"),
        ("+34900123456", "es-tollfree"),
        ("+390612345678", "it-local"),
        ("+393331234567", "it-mobile"),
        ("+390669812345", "va"),
        ("+31612345678", "nl-mobile"),
        ("+61412345678", "au-mobile"),
        ("+611800123456", "au-tollfree"),
        ("+61891621234", "cc"),
        ("+919812345678", "in"),
        ("+5511987654321", "br"),
        ("+79161234567", "ru"),
        ("+77012345678", "kz"),
        ("+35318001234", "ie"),
    ],
)
def test_the_first_digits_tell_the_place(number: str, expected: str) -> None:
    """The longest listed code wins; the kind is told where a country's plan is listed."""
    assert place(number) == expected


@pytest.mark.parametrize(
    "number",
    [
        "15105550100",  # no plus: it could be a national number of any country
        "5105550100",
        "0015105550100",
        "+1510555010",  # a digit is missing
        "+151055501000",
        "+10105550100",  # no such area code
        "+15101550100",  # no such exchange
        "+19005550100",  # premium
        "+15005550100",  # personal
        "+16005550100",  # Canada, of no place
        "+19995550100",  # not in service
        "+882123456789",  # an international network
        "+80012345678",  # international freephone
        "+999123456789",
        "+123",
        "+",
        "",
        "anonymous",
        "+1510555O100",
        "+" + "".join(chr(0x660 + int(digit)) for digit in "15105550100"),  # Arabic digits
        "sip:agent@example.com",
        None,
        15105550100,
        b"+15105550100",
    ],
)
def test_what_is_not_certain_is_unknown(number: object) -> None:
    """A number that is hidden, cut, or of no listed range is never given to a country."""
    assert place(number) == "unknown"


@pytest.mark.parametrize(
    "number",
    [
        " +1 (510) 555-0100 ",
        "tel:+1-510-555-0100",
        "sip:+15105550100@sip.example.com",
        "sips:+15105550100;user=phone",
        "+1.510.555.0100",
    ],
)
def test_how_a_number_is_written_does_not_matter(number: str) -> None:
    """Blanks, dashes, brackets, a scheme and a host are not part of it."""
    assert place(number) == "us-local"


def test_no_area_code_is_in_two_countries() -> None:
    """The price of a call to Canada is another than that of one to the United States."""
    listed = [area for areas in _NORTH_AMERICA.values() for area in areas.split()]
    assert len(listed) == len(set(listed)) == len(_AREAS)
    assert not _TOLL_FREE & set(listed)
    assert all(len(area) == 3 and area[0] in "23456789" for area in listed)


def test_every_country_is_named_by_its_code() -> None:
    """Codes are digits, countries are two small letters, and no code is listed twice."""
    assert all(code.isdigit() and 0 < len(code) <= 7 for code in _BY_CODE)
    assert all(len(it) == 2 and it.islower() for it in [*_BY_CODE.values(), *_NORTH_AMERICA])
    assert {"1", "0"}.isdisjoint(code[0] for code in _BY_CODE)
    assert set(_KIND_OF) <= set(_BY_CODE.values())


@given(st.text(max_size=20) | st.from_regex(r"\+[0-9]{1,18}", fullmatch=True))
def test_a_place_never_holds_a_digit(number: str) -> None:
    """Whatever a number is, what is made of it names a country and a kind, and nothing of it."""
    made = place(number)
    assert made == "unknown" or made[:2].islower()
    assert not any(character.isdigit() for character in made)
