"""Whatever workers and readers do, and wherever they die: what was stored is booked.

Messages are stored, taken over by other workers and read by readers that die before or after their
commit, in any order. In the end every message that reached a disk was committed, and nothing is
left; a message may be committed more often, which books nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.outboxes import NOW, Clock
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.outbox.backlog import Backlog
from voicecosts.producer.outbox.log import LocalLog, files
from voicecosts.producer.outbox.packing import Packed

Steps = list[tuple[str, int]]
STEPS = st.lists(
    st.tuples(
        # Storing, reading and tending are what a host mostly does.
        st.sampled_from(
            [
                "store",
                "read",
                "tend",
                "store",
                "read",
                "tend",
                "start",
                "kill",
                "end",
                "read and die",
            ]
        ),
        st.sampled_from([9, 0, 1]),
    ),
    min_size=8,
    max_size=40,
)


class Host:
    """Workers and readers of one folder, and what a ledger has committed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.workers: list[Backlog] = []
        self.numbers: dict[int, int] = {}
        self.made = 0
        self.stored: set[bytes] = set()
        self.committed: list[bytes] = []
        folder.mkdir()

    def start(self, _choice: int) -> None:
        """A worker begins."""
        self.made += 1
        config = ProducerConfig(project="tests", servers=(), outbox_dir=self.folder)
        name = f"producer-{self.made}"
        self.workers.append(Backlog(config, name, monotonic=self.clock, now_us=self.clock.now_us))

    def store(self, choice: int) -> None:
        """A worker stores up to three messages."""
        if (worker := self._worker(choice)) is None:
            return
        number = self.numbers.get(id(worker), 0)
        messages = []
        for _ in range(choice % 3 + 1):
            number += 1
            self.made += 1
            text = f"{self.made}"
            messages.append(
                Packed(
                    subject="costs.v1.tests.a.00",
                    message_id=text,
                    data=text.encode(),
                    events=1,
                    batch_number=number,
                )
            )
        self.numbers[id(worker)] = number
        worker.keep(messages)
        self.stored |= {message.data for message in messages}

    def tend(self, choice: int) -> None:
        """A worker forgets what is booked, and looks for what dead ones left."""
        if (worker := self._worker(choice)) is not None:
            self.clock.at += 60
            worker.forget_booked()
            worker.tend()

    def kill(self, choice: int) -> None:
        """A worker dies: its files stay as they are, and its locks end."""
        if (worker := self._worker(choice)) is not None:
            self.workers.remove(worker)
            for outbox in worker._outboxes():
                outbox.close(keep=True)

    def end(self, choice: int) -> None:
        """A worker ends in order."""
        if (worker := self._worker(choice)) is not None:
            self.workers.remove(worker)
            worker.close()

    def read(self, choice: int, *, dies: bool = False) -> None:
        """A ledger books up to `choice` groups, all of them with 9; it may die after a commit."""
        log = LocalLog(self.folder, self.folder.parent, now_us=lambda: NOW)
        for _ in range(choice if choice < 9 else 1000):
            if not (group := log.next_group()):
                break
            self.committed += [data for _, data in group]
            if dies:
                break
            log.booked()
        log.close()

    def _worker(self, choice: int) -> Backlog | None:
        return self.workers[choice % len(self.workers)] if self.workers else None


@settings(max_examples=150)
@given(STEPS)
def test_everything_that_reached_a_disk_is_committed(steps: Steps) -> None:
    """No order of starts, ends, deaths, adoptions and readings loses a message."""
    with tempfile.TemporaryDirectory() as place:
        host = Host(Path(place) / "outbox")
        host.start(0)
        for step, choice in steps:
            if step == "read and die":
                host.read(choice, dies=True)
            else:
                getattr(host, step)(choice)
        assert set(host.committed) <= host.stored
        host.read(9)
        assert set(host.committed) == host.stored
        for worker in list(host.workers):
            worker.forget_booked()
            assert worker.rows == 0
            host.end(0)
        host.read(9)
        assert files(host.folder) == []
