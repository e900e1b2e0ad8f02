"""Whether the servers' names are names at all: a typing error should be told at once.

An outage is waited out, but a host that nobody has heard of will hardly come up. Still a name is asked
for a few seconds, because a neighbouring container has its name only when it runs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from voicecosts.consumer.errors import BrokerUnreachable
from voicecosts.producer.settings import mask

PATIENCE_S = 3.0

_PAUSE_S = 0.3
_NO_SUCH_NAME: Final = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)
}


def require_known(servers: Sequence[str]) -> None:
    """Return when one of the servers' hosts is known, or when that cannot be found out now.

    Raises:
        BrokerUnreachable: No host has any of these names.
    """
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in servers)
    until = time.monotonic() + PATIENCE_S
    while not any(map(_may_exist, hosts)):
        if time.monotonic() >= until:
            names = " or ".join(map(repr, hosts))
            raise BrokerUnreachable([mask(url) for url in servers], f"no host is called {names}")
        time.sleep(_PAUSE_S)


def _may_exist(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return error.errno not in _NO_SUCH_NAME
    except (OSError, UnicodeError):
        return True
    return True
