"""What a process has one of: its publishers, its attached sessions, and its end.

Sessions come and go; the publisher's thread stays. When the process ends, live sessions are
finalised and what is left is published for a bounded time. A forked child starts with nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Final

from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.publishing.prometheus import register
from voicecosts.producer.publishing.publisher import Publisher

logger = logging.getLogger(__name__)

_Key = tuple[tuple[str, ...], str | None, Path | None]


class Process:
    """The state of one process. `attachments` is keyed by the identity of the session object."""

    def __init__(self) -> None:
        self.attachments: dict[int, Attachment] = {}
        self._publishers: dict[_Key, Publisher] = {}
        self._parents: list[Publisher] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._at_exit: Finalize | None = None

    def publisher(self, config: ProducerConfig) -> Publisher:
        """Return the publisher for these servers, started at the first call."""
        key = (config.servers, config.credentials, config.outbox_dir)
        with self._lock:
            if self._pid != os.getpid():
                # Forked: the parent's threads are not here, and its sessions are not ours. Its
                # publishers are kept, so that the collector does not close their files.
                self._parents += self._publishers.values()
                self._pid = os.getpid()
                self.attachments, self._publishers, self._at_exit = {}, {}, None
                ATTRIBUTION.exit_all()
            publisher = self._publishers.get(key)
            if publisher is None:
                publisher = self._publishers[key] = Publisher(config)
                register(self.publishers)
            if self._at_exit is None:
                # Unlike atexit this also runs in the children of multiprocessing, which is what
                # LiveKit's job processes are.
                self._at_exit = Finalize(None, self.close, exitpriority=100)
            return publisher

    def publishers(self) -> list[Publisher]:
        """Return the publishers that run."""
        return list(self._publishers.values())

    def attachments_of(self, job_id: str) -> list[Attachment]:
        """Return the attached sessions of a job."""
        return [it for it in list(self.attachments.values()) if it.identity.job_id == job_id]

    def detach_ended(self) -> None:
        """Detach from sessions whose loop is gone: it took the delayed end of listening with it.

        A worker that runs its calls in threads would otherwise keep every session it ever had.
        """
        for attachment in list(self.attachments.values()):
            loop = getattr(attachment.session, "_loop", None)
            if attachment.finalised and loop is not None and loop.is_closed():
                attachment.detach()

    def forget(self, session: object) -> None:
        """A session is over and no longer listened to."""
        self.attachments.pop(id(session), None)

    def close(self) -> None:
        """Finalise what is live and publish what is left; called when the process ends."""
        for attachment in list(self.attachments.values()):
            attachment.finalise(status="cancelled", reason="process exit")
        for publisher in list(self._publishers.values()):
            publisher.close(publisher.config.flush_timeout_s)
        self._publishers.clear()


PROCESS: Final = Process()
"""This process."""
