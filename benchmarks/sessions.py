"""What metering costs a process full of calls: 400 real sessions at once, with and without it.

Every variant runs in a fresh process, in turns, so that neither allocator nor cache is inherited;
a real nats-server and a real outbox take the events. Two loads, because the added share has two
honest denominators:

* `turns`: scripted providers answer at once and no audio flows between the turns. The sessions do
  little but cause events, so the share is the highest there is.
* `live`: for so many seconds of real time audio frames flow into every session, as a room sends
  them, and each has a turn every so often, spoken at life's speed. It is LiveKit's own work for a
  call, still without the voice activity detection, the network and the codecs of a real one.

Two processes differ by more than what is to be weighed: so the difference of all CPU, from the
first session to the last acknowledgement, stands beside what clocks around metering's own parts
say. The clocks leave out the garbage collector, what LiveKit's emitter takes to call a listener, and
what the voice loop loses when the publisher's thread takes the interpreter from it. In `turns` the
collector is off: it would be half of all CPU, and one collection more or less is chance.
Memory is taken with all sessions alive after their turns; what a process pays once (imports, the
thread, the connection) is left out of it.

    python benchmarks/sessions.py [--sessions 400] [--rounds 3] [--live-s 25] [--frame-ms 50]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.clocks import Clocks, held_kb
from benchmarks.live_calls import Calls, within
from benchmarks.measuring import child, rss_kb, spread, thread_cpu_s
from tests.support import stream
from tests.support.broker import Broker
from voicecosts import CostObserver
from voicecosts.producer.process import PROCESS

AIM_PERCENT = 2.0
AIM_KB = 20.0


async def variant(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run one variant in this process and return what it took."""
    observer = None
    clocks = Clocks()
    if chosen.observer == "yes":
        if chosen.kind != "traced":
            clocks.install()
        observer = CostObserver(project="bench", servers=chosen.url, outbox_dir=chosen.outbox)
    if chosen.kind == "turns":
        gc.disable()
    if chosen.kind == "traced":
        tracemalloc.start(12)
    await run(Calls(5, observer), 1, chosen)  # what is paid once is paid here
    for spent in clocks.spent.values():
        spent[:] = 0, 0
    rss_before, held_before, peak = rss_kb(), held_kb(), {}
    captured = 0 if observer is None else observer.stats().captured
    publisher, collecting_ns = _publisher_cpu_s(observer), clocks.collecting_ns

    async def weigh() -> None:
        peak["gc_s"] = (clocks.collecting_ns - collecting_ns) / 1e9
        if observer is not None:
            assert await observer.flush(30.0)  # in both variants nothing is on its way
        peak["kb"] = rss_kb() - rss_before
        peak["held_kb"] = held_kb() - held_before

    turns = None if chosen.kind == "live" else chosen.turns
    took = await run(Calls(chosen.sessions, observer), turns, chosen, at_rest=weigh)
    return {
        **took,
        **peak,
        "publisher_s": _publisher_cpu_s(observer) - publisher,
        "listeners": {name: spent for name, spent in clocks.spent.items() if spent[0]},
        "captured": 0 if observer is None else observer.stats().captured - captured,
        "left_kb": rss_kb() - rss_before,
        "left_held_kb": held_kb() - held_before,
    }


async def run(
    calls: Calls,
    turns: int | None,
    chosen: argparse.Namespace,
    *,
    at_rest: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, float]:
    """Run calls from their start to their end; return the CPU seconds of the process for it."""
    began, wall = time.process_time(), time.monotonic()
    late_s = resting_s = 0.0
    calls.dial(turns, within(2.0 if turns else chosen.turn_s))
    await calls.until_started()
    if turns is None:
        talking = asyncio.create_task(calls.talk())
        late_s = await calls.stream(chosen.frame_ms, chosen.live_s)
        await talking
    else:
        await calls.talk()
    wall_s = time.monotonic() - wall
    if at_rest is not None:
        before = time.process_time()
        await at_rest()
        resting_s = time.process_time() - before
    await calls.hang_up()
    if calls.observer is not None:
        assert await calls.observer.flush(30.0)
    await asyncio.sleep(1.5)  # listeners stay for a second after the close
    cpu_s = time.process_time() - began - resting_s
    return {"cpu_s": cpu_s, "late_s": late_s, "wall_s": wall_s}


def _publisher_cpu_s(observer: CostObserver | None) -> float:
    return 0.0 if observer is None else thread_cpu_s(observer._publisher()._thread)


def as_child(chosen: argparse.Namespace) -> None:
    """Run one variant and print it as JSON."""
    logging.getLogger("livekit").setLevel(logging.ERROR)
    logging.getLogger("voicecosts").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as folder:
        chosen.outbox = folder
        found = asyncio.run(variant(chosen))
        PROCESS.close()
    print(json.dumps(found))


def compare(kind: str, rounds: int, chosen: argparse.Namespace, url: str) -> None:
    """Run the variants of one load in turns, and print what metering adds."""
    pairs = [
        [_child(kind, chosen.sessions, chosen, url, observer) for observer in ("no", "yes")]
        for _ in range(rounds)
    ]
    without, there = ([pair[side] for pair in pairs] for side in (0, 1))
    plain_s = statistics.median(each["cpu_s"] for each in without)
    wall_s = statistics.median(each["wall_s"] for each in without)
    count, events = chosen.sessions, there[-1]["captured"]
    print(f"{kind}: {count} sessions, {events} events in {wall_s:.0f} s")
    if kind == "live":
        late_s = max(each["late_s"] for each in without + there)
        print(f"  {chosen.frame_ms} ms frames, which came late by at most {late_s:.3f} s")
    print(f"  CPU without the observer     {spread([each['cpu_s'] for each in without])} s")
    print(f"  CPU with it                  {spread([each['cpu_s'] for each in there])} s")
    if kind == "live":
        _collected(without, there)
    added = [100 * (b["cpu_s"] / a["cpu_s"] - 1) for a, b in pairs]
    print(f"  added, by the difference     {spread(added)} %")
    _itemise(there[-1], events, plain_s)
    if kind == "live":
        _memory(pairs, count)


def _collected(without: list[dict[str, Any]], there: list[dict[str, Any]]) -> None:
    without_s, there_s = (spread([each["gc_s"] for each in side]) for side in (without, there))
    print(f"  of it collecting garbage     {without_s} s without, {there_s} s with")


def _memory(pairs: list[list[dict[str, Any]]], count: int) -> None:
    own = statistics.median(without["kb"] for without, _ in pairs) / count
    print(f"  resident memory a session    {own:.0f} kB of LiveKit and the script")
    for what, key in (("added, all alive", "kb"), ("added, all ended", "left_kb")):
        kb = [(there[key] - without[key]) / count for without, there in pairs]
        print(f"  {what:28} {spread(kb)} kB   (aim {AIM_KB:.0f} kB)")


def _itemise(took: dict[str, Any], events: int, plain_s: float) -> None:
    spent: dict[str, tuple[int, int]] = took["listeners"]
    for name, (calls, ns) in spent.items():
        print(f"    {name:22} {calls:6} x {ns / calls / 1000:6.1f} µs = {ns / 1e7 / plain_s:.2f} %")
    loop_s, thread_s = sum(ns for _, ns in spent.values()) / 1e9, took["publisher_s"]
    for name, part_s in (
        ("on the voice loop", loop_s),
        ("publisher's thread", thread_s),
        ("added, by clocks", loop_s + thread_s),
    ):
        per_event_us, share = 1e6 * part_s / events, 100 * part_s / plain_s
        print(f"  {name:28} {share:.2f} %, {per_event_us:.1f} µs an event")
    print(f"  aim                          {AIM_PERCENT:.0f} %")


def trace(chosen: argparse.Namespace, url: str) -> None:
    """Print what metering allocates, by tracing a smaller number of sessions."""
    count = min(chosen.sessions, 40)
    traced = _child("traced", count, chosen, url, "yes")
    held, left = (traced[name] / count for name in ("held_kb", "left_held_kb"))
    print(f"traced: {count} sessions; metering holds {held:.1f} kB a session while they live,")
    print(f"  {left:.2f} kB after all have ended   (aim {AIM_KB:.0f} kB)")


def _child(
    kind: str, sessions: int, chosen: argparse.Namespace, url: str, observer: str
) -> dict[str, Any]:
    options = [f"--{n.replace('_', '-')}={getattr(chosen, n)}" for n in _SIZES]
    variant = [f"--kind={kind}", f"--observer={observer}", f"--sessions={sessions}"]
    return child(__file__, *variant, f"--url={url}", *options)


_SIZES = ("turns", "live_s", "turn_s", "frame_ms")


def main() -> None:
    """Measure both loads and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=400)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--live-s", type=float, default=25.0)
    parser.add_argument("--turn-s", type=float, default=20.0, help="longest pause between turns")
    parser.add_argument("--frame-ms", type=int, default=50, help="50 is what LiveKit's rooms send")
    parser.add_argument("--only", choices=["turns", "live", "traced"])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    for hidden in ("--kind", "--observer", "--url"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        as_child(chosen)
        return
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "broker") as broker:
        asyncio.run(stream.declare(broker.url))
        if chosen.only in (None, "turns"):
            compare("turns", chosen.rounds, chosen, broker.url)
        if chosen.only in (None, "live"):
            compare("live", 1, chosen, broker.url)
        if chosen.only in (None, "traced"):
            trace(chosen, broker.url)


if __name__ == "__main__":
    main()
