"""`costs prices` on real ledgers: every amount explained, every gap named, every mistake told."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.events import message, reading, session_id
from tests.support.sample_ledger import ACME, write_ledger, write_status
from tests.support.some_calls import HALF, OPEN, UNPRICED, call_id, write_calls
from voicecosts import query
from voicecosts.analytics.commands.app import main
from voicecosts.analytics.commands.price_check import block
from voicecosts.analytics.commands.price_words import origin_of
from voicecosts.consumer.booking.operations import Close
from voicecosts.consumer.pricing import ListPrices, Scope, rate_by
from voicecosts.consumer.pricing.billing import WAYS
from voicecosts.consumer.pricing.charge import Charge, charged
from voicecosts.consumer.pricing.explain import rounded
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import PriceFile
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

BOOK = """\
[[exchange]]
currency = "EUR"
usd = "1.0850"

[[cost]]
provider = "openai"
discount = "15 %"
source = "contract 4711"

[[cost]]
provider = "gladia"
unit = "hour"
price = "0.55"
currency = "EUR"
minimum = "10 s"

[[billed]]
tenant = "acme"
markup = "20 %"
"""

USED: tuple[dict[str, Any], ...] = (
    {"input_tokens": 1_234_567, "cache_read_input_tokens": 1_000, "output_tokens": 321},
    {"modality": "stt", "provider": "gladia", "model": "solaria", "audio_us": 4_000_001},
    {"modality": "tts", "provider": "homebrew", "model": 'a "b"', "characters": 77},
    {"modality": "avatar", "provider": "tavus", "model": "phoenix", "session_us": 60_000_000},
    {"model": "gpt-4.1", "service_tier": "priority", "input_tokens": 77},
    {
        "modality": "tts",
        "provider": "cartesia",
        "model": "sonic-3",
        "characters": 9,
        "estimated": True,
    },
)
FIRST = session_id(1)
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def book_calls(folder: Path, text: str, *, of: int = 1) -> None:
    """Book a call with every usage at the prices of a file."""
    path = folder / "prices.toml"
    path.write_text(text)
    own = PriceFile(path)
    with Ledger.open(folder, rate_by(ListPrices(), own), own_prices=own) as ledger:
        events = [
            reading(at, of=of, tenant="acme", requests=1, **it)
            for at, it in enumerate(USED, start=1)
        ]
        ledger.apply([message(of, *events, number=of)])


@pytest.fixture(scope="module")
def booked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with two calls, booked at prices of its own. Nobody may change it."""
    folder = tmp_path_factory.mktemp("booked")
    book_calls(folder, BOOK)
    book_calls(folder, BOOK, of=2)
    return folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine counts."""
    for name in ("COSTS_PRICES", "COSTS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


class Prices:
    """`costs prices`, in this process."""

    def __init__(self, output: pytest.CaptureFixture[str]) -> None:
        self._output = output
        self.error = ""

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """Return what is printed; the exit code is asserted."""
        with pytest.raises(SystemExit) as ended:
            main(["prices", *map(str, arguments)])
        found = self._output.readouterr()
        self.error = found.err
        assert ended.value.code == code, found.err
        return found.out

    def record(self, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
        """Return what is printed as JSON."""
        found: dict[str, Any] = json.loads(self(*arguments, "--json", code=code))
        return found


@pytest.fixture
def prices(capsys: pytest.CaptureFixture[str]) -> Prices:
    """The command in this process."""
    return Prices(capsys)


def plain(amount: Decimal | None) -> str | None:
    """Return money as JSON has it."""
    return None if amount is None else f"{amount:.9f}"


class TestExplain:
    def test_the_lines_add_up_to_what_is_booked(self, prices: Prices, booked: Path) -> None:
        """In every meter and layer, to the ninth digit, and all meters to what the query says."""
        found = prices.record("explain", FIRST, "--data-dir", booked)
        assert len(found["meters"]) == len(USED)
        for it in found["meters"]:
            for name, layer in it["layers"].items():
                assert layer is None or layer["amount"] == it["booked"][name]
                if layer and layer["lines"]:
                    exact = sum(Fraction(line["amount"]) for line in layer["lines"])
                    assert plain(rounded(exact)) == it["booked"][name]
        total = query(data_dir=booked, by="session").rows[0]
        assert found["total"] == {
            "list": plain(total.list_cost),
            "cost": plain(total.cost),
            "billed": plain(total.billed),
        }

    def test_every_number_of_the_arithmetic_is_shown(self, prices: Prices, booked: Path) -> None:
        """Minimum, exchange rate, exact sum, rounding, share, origin and estimate, for people."""
        shown = prices("explain", FIRST, "--data-dir", booked)
        for line in (
            "    audio: 10 s (used 4.000001 s) x 0.596750 per hour = 0.001657638888888888888888…",
            "    exactly 0.001657638888888888888888…, rounded to nine digits",
            "    counted: at least 10 s",
            "    from prices.toml line 10: 0.55 EUR per hour; one EUR was 1.0850 USD",
            "    0.85 of 0.494040400",
            "    from prices.toml line 5: discount 15 %; source: contract 4711",
            "    1.20 of 0.419934340",
            "    cache read input tokens: 1,000 x 0.1 per million = 0.0001",
            "tts cartesia/sonic-3, of Greeter, ESTIMATED",
            "  unpriced: no price list for provider 'tavus'",
            "    not in the cost: 1 request, 60 s of connected time",
            "! not in what is billed: tavus/phoenix (avatar), or a part of it: no price list for provider 'tavus'",
        ):
            assert f"\n{line}\n" in shown

    def test_it_holds_whatever_the_prices_are_now(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """A call is explained by the prices that it was booked at, for ever."""
        folder = tmp_path / "later"
        shutil.copytree(booked, folder, symlinks=True)
        before = prices("explain", FIRST, "--data-dir", folder)
        book_calls(folder, BOOK.replace("15 %", "50 %").replace("0.55", "9"), of=3)
        assert prices("explain", FIRST, "--data-dir", folder) == before

    def test_a_call_that_was_rated_again_is_explained_by_its_new_prices(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """What `costs rerate` booked is no line besides: the new prices explain all of it."""
        folder = tmp_path / "again"
        shutil.copytree(booked, folder, symlinks=True)
        seen = prices.record("check", "--data-dir", folder)["models"]
        by_the_call = '\n[[billed]]\ntenant = "acme"\nunit = "call"\nprice = "1"\n'
        of_no_list = '\n[[billed]]\ntenant = "acme"\nprovider = "gladia"\ndiscount = "5 %"\n'
        (folder / "prices.toml").write_text(
            BOOK.replace("15 %", "50 %").replace("0.55", "9").replace('"acme"', '"globex"')
            + by_the_call
            + of_no_list
        )
        with pytest.raises(SystemExit) as ended:
            main(["rerate", "--apply", "--reason", "contract 12", "--data-dir", str(folder)])
        assert not ended.value.code
        prices("validate", "--data-dir", folder)
        found = prices.record("explain", FIRST, "--data-dir", folder)
        for it in found["meters"]:
            for name, layer in it["layers"].items():
                assert layer is None or layer["amount"] == it["booked"][name]
                assert layer is None or Decimal(layer["besides"]) == 0
        assert found["meters"][0]["layers"]["cost"]["share"] == "0.50"
        again = prices.record("check", "--data-dir", folder)["models"]
        used = ("first_used_at", "last_used_at")
        assert [[it[k] for k in used] for it in again] == [[it[k] for k in used] for it in seen]
        why = "no list price for model 'solaria' of provider 'gladia'"
        said = found["warnings"]
        assert said[0] == f"not in what is billed: gladia/solaria (stt), or a part of it: {why}"
        assert said[1].startswith(
            "not in what is billed: a price for the whole call is charged with"
        )
        assert f"  not billed: {why}\n" in prices("explain", FIRST, "--data-dir", folder)
        assert [it["kind"] for it in found["by_operation"]] == [None, "rerate"]
        for name, total in found["total"].items():
            assert sum(Decimal(it[name] or 0) for it in found["by_operation"]) == Decimal(
                total or 0
            )
        assert found["total"]["billed"] is None  # no connected time was counted
        assert "of it, by operation 1 (rerate)\n  list " in prices(
            "explain", FIRST, "--data-dir", folder
        )

    def test_a_model_that_is_misspelled_is_answered_with_near_names(
        self, prices: Prices, booked: Path
    ) -> None:
        """What nobody reports has a price as well, or none, and is not taken for what was meant."""
        shown = prices("show", "gladia/solarium", "--data-dir", booked)
        assert "this ledger has not seen gladia/solarium; near names are gladia/solaria" in shown
        unlike = prices("show", "deepgram/aura", "--data-dir", booked)
        assert "llm (this ledger has not seen it: --modality shows it as something else)" in unlike
        assert "near names" not in unlike
        assert "near names" not in prices("show", "Gladia/solaria", "--data-dir", booked)

    def test_a_call_that_was_voided_says_so(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """Its zeros are not taken for a call that cost nothing."""
        folder = tmp_path / "voided"
        shutil.copytree(booked, folder, symlinks=True)
        with pytest.raises(SystemExit) as ended:
            main(["void", FIRST, "--reason", "fraud", "--data-dir", str(folder)])
        assert not ended.value.code
        prices("validate", "--data-dir", folder)
        found = prices.record("explain", FIRST, "--data-dir", folder)
        assert Decimal(found["total"]["cost"]) == 0
        [warning] = found["warnings"]
        assert warning == (
            "operation 1 voided this call: it is in no sum, but for a month that was closed before "
            "(`costs operations show 1`)"
        )

    def test_a_call_of_a_closed_month_is_the_sum_of_its_lines(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """What came after the month was closed is in it, and is said apart."""
        folder = tmp_path / "closed"
        shutil.copytree(booked, folder, symlinks=True)
        own = PriceFile(folder / "prices.toml")
        december = Clock(now=lambda: datetime(2026, 12, 5, tzinfo=UTC))
        with Ledger.open(
            folder, rate_by(ListPrices(), own), own_prices=own, clock=december
        ) as ledger:
            ledger.operate(Close(month=date(2026, 11, 1)), reason="ended")
            more = USED[0] | {"input_tokens": 3_234_567}
            ledger.apply([message(3, reading(7, tenant="acme", requests=2, **more), number=3)])
        found = prices.record("explain", FIRST, "--data-dir", folder)
        late = {"list": "0.800000000", "cost": "0.680000000", "billed": "0.816000000"}
        assert found["corrections"] == [{"corrects": "2026-11", "dated_in": "2026-12"} | late]
        for name in ("list", "cost", "billed"):
            lines = (Decimal(it["booked"][name] or 0) for it in found["meters"])
            assert Decimal(found["total"][name]) == sum(lines)
        report = query(data_dir=folder, by="session", where=f"session={FIRST}")
        asked = report.total
        assert Decimal(found["total"]["cost"]) == asked.cost
        assert "openai/gpt-4.1 (llm, service tier priority)" in " ".join(report.warnings)
        shown = prices("explain", FIRST, "--data-dir", folder)
        assert "of it, dated in 2026-12 because 2026-11 was closed\n  list    0.800000000" in shown
        with pytest.raises(SystemExit):
            main(["void", FIRST, "--reason", "fraud", "--data-dir", str(folder)])
        assert f"({asked.cost:f} USD) is voided" in prices("validate", "--data-dir", folder)
        gone = prices.record("explain", FIRST, "--data-dir", folder)
        assert {Decimal(it) for it in gone["total"].values()} == {0}

    def test_what_is_booked_besides_is_a_line_of_its_own(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """A correction changes no quantity, and the lines add up with it all the same."""
        path = tmp_path / "corrected.duckdb"
        shutil.copy((booked / "costs.duckdb").resolve(), path)
        columns = dict.fromkeys(QUANTITIES, "0")
        columns |= {"cost": "0.5", "operation": "1"}
        columns |= dict.fromkeys(("list_cost", "billed", "price_id"), "NULL")
        changed = ", ".join(f"{value} AS {name}" for name, value in columns.items())
        with duckdb.connect(str(path)) as ledger:
            ledger.execute(
                f"INSERT INTO bookings SELECT * REPLACE ({changed}) FROM bookings "  # noqa: S608 - ours
                "WHERE provider = 'gladia' AND session_id = ?::UUID",
                [FIRST],
            )
        [it] = [
            it
            for it in prices.record("explain", FIRST, "--data-dir", path)["meters"]
            if it["provider"] == "gladia"
        ]
        assert it["layers"]["cost"]["amount"] == "0.001657639"
        assert it["layers"]["cost"]["besides"] == "0.500000000"
        assert it["booked"]["cost"] == "0.501657639"

    def test_a_row_of_an_older_version_says_that_its_price_was_not_kept(
        self, prices: Prices, tmp_path: Path
    ) -> None:
        """Its money stands with its source, and is not explained by a guess."""
        write_status(write_ledger(tmp_path))
        shown = prices("explain", "01a1f82f", "--data-dir", tmp_path)
        assert "the price was not kept (an older version booked this)" in shown
        found = prices.record("explain", "01a1f82f", "--data-dir", tmp_path)
        assert {it["price_kept"] for it in found["meters"]} == {False}

    def test_an_id_that_is_not_one_call_is_a_question_to_correct(
        self, prices: Prices, booked: Path
    ) -> None:
        """Nobody is shown another call than was meant."""
        prices("explain", FIRST[:10], "--data-dir", booked, code=2)
        assert f"calls are meant by '{FIRST[:10]}': " in prices.error
        prices("explain", "ffff", "--data-dir", booked, code=2)
        assert "no call has an id that begins with 'ffff'" in prices.error
        prices("explain", "%", "--data-dir", booked, code=2)
        prices("explain", " ", "--data-dir", booked, code=2)
        assert "no call is named" in prices.error

    def test_a_call_is_named_as_for_its_receipt(self, prices: Prices, tmp_path: Path) -> None:
        """By its room, its job or `last` as well; of one of which only the id is known there is no cost."""
        folder = write_calls(tmp_path)
        at = ("--data-dir", folder)
        for name, call in (("lobby", OPEN), ("AJ_1", HALF), ("last", UNPRICED)):
            assert prices.record("explain", name, *at)["session"] == str(call_id(call)), name
        assert prices.record("explain", "lobby", "--project", "prod", *at)["agent"] == "dental"
        prices("explain", "front-desk", *at, code=2)
        assert "3 calls are meant by 'front-desk': " in prices.error
        unknown = write_ledger(tmp_path / "unknown", [], endless=[ACME])
        prices("explain", str(ACME), "--data-dir", unknown, code=2)
        assert f"nothing but its id is known of call {ACME}" in prices.error

    def test_csv_has_a_line_for_each_part(self, prices: Prices, booked: Path) -> None:
        """A spreadsheet gets every line, and what each layer comes to."""
        lines = prices("explain", FIRST, "--format", "csv", "--data-dir", booked).splitlines()
        assert lines[0].startswith("session,agent_label,modality,")
        assert sum(",cost,booked," in line for line in lines) == len(USED)


def test_what_a_price_for_the_call_includes_says_so() -> None:
    """Its zero stands beside no price by the minute, which it would contradict."""
    included = Charge(
        entry="prices.toml line 9", included=True, original_price="0.12", unit="minute"
    )
    said = "included in the price for the whole call, prices.toml line 9: 0.12 USD per minute"
    assert origin_of(included) == said


class TestCheck:
    def test_every_model_has_its_state(self, prices: Prices, booked: Path) -> None:
        """What priced it, or since when and why not, and how much of it was used."""
        found = {
            it["provider"]: it for it in prices.record("check", "--data-dir", booked)["models"]
        }
        assert {name: it["state"] for name, it in found.items() if name != "openai"} == {
            "tavus": "unpriced",
            "homebrew": "unpriced",
            "gladia": "priced",
            "cartesia": "priced",
        }
        assert found["gladia"]["priced_by"] == "prices.toml line 10"
        lacks = found["tavus"]
        assert lacks["calls"] == 2
        assert lacks["unpriced"] == {"requests": 2, "session_us": 120_000_000}
        assert lacks["unpriced_reason"] == "no price list for provider 'tavus'"
        assert lacks["unpriced_since"].startswith("2026-11-18T11:06:40")

    def test_the_lines_that_it_gives_price_everything(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """Copied into prices.toml, with numbers, nothing is without a price any more."""
        before = prices.record("check", "--data-dir", booked, "--strict", code=1)["models"]
        blocks = [it["entry"] for it in before if it["entry"]]
        assert len(blocks) == 3
        named = tmp_path / "prices.toml"
        named.write_text(BOOK + "\n" + "\n\n".join(blocks).replace("…", "1"))
        after = prices.record("check", "--data-dir", booked, "--prices", named)["models"]
        assert all(it["priced_now_by"] for it in after)
        assert not any(it["entry"] for it in after)
        (tmp_path / "new").mkdir()
        book_calls(tmp_path / "new", named.read_text())
        assert prices("check", "--data-dir", tmp_path / "new", "--strict").endswith(
            "all of it has a price\n"
        )

    def test_a_re_rating_is_not_advised_where_it_could_not_change_anything(
        self, prices: Prices, tmp_path: Path
    ) -> None:
        """One call reported minutes, as the price charges, and another one requests alone."""
        text = '[[cost]]\nprovider = "tavus"\nmodality = "avatar"\nunit = "minute"\nprice = "1"\n'
        rate = rate_by(ListPrices(), read(text))
        avatar: Any = {"modality": "avatar", "provider": "tavus", "model": "phoenix"}
        with Ledger.open(tmp_path, rate) as ledger:
            whole = reading(1, requests=1, session_us=60_000_000, **avatar)
            ledger.apply([message(1, whole, reading(1, of=2, requests=3, **avatar))])
        (tmp_path / "prices.toml").write_text(text)
        [found] = prices.record("check", "--data-dir", tmp_path)["models"]
        assert (found["state"], found["unpriced"]) == ("partly", {"requests": 3})
        assert (found["priced_now_by"], found["entry"]) == (None, None)
        assert "rerate" not in prices("check", "--data-dir", tmp_path)

    def test_what_was_booked_before_its_price_for_tenants_is_told_until_it_is_billed(
        self, prices: Prices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What has no price is not to be billed alone: the whole re-rating is advised, and bills the rest too."""
        used = ({"input_tokens": 1000}, {"provider": "own", "model": "talk", "input_tokens": 1000})
        with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
            for of, tenant in enumerate(("acme", "hooli"), start=1):
                events = [
                    reading(at, of=of, tenant=tenant, requests=1, **it)
                    for at, it in enumerate(used, start=1)
                ]
                ledger.apply([message(of, *events, number=of)])
        own = '[[cost]]\nprovider = "own"\nunit = "million tokens"\nprice = "1"\n'
        path = tmp_path / "prices.toml"
        path.write_text(own)
        assert prices.record("check", "--data-dir", tmp_path)["unbilled_tenants"] == []
        alone = f"`costs rerate --unpriced --data-dir {tmp_path}` shows what is booked of 2 calls"
        assert alone in prices("check", "--data-dir", tmp_path)

        path.write_text(own + '\n[[billed]]\ntenant = "acme"\nmarkup = "20 %"\n')
        found = prices.record("check", "--data-dir", tmp_path)
        assert found["unbilled_tenants"] == ["acme"]
        assert any(it.startswith("usage of acme was booked when no") for it in found["warnings"])
        assert found["tenants_without_rule"] == ["hooli"]
        assert any(
            it.startswith("usage of hooli is not billed: no [[bi") for it in found["warnings"]
        )
        shown = prices("check", "--data-dir", tmp_path)
        assert "rerate --unpriced" not in shown
        assert f"`costs rerate --data-dir {tmp_path}` shows what is booked of 2 calls" in shown

        def rerate(*options: str) -> str:
            with pytest.raises(SystemExit):
                main(["rerate", *options, "--data-dir", str(tmp_path)])
            return capsys.readouterr().out

        part = "billed in part: --unpriced leaves what has a price as it is"
        assert json.loads(rerate("--unpriced", "--format", "json"))["billed_in_part"] == 1
        assert f"! 1 call would be {part}" in rerate("--unpriced")
        assert part not in rerate()
        applied = ("--apply", "--reason", "x")
        assert f"! 1 call is {part}" in rerate("--unpriced", *applied)
        shown = prices("check", "--data-dir", tmp_path, "--strict", code=1)
        assert "usage of acme was booked when no [[billed]] price applied" in shown
        assert shown.endswith("all of it has a cost\n")
        assert part not in rerate(*applied)
        shown = prices("check", "--data-dir", tmp_path, "--strict", code=1)
        assert "usage of hooli is not billed" in shown
        free = '\n[[billed]]\ntenant = "hooli"\ndiscount = "100 %"\n'
        path.write_text(f"{path.read_text()}{free}")
        assert "usage of hooli was booked when no" in prices("check", "--data-dir", tmp_path)
        rerate(*applied)
        shown = prices("check", "--data-dir", tmp_path, "--strict")
        assert ("usage of acme" in shown, shown.endswith("all of it has a price\n")) == (
            False,
            True,
        )

    @pytest.mark.parametrize(
        "price",
        [
            'modality = "realtime"\nunit = "minute"\nprice = "1"\n',
            'model = "talk"\nmodality = "realtime"\nunit = "million tokens"\nprice = { input = "1" }\n',
        ],
    )
    def test_a_partial_price_is_completed_by_the_lines_that_it_gives(
        self, prices: Prices, tmp_path: Path, price: str
    ) -> None:
        """Written as printed, what had a price for one unit alone has one for all; no dots are left over."""
        first = f'[[cost]]\nprovider = "own"\n{price}'
        is_in_place = "talk" in price
        path = tmp_path / "prices.toml"
        path.write_text(first)
        amounts = {"input_tokens": 90, "audio_input_tokens": 40, "image_input_tokens": 20}
        amounts |= {"text_input_tokens": 30, "output_tokens": 9, "audio_output_tokens": 9}
        call = reading(1, modality="realtime", provider="own", model="talk", requests=1, **amounts)
        own = PriceFile(path)
        with Ledger.open(tmp_path, rate_by(ListPrices(), own), own_prices=own) as ledger:
            ledger.apply([message(1, call)])
        [it] = prices.record("check", "--data-dir", tmp_path)["models"]
        assert (it["state"], it["priced_now_by"]) != ("priced", None)
        assert ("# in place of the entry in line 1\n" in it["entry"]) is is_in_place
        assert f"\n{it['entry']}\n" in prices("check", "--data-dir", tmp_path)
        path.write_text(("" if is_in_place else first) + it["entry"].replace("…", "2"))
        prices("validate", "--data-dir", tmp_path)
        [it] = prices.record("check", "--data-dir", tmp_path)["models"]
        assert (it["entry"], bool(it["priced_now_by"])) == (None, True)
        with pytest.raises(SystemExit):
            main(["rerate", "--unpriced", "--reason", "x", "--apply", "--data-dir", str(tmp_path)])
        prices("check", "--strict", "--data-dir", tmp_path)

    def test_an_entry_for_nothing_that_was_seen_is_told(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """A misspelled name is no mistake in the file, and would never be noticed."""
        assert prices.record("check", "--data-dir", booked)["warnings"] == []
        named = tmp_path / "prices.toml"
        of_voices = '\n[[cost]]\nprovider = "cartesia"\nunit = "minute"\nprice = "0.1"\n'
        named.write_text(BOOK + of_voices)
        [said] = prices.record("check", "--data-dir", booked, "--prices", named)["warnings"]
        reason = 'a price per minute is for tts only with modality = "tts"'
        assert said == f"line 21 never applies: {reason}"
        sonic = ("show", "cartesia/sonic-3", "--data-dir", booked, "--prices", named)
        assert f"! line 21 does not apply: {reason}" in prices(*sonic)
        named.write_text(BOOK + '\n[[cost]]\nmodel = "solarai"\ndiscount = "5 %"\n')
        [said] = prices.record("check", "--data-dir", booked, "--prices", named)["warnings"]
        assert said == (
            "1 entry is for no provider, model or modality that this ledger has seen (line 21): is a name "
            "misspelled?"
        )

    def test_the_table_shows_what_to_write(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """`costs prices` alone is the check, and ends in entries that can be copied."""
        shown = prices("--data-dir", booked)
        changed = tmp_path / "prices.toml"
        changed.write_text('[[cost]]\nprovider = "tavus"\nunit = "minute"\nprice = "1"\n')
        now = prices("--data-dir", booked, "--prices", changed)
        assert "by prices.toml line 10" in shown
        assert "booked by prices.toml line 10; the prices of now have no price for all of it" in now
        assert 'model = "a \\"b\\""\nmodality = "tts"\nunit = "thousand characters"\n' in shown

    @pytest.mark.parametrize(
        ("modality", "used"),
        list(
            product(
                (*WAYS, "avatar"),
                (
                    {"input_tokens": 10, "output_tokens": 5, "requests": 1},
                    {"audio_us": 10, "requests": 1},
                    {"characters": 10, "requests": 1},
                    {"session_us": 10, "requests": 1},
                    {"requests": 1},
                ),
            )
        ),
    )
    def test_an_entry_fits_what_was_used(self, modality: str, used: dict[str, int]) -> None:
        """Whatever a modality used, the entry for it is one that the file accepts, and prices it."""
        text = block(modality, "p", "m", "", used).replace("…", "1")
        meter = Meter("", "", modality, "p", "m", estimated=False)
        tokens = [name for name in used if name.endswith("_tokens") and modality == "realtime"]
        split = {f"text_{name}": used[name] for name in tokens}
        charge, _ = read(text).find(meter, Scope(project="p", agent_id="a"), NOW)
        assert charge is not None
        found = charged(charge, meter, Quantities(**used, **split), None)
        assert found.amount
        assert not found.misses


class TestShow:
    def test_every_layer_and_who_won(self, prices: Prices, tmp_path: Path) -> None:
        """The entry in force is shown with the others that apply, and why it goes before them."""
        (tmp_path / "prices.toml").write_text(
            BOOK + '[[cost]]\nprovider = "openai"\nmodel = "gpt-4.1*"\ndiscount = "30 %"\n'
        )
        where = ("--data-dir", tmp_path)
        [it] = prices.record("show", "openai/gpt-4.1-mini", "--tenant", "acme", *where)["prices"]
        assert (it["modality"], it["list"]["model"]) == ("llm", "openai/gpt-4.1-mini")
        assert (it["cost"]["share"], it["billed"]["share"]) == ("0.70", "1.20")
        assert [(each["line"], each["wins"]) for each in it["entries"]] == [
            (20, True),
            (5, False),
            (17, True),
        ]
        shown = prices("show", "openai/gpt-4.1-mini", "--tenant", "acme", *where)
        assert "it wins: it names the model, and line 5 does not" in shown

    def test_capitals_do_not_matter(self, prices: Prices, booked: Path) -> None:
        """Neither for a price nor for what the ledger has seen."""
        shown = prices("show", "Gladia/Solaria", "--data-dir", booked)
        assert "\nstt\n" in shown
        assert "has not seen" not in shown

    def test_a_list_price_of_time_is_shown_per_minute(self, prices: Prices, tmp_path: Path) -> None:
        """As on a bill, whatever the list counts in."""
        shown = prices("show", "deepgram/nova-3", "--modality", "stt", "--data-dir", tmp_path)
        assert " per minute\n" in shown
        assert "thousand seconds" not in shown

    def test_nothing_is_said_where_there_is_no_price(self, prices: Prices, tmp_path: Path) -> None:
        """A model without a price says why."""
        judge = ("show", "openai/gpt-4.1-mini", "--modality", "judge", "--data-dir", tmp_path)
        shown = prices(*judge)
        assert "list    no price: no rule how modality 'judge' is billed" in shown
        assert 'modality = "judge"' in shown
        assert "cost    no price" in shown
        assert prices.record(*judge)["prices"][0]["list"] is None
        shown = prices("show", "homebrew/parrot", "--modality", "tts", "--data-dir", tmp_path)
        assert "list    no price: no price list for provider 'homebrew'" in shown
        named = tmp_path / "prices.toml"
        named.write_text('[[cost]]\nprovider = "homebrew"\ndiscount = "15 %"\n')
        shown = prices("show", "homebrew/parrot", "--modality", "tts", "--data-dir", tmp_path)
        assert "cost    no price: it is a share of the list price, and there is none" in shown
        named.write_text(
            '[[cost]]\nprovider = "homebrew"\nunit = "million characters"\nprice = "1"\n'
            '[[billed]]\nprovider = "homebrew"\ndiscount = "15 %"\n'
        )
        shown = prices("show", "homebrew/parrot", "--modality", "tts", "--data-dir", tmp_path)
        assert 'there is none; write of = "cost" into it, or a price instead of the share' in shown

    def test_a_file_with_mistakes_is_told(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """What is shown is what a ledger uses: its last good prices."""
        shutil.copytree(booked, tmp_path / "d", symlinks=True)
        (tmp_path / "d" / "prices.toml").write_text("[[cost]]\n")
        found = prices.record("show", "gladia/solaria", "--data-dir", tmp_path / "d")
        assert found["prices"][0]["cost"]["entry"] == "prices.toml line 10"
        [said] = found["warnings"]
        assert said.endswith("which `costs prices validate` names: its last good prices are used")


class TestValidate:
    def test_a_good_file_says_what_it_holds(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """The exit code is 0."""
        said = prices("validate", "--data-dir", booked)
        assert said.endswith(
            "prices.toml has no mistakes: 2 [[cost]], 1 [[billed]], 1 [[exchange]]\n"
            "one EUR is 1.0850 USD\n"
        )
        of_mine = tmp_path / "mine.toml"
        of_mine.write_text('[[cost]]\nmodality = "phone"\nunit = "minute"\nprice = "1"\n')
        assert "modality 'phone' is none of LiveKit's" in prices("validate", of_mine)

    def test_every_mistake_is_told_with_its_line(self, prices: Prices, tmp_path: Path) -> None:
        """The exit code is 1, and each mistake is a line of its own."""
        path = tmp_path / "mine.toml"
        path.write_text('[[cost]]\nprovider = "openai"\nprice = 0.5\ncolour = "red"\n')
        lines = prices("validate", path, code=1).splitlines()
        assert [line.split(":")[1] for line in lines] == sorted(
            line.split(":")[1] for line in lines
        )
        assert any(line.startswith(f"{path}:3: ") for line in lines)
        assert any(line.startswith(f"{path}:4: ") for line in lines)
        found = prices.record("validate", path, code=1)
        assert (found["ok"], len(found["problems"])) == (False, len(lines))

    def test_a_file_that_is_gone_or_empty_is_a_mistake(
        self, prices: Prices, booked: Path, tmp_path: Path
    ) -> None:
        """A ledger that has a copy of it goes on with that, and so it is not absent."""
        shutil.copytree(booked, tmp_path / "d", symlinks=True)
        (tmp_path / "d" / "prices.toml").unlink()
        said = prices("validate", "--data-dir", tmp_path / "d", code=1)
        assert "prices.toml is gone: put it back, or leave a file with the line" in said
        (tmp_path / "d" / "prices.toml").write_text("")
        said = prices("validate", "--data-dir", tmp_path / "d", code=1)
        assert "prices.toml is empty: put its prices back" in said

    def test_a_file_that_is_named_must_exist(self, prices: Prices, tmp_path: Path) -> None:
        """Without a name the file may be absent: then there are list prices alone."""
        prices("validate", tmp_path / "absent.toml", code=2)
        assert "absent.toml is not there: name a file" in prices.error
        prices("validate", tmp_path, code=2)
        assert "is no file: name a file" in prices.error
        assert "list prices alone" in prices("validate", "--data-dir", tmp_path)
