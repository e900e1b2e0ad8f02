"""The end of a call costs one flush deadline at most, and later calls cost no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.endings import OUTBOXES, SERVERS, ends

DEADLINE_S = 1.5


@pytest.mark.parametrize("outbox", OUTBOXES)
@pytest.mark.parametrize("server", SERVERS)
async def test_all_hooks_of_all_ends_wait_for_one_deadline_together(
    server: str, outbox: str, tmp_path: Path
) -> None:
    """Two calls end and the process exits: what cannot become safe is waited for once, or never.

    Only a server that may still answer is worth that one wait; and the exit, where the process takes
    with it what no disk holds, is worth it while the server is away.
    """
    took = await ends(server, outbox, tmp_path, deadline_s=DEADLINE_S)
    # A wait that timed out took all of the deadline; at the exit a part is kept for storing.
    waited = [hook for hook, seconds in took.items() if seconds >= 0.75 * DEADLINE_S]
    if (server, outbox) == ("away", "impossible"):
        assert waited in ([], ["exit"]), took
    else:
        assert len(waited) <= (server in ("silent", "frozen")), took
