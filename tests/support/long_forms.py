"""Which examples of a test are tried in every run, and which in its long form alone (`pytest -m slow`)."""

from __future__ import annotations

from typing import Any

import pytest


def later(*examples: object) -> list[Any]:
    """Return examples for `parametrize` that only the long form tries; one of several arguments is a tuple."""
    return [
        pytest.param(*(it if isinstance(it, tuple) else (it,)), marks=pytest.mark.slow)
        for it in examples
    ]
