"""An hour without a broker: what a worker full of calls holds meanwhile, and what comes of it after.

400 calls at a time, a reading every two seconds each, sessions that come and go every three
minutes: 720,000 readings in an hour, offered in a fraction of one. The publisher's linger shrinks
by the same factor, so that messages are about as full as in life. Then the broker comes up, takes
everything, and the totals of every meter in the stream are compared with what was used, which is
worked out from the numbers of the calls and not from anything that was metered.

Each bound of the outbox runs in a fresh process. A bound that cannot even hold the totals of the
sessions that ended must lose some, and count them: no total may ever be above what was used.

    python benchmarks/long_outage.py [--sessions 400] [--minutes 60] [--speed 80] [--bounds 256 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import nats
from msgspec import to_builtins
from nats.js import api

from benchmarks.long_calls import TICK_S, Calls, Key, oracle
from benchmarks.measuring import child, rss_kb
from tests.support import stream
from tests.support.broker import Broker
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.events import Batch, MeterReading, Quantities, SessionEnded, decode
from voicecosts.producer.publishing.publisher import Publisher
from voicecosts.producer.subjects import STREAM, STREAM_SUBJECTS

LINGER_S: Final = 0.1


def outage(publisher: Publisher, chosen: argparse.Namespace) -> tuple[Calls, list[dict[str, Any]]]:
    """Offer the hour; return the calls and what was held at every sixth of it."""
    samples = [_held(publisher, 0.0)]
    calls = Calls(publisher, chosen.sessions)
    began = time.monotonic()
    step_s = chosen.minutes * 10
    for now_s in calls.hour(chosen.minutes):
        if now_s >= len(samples) * step_s - TICK_S / 2:
            before = time.monotonic()
            samples.append(_held(publisher, now_s))
            began += time.monotonic() - before
        time.sleep(max(0.0, began + now_s / chosen.speed - time.monotonic()))
    calls.end()
    time.sleep(1.0)
    samples.append(_held(publisher, now_s))
    return calls, samples


def _held(publisher: Publisher, now_s: float) -> dict[str, Any]:
    folder = publisher.config.outbox_dir
    assert folder is not None
    files = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    stats = publisher.stats()
    return {
        "minute": now_s / 60,
        "rss_kb": rss_kb(),
        "files": files,
        "buffer": len(publisher.buffer),
        **to_builtins(stats),
    }


async def stored(url: str) -> tuple[dict[Key, tuple[int, Quantities]], int]:
    """Return of every meter the reading with the highest number, and how many sessions ended."""
    client = await nats.connect(url)
    config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE)
    pull = await client.jetstream().pull_subscribe(STREAM_SUBJECTS, stream=STREAM, config=config)
    last: dict[Key, tuple[int, Quantities]] = {}
    ended: set[str] = set()
    left = (await client.jetstream().stream_info(STREAM)).state.messages
    while left:
        messages = await pull.fetch(min(left, 200), timeout=10)
        left -= len(messages)
        for message in messages:
            _take(decode(message.data), last, ended)
    await client.close()
    return last, len(ended)


def _take(batch: Batch, last: dict[Key, tuple[int, Quantities]], ended: set[str]) -> None:
    for event in batch.events:
        if isinstance(event, SessionEnded):
            ended.add(event.session_id)
        if isinstance(event, (MeterReading, SessionEnded)):
            call = int(event.session_id.rpartition("-")[2], 16)
            for meter in event.meters if isinstance(event, SessionEnded) else [event]:
                key = (call, meter.modality)
                if key not in last or last[key][0] < event.number:
                    last[key] = (event.number, meter.totals)


def verdict(readings: list[int], last: dict[Key, tuple[int, Quantities]]) -> dict[str, int]:
    """Compare the stream with the oracle, meter by meter."""
    found: Counter[str] = Counter(equal=0, behind=0, absent=0, above=0)
    for key, expected in oracle(readings).items():
        if key not in last:
            found["absent"] += 1
            continue
        shown = {n: v for n, v in to_builtins(last[key][1]).items() if v}
        above = any(shown[name] > expected[name] for name in shown)
        found["above" if above else "equal" if shown == expected else "behind"] += 1
    return dict(found)


def as_child(chosen: argparse.Namespace) -> None:
    """Run one bound and print what was seen as JSON."""
    logging.getLogger("voicecosts").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as name:
        broker = Broker(Path(name) / "broker")
        config = ProducerConfig(
            project="bench",
            servers=(broker.url,),
            outbox_dir=Path(name) / "outbox",
            outbox_max_bytes=chosen.bound * 2**20,
            linger_s=LINGER_S / chosen.speed,
        )
        publisher = Publisher(config)
        calls, samples = outage(publisher, chosen)
        with broker:
            asyncio.run(stream.declare(broker.url))
            began = time.monotonic()
            publisher.flush().result(240)
            drained_s = time.monotonic() - began
            samples.append(_held(publisher, chosen.minutes * 60))
            publisher.close(10)
            last, ended = asyncio.run(stored(broker.url))
    found = {
        "samples": samples,
        "drained_s": drained_s,
        "calls": len(calls.readings),
        "readings": sum(calls.readings),
        "ended": ended,
        "meters": verdict(calls.readings, last),
    }
    print(json.dumps(found))


def show(bound: int, found: dict[str, Any], sessions: int) -> None:
    """Print an hour, and what came of it."""
    print(f"\noutbox bound {bound} MB: {found['readings']:,} readings of {found['calls']:,} calls")
    print("  minute  memory +MB  kB/session  in buffer  outbox MB  files MB  coalesced   dropped")
    first = found["samples"][0]
    names = [f"{each['minute']:6.0f}" for each in found["samples"]]
    names[-2:] = [" ended", " acked"]
    for name, each in zip(names, found["samples"], strict=True):
        added_kb = each["rss_kb"] - first["rss_kb"]
        print(
            f"  {name}  {added_kb / 1024:10.1f}  {added_kb / sessions:10.1f}  {each['buffer']:9,}"
            f"  {each['outbox_bytes'] / 2**20:9.1f}  {each['files'] / 2**20:8.1f}"
            f"  {each['coalesced']:9,}  {each['dropped']:8,}"
        )
    meters = found["meters"]
    print(f"  acknowledged {found['drained_s']:.1f} s after the broker came up")
    print(f"  {found['ended']:,} of {found['calls']:,} sessions have their end in the stream")
    print(
        f"  of {sum(meters.values()):,} meters {meters['equal']:,} equal the oracle, "
        f"{meters['behind']:,} are behind it, {meters['absent']:,} absent, {meters['above']:,} above"
    )
    assert meters["above"] == 0, "a total above what was used would bill too much"
    if not found["samples"][-1]["dropped"]:
        assert meters["behind"] == meters["absent"] == 0, "lost without being counted"


def main() -> None:
    """Run every bound and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--speed", type=float, default=80.0, help="times faster than life")
    parser.add_argument("--bounds", type=int, nargs="+", default=[256, 8], help="in MB")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bound", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        as_child(chosen)
        return
    sizes = [f"--{name}={getattr(chosen, name)}" for name in ("sessions", "minutes", "speed")]
    for bound in chosen.bounds:
        show(bound, child(__file__, f"--bound={bound}", *sizes), chosen.sessions)


if __name__ == "__main__":
    main()
