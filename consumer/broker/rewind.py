"""Having messages that the ledger lacks offered again, or saying why that is not possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nats.js import api
from nats.js.errors import APIError

from voicecosts.consumer.booking.progress import Progress, Range
from voicecosts.consumer.broker.requests import Api, Denied
from voicecosts.consumer.broker.stream import ACK_WAIT_S, DURABLE
from voicecosts.consumer.errors import LedgerBehind
from voicecosts.producer.subjects import STREAM

CAN_REWIND: Final = (2, 14)
"""The first nats-server that can set a consumer back."""

_SAID = 3


def acked(info: api.ConsumerInfo) -> int:
    """Return up to which message of the stream everything is acknowledged."""
    return info.ack_floor.stream_seq if info.ack_floor else 0


async def rewind(ask: Api, info: api.ConsumerInfo, progress: Progress) -> str | None:
    """Have the server offer again what this ledger has not booked, at once.

    There is one ledger per consumer, so what is unacknowledged when it connects was fetched by a
    predecessor that died. And a ledger that is behind what is acknowledged, or that has booked
    above messages that it lacks, is a restored backup, or a new folder, or had another reader beside
    it: it gets the stream again from its floor on. Offering too much is harmless, because booking is
    by difference.

    Returns what was done, for the log.

    Raises:
        LedgerBehind: Something is missing, and the server does not let it be read again.
    """
    behind = progress.unbooked(max(acked(info), progress.highest))
    if not behind and not info.num_ack_pending:
        return None
    request = {"seq": progress.floor + 1} if behind else None
    problem, remedy = await _reset(ask, request)
    if problem and not behind:
        return (
            f"{info.num_ack_pending} unacknowledged messages come again in {ACK_WAIT_S:.0f} s "
            f"({problem})"
        )
    if problem:
        raise LedgerBehind(runs_in_words(behind), problem, remedy)
    if behind:
        return f"{runs_in_words(behind)} of the stream are not in the ledger, and are read again"
    return f"{info.num_ack_pending} unacknowledged messages are offered again"


async def _reset(ask: Api, request: dict[str, int] | None) -> tuple[str, str]:
    """Reset the consumer; if that is not possible, return why not and what to do instead."""
    delete = (
        f"delete the consumer {DURABLE} of stream {STREAM} and start again, which reads the whole "
        "stream again and books nothing twice"
    )
    if ask.server_version < CAN_REWIND:
        major, minor = ask.server_version
        problem = f"nats-server {major}.{minor} cannot rewind a consumer, from 2.14 on it can"
        return problem, f"Upgrade it, or {delete}."
    try:
        await ask.ask(f"CONSUMER.RESET.{STREAM}.{DURABLE}", request)
    except Denied as error:
        return str(error), f"Allow it and start again, or {delete}."
    except APIError as error:
        return f"the server refuses ({error.description})", f"{delete[0].upper()}{delete[1:]}."
    return "", ""


def runs_in_words(ranges: Sequence[Range]) -> str:
    """Return ranges of sequences in words."""
    said = [f"{first} to {last}" if last > first else f"{first}" for first, last in ranges[:_SAID]]
    more = len(ranges) - len(said)
    return f"messages {', '.join(said)}{f' and {more} more ranges' if more else ''}"
