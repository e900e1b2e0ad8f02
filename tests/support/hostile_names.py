"""Names that somebody chose to harm who reads them, as names of tenants; and a ledger of their calls."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID

from tests.support.sample_ledger import Booking, day, write_ledger, write_status

NAMES: Final = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "https://elsewhere.example/logo.png",
    "![a](https://elsewhere.example/a.png) [b](javascript:document.title='owned')",
    "<style>body{display:none}</style><iframe src=//elsewhere.example></iframe>",
    "data:image/svg+xml,<svg onload=document.title='owned'>",
    "control\x1b[31m\x00\n\u202ereversed",
    "'; DROP VIEW usage; --",
    "$$\\frac{a}{b}$$ {{7*7}} ::marimo",
    "=cmd|' /C calc'!A0",
    "long-" + "w" * 2_000,
)


def write_hostile(directory: Path) -> Path:
    """Write a ledger in which each of them has a call, and is the name of everything else as well."""
    bookings = [
        Booking(
            occurred_at=day(20),
            session_id=UUID(f"01a1f82f-1e80-7000-8000-{number:012x}"),
            tenant=name,
            agent_id=name,
            agent_label=name,
            provider=name,
            model=name,
            modality="llm" if number % 2 else name,
            requests=3,
            cost=None if number % 3 else "0.100000000",
            unpriced_reason=name if number % 3 else None,
        )
        for number, name in enumerate(NAMES, 1)
    ]
    write_ledger(directory, bookings)
    write_status(directory)
    return directory
