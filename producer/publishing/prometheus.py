"""The publishers' counts as Prometheus metrics, if `prometheus_client` is installed.

Registered once per process; without the package nothing happens and nothing is imported. The
numbers are read when they are asked for, so they cost nothing between two scrapes.

They are those of one process. LiveKit serves metrics in the worker's main process, and runs a call
in a process of its own unless the worker uses threads: its counts are then on no page, also not in
`prometheus_client`'s multiprocess mode, which has no place for numbers that are read when asked for.
What was lost there reaches the ledger with the events, as producer reports.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, Final

from voicecosts.producer.outbox.own import OutboxState
from voicecosts.producer.publishing.reports import ConnectionState

if TYPE_CHECKING:
    from voicecosts.producer.publishing.publisher import Publisher

logger = logging.getLogger(__name__)

_COUNTERS: Final = {
    "captured": "Events taken from sessions.",
    "published": "Events that JetStream has acknowledged, or a ledger of the host booked.",
    "retried": "Messages that were not accepted and are sent again.",
    "coalesced": "Readings that a newer one of their meter replaced.",
    "dropped": "Events lost for lack of room.",
    "refused": "Events that no server will ever accept.",
    "quarantined": "Refused events that are kept on disk.",
    "unattributed": "Usage events that belong to no session.",
    "unmeasured": "Usage events that could not be measured.",
}
_GAUGES: Final = {
    "waiting": "Events captured and not acknowledged.",
    "outbox_rows": "Messages on disk.",
    "outbox_bytes": "Bytes of messages on disk.",
    "oldest_age_seconds": "How long the oldest message has waited.",
    "connected": "1 while JetStream accepts what is published, 0 before the first message.",
    "outbox_on_disk": "1 while events can wait on disk, 0 while they wait in memory.",
}

_CONNECTED: Final = (ConnectionState.CONNECTED, ConnectionState.NO_SERVER)
_ON_DISK: Final = (OutboxState.UNUSED, OutboxState.ON_DISK)

_registered = False


def register(publishers: Callable[[], Sequence[Publisher]]) -> None:
    """Offer the counts of these publishers to Prometheus, once per process.

    In a job process of LiveKit nobody scrapes them, which is logged for debugging: there the
    ledger's view `losses` and `costs audit` have what the reports say.
    """
    global _registered  # noqa: PLW0603 - the registry of prometheus_client is the process's too
    if _registered or find_spec("prometheus_client") is None:
        return
    _registered = True
    if parent_process() is not None:
        logger.debug(
            "LiveKit does not serve the metrics of this job process: `costs audit` shows its losses"
        )
    try:
        from prometheus_client import REGISTRY  # noqa: PLC0415 - only where it is installed

        REGISTRY.register(_Collector(publishers))
    except Exception:
        logger.exception("the publisher's counts could not be registered with Prometheus")


class _Collector:
    """What `prometheus_client` calls at every scrape."""

    def __init__(self, publishers: Callable[[], Sequence[Publisher]]) -> None:
        self._publishers = publishers

    def describe(self) -> list[Any]:
        """Return nothing at registration: the counts are known later."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield every count, summed over the publishers of the process."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - only where it is installed

        every = [publisher.stats() for publisher in self._publishers()]
        for name, text in _COUNTERS.items():
            family = CounterMetricFamily(f"voicecosts_producer_{name}", text)
            family.add_metric([], sum(getattr(stats, name) for stats in every))
            yield family
        values = {
            "waiting": sum(stats.waiting for stats in every),
            "outbox_rows": sum(stats.outbox_rows for stats in every),
            "outbox_bytes": sum(stats.outbox_bytes for stats in every),
            "oldest_age_seconds": max((stats.oldest_age_us for stats in every), default=0) / 1e6,
            "connected": int(all(stats.connection in _CONNECTED for stats in every)),
            "outbox_on_disk": int(all(stats.outbox in _ON_DISK for stats in every)),
        }
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"voicecosts_producer_{name}", text)
            gauge.add_metric([], values[name])
            yield gauge
