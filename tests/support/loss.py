"""What a killed worker has lost, by its own diary, and that this is no more than may be lost.

Allowed is what the process had not handed to its outbox, and nothing may wait for that for more
than one linger: a reading that was offered before a linger began is on disk before the next one
begins. That is a statement about an order of events, so it holds on a slow machine as well.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from msgspec import Struct

from tests.support.load import Key, Totals
from tests.support.outcome import Stored
from voicecosts.producer.config import ProducerConfig


class Offered(Struct, frozen=True):
    """A reading in a diary, at its place; `put_by` is a place by which it was surely put."""

    key: Key
    totals: Totals
    at_us: int
    put_by: int


class Loss(Struct, frozen=True):
    """What is missing of what a worker offered."""

    offered: int
    readings: int
    span_ms: float
    in_linger: int

    def __str__(self) -> str:
        return (
            f"{self.offered:,} readings offered, {self.offered - self.readings:,} stored; "
            f"lost: {self.readings} = {self.span_ms:.0f} ms of load "
            f"(100 ms of it were {self.in_linger} readings)"
        )


def readings(diary: list[list[Any]]) -> list[Offered]:
    """Return what a diary says was offered, in order."""
    places = [place for place, line in enumerate(diary) if line[0] == "reading"]
    # The line is written, then the reading is put, then the next line is written.
    return [
        Offered((line[1], line[2]), (line[3], line[4]), line[5], after)
        for place, after in pairwise([*places, len(diary)])
        for line in [diary[place]]
    ]


def loss(diary: list[list[Any]], found: Stored) -> Loss:
    """Return what is missing in a stream, and check that it may be missing."""
    offered = readings(diary)
    arrived = set(found.readings)
    kept = {tuple(pair) for line in diary if line[0] == "kept" for pair in line[1]}
    lingers = [place for place, line in enumerate(diary) if line[0] == "linger"]
    missing = [each for each in offered if (each.key, each.totals) not in arrived]

    assert kept, "the worker must have been at work"
    for each in missing:
        assert (each.key[0], each.totals[0]) not in kept, "it was on disk"
        assert sum(each.put_by <= place for place in lingers) <= 1, "it waited for two lingers"
    end_us = offered[-1].at_us
    linger_us = ProducerConfig(project="", servers=()).linger_s * 1e6
    return Loss(
        len(offered),
        len(missing),
        (end_us - missing[0].at_us) / 1000 if missing else 0.0,
        sum(each.at_us > end_us - linger_us for each in offered),
    )
