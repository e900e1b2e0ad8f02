"""Who bills speech recognition by the time that a connection is open: one table, with its sources.

LiveKit's plugins report the audio that they sent. For a provider that is not in this table nothing
is added to that: most bill audio, and of the others nobody has shown it. Soniox bills the whole
stream as well (https://soniox.com/docs/stt/rt/connection-keepalive), but its price is by tokens, so
seconds would have none.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Terms(Struct, frozen=True, kw_only=True):
    """How a provider bills a connection, and where it says so.

    `reports_rest` if LiveKit's plugin reports the rest itself when the connection closes (its newer
    versions do): then nothing may be booked before.
    """

    source: str
    reports_rest: bool = False


BY_CONNECTION: Final[dict[str, Terms]] = {
    "assemblyai": Terms(source="https://www.assemblyai.com/docs/billing-and-pricing"),
    "deepgram": Terms(
        # Three calls compared with Deepgram's own usage reports: 4.1 to 4.8 s a stream missing.
        source="https://github.com/livekit/agents/issues/5498",
        reports_rest=True,  # since https://github.com/livekit/agents/pull/5506, for Nova
    ),
    "livekit": Terms(source="https://docs.livekit.io/deploy/admin/billing"),
}
"""Normalised name of a provider → its terms. `livekit` is LiveKit Inference, whatever model it runs."""
