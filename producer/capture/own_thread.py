"""What other threads ask of a session is done on its own: its meters know one thread.

Asking waits for nothing. Where the session's loop has ended nobody else is there any more, so who
asks does it himself, or leaves it to one who is at it already.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from voicecosts.producer.capture.listener import report_failure

Act = Callable[[], None]


class OwnThread:
    """The thread on which it was made, and what waits to be done on it.

    `find_loop` returns the event loop that runs there, as far as it is known. `failed` is called
    for what raised.
    """

    def __init__(
        self, find_loop: Callable[[], asyncio.AbstractEventLoop | None], failed: Act
    ) -> None:
        self._thread = threading.get_ident()
        self._find_loop = find_loop
        self._failed = failed
        self._waiting: deque[Act] = deque()
        self._afterwards = threading.Lock()  # nobody waits for it, and no voice loop tries it

    def do(self, act: Act) -> None:
        """Do something at once on this thread, or have it done soon; never waits, never raises."""
        self._waiting.append(act)
        loop = self._find_loop()
        # Another thread may have the number of one that has ended with its loop.
        if threading.get_ident() == self._thread and (loop is None or not loop.is_closed()):
            self.catch_up()
            return
        try:
            if loop is not None and loop.is_running():
                loop.call_soon_threadsafe(self.catch_up)
                return
        except RuntimeError:  # it was closed a moment ago
            pass
        # Who holds it looks again after releasing it. What is done may ask for more, as a log
        # handler that records does; that is done by the same one, afterwards.
        while self._waiting and self._afterwards.acquire(blocking=False):
            try:
                self.catch_up()
            finally:
                self._afterwards.release()

    def catch_up(self) -> None:
        """Do what waits."""
        while self._waiting:
            try:
                self._waiting.popleft()()
            except IndexError:  # another one was quicker
                return
            except Exception as error:  # noqa: BLE001 - nothing may reach the voice loop
                report_failure(error, self._failed)
