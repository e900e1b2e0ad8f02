"""Runs an example as `python examples/<name>.py` would, where there is no room to connect to.

Job processes import this program again before they run a job, and so have the stand-in as well.
"""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest
from livekit.agents import cli

from tests.support.dispatch import stand_in_room

EXAMPLES = Path(__file__).parents[2] / "examples"

stand_in_room()

if __name__ == "__main__":
    name = sys.argv.pop(1)
    sys.path.insert(0, str(EXAMPLES))
    if name == "openrtc_worker":
        from tests.support import openrtc_pool

        openrtc_pool.stand_in(pytest.MonkeyPatch())
    server = importlib.import_module(name).server
    # A busy machine would have it refuse calls; nothing is to be reached from outside.
    server.update_options(num_idle_processes=0, load_threshold=math.inf)
    server._host, server._port = "127.0.0.1", 0
    cli.run_app(server)
