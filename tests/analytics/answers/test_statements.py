"""A tenant's month: it adds up to what `query` says, keeps corrections apart, and tells no tenant a cost."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest
from markdown_it import MarkdownIt
from msgspec import structs

from tests.support.events import message, reading, session_id
from tests.support.monthly import MONTHS, TENANTS, Months, by_chance
from tests.support.price_books import MODEL, Figures
from voicecosts import query, statement
from voicecosts.analytics.answers.statements import Statement
from voicecosts.analytics.errors import BadFilter, BadTime, NoLedger, UnknownTenant
from voicecosts.analytics.text import statements as text
from voicecosts.consumer.booking.operations import Adjust, Close, Rerate, Revert
from voicecosts.consumer.pricing import rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.ledger import Ledger

NOW: Final = datetime(2026, 12, 28, tzinfo=UTC)
OCTOBER: Final = date(2026, 10, 5)
NOVEMBER: Final = date(2026, 11, 5)
MILLION: Final = 1_000_000
LAYERS: Final = ("billed", "cost", "list_cost")
HOSTILE: Final = "a|b](x)\n<b>*"


def after(month: str) -> date:
    """Return the first day of the next month."""
    return (date.fromisoformat(f"{month}-01") + timedelta(days=31)).replace(day=1)


def check(folder: Path) -> None:
    """Compare every statement of a ledger with `query`, whose answer about rows it does not share."""
    for tenant, month in ((tenant, month) for tenant in TENANTS for month in MONTHS):
        try:
            found = statement(tenant, month, data_dir=folder, now=NOW)
        except UnknownTenant:
            assert query(where={"tenant": tenant}, data_dir=folder, now=NOW).total.rows == 0
            continue
        days = {"since": date.fromisoformat(f"{month}-01"), "until": after(month)}
        told = query("model", where={"tenant": tenant}, **days, data_dir=folder, now=NOW)
        assert found.total == told.total
        for name in LAYERS:
            parts = [getattr(it.used, name) for it in found.lines]
            assert sum(filter(None, parts), Decimal(0)) == (getattr(told.total, name) or 0)
        for name in ("rows", "requests", "input_tokens"):
            assert sum(getattr(it.used, name) for it in found.lines) == getattr(told.total, name)
        own = query(where={"tenant": tenant, "corrects": None}, **days, data_dir=folder, now=NOW)
        assert sum(it.calls for it in found.agents) == own.total.sessions
        assert all(it.corrects is None and it.operation is None for it in found.usage)


def test_a_statement_is_what_a_query_says(tmp_path: Path) -> None:
    """For every tenant and month, whatever came late and was done to the books: total, and sum of the lines."""
    check(by_chance(tmp_path, seed=1))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_statement_is_what_a_query_says_at_length(tmp_path: Path, seed: int) -> None:
    """The same, of more ledgers."""
    check(by_chance(tmp_path, seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """October was closed; then came late usage, a credit, a provider's credit, new prices and a void."""
    books = Months(tmp_path_factory.mktemp("months"))
    books.now = datetime(2026, 10, 28, tzinfo=UTC)
    for number, agent in ((1, "dental"), (2, HOSTILE)):
        books.begin(number, OCTOBER, tenant="acme", agent=agent)
        books.use(number, MILLION)
    books.end(1, 90)
    books.now = datetime(2026, 11, 3, tzinfo=UTC)
    books.run(Close(month=date(2026, 10, 1)))
    books.use(2, MILLION // 4)
    for number in (3, 4, 5):
        books.begin(number, NOVEMBER, tenant="acme")
        books.use(number, MILLION)
    books.use(3, 7, model=1)
    books.end(3, 61)
    books.void(4)
    whose = {"project": "prod", "tenant": "acme"}
    books.run(Adjust(amount=Decimal("-0.315"), day=NOVEMBER, layer="billed", **whose))
    books.run(Adjust(amount=Decimal("-77.5"), day=NOVEMBER, layer="cost", **whose))
    wrong = books.run(Adjust(amount=Decimal(40), day=OCTOBER, layer="billed", **whose))
    assert wrong is not None
    books.run(Revert(operation=wrong))
    books.run(Rerate(), price="3")
    books.void(1)
    return books.close()


def lines(found: Statement) -> list[tuple[str, str, str | None, str | None]]:
    """Return of each line the kind, the modality, what it corrects and what it bills."""
    return [
        (
            f"{it.kind}{' undone' * it.is_undone}",
            it.modality,
            None if it.corrects is None else f"{it.corrects:%Y-%m}",
            None if it.used.billed is None else f"{it.used.billed.normalize():f}",
        )
        for it in found.lines
    ]


def test_corrections_of_a_closed_month_credits_and_charges_stand_apart(folder: Path) -> None:
    """What was done in the month itself before it was closed is in its usage: a new price, a call taken out."""
    found = statement("acme", "2026-11", data_dir=folder, now=NOW)
    assert sorted(lines(found), key=str) == sorted(
        [
            ("usage", "llm", None, "7.5"),
            ("usage", "stt", None, None),
            ("adjust", "adjustment", None, "-0.315"),
            ("adjust", "adjustment", None, None),
            ("late", "llm", "2026-10", "0.625"),
            ("adjust", "adjustment", "2026-10", "40"),
            ("adjust undone", "adjustment", "2026-10", "-40"),
            ("rerate", "llm", "2026-10", "1.25"),
            ("rerate", "llm", "2026-10", "1.5625"),
            ("void", "llm", "2026-10", "-3.75"),
        ],
        key=str,
    )
    assert found.total.billed == Decimal("6.8725")
    assert (found.rounded, found.voided, found.is_closed) == (Decimal("6.87"), 1, False)
    assert [(it.calls, it.timed, it.length_seconds) for it in found.agents] == [(2, 1, 61)]
    assert {it.source for it in found.lacks} == {
        "ledger",
        "prices",
        "sessions",
        "open_calls",
    }


GLOBEX: Final = """
[[billed]]
tenant = "globex"
unit = "minute"
price = "0.12"

[[billed]]
tenant = "acme"
modality = "llm"
markup = "20 %"
"""


def book(ledger: Ledger, number: int, tenant: str) -> None:
    """Book a call of a minute, with a model that lists a price, as a message of its own."""
    of = {"session_id": session_id(number), "tenant": tenant}
    tokens = reading(1, **of, input_tokens=MILLION, requests=1)
    time = {"modality": "agent_session", "provider": "livekit", "model": "cloud"}
    connected = reading(2, **of, **time, session_us=60 * MILLION)
    ledger.apply([message(number, tokens, connected)])


def test_a_call_that_no_price_charges_is_told_beside_those_that_are_charged(
    tmp_path: Path,
) -> None:
    """Whatever the lines add up to: a line that has an amount may hide a call that has none."""
    with Ledger.open(tmp_path, rate_by(Figures({MODEL: "2"}))) as ledger:
        book(ledger, 1, "globex")
        book(ledger, 2, "acme")
    with Ledger.open(tmp_path, rate_by(Figures({MODEL: "2"}), read(GLOBEX))) as ledger:
        book(ledger, 3, "globex")
        book(ledger, 4, "acme")
        book(ledger, 5, "hooli")

    def told(tenant: str) -> tuple[Statement, list[str]]:
        found = statement(tenant, "2026-11", data_dir=tmp_path, now=NOW)
        return found, [it.text for it in found.lacks if it.source == "no_rule"]

    globex, said = told("globex")
    assert all(it.used.billed is not None for it in globex.lines)
    assert globex.rounded == Decimal("0.12")
    assert said == ["No price applies to 1 call: it is not charged."]
    assert said[0] in text.as_markdown(globex)
    document = json.loads(text.as_json(globex))
    assert (document["calls_not_charged"], document["calls_charged_in_part"]) == (1, 0)
    assert (document["whole"], globex.whole) == (False, False)

    assert told("acme")[1] == [
        "No price applies to 1 call, and to some of the usage of 1 other call: that is not charged."
    ]
    hooli = json.loads(text.as_json(told("hooli")[0], with_cost=True))
    assert {it["margin"] for it in (*hooli["lines"], hooli["total"])} == {None}
    assert told("hooli")[1] == ["No price applies to 1 call: it is not charged."]

    with Ledger.open(tmp_path, rate_by(Figures({MODEL: "2"}), read(GLOBEX))) as ledger:
        ledger.operate(Rerate(), reason="x")
        while ledger.work():
            pass
    globex, said = told("globex")
    assert (globex.rounded, said) == (Decimal("0.24"), [])
    assert told("acme")[1] == [
        "No price applies to some of the usage of 2 calls: it is not charged."
    ]


def test_a_bill_lacks_nothing_where_only_what_the_operator_pays_does(tmp_path: Path) -> None:
    """Whose call is charged by the minute hears of no price that the operator lacks; a share of that is not known."""
    time = {"modality": "agent_session", "provider": "livekit", "model": "agent"}
    shares = GLOBEX.replace('modality = "llm"\n', "")
    with Ledger.open(tmp_path, rate_by(Figures({MODEL: "2"}), read(shares))) as ledger:
        for of, tenant in enumerate(("globex", "acme"), start=1):
            tokens = reading(1, of=of, tenant=tenant, input_tokens=MILLION, requests=1)
            connected = reading(2, of=of, tenant=tenant, **time, session_us=60 * MILLION)
            ledger.apply([message(of, tokens, connected, number=of)])

    def told(tenant: str) -> tuple[Statement, list[str]]:
        found = statement(tenant, "2026-11", data_dir=tmp_path, now=NOW)
        return found, [it.text for it in found.lacks if it.source in ("prices", "no_rule")]

    found, said = told("globex")
    assert [it.model for it in found.completeness.unpriced] == ["agent"]
    assert (found.rounded, said) == (Decimal("0.12"), [])
    assert "has no price yet" not in text.as_markdown(found)
    assert "Some of the usage has no price yet" in text.as_markdown(found, with_cost=True)
    whole = Statement(**{**structs.asdict(found), "lacks": ()})
    documents = [json.loads(text.as_json(whole, with_cost=it)) for it in (False, True)]
    assert [it["whole"] for it in documents] == [True, False]

    found, said = told("acme")
    assert said == [
        "How much some of the usage is charged is not known yet: it is not, or not all, in what is charged."
    ]
    assert found.whole is False
    [row] = [it for it in text.as_markdown(found).split("\n") if it.startswith("| dental | agent")]
    assert row.endswith("|  unknown |")


def test_what_came_late_of_a_call_that_no_price_charges_is_told_where_it_is_dated(
    tmp_path: Path,
) -> None:
    """The first rows of the call are in the closed month, whose statement tells it as well."""
    books = Months(tmp_path, billed=False)
    books.begin(1, OCTOBER, tenant="acme")
    books.use(1, MILLION)
    books.now = datetime(2026, 11, 3, tzinfo=UTC)
    books.run(Close(month=date(2026, 10, 1)), billed=False)
    books.use(1, 5)
    books.begin(2, NOVEMBER, tenant="globex")
    books.use(2, MILLION)
    books.void(2)
    books.close()
    for tenant, month, calls in (("acme", "10", 1), ("acme", "11", 1), ("globex", "11", 0)):
        found = statement(tenant, f"2026-{month}", data_dir=tmp_path, now=NOW)
        assert (found.not_charged.calls, found.not_charged.in_part) == (calls, 0)


def test_a_closed_month_says_so_and_what_is_corrected_later(folder: Path) -> None:
    """Its own lines are those of its close; a month before it is closed with it."""
    found = statement("acme", "2026-10", data_dir=folder, now=NOW)
    assert lines(found) == [("usage", "llm", None, "2.5")] * 2
    assert (found.is_over, found.closed_at) == (True, datetime(2026, 11, 3, tzinfo=UTC))
    [later] = found.later
    assert (later.month, later.billed) == (date(2026, 11, 1), Decimal("-0.3125"))
    page = text.as_markdown(found)
    assert "The month was closed on 2026-11-03: these figures stay as they are." in page
    assert "* Corrected later: -0.312500 USD, on the statement of 2026-11.\n" in page
    before = statement("acme", "2026-09", data_dir=folder, now=NOW)
    assert (before.is_closed, before.lines, before.rounded) == (True, (), None)
    assert "**Nothing was used.**" in text.as_markdown(before)


def test_a_page_is_for_the_tenant_and_has_no_cost(folder: Path) -> None:
    """Nothing of what the operator pays is in it, in any form, and all of it in the operator's own."""
    found = statement("acme", "2026-11", data_dir=folder, now=NOW)
    page = text.as_markdown(found)
    assert "| dental | llm      |     2 | 2,000,000 tokens in | 7.500000 |" in page
    assert "|  unknown |" in page  # a share of what has no price
    assert "| new price (operation 7)" in page
    assert "**Rounded to the cent: 6.87 USD**" in page
    assert "1 call was taken out of the books: " in page
    document = json.loads(text.as_json(found))
    rows = list(csv.DictReader(io.StringIO(text.as_csv(found).decode())))
    assert document["total"] == {"billed": "6.872500000", "billed_rounded": "6.87"}
    assert [it["length_seconds"] for it in document["agents"]] == [61.0]
    assert sum(Decimal(it["billed"] or 0) for it in rows) == Decimal("6.8725")
    for form in (page, text.as_json(found).decode(), text.as_csv(found).decode()):
        for word in ("77.5", "cost", "Cost", "argin", "agreed", "mail"):
            assert word not in form
    page = text.as_markdown(found, with_cost=True)
    assert "not for the tenant" in page
    assert "-77.500000" in page
    assert "Margin, without the cost of what has none yet" in page
    assert r"* Operation 3 (adjust): as it is \*agreed\* (by mail)" in page
    document = json.loads(text.as_json(found, with_cost=True))
    assert Decimal(document["total"]["margin"]) == Decimal("6.8725") - found.total.cost
    assert document["completeness"]["whole"] is False
    credit = [it for it in document["lines"] if it["cost"] == "-77.500000000"]
    assert [(it["billed"], it["margin"]) for it in credit] == [(None, "77.500000000")]
    margins = [Decimal(it["margin"]) for it in document["lines"] if it["margin"]]
    assert sum(margins) == Decimal(document["total"]["margin"])
    assert {"cost", "margin"} <= set(
        text.as_csv(found, with_cost=True).decode().split("\n")[0].split(",")
    )


def test_minutes_that_do_not_add_up_say_so(folder: Path) -> None:
    """Three times a sixth of a minute is half a minute, and each is shown as two tenths."""
    found = statement("acme", "2026-11", data_dir=folder, now=NOW)
    for lengths, is_said in (((10, 10, 10), True), ((6, 6), False), ((6, 2), True)):
        agents = tuple(
            structs.replace(found.agents[0], agent=f"a{at}", length_seconds=Decimal(it))
            for at, it in enumerate(lengths)
        )
        page = text.as_markdown(structs.replace(found, agents=agents))
        assert ("Minutes are rounded to a tenth" in page) is is_said, page


def test_no_name_acts_on_a_page(folder: Path) -> None:
    """Whatever an agent is called, its row is one row of text."""
    page = text.as_markdown(statement("acme", "2026-10", data_dir=folder, now=NOW))
    assert r"| a\|b\](x)\\n\<b\>\* |" in page


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("https://evil.example/pay?to=me", "https://evil.example/pay?to=me"),
        ("www.evil.example/pay", "www.evil.example/pay"),
        ("evil.example", "evil.example"),
        ("pay@evil.example", "pay@evil.example"),
        ("@someone", "@someone"),
        ("a|b`](http://x)\n<b>*`", r"a\x7cb\x60](http://x)\n<b>*\x60"),
        (r"\x7c|http://x", r"\\x7c\x7chttp://x"),
    ],
)
def test_no_address_on_a_page_becomes_a_link(folder: Path, name: str, shown: str) -> None:
    """It is code, in which nothing acts, whoever chose the name; one row, and one column, of a table."""
    found = statement("acme", "2026-10", data_dir=folder, now=NOW)
    [*_, last] = found.agents
    named = structs.replace(found, tenant=name, agents=(structs.replace(last, agent=name),))
    page = text.as_markdown(named)
    assert page.startswith(f"# Statement: `{shown}`, 2026-10\n")
    assert f"\n| `{shown}` | " in page
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    parts = [part for token in tokens for part in token.children or ()]
    assert [part.content for part in parts if part.type == "code_inline"] == [shown, shown]
    assert not any(part.type.startswith(("link", "html", "image")) for part in parts)


@pytest.mark.parametrize("name", ["Dr. Smith & Sons", "gpt-4.1", "dental_v2.1", "a:b", "Fin."])
def test_a_name_that_is_no_address_is_written_as_text(folder: Path, name: str) -> None:
    """Most names are."""
    found = statement("acme", "2026-10", data_dir=folder, now=NOW)
    assert "`" not in text.as_markdown(structs.replace(found, tenant=name)).split("\n")[0]


def test_a_month_that_is_not_over_is_said_to_be_so(folder: Path) -> None:
    """By the day of the reader, in UTC; a month can be named by its place as well."""
    early = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    this = statement("acme", "this-month", data_dir=folder, now=early)
    assert (this.month, this.is_over) == (date(2026, 11, 1), False)
    assert "The month is not over: these figures are those so far." in text.as_markdown(this)
    over = statement("acme", "last-month", data_dir=folder, now=early + timedelta(minutes=1))
    assert (over.month, over.is_over) == (this.month, True)
    assert over.total == statement("acme", NOVEMBER, data_dir=folder, now=NOW).total
    assert "The month is over and not closed" in text.as_markdown(over)
    ahead = statement("acme", "2026-12", data_dir=folder, now=early)
    assert "\n\nCalls that began from 2026-12-01 to" in text.as_markdown(ahead)
    assert "\nThe month has not begun.\n" in text.as_markdown(ahead)


@pytest.mark.parametrize("month", ["2026-13", "november", "2026-1", "9999-12", "", "2026-11-05"])
def test_a_month_that_is_none_is_refused(tmp_path: Path, month: str) -> None:
    """Before any ledger is opened."""
    with pytest.raises(BadTime, match="cannot be read as a month: use 2026-11, this-month or last"):
        statement("acme", month, data_dir=tmp_path, now=NOW)
    with pytest.raises(NoLedger):
        statement("acme", data_dir=tmp_path, now=NOW)


def test_a_tenant_that_nobody_knows_is_refused_with_names_like_it(folder: Path) -> None:
    """A statement of nothing, for a name that was mistyped, would be sent."""
    with pytest.raises(UnknownTenant, match="no call is of tenant 'Acne': did you mean 'acme'"):
        statement("Acne", data_dir=folder, now=NOW)
    with pytest.raises(UnknownTenant, match="no call in project 'test' is of tenant 'acme'"):
        statement("acme", project="test", data_dir=folder, now=NOW)
    with pytest.raises(UnknownTenant, match=r"no call is of tenant 'acm\*'"):
        statement("acm*", data_dir=folder, now=NOW)
    assert statement("acme", "2026-10", project="prod", data_dir=folder, now=NOW).lines
    assert statement(None, "2026-10", data_dir=folder, now=NOW).lines == ()
    with pytest.raises(BadFilter):
        statement("\udcff", data_dir=folder, now=NOW)


def test_half_a_cent_is_rounded_away_from_zero(tmp_path: Path) -> None:
    """As on an invoice, and once: of the total."""
    books = Months(tmp_path)
    for tenant, amount in (("acme", "0.125"), ("globex", "-0.125")):
        for part in (amount, "0.001", "-0.001"):
            work = Adjust(
                amount=Decimal(part), day=OCTOBER, project="prod", layer="billed", tenant=tenant
            )
            books.run(work)
    books.close()
    rounded = [
        statement(it, "2026-10", data_dir=tmp_path, now=NOW).rounded for it in ("acme", "globex")
    ]
    assert rounded == [Decimal("0.13"), Decimal("-0.13")]
