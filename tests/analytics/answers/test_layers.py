"""What list price and billed amount leave out is said: a part of a total never looks whole."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import PROJECT, message, reading, session_id
from tests.support.price_books import MODEL, Figures
from voicecosts import call, calls, connect, query, statement
from voicecosts.analytics.answers import layers
from voicecosts.analytics.snapshot import connection as snapshot
from voicecosts.analytics.text.costs import as_table
from voicecosts.consumer.booking.operations import Close, Rerate, Revert, Void
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import RequestDetail

BOOK = """
[[cost]]
provider = "own"
unit = "million tokens"
price = "1"

[[billed]]
tenant = "acme"
markup = "20 %"

[[billed]]
tenant = "globex"
unit = "minute"
price = "0.12"
"""
MILLION = 1_000_000


def book(folder: Path, *usage: dict[str, object]) -> None:
    """Book calls, one for each usage."""
    with Ledger.open(folder, rate_by(ListPrices(), read(BOOK))) as ledger:
        events = (reading(1, of=of, requests=1, **it) for of, it in enumerate(usage, start=1))
        ledger.apply([message(1, *events)])


def is_free(cost: str, folder: Path) -> str:
    """Return the note about what no rule bills, in a ledger that was named."""
    return (
        f"billed is a part: no [[billed]] price applied to what cost {cost} USD when it was rated; "
        f"`costs rerate --data-dir {folder}` shows what prices.toml bills of it now"
    )


def test_a_part_of_a_total_is_called_a_part(tmp_path: Path) -> None:
    """What has no list price, and what no rule bills, is said in what it cost."""
    own = {"provider": "own", "model": "llama", "input_tokens": 3 * MILLION}
    book(
        tmp_path,
        {"tenant": "acme", "input_tokens": MILLION},
        {"tenant": "initech", **own},
        {"tenant": "initech", "input_tokens": MILLION},
    )
    assert query(data_dir=tmp_path).notes[1:] == (
        "list is a part: it leaves out what cost 3.000000 USD and has no list price",
        is_free("3.400000", tmp_path),
    )
    assert query(data_dir=tmp_path, where="tenant=acme").notes[1:] == ()
    assert query(data_dir=tmp_path, where="tenant=initech").notes[1:] == (
        "list is a part: it leaves out what cost 3.000000 USD and has no list price",
        is_free("3.400000", tmp_path).replace("billed is a part", "nothing of this is billed"),
    )


def test_what_was_booked_before_its_price_was_written_names_the_cure(tmp_path: Path) -> None:
    """The price stands in the file now: it is said of when the call was rated, by each answer with amounts."""
    with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
        ledger.apply([message(1, reading(1, tenant="acme", input_tokens=MILLION, requests=1))])
    with Ledger.open(tmp_path, rate_by(ListPrices(), read(BOOK))) as ledger:
        of = {"tenant": "acme", "session_id": session_id(2)}
        ledger.apply([message(2, reading(1, **of, input_tokens=MILLION, requests=1))])
    said = is_free("0.400000", tmp_path)
    assert said in query(data_dir=tmp_path).notes
    assert said in statement("acme", "2026-11", data_dir=tmp_path).notes
    assert said in calls(data_dir=tmp_path).notes
    assert not [it for it in calls(data_dir=tmp_path, top=1).notes if "is a part" in it]
    with Ledger.open(tmp_path, rate_by(ListPrices(), read(BOOK))) as ledger:
        ledger.operate(Rerate(), reason="x")
        while ledger.work():
            pass
    assert not [it for it in calls(data_dir=tmp_path).notes if "is a part" in it]


def test_what_is_taken_back_is_unknown_again_and_not_zero(tmp_path: Path) -> None:
    """A re-rating that loses a rule or a price leaves NULL in every answer, as where there never was one."""
    own = {"provider": "own", "model": "llama", "input_tokens": 3 * MILLION}
    book(
        tmp_path,
        {"tenant": "acme", "input_tokens": MILLION},
        {"tenant": "acme", **own},
        {"tenant": "globex", "input_tokens": MILLION},
    )

    def told() -> dict[object, tuple[Decimal | None, Decimal | None]]:
        rows = query(by="tenant,provider", data_dir=tmp_path).rows
        return {tuple(it.group.values()): (it.cost, it.billed) for it in rows}

    def of_acme() -> list[object]:
        with connect(tmp_path) as ledger:
            return ledger.execute(
                "SELECT cost, billed FROM sessions WHERE tenant = 'acme' ORDER BY cost NULLS LAST"
            ).fetchall()

    before = told(), of_acme()
    globex = '[[billed]]\ntenant = "globex"\nmarkup = "0 %"\n'
    with Ledger.open(tmp_path, rate_by(ListPrices(), read(globex))) as ledger:
        ledger.operate(Rerate(), reason="x")
        while ledger.work():
            pass
    assert told() == {
        ("acme", "openai"): (Decimal("0.4"), None),
        ("acme", "own"): (None, None),
        ("globex", "openai"): (Decimal("0.4"), Decimal("0.4")),
    }
    assert of_acme() == [(Decimal("0.4"), None), (None, None)]
    report = query(data_dir=tmp_path, where="provider=openai")
    assert report.completeness.unbilled == ()  # no part of it: nothing bills it
    assert is_free("0.400000", tmp_path) in report.notes
    with Ledger.open(tmp_path, rate_by(ListPrices(), read(BOOK))) as ledger:
        ledger.operate(Revert(operation=1), reason="x")
        while ledger.work():
            pass
    assert (told(), of_acme()) == before


def test_a_share_of_what_has_no_price_is_unbilled_and_says_why(tmp_path: Path) -> None:
    """A rule is for it: no answer says that there is none."""
    book(tmp_path, {"tenant": "acme", "provider": "homebrew", "model": "llama", "input_tokens": 9})
    report = query("model", data_dir=tmp_path, metric="cost,billed,margin")
    table = as_table(report, now=datetime(2026, 11, 25, tzinfo=UTC))
    [row] = [line.split() for line in table.split("\n") if line.startswith("llama")]
    assert row == ["llama", "unpriced", "unbilled", "unpriced"]
    assert "not in what is billed: homebrew/llama (llm), or a part of it: " in table
    assert "rule" not in table


def test_a_call_billed_by_the_minute_needs_its_minutes(tmp_path: Path) -> None:
    """Without connected time nobody knows what it is charged; when that comes, the rest of it is included."""
    time = {"modality": "agent_session", "provider": "livekit", "model": "agent-session"}
    book(
        tmp_path,
        {"tenant": "globex", "input_tokens": MILLION},
        {"tenant": "acme", "input_tokens": MILLION},
    )
    said = (
        "not in what is billed: 1 call of globex: a price for the whole call is charged with its "
        "connected time, and none was counted; COSTS_CONNECTIONS=on has workers count it"
    )
    report = query(data_dir=tmp_path)
    assert said in report.warnings
    assert [(it.group["tenant"], it.billed) for it in report.rows] == [
        ("acme", Decimal("0.48")),
        ("globex", None),
    ]
    assert not [note for note in report.notes if "billed is a part" in note]  # it is a rule's
    assert report.completeness.unbilled == ()
    assert report.completeness.whole is False
    assert said in calls(data_dir=tmp_path).warnings
    assert said in call(session_id(1), data_dir=tmp_path).warnings
    bill = statement("globex", "2026-11", data_dir=tmp_path)
    assert bill.completeness.whole is False
    told = [it.text for it in bill.lacks if it.source in ("connected_time", "prices", "no_rule")]
    assert told == [
        "Some calls are charged as a whole, and how much is not known: they are not in what is charged."
    ]
    assert said not in query(data_dir=tmp_path, where="tenant=acme").warnings
    with Ledger.open(tmp_path, rate_by(ListPrices(), read(BOOK))) as ledger:
        late = reading(2, tenant="globex", session_us=60 * MILLION, requests=1, **time)
        ledger.apply([message(2, late, number=2)])
    report = query("provider", data_dir=tmp_path, where="tenant=globex")
    assert said not in report.warnings
    assert {str(it.group["provider"]): it.billed for it in report.rows} == {
        "openai": 0,
        "livekit": Decimal("0.12"),
    }


def test_months_that_lack_nothing_need_no_look_at_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the period is: what is before and after its whole months is little."""
    asked: list[str] = []

    def reading_of(connection: Any, path: Path, statement: str, *given: Any, **more: Any) -> Any:
        asked.append(statement)
        return snapshot.read(connection, path, statement, *given, **more)

    book(tmp_path, {"tenant": "acme", "input_tokens": MILLION})
    monkeypatch.setattr(layers, "read", reading_of)
    for since, until in ((None, None), ("2026-10-03", None), ("2026-10-03", "2026-12-09")):
        assert query(data_dir=tmp_path, since=since, until=until).total.billed == Decimal("0.48")
    assert any("monthly_usage" in statement for statement in asked)
    assert not any("EXISTS" in statement for statement in asked)


def test_time_that_another_rule_bills_does_not_charge_the_call(tmp_path: Path) -> None:
    """It was counted, so nobody is sent to have it counted; and what the call is billed is not known."""
    time = {"modality": "agent_session", "provider": "livekit", "model": "agent-session"}
    alone = '[[billed]]\nmodality = "agent_session"\nunit = "minute"\nprice = "0.01"\n'
    rate = rate_by(ListPrices(), read('[[billed]]\nunit = "minute"\nprice = "0.12"\n' + alone))
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=MILLION))])
        ledger.apply([message(2, reading(2, session_us=60 * MILLION, **time), number=2)])
    report = query("provider", data_dir=tmp_path)
    assert {str(it.group["provider"]): it.billed for it in report.rows} == {
        "openai": None,
        "livekit": Decimal("0.01"),
    }
    said = (
        "not in what is billed: 1 call of acme: a price for the whole call is charged with its connected "
        "time, and that has no amount by this price; `costs prices explain ID "
    )
    assert [warning for warning in report.warnings if warning.startswith(said)]
    assert report.completeness.whole is False
    assert not [note for note in report.notes if "billed is a part" in note]


def test_a_turn_of_a_call_that_is_charged_is_included(tmp_path: Path) -> None:
    """Billed zero as its model is, from the moment the call is charged, and unknown before."""
    time = {"modality": "agent_session", "provider": "livekit", "model": "agent-session"}
    rate = rate_by(ListPrices(), read('[[billed]]\nunit = "minute"\nprice = "0.12"\n'))

    def of_turns() -> dict[str | None, Decimal | None]:
        report = query("turn,modality", data_dir=tmp_path)
        sums = [it.billed for it in report.rows if it.billed is not None]
        assert report.total.billed == (sum(sums) if sums else None)
        asked = query("modality", where="turn!=(none)", data_dir=tmp_path)
        assert asked.rows[0].billed == next(it.billed for it in report.rows if it.group["turn"])
        return {it.group["turn"] or it.group["modality"]: it.billed for it in report.rows}

    with Ledger.open(tmp_path, rate) as ledger:
        for at, speech in enumerate(("speech_1", "speech_2"), 1):
            used = reading(
                at, input_tokens=at * MILLION, requests=at, last=RequestDetail(speech_id=speech)
            )
            ledger.apply([message(at, used, number=at)])
        ledger.publish_snapshot()
        assert of_turns() == {"speech_1": None, "speech_2": None}
        ledger.apply([message(3, reading(3, session_us=60 * MILLION, **time), number=3)])
    charged = of_turns()
    assert (charged.pop("agent_session"), charged.pop("llm")) == (Decimal("0.12"), 0)
    assert charged == {"speech_1": 0, "speech_2": 0}


def test_a_turn_is_billed_what_its_model_is_after_re_ratings(tmp_path: Path) -> None:
    """Included, taken back, and included again: by turn the total is that by model, and known where that is."""
    time = {"modality": "agent_session", "provider": "livekit", "model": "agent-session"}
    charged = rate_by(ListPrices(), read('[[billed]]\nunit = "minute"\nprice = "0.12"\n'))
    seen = []

    def compare(ledger: Ledger) -> None:
        while ledger.work():
            pass
        ledger.publish_snapshot()
        by_turn, by_model = (query(by, data_dir=tmp_path) for by in ("turn", "model"))
        assert by_turn.total.billed == by_model.total.billed
        [of_turn] = [it.billed for it in by_turn.rows if it.group["turn"]]
        [of_model] = [it.billed for it in by_model.rows if it.group["model"] == "gpt-4.1-mini"]
        assert of_turn == of_model
        seen.append(of_turn)

    with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
        used = reading(1, input_tokens=MILLION, requests=1, last=RequestDetail(speech_id="s1"))
        ledger.apply([message(1, used, reading(2, session_us=60 * MILLION, **time))])
        compare(ledger)
        for rate in (charged, rate_by(ListPrices()), charged):
            ledger._rate = rate
            ledger.operate(Rerate(), reason="x")
            compare(ledger)
        ledger.operate(Revert(operation=3), reason="x")
        compare(ledger)
    assert seen == [None, 0, None, 0, None]


def test_what_a_void_takes_back_lacks_what_the_call_lacked(tmp_path: Path) -> None:
    """Of a closed month too: a call that had a list price and was billed is in no part without them."""
    time = {"modality": "agent_session", "provider": "livekit", "model": "cloud"}
    own = '[[cost]]\nprovider = "livekit"\nunit = "minute"\nprice = "0.01"\n'
    rate = rate_by(Figures({MODEL: "2"}), read(BOOK + own))
    november, december = (
        {"session_id": session_id(of, after_ms=days * 86_400_000), "tenant": "globex"}
        for of, days in ((1, 0), (2, 20))
    )
    billed_by_nothing = {"session_id": session_id(3, after_ms=20 * 86_400_000), "tenant": "initech"}
    now = datetime(2026, 11, 25, tzinfo=UTC)
    with Ledger.open(tmp_path, rate, clock=Clock(now=lambda: now)) as ledger:
        voice = reading(3, **november, modality="tts", provider="homebrew", characters=10)
        for call_ in (november, december):
            used = reading(1, **call_, input_tokens=MILLION)
            ledger.apply([message(1, used, reading(2, **call_, **time, session_us=60 * MILLION))])
        ledger.apply([message(2, voice, reading(1, **billed_by_nothing, input_tokens=3 * MILLION))])
        now = datetime(2026, 12, 9, tzinfo=UTC)
        ledger.operate(Close(month=date(2026, 11, 1)), reason="x")
        void = Void(project=PROJECT, session_id=str(november["session_id"]))
        ledger.operate(void, reason="x")
        while ledger.work():
            pass
    unbilled = is_free("6.000000", tmp_path)
    unlisted = "list is a part: it leaves out what cost 0.010000 USD and has no list price"

    def parts(since: str | None) -> list[str]:
        notes = query("tenant", since=since, data_dir=tmp_path, now=now).notes
        return [note for note in notes if "is a part" in note]

    assert parts(None) == [unlisted, unbilled]
    # the minute of December lacks a list price, and so does that which is taken back beside it
    assert parts("2026-12") == [unbilled]


def test_a_price_that_is_taken_back_takes_its_list_price_with_it(tmp_path: Path) -> None:
    """What a re-rating corrects of a closed month lacks no layer that it takes back as well."""
    later = {"session_id": session_id(2, after_ms=20 * 86_400_000), "model": "other"}
    own = '[[cost]]\nmodel = "other"\nunit = "million tokens"\nprice = "3"\n'
    now = datetime(2026, 11, 25, tzinfo=UTC)
    rate = rate_by(Figures({MODEL: "2"}), read(own))
    with Ledger.open(tmp_path, rate, clock=Clock(now=lambda: now)) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=MILLION))])
        now = datetime(2026, 12, 9, tzinfo=UTC)
        ledger.operate(Close(month=date(2026, 11, 1)), reason="x")
        ledger.apply([message(2, reading(1, **later, input_tokens=MILLION))])
    with Ledger.open(
        tmp_path, rate_by(Figures({}), read(own)), clock=Clock(now=lambda: now)
    ) as ledger:
        ledger.operate(Rerate(), reason="x")
        while ledger.work():
            pass
    report = query("model", since="2026-12", data_dir=tmp_path, now=now)
    assert {str(it.group["model"]): (it.cost, it.list_cost) for it in report.rows} == {
        "other": (3, None),
        MODEL: (-2, -2),
    }
    said = "list is a part: it leaves out what cost 3.000000 USD and has no list price"
    assert [note for note in report.notes if "is a part" in note] == [said]
