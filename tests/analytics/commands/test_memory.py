"""The bound on the memory of a process that answers."""

from __future__ import annotations

import resource
import sys

import pytest

from voicecosts.analytics.commands.memory import bounded_memory
from voicecosts.analytics.errors import TooMuchMemory


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is one of Linux")
def test_what_needs_more_is_an_error_and_the_bound_ends_with_the_block() -> None:
    """Also where a stricter bound was there already, which stays."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(TooMuchMemory, match="ask for fewer rows"), bounded_memory():
        bytearray(900 * 2**20)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    strict = 2**40
    resource.setrlimit(resource.RLIMIT_DATA, (strict, before[1]))
    try:
        with bounded_memory():
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] < strict
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == strict
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
