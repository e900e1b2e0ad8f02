"""A worker that only takes over what dead ones left: told when to start, and when to end.

It says `ready`, begins at the first line of its input, and ends at the second; then it prints how
many events it has published.

    python -m tests.support.adopter SERVERS OUTBOX
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.processes import program
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.publishing.publisher import Publisher


class Adopter:
    """The program below, started by a test."""

    def __init__(self, url: str, outbox: Path) -> None:
        pipe = subprocess.PIPE
        self.process = program("adopter", url, outbox, stdin=pipe, stdout=pipe)

    def heard(self) -> str:
        """Return its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self) -> None:
        """Let it go on to the next thing."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def published(self) -> int:
        """End it, and return how many events it has published."""
        self.tell()
        number = int(self.heard())
        self.process.communicate(timeout=30)
        return number


def main(servers: str, outbox: str) -> None:
    """Adopt from the first line of the input to the second."""
    print("ready", flush=True)  # noqa: T201 - to the parent
    sys.stdin.readline()
    config = ProducerConfig(project="faults", servers=(servers,), outbox_dir=Path(outbox))
    publisher = Publisher(config)
    sys.stdin.readline()
    publisher.close(5.0)
    print(publisher.stats().published, flush=True)  # noqa: T201 - to the parent


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
