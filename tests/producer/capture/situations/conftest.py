"""A situation for each test, whose usage is conserved in the end whatever the test asserts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.situation import Situation, new_situation


@pytest.fixture
def situation() -> Iterator[Situation]:
    """Give a worker process without calls."""
    with new_situation() as situation:
        yield situation
