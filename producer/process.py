"""What a process has one of: its publishers, its attached sessions, and its end.

Sessions come and go; the publisher's thread stays. When the process ends, live sessions are
finalised and what is left is published for a bounded time. A forked child starts with nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from voicecosts.producer.capture.account import Account
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.publishing.prometheus import register
from voicecosts.producer.publishing.publisher import Publisher, close_all
from voicecosts.producer.tls import Tls

logger = logging.getLogger(__name__)

_Key = tuple[str, tuple[str, ...], str | None, Tls, Path | None]

_CLOSED_OF_A_JOB: Final = 8
"""Sessions of a job that have closed and are still listened to; the oldest are let go."""

_IDLE_WITHOUT_A_JOB: Final = 256
"""Sessions without a job that are attached and not started yet."""

_KNOWN_BY_ID: Final = 256
"""Sessions that are over and are known by their ids, whoever holds them: the last ones."""


class Process:
    """The state of one process. `attachments` is keyed by the identity of the session object."""

    def __init__(self) -> None:
        self.attachments: dict[int, Attachment] = {}
        # Those that are over, while somebody holds the session: it leads to its attachment.
        self._over: WeakValueDictionary[int, Attachment] = WeakValueDictionary()
        # What is counted of those that are over last, whether or not somebody holds them.
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._publishers: dict[_Key, Publisher] = {}
        self._hooked: WeakKeyDictionary[Any, set[Publisher]] = WeakKeyDictionary()
        self._parents: list[Publisher] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._at_exit: Finalize | None = None

    def publisher(self, config: ProducerConfig) -> Publisher:
        """Return the publisher for this project and these servers, started at the first call."""
        key = (config.project, config.servers, config.credentials, config.tls, config.outbox_dir)
        with self._lock:
            if self._pid != os.getpid():
                # Forked: the parent's threads are not here, and its sessions are not ours. Its
                # publishers are kept, so that the collector does not close their files.
                self._parents += self._publishers.values()
                self._pid = os.getpid()
                self.attachments, self._publishers, self._at_exit = {}, {}, None
                self._hooked = WeakKeyDictionary()
                self._over = WeakValueDictionary()
                self._accounts = OrderedDict()
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

    def forked(self) -> None:
        """In a child, at once: a thread of the parent may have held the lock, and is not here."""
        self._lock = threading.Lock()

    def publishers(self) -> list[Publisher]:
        """Return the publishers that run."""
        return list(self._publishers.values())

    def attachments_of(self, job_id: str) -> list[Attachment]:
        """Return the attached sessions of a job, by the id that LiveKit gives it."""
        return [it for it in list(self.attachments.values()) if it.job_id == job_id]

    def find(self, session: Any) -> Attachment | Account | None:
        """Return what counts for a session, also after its end; from any thread.

        `session` is the session object, which is whatever it started as last, or an attachment or
        an id, which are of one session of the ledger for good. In a forked child there is none: the
        sessions are its parent's. Takes no lock.
        """
        if self._pid != os.getpid():
            return None
        if isinstance(session, Attachment):
            return session.account if session.finalised else session
        if isinstance(session, str):
            for each in (*list(self.attachments.values()), *list(self._over.values())):
                if each.session_id == session:
                    return each.account if each.finalised else each
            return self._accounts.get(session)
        return self.attachment_of(session)

    def attachment_of(self, session: Any) -> Attachment | None:
        """Return the newest attachment of a session object."""
        for attachments in (self.attachments, self._over):
            found = attachments.get(id(session))
            if found is not None and found.session is session:
                return found
        return None

    def hook(self, job: Any, publisher: Publisher) -> bool:
        """Whether a job has no shutdown callback for a publisher yet; from now on it has."""
        with self._lock:
            hooked = self._hooked.setdefault(job, set())
            is_first = publisher not in hooked
            hooked.add(publisher)
        return is_first

    def detach_ended(self, job_id: str) -> None:
        """Detach from sessions that cannot report anything more.

        Where a worker runs its calls in threads, a loop that has ended took the delayed end of
        listening with it. A job that opens session after session keeps the last few that closed,
        because it may still summarise them. Without a job nothing tells that a session will never
        be started; the oldest of very many are ended, and a start would begin them anew.
        """
        ATTRIBUTION.held.release_old()
        closed, idle = [], []
        for attachment in list(self.attachments.values()):
            loop = getattr(attachment.session, "_loop", None)
            if attachment.finalised and loop is not None and loop.is_closed():
                attachment.detach()
            elif attachment.closed.is_set() and attachment.job_id == job_id:
                closed.append(attachment)
            elif attachment.job is None and not attachment.finalised and not attachment.is_running:
                idle.append(attachment)
        for attachment in closed[:-_CLOSED_OF_A_JOB]:
            attachment.detach()
        for attachment in idle[:-_IDLE_WITHOUT_A_JOB]:
            attachment.finalise(status="cancelled", reason="never started")

    def forget(self, attachment: Attachment) -> None:
        """A session is over and no longer listened to."""
        self._over[id(attachment.session)] = attachment
        self._accounts[attachment.session_id] = attachment.account
        with contextlib.suppress(KeyError):  # another thread was quicker
            while len(self._accounts) > _KNOWN_BY_ID:
                self._accounts.popitem(last=False)
        if self.attachments.get(id(attachment.session)) is attachment:
            del self.attachments[id(attachment.session)]

    def close(self) -> None:
        """Finalise what is live and publish what is left; called when the process ends."""
        ATTRIBUTION.held.release()
        for attachment in list(self.attachments.values()):
            attachment.finalise(status="cancelled", reason="process exit")
        for attachment in list(self._over.values()):
            attachment.catch_up()
        for account in list(self._accounts.values()):
            account.thread.catch_up()
        publishers = list(self._publishers.values())
        if publishers:
            close_all(publishers, max(each.config.flush_timeout_s for each in publishers))
        self._publishers.clear()


PROCESS: Final = Process()
"""This process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PROCESS.forked)
