"""A ledger of schema 4 that the code wrote before a session had an identity: today's code goes on with it.

`before-identity.tar.xz` holds a data directory and `expected.json`: what that ledger's own views said.
The calls below were booked by half. Of four of them that code booked what today's refuses or notes: a
second tenant, agent, producer and project in one call.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from tests.support.events import ended, final, message, reading, session_id, started
from tests.support.oracle import booked, expected, rate
from voicecosts.consumer.booking.operations import Erase
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event

ARCHIVE: Final = Path(__file__).with_name("before-identity.tar.xz")

MINUTE_MS: Final = 60_000
MIDNIGHT_MS: Final = 1_795_046_400_000
LATE: Final = MIDNIGHT_MS - 10 * MINUTE_MS - 1_795_000_000_000

WHOLE, UNPRICED, NOTED = (session_id(n, after_ms=n) for n in (1, 3, 4))
OVER_MIDNIGHT = session_id(2, after_ms=LATE)
OTHER_TENANT, OTHER_AGENT, OTHER_PRODUCER, OTHER_PROJECT = (
    session_id(n, after_ms=LATE + n) for n in range(5, 9)
)


def of(which: str) -> dict[str, Any]:
    """Return whose a session is."""
    return {"session_id": which, "tenant": "acme"}


def at(minute: int) -> int:
    """Return a time of the call over midnight, `minute` minutes after it began."""
    return (MIDNIGHT_MS + (minute - 10) * MINUTE_MS) * 1000


BEFORE: Final[list[Event]] = [
    started(**of(WHOLE)),
    reading(1, **of(WHOLE), input_tokens=10, requests=1),
    reading(2, **of(WHOLE), input_tokens=30, requests=2),
    ended(3, final(input_tokens=30, requests=2), **of(WHOLE)),
    started(**of(OVER_MIDNIGHT), started_at=at(0)),
    reading(1, **of(OVER_MIDNIGHT), input_tokens=1000, occurred_at=at(5)),
    reading(2, **of(OVER_MIDNIGHT), input_tokens=3000, occurred_at=at(20)),
    started(**of(UNPRICED)),
    reading(1, **of(UNPRICED), model="unknown", requests=1, characters=50),
    reading(2, **of(UNPRICED), model="unknown", requests=3, characters=90),
    reading(2, **of(NOTED), input_tokens=200),
    reading(1, **of(NOTED), input_tokens=100),
    reading(3, **of(NOTED), input_tokens=150),
    started(**of(OTHER_TENANT)),
    reading(1, **of(OTHER_TENANT), input_tokens=5),
    started(**of(OTHER_AGENT)),
    reading(1, **of(OTHER_AGENT), input_tokens=5),
    started(**of(OTHER_PRODUCER)),
    reading(1, **of(OTHER_PRODUCER), input_tokens=5),
    started(**of(OTHER_PROJECT)),
    reading(1, **of(OTHER_PROJECT), input_tokens=5),
]
"""What the old ledger booked, from one producer."""

AFTER: Final[list[Event]] = [
    reading(3, **of(OVER_MIDNIGHT), input_tokens=4000, occurred_at=at(25)),
    ended(5, final(input_tokens=5000), **of(OVER_MIDNIGHT), ended_at=at(30)),
    reading(3, **of(UNPRICED), model="unknown", requests=4, characters=120),
    reading(1, **of(UNPRICED), model="gpt-4.1-mini", input_tokens=7),
    ended(5, final(input_tokens=260), **of(NOTED)),
]
"""What comes of the same calls later."""

GO_ON: Final = (WHOLE, OVER_MIDNIGHT, UNPRICED, NOTED)
UNPRICED_NOW: Final = ["4", "120"]


def of_session(event: Event) -> str:
    """Return the session of an event."""
    return str(getattr(event, "session_id", ""))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The data directory, as it was left."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "data"


def said(home: Path) -> Any:
    """Return what the ledger's own views said at that time."""
    return json.loads((home.parent / "expected.json").read_text())


def rows(home: Path, query: str) -> list[list[str | None]]:
    """Return rows of the published snapshot as texts."""
    with duckdb.connect(home / "costs.duckdb", read_only=True, config={"threads": 1}) as connection:
        found = connection.execute(query).fetchall()
    return [[None if value is None else str(value) for value in row] for row in found]


def migrated(home: Path) -> None:
    """Open the ledger, which migrates it, and close it again."""
    assert said(home)["schema"] == [["4"]]
    Ledger.open(home, rate).close()


LATER: Final = "completeness_at(TIMESTAMP '2030-01-01', INTERVAL 1 HOUR)"
"""Every session, when each that has no end has been silent for long."""

METERS: Final = """
SELECT
    project, session_id, tenant, agent_id, agent_label, modality, provider, model, sum(cost),
    sum(input_tokens), sum(characters), sum(requests), count(*)
FROM usage
GROUP BY ALL
ORDER BY ALL
"""


def test_every_amount_stays_where_it_was_booked(home: Path) -> None:
    """No total of any tenant, agent, project or model changes, and no dead letter is lost."""
    migrated(home)
    assert rows(home, METERS) == said(home)["meters"]
    assert rows(home, "SELECT sum(cost), count(*) FROM usage") == said(home)["total"]
    letters = rows(home, "SELECT reason, count(*) FROM dead_letters GROUP BY 1 ORDER BY 1")
    assert letters == said(home)["dead_letters"]


def test_a_call_over_midnight_is_on_the_day_when_it_started(home: Path) -> None:
    """Its second half moves to the day of its first; the sum of the days stays."""
    before = said(home)["days"]
    assert [day for day, _ in before] == ["2026-11-18", "2026-11-19"]
    migrated(home)
    [(day, cost)] = rows(home, "SELECT day, sum(cost) FROM cost_by_day GROUP BY day")
    assert day == "2026-11-18"
    assert [[cost]] == rows(home, "SELECT sum(cost) FROM usage")
    assert rows(home, "SELECT count(*) FROM usage WHERE day IS NULL") == [["0"]]
    assert rows(home, "SELECT DISTINCT day FROM sessions") == [["2026-11-18"]]


def test_what_was_mixed_up_is_said(home: Path) -> None:
    """A second tenant, agent, producer or project of a call makes it short; other calls stay."""
    migrated(home)
    found = rows(home, f"SELECT session_id, project, state, cause FROM {LATER} ORDER BY ALL")  # noqa: S608 - constants
    short = [(row[0], row[1], row[3]) for row in found if row[2] == "short"]
    assert short == [
        (NOTED, "prod", "backwards"),
        (OTHER_TENANT, "prod", "other_tenant"),
        (OTHER_AGENT, "prod", "other_agent"),
        (OTHER_PRODUCER, "prod", "other_producer"),
        (OTHER_PROJECT, "prod", "other_project"),
        (OTHER_PROJECT, "staging", "other_project"),
    ]
    others = [row for row in said(home)["completeness"] if row[0] in (WHOLE, UNPRICED)]
    assert [[row[0], row[2], row[3]] for row in found if row[0] in (WHOLE, UNPRICED)] == others
    assert len(found) == len(said(home)["completeness"]) + 1  # one id in two projects


def test_what_had_no_price_is_said_in_usage(home: Path) -> None:
    """An old row with a reason counts with all that it moved."""
    migrated(home)
    query = "SELECT model, rows, sessions, requests, characters FROM unpriced"
    assert rows(home, query) == [["unknown", "2", "1", "3", "90"]]


def test_the_same_calls_are_booked_on_exactly(home: Path) -> None:
    """What came before comes again and adds nothing; what comes later adds what its meters moved."""
    with Ledger.open(home, rate) as ledger:
        again = ledger.apply([message(1, *BEFORE), message(7, *AFTER)])
        assert (again.bookings, again.session_starts, again.session_ends) == (5, 0, 2)
    ours = {meter: total for meter, total in booked(home).items() if meter.session_id in GO_ON}
    events = [event for event in [*BEFORE, *AFTER] if of_session(event) in GO_ON]
    assert ours == expected(events)
    found = rows(home, f"SELECT session_id, state FROM {LATER} WHERE state <> 'abandoned'")  # noqa: S608 - constants
    assert [OVER_MIDNIGHT, "repaired"] in found
    assert rows(home, "SELECT requests, characters FROM unpriced WHERE model = 'unknown'") == [
        UNPRICED_NOW
    ]


def test_what_is_erased_with_a_call_of_two_tenants_is_in_no_sum(home: Path) -> None:
    """Its rows of the other tenant go with it, and leave no row of nothing in the sums of months."""
    with Ledger.open(home, rate) as ledger:
        ledger._folding.fold()
        ledger.operate(Erase(tenant="acme"), reason="they asked for it")
        while ledger.work():
            pass
        for view in ("session_usage", "monthly_usage"):
            left = ledger._connection.execute(f"SELECT tenant, sum(rows) FROM {view} GROUP BY ALL")  # noqa: S608 - ours
            assert left.fetchall() == []
