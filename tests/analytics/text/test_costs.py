"""Tests of the table: exact money at any width, nothing hidden silently. And of JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import cycle, islice, repeat
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from tests.support.asked import NOW as ASKED_AT
from tests.support.sample_ledger import ACME, GLOBEX, NOW, Booking, day, write_ledger, write_status
from voicecosts import query
from voicecosts.analytics.answers.report import Row
from voicecosts.analytics.text.costs import (
    WIDTHS_OF,
    as_csv,
    as_json,
    as_table,
    csv_rows,
    json_rows,
    table_parts,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_table_of_the_sample(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head, rows, total, then what is missing, what is estimated, and how fresh it all is."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    report = query(now=NOW)
    assert as_table(report, now=NOW, width=80).splitlines() == [
        "tenant                     cost USD    unpriced  estimated  sessions  requests",
        "──────────────────────────────────────────────────────────────────────────────",
        "globex                  2.500000000   1 request   0.000000         1         2",
        "acme                    1.132000003               0.002000         2         5",
        "(none)                  0.400000000               0.000000         1         1",
        r"[red]sh\x1b[31my[/red]     unpriced  2 requests   unpriced         1         2",
        "──────────────────────────────────────────────────────────────────────────────",
        "total                   4.032000003  3 requests   0.002000         5        10",
        "",
        "columns that do not fit: tokens in, tokens out, characters, audio s (--format",
        "  json has them)",
        "unpriced: 3 of 10 requests (30.0 %), 70 of 3,070 tokens in (2.3 %)",
        "estimated: 0.002000 USD (under 0.1 %)",
        "as of 14:03:12Z, 2 s ago",
        "! not in these costs: 2 requests to homebrew/llama (llm), which has no price:",
        "  unknown_model; 1 request to deepgram/nova-3 (stt), which has no price:",
        "  no_unit; `costs prices check` shows what to write",
    ]


def test_legs_that_overlap_are_added_up_to_no_length(tmp_path: Path) -> None:
    """Agent and caller are connected at the same time: their sum is no time that anybody talked."""
    legs = [
        Booking(occurred_at=day(20), session_id=ACME, modality=modality, session_us=60_000_000)
        for modality in ("agent_session", "participant")
    ]
    folder = write_ledger(tmp_path, legs)
    assert "connected" not in as_table(query(data_dir=folder, now=NOW), now=NOW)
    table = as_table(query("modality", data_dir=folder, now=NOW), now=NOW).splitlines()
    at = table[0].index("connected s")
    assert [line[at:].split()[:1] for line in (table[2], table[3], table[5])] == [
        ["60.0"],
        ["60.0"],
        [],
    ]
    one = query("modality", where="modality=agent_session", data_dir=folder, now=NOW)
    assert as_table(one, now=NOW).splitlines()[4].endswith("60.0")


def test_usage_of_models_and_time_without_a_price_stand_in_one_cell(tmp_path: Path) -> None:
    """Neither is in the other: a request is no time that anybody was connected."""
    lacks = {"unpriced_reason": "no_unit"}
    folder = write_ledger(
        tmp_path,
        [
            Booking(occurred_at=day(20), session_id=ACME, **lacks),
            Booking(
                occurred_at=day(20),
                session_id=ACME,
                modality="avatar",
                requests=0,
                session_us=61_500_000,
                **lacks,
            ),
        ],
    )
    table = as_table(query(data_dir=folder, now=NOW), now=NOW)
    assert "1 request, 61.5 s connected" in table
    assert "61.5 s connected to openai/gpt-4.1-mini (avatar), which has no price" in table


@pytest.mark.parametrize("by", ["tenant", "session", "tenant,agent,agent_label,model", "day"])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_fits_its_terminal(data_dir: Path, by: str, width: int) -> None:
    """No line is wider than the terminal, and money is whole at any width."""
    text = as_table(query(by, data_dir=data_dir, now=NOW), now=NOW, width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "4.032000003" in text
    assert "as of 14:03:12Z" in text


def test_without_a_width_everything_is_shown_on_one_line_each(data_dir: Path) -> None:
    """A file or a pipe gets every column, and every sentence unbroken."""
    report = query("tenant,session,model", data_dir=data_dir, now=NOW)
    lines = as_table(report, now=NOW).splitlines()
    assert "audio s" in lines[0]
    assert lines[-1] == f"! {report.warnings[0]}"
    assert not [line for line in lines if line != line.rstrip()]


def test_a_hopelessly_narrow_terminal_loses_no_digit(data_dir: Path) -> None:
    """Names are folded, money never is, even if the line must be wider than asked for."""
    text = as_table(query("session", data_dir=data_dir, now=NOW), now=NOW, width=12)
    assert "4.032000003" in text
    folded = "".join(line[:8].strip() for line in text.splitlines()[2:8])
    assert folded == "01a1fb30-2980-7000-8000-000000000003"


def test_every_column_shows_the_digits_that_it_needs(tmp_path: Path) -> None:
    """Six digits when they are enough, as many as the smallest amount has when they are not."""
    plain = Booking(occurred_at=day(20), session_id=ACME, cost="1234.500000000")
    coarse = query(data_dir=write_ledger(tmp_path / "a", [plain]), now=NOW)
    assert "acme    1,234.500000 " in as_table(coarse, now=NOW)
    tiny = Booking(occurred_at=day(20), session_id=ACME, tenant="tiny", cost="0.000000001")
    fine = query(data_dir=write_ledger(tmp_path / "b", [plain, tiny]), now=NOW)
    assert "acme    1,234.500000000 " in as_table(fine, now=NOW)
    assert "tiny        0.000000001 " in as_table(fine, now=NOW)


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_rows_are_written_while_they_are_read(data_dir: Path, form: str) -> None:
    """The first line is there after the rows that say how wide a table is, and no row waits for the last."""
    report = query("tenant", data_dir=data_dir, now=NOW)
    read = 0

    def rows() -> Iterator[Row]:
        nonlocal read
        for row in islice(cycle(report.rows[:2]), 3 * WIDTHS_OF):
            read += 1
            yield row

    parts: Iterator[str] | Iterator[bytes] = csv_rows(report, rows())
    if form == "table":
        parts = table_parts(report, rows(), now=NOW)
    elif form == "json":
        parts = json_rows(report, rows())
    found, read_then = [], []
    for part in parts:
        found.append(part)
        read_then.append(read)
    assert read_then[0] <= WIDTHS_OF
    assert len(found) > 3 * WIDTHS_OF
    assert all(now >= at - WIDTHS_OF for at, now in enumerate(read_then[: 3 * WIDTHS_OF]))
    assert all(now <= at + WIDTHS_OF for at, now in enumerate(read_then[: 3 * WIDTHS_OF]))


def test_a_row_that_is_wider_than_the_first_ones_is_whole(data_dir: Path) -> None:
    """A name is folded, and a number makes its line longer: nothing is cut."""
    report = query("tenant", data_dir=data_dir, now=NOW)
    first, late = report.rows[0], "a tenant with a long name"
    wide = replace(first, group={"tenant": late}, cost=Decimal("1234567890.123456789"))
    lines = "".join(
        table_parts(report, [*repeat(first, WIDTHS_OF), wide], now=NOW, width=60)
    ).splitlines()
    folded = lines[2 + WIDTHS_OF : lines.index(lines[1], 2)]
    assert "1,234,567,890.123456789" in folded[0]
    assert "".join(line[: len("globex")].strip() for line in folded).replace(
        " ", ""
    ) == late.replace(" ", "")


def test_the_text_of_the_ledger_cannot_act_on_the_terminal(data_dir: Path) -> None:
    """Control characters are spelled out, mark-up is shown as it was written."""
    text = as_table(query(data_dir=data_dir, now=NOW), now=NOW)
    assert r"[red]sh\x1b[31my[/red]" in text
    assert "\x1b" not in text


def test_no_two_tenants_look_the_same(tmp_path: Path) -> None:
    """Somebody who names himself almost as another is another, in every form of the answer."""
    names = ["acme", "acme ", "ac\u200bme", "\x1b", r"\x1b", "(none)", None, "=1", "'=1"]
    rows = [Booking(occurred_at=day(21), session_id=ACME, tenant=it, cost="1") for it in names]
    report = query(data_dir=write_ledger(tmp_path, rows), now=NOW)
    table = as_table(report, now=NOW).splitlines()[2 : 2 + len(names)]
    cells = list(csv.reader(io.StringIO(as_csv(report).decode())))[1:]
    plain = {row["tenant"] for row in json.loads(as_json(report))["rows"]}
    assert plain == set(names)
    assert len({row[0] for row in cells}) == len(names)
    assert len({line.partition("1.000")[0].rstrip() for line in table}) == len(names)


def test_wide_characters_keep_the_columns_straight(tmp_path: Path) -> None:
    """A name in wide characters takes two cells each, and the money still ends in one column."""
    rows = [
        Booking(occurred_at=day(20), session_id=ACME, tenant=it, cost="1.000000000")
        for it in ("日本電話", "acme")
    ]
    report = query(data_dir=write_ledger(tmp_path, rows), now=NOW)
    lines = as_table(report, now=NOW).splitlines()
    ends = {cell_len(line[: line.index("1.000000") + 8]) for line in lines[2:4]}
    assert len(ends) == 1


def test_the_period_and_the_rest_of_a_top_are_told(data_dir: Path) -> None:
    """A reader of the table alone knows what was asked."""
    report = query(since="2026-11-20", until="today", top=1, data_dir=data_dir, now=NOW)
    lines = as_table(report, now=NOW).splitlines()
    assert "period: from 2026-11-20 00:00:00Z to 2026-11-21 00:00:00Z (not included)" in lines
    assert "1 of 2 rows shown, the total is of all" in lines
    assert "unpriced: 1 of 6 requests (16.7 %)" in lines


def test_a_period_is_told_in_seconds_in_every_zone(data_dir: Path) -> None:
    """What is asked to the microsecond is read by a person."""
    now = NOW.replace(microsecond=868_587)
    for timezone, since in (
        ("UTC", "2026-11-21 13:03:14Z"),
        ("Europe/Berlin", "2026-11-21 14:03:14+01:00"),
    ):
        report = query(since="1h", timezone=timezone, data_dir=data_dir, now=now)
        assert f"period: from {since} to now" in as_table(report, now=now).splitlines()


def test_an_empty_ledger_gives_an_empty_table_and_a_sentence(empty_dir: Path) -> None:
    """There is a head, no total, and what to do next."""
    lines = as_table(query(data_dir=empty_dir, now=NOW), now=NOW, width=200).splitlines()
    assert lines[0] == "tenant  cost USD  sessions"
    assert not [line for line in lines if line.startswith("total")]
    assert lines[-1].startswith("! the ledger holds no usage yet: attach a CostObserver")


def test_an_old_snapshot_shows_its_date(tmp_path: Path) -> None:
    """A time of day alone would pass for today's."""
    write_ledger(tmp_path)
    write_status(tmp_path, running=False)
    later = NOW.replace(day=25)
    report = query(data_dir=tmp_path, now=later)
    assert "as of 2026-11-21 14:03:12Z, 4 days ago" in as_table(report, now=later)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("by_tenant", {"by": "tenant"}),
        ("by_day_and_model", {"by": "day,model", "where": "tenant=acme", "since": "2026-11-20"}),
    ],
)
@pytest.mark.parametrize("form", ["json", "csv"])
def test_output_is_what_it_was(
    data_dir: Path, name: str, asked: dict[str, str], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts read these bytes: keys, order, nulls and digits change only on purpose."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    report = query(**asked, now=NOW)  # type: ignore[arg-type]  # all of them are text
    output = as_json(report) if form == "json" else as_csv(report)
    assert output.decode() == (GOLDEN / f"{name}.{form}").read_text()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_tables_are_what_they_were(
    asked: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of a zone, a label, metrics, the other row and hostile names: what does not fit is left out."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(asked))
    when = ASKED_AT
    of_rooms = query("room,hour", top=4, timezone="Europe/Berlin", since="2026-10-25", now=when)
    metrics = ("cost_per_minute", "minutes", "margin", "cost_per_call", "tokens", "calls")
    of_agents = query("agent,label.region", metric=metrics, top=3, sort="calls", now=when)
    # the last warning names a folder of this run: nobody runs the ledger
    of_rooms, of_agents = (replace(it, warnings=it.warnings[:-1]) for it in (of_rooms, of_agents))
    tables = [
        as_table(of_rooms, now=when, width=width, digits=4),
        as_table(of_agents, now=when, width=width),
    ]
    assert max(map(cell_len, "".join(tables).splitlines())) <= width
    assert "\n".join(tables) == (GOLDEN / f"query_{width}.txt").read_text()


def test_what_is_billed_and_a_list_price_that_is_not_paid_are_columns_of_their_own(
    tmp_path: Path,
) -> None:
    """Only where there is something to see; a tenant without a rule is not billed zero."""
    write_ledger(
        tmp_path,
        [
            Booking(
                occurred_at=day(20),
                session_id=ACME,
                cost="0.850000000",
                list_cost="1",
                billed="1.2",
            ),
            Booking(occurred_at=day(20), session_id=GLOBEX, tenant="globex", cost="2"),
        ],
    )
    report = query("tenant", data_dir=tmp_path, now=NOW)
    table = as_table(report, now=NOW).splitlines()
    assert table[0].split() == ["tenant", "cost", "USD", "billed", "list", "sessions", "requests"]
    assert table[2].split() == ["globex", "2.000000", "unbilled", "2.000000", "1", "1"]
    assert table[3].split() == ["acme", "0.850000", "1.200000", "1.000000", "1", "1"]
    rows = {row["tenant"]: row for row in json.loads(as_json(report))["rows"]}
    assert (rows["acme"]["list_cost"], rows["acme"]["billed"]) == ("1.000000000", "1.200000000")
    assert rows["globex"]["billed"] is None
    total = replace(report.total, estimated_cost=Decimal(1), session_seconds=Decimal(2))
    assert "estimated: 1.000000 USD (35.1 %)" in as_table(replace(report, total=total), now=NOW)
    credit = replace(report.rows[0], list_cost=None, sessions=0)
    table = as_table(replace(report, rows=(credit, report.rows[1])), now=NOW).splitlines()
    assert table[2].split() == ["globex", "2.000000", "unbilled", "0", "1"]
    credited = replace(report, total=replace(total, cost=Decimal(-3)))
    assert "estimated: 1.000000 USD\n" in as_table(credited, now=NOW)


def test_money_in_json_is_text_and_unknown_money_is_null(data_dir: Path) -> None:
    """A binary number would lose nano-dollars, a zero would hide what has no price."""
    document = json.loads(as_json(query("tenant", data_dir=data_dir, now=NOW)))
    costs = {row["tenant"]: row["cost"] for row in document["rows"]}
    assert costs["acme"] == "1.132000003"
    assert costs[None] == "0.400000000"
    assert costs["[red]sh\x1b[31my[/red]"] is None
    assert document["total"]["cost"] == "4.032000003"


def test_seconds_in_json_are_numbers_wherever_they_stand(data_dir: Path) -> None:
    """One quantity has one type: a script adds up rows, what has no price, and what is in no call."""
    document = json.loads(as_json(query("tenant,model", data_dir=data_dir, now=NOW)))
    missing = document["completeness"]
    assert missing["unpriced"]
    records = [*document["rows"], document["total"], *missing["unpriced"]]
    found = [
        value for record in records for name, value in record.items() if name.endswith("_seconds")
    ]
    assert {type(value) for value in found} == {float}
    amounts = [
        value
        for record in records
        for name, value in record.items()
        if name.endswith(("requests", "tokens", "characters", "rows"))
    ]
    assert {type(value) for value in amounts} == {int}


def test_json_says_what_it_speaks_of(data_dir: Path) -> None:
    """Columns, currency, period, moment and source are in the document itself."""
    report = query("agent", until="today", data_dir=data_dir, now=NOW)
    document = json.loads(as_json(report))
    told = {key: document[key] for key in ("by", "currency", "since", "until", "as_of", "source")}
    assert told == {
        "by": ["agent"],
        "currency": "USD",
        "since": None,
        "until": "2026-11-21T00:00:00Z",
        "as_of": "2026-11-21T14:03:12Z",
        "source": "snapshot",
    }


def test_csv_adds_up_and_leaves_unknown_values_empty(data_dir: Path) -> None:
    """No total line, so the column can be summed; no tenant and no price are empty fields."""
    rows = list(csv.DictReader(io.StringIO(as_csv(query(data_dir=data_dir, now=NOW)).decode())))
    assert sum(Decimal(row["cost"]) for row in rows if row["cost"]) == Decimal("4.032000003")
    assert [row["tenant"] for row in rows] == [
        *("globex", "acme", ""),
        "[red]sh\\x1b[31my[/red]",
    ]
    assert rows[-1]["cost"] == ""


def test_an_empty_report_is_still_a_document(empty_dir: Path) -> None:
    """A script gets an empty list and a header, not an error."""
    report = query(data_dir=empty_dir, now=NOW)
    document = json.loads(as_json(report))
    assert document["rows"] == []
    assert document["total"]["cost"] == "0.000000000"
    assert as_csv(report).decode().splitlines() == [as_csv(report).decode().strip()]
