"""Which entries apply, and why one wins: as the book finds them."""

from __future__ import annotations

import pytest

from tests.consumer.pricing.own.asking import START, found, line_of, meter, scope
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.pricing.own.choice import choices, why

BOOK = """\
[[cost]]
provider = "deepgram"
discount = "5 %"
[[cost]]
provider = "deepgram"
model = "nova-3*"
discount = "10 %"
[[cost]]
provider = "deepgram"
model = "nova-3*"
discount = "12 %"
from = 2026-06-01
[[cost]]
provider = "deepgram"
model = "nova-*"
discount = "7 %"
[[cost]]
provider = "deepgram"
tenant = "acme"
discount = "15 %"
[[cost]]
label = { campaign = "winter" }
discount = "20 %"
[[cost]]
provider = "deepgram"
model = "nova-3"
discount = "11 %"
[[cost]]
model = "nova-3"
discount = "1 %"
"""
NOVA = meter("stt", "deepgram", "nova-3")


def test_the_first_choice_is_what_the_book_finds() -> None:
    """For every scope and model, and the others come in the order in which they would go."""
    book = read(BOOK)
    for who in (scope(), scope("acme"), scope("acme", labels={"campaign": "winter"})):
        for model in ("nova-3", "nova-3-general", "nova-2", "whisper"):
            of = meter("stt", "deepgram", model)
            charge, _ = found(BOOK, of, who)
            entries = choices(book.entries, "cost", of, who, START)
            assert entries[0].line == line_of(charge)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (21, 17, "it names more labels than line 17"),
        (17, 1, "it names the tenant, and line 1 does not"),
        (24, 8, "it names the model exactly, and line 8 by a pattern"),
        (8, 13, "its pattern of the model has more letters than that of line 13"),
        (8, 4, "it is newer than line 4"),
        (4, 1, "it names the model, and line 1 does not"),
        (24, 28, "it names the provider, and line 28 does not"),
    ],
)
def test_it_is_said_why_one_goes_before_another(first: int, second: int, said: str) -> None:
    """By the rule that decides between the two."""
    by_line = {entry.line: entry for entry in read(BOOK).entries}
    who = scope("acme", labels={"campaign": "winter"})
    order = [it.line for it in choices(by_line.values(), "cost", NOVA, who, START)]
    assert order.index(first) < order.index(second)
    assert why(by_line[first], by_line[second]) == said


def test_one_alone_says_so() -> None:
    """There is nothing that it goes before."""
    assert why(read(BOOK).entries[0], None) == "it is the only one that applies"
