"""The one adopted outbox of a process, and when to look for the next.

Looking costs a listing of the folder, so it is done twice a minute, and at once while there is more.
A large orphan is worked off alone; small ones are moved into the one that is held, so that a
thousand killed processes do not become a thousand files.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from voicecosts.producer.outbox.adopted import absorb, adopt
from voicecosts.producer.outbox.file import Outbox

logger = logging.getLogger(__name__)

_LOOK_S: Final = 30.0
_AT_ONCE: Final = 16
_SMALL_BYTES: Final = 4 * 2**20


class Orphans:
    """Used by the publisher's thread; `held` and `is_done` may be read from any.

    `place` is the destination whose files are taken. `is_done` says that nothing is held and that
    the last look found nothing, `damaged` how many events were left out when files were moved.
    """

    def __init__(
        self,
        folder: Path | None,
        place: str,
        *,
        monotonic: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self.folder = folder
        self.held: Outbox | None = None
        self.is_done = folder is None
        self.damaged = 0
        self._place = place
        self._monotonic = monotonic
        self._now_us = now_us
        self._look_at = 0.0

    def __repr__(self) -> str:
        return f"<Orphans {self.held!r}>"

    def tend(self) -> None:
        """Let go of an outbox that is empty, and take over what is there when it is time.

        Raises:
            OutboxError: A file cannot be read or written; nothing is lost.
            OSError: The folder cannot be looked through.
        """
        if self.folder is None:
            return
        if self.held is not None and self.held.rows == 0:
            self.held.close()
            self.held, self._look_at = None, 0.0
        if self._monotonic() >= self._look_at:
            self._look_at = self._monotonic() + _LOOK_S * random.uniform(0.8, 1.2)  # noqa: S311 - so that not all look at once
            self._look(self.folder)

    def _look(self, folder: Path) -> None:
        """Take over one orphan, and move further small ones into it."""
        for _ in range(_AT_ONCE):
            # A large one waits for its turn: that is when the first one is empty.
            most_bytes = None if self.held is None else _SMALL_BYTES
            orphan = adopt(folder, self._place, now_us=self._now_us(), most_bytes=most_bytes)
            if orphan is None:
                self.is_done = self.held is None
                return
            self.is_done = False
            if self.held is None:
                self.held = orphan
                logger.info("adopted %r of a process that is gone", orphan)
            else:
                self.damaged += absorb(self.held, orphan)
        self._look_at = 0.0  # there may be more
