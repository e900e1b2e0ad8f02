"""What it costs the ledger to book readings of sessions that it does not have in memory.

On a copy of a large ledger. First 500 readings in one `Ledger.apply`, one of each of 500 sessions:
of the last two days, and spread evenly over all the history before, as they come when an outbox of long ago is
found again. Right after it the next reading of the same sessions, which are in memory now: that is the
floor, the same work without the looking up. Then calls that all live at once, more of them than the
ledger keeps as objects, with their readings in turn: how many readings a second are booked, and by how
much the memory of the process grew.

    python benchmarks/late_readings.py [--rows 1000000] [--data-dir DIR] [--live 5000 20000 200000]
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import large_ledgers
from benchmarks.large_ledgers import Pattern, at_step, reading_of
from benchmarks.measuring import Took, rss_kb, timed
from tests.support.events import message, reading
from voicecosts.analytics.snapshot.connection import closing, open_newest
from voicecosts.consumer.booking.message import Applied, Message
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, now_us

AT_ONCE: Final = 500
TIMES: Final = 5
MEASURED: Final = 10_000
"""Readings of live calls that are timed, for each number of calls."""

# One meter of each of some sessions, as its newest row left it, the sessions in the order of their ids.
_SESSIONS: Final = """
WITH ranked AS (
    SELECT *, row_number() OVER (ORDER BY session_id) AS place, count(*) OVER () AS sessions
    FROM session_identities
    ANTI JOIN voided USING (project, session_id)
    WHERE (day >= (SELECT max(day) - 1 FROM session_identities)) = ?
),
chosen AS (
    SELECT *
    FROM ranked
    QUALIFY row_number() OVER (
        PARTITION BY (place - 1) * ? // sessions
        ORDER BY hash(session_id)
    ) = 1
),
last AS (
    SELECT
        project,
        session_id,
        max(number) AS number,
        arg_max(agent_label, number) FILTER (modality = 'stt') AS agent_label,
        arg_max(provider, number) FILTER (modality = 'stt') AS provider,
        arg_max(provider_raw, number) FILTER (modality = 'stt') AS provider_raw,
        arg_max(model, number) FILTER (modality = 'stt') AS model,
        sum(requests) FILTER (modality = 'stt') AS requests,
        sum(audio_us) FILTER (modality = 'stt') AS audio_us
    FROM usage
    SEMI JOIN chosen USING (project, session_id)
    GROUP BY project, session_id
)
SELECT
    chosen.session_id::VARCHAR AS session_id,
    chosen.project,
    chosen.agent_id,
    chosen.tenant,
    chosen.producer_id,
    greatest(last.number, coalesce(ended.number, 0)) AS number,
    last.agent_label,
    last.provider,
    last.provider_raw,
    last.model,
    last.requests,
    last.audio_us
FROM chosen
INNER JOIN last USING (project, session_id)
LEFT JOIN (
    SELECT project, session_id, max(number) AS number FROM session_ends GROUP BY project, session_id
) AS ended USING (project, session_id)
ORDER BY hash(chosen.session_id)
"""


class Late(Struct, frozen=True):
    """One session of the ledger, and one of its meters."""

    session_id: str
    project: str
    agent_id: str
    tenant: str | None
    producer_id: str
    number: int
    agent_label: str
    provider: str
    provider_raw: str
    model: str
    requests: int
    audio_us: int

    def message(self, sequence: int, more: int) -> Message:
        """Return a message with the reading that comes so many after the last one that is booked."""
        moved = reading(
            self.number + more,
            session_id=self.session_id,
            project=self.project,
            agent_id=self.agent_id,
            tenant=self.tenant,
            agent_label=self.agent_label,
            modality="stt",
            provider=self.provider,
            provider_raw=self.provider_raw,
            model=self.model,
            occurred_at=now_us(),
            requests=self.requests + more,
            audio_us=self.audio_us + more * 2_000_000,
        )
        return message(
            sequence,
            moved,
            number=sequence,
            producer=self.producer_id,
            project=self.project,
            agent=self.agent_id,
        )


def late_sessions(data_dir: Path, *, of_late: bool) -> list[Late]:
    """Return sessions for every round, spread evenly over the last two days or over all others."""
    connection, _ = open_newest(data_dir)
    with closing(connection):
        found = connection.execute(_SESSIONS, [of_late, AT_ONCE * TIMES])
        names = [column[0] for column in found.description]
        return [Late(**dict(zip(names, row, strict=True))) for row in found.fetchall()]


def apply(ledger: Ledger, messages: Sequence[Message], readings: int) -> Took:
    """Book messages that must all move something."""
    booked: list[Applied] = []
    took = timed(lambda: booked.append(ledger.apply(messages)))
    assert (booked[0].bookings, booked[0].dead_letters) == (readings, 0), booked
    return took


def measure_late(ledger: Ledger, sessions: list[Late]) -> tuple[Took, Took]:
    """Return what 500 readings of sessions that are not in memory take, and their next ones."""
    took: list[Took] = []
    for at in range(TIMES):
        chosen = sessions[at::TIMES]
        for more in (1, 2):
            first = ledger.booked_sequence + 1
            messages = [it.message(first + place, more) for place, it in enumerate(chosen)]
            took.append(apply(ledger, messages, len(chosen)))
    return median(took[::2]), median(took[1::2])


def median(every: Sequence[Took]) -> Took:
    """Return the median of the clock, and that of the CPU."""
    clock = statistics.median(it.clock_s for it in every)
    return Took(clock, statistics.median(it.cpu_s for it in every))


def grouped(ledger: Ledger, events: Iterator[Event]) -> Iterator[list[Message]]:
    """Yield the events as a ledger gets them: ten a message, `AT_ONCE` a group."""
    while group := list(itertools.islice(events, AT_ONCE)):
        first = ledger.booked_sequence + 1
        yield [
            message(first + at, *group[start : start + 10], number=first + at)
            for at, start in enumerate(range(0, len(group), 10))
        ]


def measure_live(ledger: Ledger, calls: int) -> Took:
    """Return what 500 readings of so many calls take, the calls in turn."""
    # they started within the last hour, the ids of one run apart from those of the others
    begin = now_us() - 3_600_000_000
    every = [
        (Pattern(number=at, readings=9), begin + at * 3_600_000_000 // calls) for at in range(calls)
    ]
    opened = (
        event for call, start in every for step in range(2) for event in at_step(call, step, start)
    )
    for messages in grouped(ledger, opened):
        ledger.apply(messages)
    turns = (reading_of(call, number, start) for number in range(2, 9) for call, start in every)
    return median(
        [
            apply(ledger, messages, AT_ONCE)
            for messages in grouped(ledger, itertools.islice(turns, MEASURED))
        ]
    )


def measure(data_dir: Path, live: Sequence[int]) -> None:
    """Measure and print."""
    print(f"{AT_ONCE} readings, in one transaction:")
    print("| readings | ms | CPU, ms | CPU by the first of them | readings/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with Ledger.open(data_dir, rate_by(ListPrices())) as ledger:
        ledger.publish_snapshot()
        for name, of_late in (("the last two days", True), ("all of history", False)):
            looked_up, cached = measure_late(ledger, late_sessions(data_dir, of_late=of_late))
            _say(f"floor: of sessions of {name}, in memory", cached, cached)
            _say(f"of sessions of {name}", looked_up, cached)
        first: Took | None = None
        for calls in live:
            before = rss_kb()
            took = measure_live(ledger, calls)
            first = first or took
            grown = f"{(rss_kb() - before) / 1000:,.0f} MB more"
            _say(f"of {calls:,} live calls in turn ({grown})", took, first)


def _say(what: str, took: Took, floor: Took) -> None:
    cells = (
        what,
        f"{took.clock_s * 1e3:,.0f}",
        f"{took.cpu_s * 1e3:,.0f}",
        f"{took.cpu_s / floor.cpu_s:.1f}",
        f"{AT_ONCE / took.clock_s:,.0f}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure a copy of the ledger."""
    parser = large_ledgers.arguments(__doc__)
    parser.add_argument("--live", type=int, nargs="*", default=[5_000, 20_000, 200_000])
    chosen = parser.parse_args()
    with (
        large_ledgers.made(chosen.rows, chosen.data_dir, chosen.days) as data_dir,
        large_ledgers.copied(data_dir) as copy,
    ):
        measure(copy, chosen.live)


if __name__ == "__main__":
    main()
