"""What the end of a call costs in every combination of server and outbox, with the real deadline.

Each row is a process of its own: two calls of one turn end one after the other, by the end hook and
the job's shutdown callback, and then the process exits. A server may be up, away, silent (it accepts
and says nothing), frozen (it stands still once it is connected), or none; an outbox fine, full,
impossible (its folder cannot be made) or shared with other processes. Printed are the seconds that
each hook took; the aim is that all of them together take one deadline at most.

    python benchmarks/every_end.py [--deadline 2]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import child
from tests.support.endings import OUTBOXES, SERVERS, ends

HOOKS: Final = ("end hook 1", "shutdown 1", "end hook 2", "shutdown 2", "exit")


def one(server: str, outbox: str, deadline_s: float) -> dict[str, float]:
    """Measure one combination in this process."""
    with tempfile.TemporaryDirectory() as name:
        return asyncio.run(ends(server, outbox, Path(name), deadline_s=deadline_s))


def main() -> None:
    """Measure every combination and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("--child", nargs=3)
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if chosen.child:
        server, outbox, deadline_s = chosen.child
        print(json.dumps(one(server, outbox, float(deadline_s))))
        return
    print(f"{'server':8}{'outbox':12}" + "".join(f"{hook:>12}" for hook in HOOKS) + f"{'sum':>8}")
    worst = 0.0
    for server in SERVERS:
        for outbox in OUTBOXES:
            took = child(__file__, server, outbox, chosen.deadline)
            total = sum(took.values())
            worst = max(worst, total)
            each = "".join(f"{took[hook]:12.3f}" for hook in HOOKS)
            print(f"{server:8}{outbox:12}{each}{total:8.3f}", flush=True)
    print(f"worst: {worst:.2f} s; aim: one deadline of {chosen.deadline:.0f} s")


if __name__ == "__main__":
    main()
