"""A LiveKit job around a call, without a worker, that leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from livekit.agents import JobContext

from voicecosts.producer.demo.jobs import fake_job_context


@contextlib.contextmanager
def job(job_id: str, **options: Any) -> Iterator[JobContext]:
    """Run the body inside a job; LiveKit's own helper leaves its directory to the collector."""
    with fake_job_context(job_id=job_id, **options) as context:
        try:
            yield context
        finally:
            context._tempdir.cleanup()
