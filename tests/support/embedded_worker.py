"""A worker without a server: it captures the calls of a seed and says on its output how far it is.

`python -m tests.support.embedded_worker <outbox> <seed> <calls> <pace_s>` captures them event by
event, prints `stored <call>` when a call is in its outbox, `done` after the last one, and then
stays until its input is closed, as a worker between two calls does.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.support.traffic import calls
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.publishing.publisher import Publisher


def main(folder: str, seed: str, count: str, pace_s: str) -> None:
    """Capture calls, one after the other."""
    config = ProducerConfig(project="test", servers=(), outbox_dir=Path(folder), linger_s=0.02)
    publisher = Publisher(config)
    chance = random.Random(seed)  # noqa: S311 - only a pace
    for number, call in enumerate(calls(int(seed), int(count))):
        for event in call.events:
            publisher.put(event)
            time.sleep(chance.random() * float(pace_s))
        publisher.flush().result(60)
        print("stored", number, flush=True)  # noqa: T201 - what the test waits for
    print("done", flush=True)  # noqa: T201 - same
    sys.stdin.read()
    publisher.close(10)


if __name__ == "__main__":
    main(*sys.argv[1:])
