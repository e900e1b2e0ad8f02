"""A mistake in a price file is told with its line and what to do, and all of them at once."""

from __future__ import annotations

import re

import pytest

from tests.consumer.pricing.own.asking import mistakes
from voicecosts.consumer.pricing.own import read

MODEL = '[[cost]]\nmodel = "m"\n'
PRICED = f'{MODEL}unit = "minute"\n'

MISTAKES = {
    # keys and tables
    "unknown key": (f'{PRICED}price = "1"\ntennant = "a"', '5: the key \'tennant\' .* mean "tenant"'),
    "unknown table": ('[[prices]]\nmodel = "m"', r"1: 'prices' is not known here: .*\[\[cost\]\]"),
    "key above tables": ('model = "m"', r"1: 'model' is not known here: write it below the line .*\[\[cost\]\]"),
    "one bracket": ('[cost]\nmodel = "m"\ndiscount = "5 %"', r"1: write \[\[cost\]\] with two brackets"),
    "no table": ("cost = 3", r"1: 'cost' is not a table: write \[\[cost\]\]"),
    "markup on a cost": (f'{MODEL}markup = "5 %"', "3: the key 'markup' is not known"),
    "not TOML": ('[[cost]]\nmodel = "m\n', "2: this is not TOML: Illegal character"),
    "curly quotes": ("[[cost]]\nprice = \u201c0.5\u201d\n", "2: this is not TOML: .*Write straight quotes"),
    "not TOML at the end": ('[[cost]]\nmodel = """m\n', "3: this is not TOML: .*Correct the line"),
    "a table of many names": (f'{PRICED}[{".".join(["a"] * 17)}]', "4: a name has more than 16 parts"),
    "a key of many names": (f"{MODEL}{'a . ' * 16}a = 1", "3: a name has more than 16 parts"),
    "names in quotes": (f"""{MODEL}x = {{ {'"é".' * 16}a = 1 }}""", "3: a name has more than 16 parts"),
    "a long line": (f"{MODEL}# {'a' * 10_000}", "3: this line has more than 10,000 characters"),
    "a key twice": ('[[cost]]\nmodel = "m"\nmodel = "n"\n', "3: .*overwrite.* stands twice"),
    "a day with points": (f'{PRICED}price = "1"\nfrom = 01.01.2026\n', "5: .*as in from = 2026-01-31"),
    "a day of one digit": (f'{PRICED}price = "1"\nfrom = 2026-1-1\n', "5: .*as in from = 2026-01-31"),
    "a text without quotes": ("[[cost]]\ntenant = globex # them\n", '2: .* as in tenant = "globex"'),
    "braces over lines": (
        f'{MODEL}price = {{\n  input = "1",\n}}\n', "3: .*Write a table in braces on one line",
    ),
    # types
    "a number as money": (f"{PRICED}price = 0.0043", '4: price = 0.0043 lacks its quotes.*"0.0043"'),
    "a whole number as money": (f"{PRICED}price = 3", '4: price = 3 lacks its quotes.* write "3"'),
    "an exponent": (f"{PRICED}price = 4e-3", "4: price = 4e-3 is no amount: write it in quotes"),
    "a comma": (f'{PRICED}price = "0,0043"', '4: .*is no amount: write price = "0.0043"'),
    "a sign": (f'{PRICED}price = "$0.0043"', '4: .*is no amount: write price = "0.0043"'),
    "euros": (f'{PRICED}price = "1.50 €"', '4: .*write price = "1.50" .currency = "EUR"'),
    "a code": (f'{PRICED}price = "108 USD"', '4: .*write price = "108" .the currency has a key'),
    "no zero": (f'{PRICED}price = ".5"', '4: .*write price = "0.5"'),
    "1,234": (f'{PRICED}price = "1,234"', "4: .*write digits with a point and nothing else"),
    "a small code": (f'{PRICED}price = "1"\ncurrency = "usd"', '5: .*write currency = "USD"'),
    "sst": (f'{PRICED}price = "1"\nmodality = "sst"', '5: modality = .sst.: did you mean "stt"'),
    "lmm": (f'{MODEL}discount = "1 %"\nmodality = "lmm"', '4: .*did you mean "llm"'),
    "realtme": (f'{MODEL}discount = "1 %"\nmodality = "realtme"', '4: .*did you mean "realtime"'),
    "2062": (f'{PRICED}price = "1"\nfrom = 2062-01-01', "5: from = 2062-01-01 is in the year 2062: cor"),
    "to 2062": (f'{PRICED}price = "1"\nto = 2062-01-01', "5: to = .*leave it out where there is no end"),
    "0026": (f'{PRICED}price = "1"\nfrom = 0026-01-01', "5: from = 0026-01-01 is in the year 26"),
    "15 as text": (f'{MODEL}discount = "15"', '3: .*lacks its sign: write it as in discount = "15 %"'),
    "a share as text": (f'{MODEL}discount = "0.15"', '3: .*write discount = "15 %", or "0.15 %" if'),
    "until": (f'{PRICED}price = "1"\nuntil = 2026-02-01', "5: .*'until' is not known.*did you mean \"to\""),
    "per": (f'{PRICED}price = "1"\nper = "minute"', "5: 'per' is not known.*did you mean \"unit\""),
    "round_up": (f'{PRICED}price = "1"\nround_up = "60"', '5: .*did you mean "increment"'),
    "maximum": (f'{PRICED}price = "1"\nmaximum = "5"', "5: .*no upper bound: leave it out"),
    "session": (f'{MODEL}unit = "session"\nprice = "1"', '3: .*no unit: did you mean "call"'),
    "1k characters": (f'{MODEL}unit = "1k characters"\nprice = "1"', '3: .*there is "thousand characters"'),
    "infinity": (f"{PRICED}price = inf", "4: price = inf is no amount"),
    "a list as money": (f"{PRICED}price = ['1']", "4: price is not an amount: write it in quotes"),
    "true as money": (f"{PRICED}price = true", "4: price is not an amount"),
    "a number as a name": ("[[cost]]\nmodel = 3.5\ndiscount = '5 %'", "2: model is not a text"),
    "a date in quotes": (f'{PRICED}price = "1"\nfrom = "2026-01-01"', "5: .*without quotes, as in from = 2026-01-01"),
    "a day that there is not": (f'{PRICED}price = "1"\nfrom = "2026-13-01"', "5: .*without quotes, as in from = 2026-01-31"),
    "the same without quotes": (f'{PRICED}price = "1"\nfrom = 2026-13-01', "5: .*a day that there is, without quotes"),
    "a time of day": (f'{PRICED}price = "1"\nto = 2026-01-01T00:00:00', "5: to is not a day"),
    "a percentage as number": (f"{MODEL}discount = 15", "3: discount is not a percentage in quotes"),
    "an increment as number": (f'{PRICED}price = "1"\nincrement = 60', '5: increment .* "10 s"'),
    "a label as text": (f'{PRICED}price = "1"\nlabel = "winter"', "5: label is no table of labels"),
    "a label as number": (f'{PRICED}price = "1"\nlabel = {{ a = 1 }}', "5: label.a is not a text"),
    # amounts
    "negative": (f'{PRICED}price = "-1"', "4: price = '-1' is negative"),
    "absurd": (f'{PRICED}price = "1000000"', "4: price = '1000000' is out of range.*Check the unit"),
    "too many digits": (f'{PRICED}price = "0.0000000000001"', "4: price = .* is out of range"),
    "a foreign digit": (f'{PRICED}price = "٣"', "4: price = '٣' is no amount"),
    "a discount above all": (f'{MODEL}discount = "101 %"', "3: discount = '101 %' is more than"),
    "a negative discount": (f'{MODEL}discount = "-5 %"', "3: discount = '-5 %' is no percentage"),
    "a minimum of nothing": (f'{PRICED}price = "1"\nminimum = "0 s"', "5: minimum = '0 s' is not"),
    "a minimum of days": (f'{PRICED}price = "1"\nminimum = "25 h"', "5: minimum = '25 h' is not"),
    "a minimum without unit": (f'{PRICED}price = "1"\nminimum = "10"', "5: minimum = '10' is no"),
    "a minimum of tokens": (
        f'{PRICED}price = "1"\nminimum = "10 tokens"',
        "5: minimum = '10 tokens' does not fit a price for one minute",
    ),
    "a minimum of no tokens": (
        f'{MODEL}unit = "million tokens"\nprice = "1"\nminimum = "0 tokens"', "5: .* is zero",
    ),
    "a minimum of several": (
        f'{MODEL}unit = "million tokens"\nprice = {{ input = "1" }}\nminimum = "9 tokens"',
        "5: minimum needs one price",
    ),
    "a minimum per call": (
        '[[cost]]\nprovider = "p"\nunit = "call"\nprice = "1"\nminimum = "9 calls"',
        '5: minimum does not go with unit = "call"',
    ),
    # units
    "unknown unit": (f'{MODEL}unit = "minutes"\nprice = "1"', '3: .* no unit: did you mean "minute"'),
    "a strange unit": (f'{MODEL}unit = "xyz"\nprice = "1"', "3: unit = 'xyz' .* there is \"second\""),
    "thousands of tokens": (
        f'{MODEL}unit = "thousand tokens"\nprice = "1"', '3: .* times 1000.* unit = "million tokens"',
    ),
    "minutes by one letter": (f'{PRICED}price = "1"\nincrement = "1m"', '5: .* "1 min"'),
    "a short part": (
        f'{MODEL}unit = "million tokens"\nprice = {{ in = "1" }}', "4: .*part 'in'.* mean \"input\"",
    ),
    "a table of several": ('[[costs]]\nmodel = "m"\ndiscount = "5 %"', r"1: 'costs' .* did you mean \[\[cost\]\]"),
    "no unit": (f'{MODEL}price = "1"', r"1: \[\[cost\]\] needs a unit, one of"),
    "characters of a transcription": (
        '[[cost]]\nmodality = "stt"\nunit = "thousand characters"\nprice = "1"',
        '3: a price for one thousand characters cannot be for stt.*"minute"',
    ),
    "minutes of a language model": (
        '[[cost]]\nmodality = "llm"\nunit = "minute"\nprice = "1"', "3: .* cannot be for llm",
    ),
    "calls of an avatar": (
        '[[cost]]\nmodality = "avatar"\nunit = "call"\nprice = "1"', "3: avatar is a modality of your own, of which no call .*telephony",
    ),
    "prices of an hour": (
        f'{MODEL}unit = "hour"\nprice = {{ input = "1" }}',
        '4: several prices go with unit = "million tokens"',
    ),
    "an unknown part": (
        f'{MODEL}unit = "million tokens"\nprice = {{ inptu = "1" }}', '4: .*part \'inptu\'.*"input"',
    ),
    "no parts": (f'{MODEL}unit = "million tokens"\nprice = {{}}', "4: price is empty"),
    "speech without audio": (
        '[[cost]]\nmodality = "stt"\nunit = "million tokens"\nprice = { input = "1" }',
        "4: the tokens of stt are audio: add audio_input",
    ),
    # what excludes what
    "two amounts": (
        f'{PRICED}price = "1"\ndiscount = "5 %"', "5: price and discount exclude each other",
    ),
    "no amount": (MODEL, r"1: \[\[cost\]\] has no amount: write price"),
    "a unit of a discount": (f'{PRICED}discount = "5 %"', "3: unit goes with a price, not"),
    "a currency of a discount": (
        f'{MODEL}discount = "5 %"\ncurrency = "EUR"', "4: a discount has no currency",
    ),
    "of without a share": (
        '[[billed]]\nmodel = "m"\nunit = "request"\nprice = "1"\nof = "cost"', "5: of goes with",
    ),
    "of what": ('[[billed]]\nmarkup = "5 %"\nof = "mine"', '3: of says .* of = "cost"'),
    "an end before the beginning": (
        f'{PRICED}price = "1"\nfrom = 2026-02-01\nto = 2026-01-01', "6: to = 2026-01-01 is not after",
    ),
    # what can never match
    "an empty pattern": ('[[cost]]\nmodel = ""\ndiscount = "5 %"', "2: model = '' can never match"),
    "blanks": ('[[cost]]\nmodel = " m"\ndiscount = "5 %"', "2: model = ' m' can never match"),
    "too long": (f'[[cost]]\nmodel = "{"m" * 129}"\ndiscount = "5 %"', "2: .* 1 to 128 characters"),
    "a brand": ('[[cost]]\nprovider = "Azure OpenAI"\ndiscount = "5 %"', "2: .*`costs query --by"),
    "a pattern of providers": ('[[cost]]\nprovider = "aws.*"\ndiscount = "5 %"', "2: provider = "),
    "the standard tier": (
        '[[cost]]\nmodel = "m"\nservice_tier = "default"\ndiscount = "5 %"',
        "3: service_tier = 'default' can never match: the standard tier has no name",
    ),
    "a control character": (
        '[[cost]]\nmodel = "m\\u001b[31m"\ndiscount = "5 %"',
        r"2: model holds a control character, as 'm\\x1b\[31m'",
    ),
    "a character that reverses text": (
        '[[cost]]\nsource = "a\\u202eb"\nmodel = "m"\ndiscount = "5 %"', r"2: source holds .*\\u202e",
    ),
    "a label without a name": (
        f'{PRICED}price = "1"\nlabel = {{ "" = "a" }}', "5: the label '' can never match",
    ),
    # to more than anyone can mean
    "for everything": ('[[cost]]\nunit = "minute"\nprice = "1"', "1: this price is for everything"),
    "a call of one provider": (
        '[[billed]]\nprovider = "p"\nunit = "minute"\nprice = "1"',
        '3: a price for one minute bills the whole call.*modality = "stt"',
    ),
    "a tier of the call": (
        '[[billed]]\nservice_tier = "priority"\nunit = "minute"\nprice = "1"', "2: a price for the call",
    ),
    # exchange rates
    "no rate": ('[[exchange]]\ncurrency = "EUR"', r"1: \[\[exchange\]\] needs usd"),
    "a rate of a dollar": ('[[exchange]]\ncurrency = "USD"\nusd = "1"', "2: the ledger is in USD"),
    "a rate of zero": ('[[exchange]]\ncurrency = "EUR"\nusd = "0.0"', "3: usd is zero"),
    "an absurd rate": ('[[exchange]]\ncurrency = "EUR"\nusd = "1085"', "3: usd = '1085' is out of"),
    "a rate as number": ('[[exchange]]\ncurrency = "EUR"\nusd = 1.085', "3: usd = 1.085 lacks"),
    "no currency": ('[[exchange]]\ncurrency = "euro"\nusd = "1"', "2: currency = 'euro' is no"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_line_and_its_cure(text: str, told: str) -> None:
    """Each is one sentence, which begins with the line and says what to write."""
    (problem,) = mistakes(text)
    line, _, sentence = told.partition(": ")
    assert problem.startswith(f"{line}: ")
    assert re.search(sentence, problem), problem


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    """One run is enough to correct a file."""
    told = mistakes(
        '[[cost]]\nprovider = "Azure AI"\nprice = { input = 1.5, outptu = "2" }\nfrom = "x"\n'
        'unit = "million tokens"\n\n[[billed]]\nmarkup = "x"\nof = "y"\n\n[other]\n'
    )
    assert [problem.partition(":")[0] for problem in told] == ["2", "3", "3", "4", "8", "9", "11"]


def test_a_mistake_hides_no_other_one() -> None:
    """What stands beside a wrong unit or amount is checked, and what is in a misspelled table."""
    wrong = 'unit = "minutes"\nprice = 0.12\nincrement = "60"\n'
    for table in ("[[billed]]", "[[bill]]", "[billed]", "[Billed]"):
        is_wrong = table != "[[billed]]"
        told = mistakes(f'{table}\ntenant = "acme"\n{wrong}')
        lines = [it.partition(":")[0] for it in told]
        assert lines == ["1"] * is_wrong + ["3", "4", "5"], told
        assert "increment = '60' is no whole amount with a unit" in told[-1]
    none = mistakes('[[cost]]\nmodel = "m"\nunit = "minutes"\nminimum = "1"\n')
    assert [it.partition(":")[0] for it in none] == ["1", "3", "4"]
    two = mistakes('[[cost]]\nmodel = "m"\nprice = "1"\ndiscount = "5 %"\nincrement = 60\n')
    assert [it.partition(":")[0] for it in two] == ["4", "5"]
    entry = '[[cost]]\nmodel = "m"\ndiscount = "5 %"\n'
    twice = mistakes(f'{entry}{entry}[[cost]]\nmodel = "n"\ndiscount = "x"\n')
    assert [it.partition(":")[0] for it in twice] == ["4", "9"]


def test_nothing_is_told_that_may_be_so_because_of_another_mistake() -> None:
    """The entry that cannot be read may be the one for the days between, or the exchange rate."""
    first, last = "to = 2026-02-01", "from = 2026-03-01\nto = 2026-04-01"
    entry = '[[cost]]\nmodel = "m"\ndiscount = "5 %"\n'
    between = '[[cost]]\nmodel = "m"\ndiscount = "x"\nfrom = 2026-02-01\nto = 2026-03-01\n'
    (told,) = mistakes(f"{entry}{first}\n{between}{entry}{last}\n")
    assert told.startswith("7: ")
    euro = (
        '[[cost]]\nmodel = "m"\nunit = "minute"\nmodality = "stt"\nprice = "1"\ncurrency = "EUR"\n'
    )
    (told,) = mistakes(f'{euro}[[exchange]]\ncurrency = "EUR"\nusd = 1.1\n')
    assert told.startswith("9: ")


def test_a_file_full_of_mistakes_tells_a_hundred() -> None:
    """A megabyte of something else ends in an answer, not in a flood."""
    told = mistakes("[[cost]]\nx = 1\n" * 5000)
    assert len(told) == 101
    assert "and more mistakes" in told[-1]


def test_a_long_value_is_cut_in_its_sentence() -> None:
    """Whatever stands in the file, a sentence stays a sentence."""
    (told,) = mistakes(f'[[cost]]\nmodel = "m"\nunit = "{"x" * 10_000}"\nprice = "1"')
    assert len(told) < 450


def test_what_a_careful_person_may_write_is_read() -> None:
    """Comments, other quotes, tables in long form, dotted keys, and lines that end as on Windows."""
    text = """
        # [[cost]] in a comment is none
        [[ cost ]]  # contract
        'model' = 'm'
        source = 'see # [[cost]], page 3'
        unit = "million tokens"
        [cost.price]
        input = "1"
        output = "2"

        [["cost"]]
        model = "n"
        label.campaign = "winter"
        discount = "12.5%"
    """
    book = read(text.replace("\n", "\r\n"))
    assert [(entry.line, entry.model) for entry in book.entries] == [(3, "m"), (11, "n")]
