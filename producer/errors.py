"""What can go wrong in a worker, outside of a call.

ProducerError
├── ConfigError        the observer was configured with something it cannot use
└── PublishError       a batch was not acknowledged
    ├── NotNow         the server, the stream or the network is not ready: keep and retry
    └── NeverAccepted  the server will refuse this message every time

Nothing here is ever raised into a call: a `ConfigError` appears where the observer is made, at the
start of the worker; the others live and end in the publisher's thread.
"""

from __future__ import annotations


class ProducerError(Exception):
    """Root of this package's errors."""


class ConfigError(ProducerError):
    """The configuration of an observer has one or more problems."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PublishError(ProducerError):
    """A batch was not acknowledged."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotNow(PublishError):  # noqa: N818 - it reads as what it means at the place of use
    """The batch was not accepted this time; a later try may be."""


class NeverAccepted(PublishError):  # noqa: N818 - as NotNow
    """No retry can make the server accept this batch."""
