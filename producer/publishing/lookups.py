"""Threads for the publisher's event loop that end with the process, whatever they are doing.

The loop looks up host names in threads, and the interpreter waits at its exit for every thread of a
usual pool. A resolver that does not answer would hold the exit of a job process for many seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Lookups(ThreadPoolExecutor):
    """An executor with a daemon thread for each task: there are few, and they are short or hang."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Start `fn` in a thread of its own."""
        future: Future[_T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name="voicecosts-lookup", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as in the class above
        """Return at once: nothing that still runs is waited for."""
        super().shutdown(wait=False, cancel_futures=cancel_futures)
