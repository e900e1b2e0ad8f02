"""Comparing the ledger with somebody else's count of the same usage.

Measured usage only: what was estimated has no counterpart in a provider's books. Every quantity of
every group is compared, and a group that only one side knows is a difference too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import duckdb

_COMPARED: Final = (
    "requests",
    "input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "characters",
    "audio_us",
)

_BOOKED: Final = f"""
    SELECT tenant, agent_id, modality, provider_raw, model,
           {", ".join(f"sum({name})::BIGINT" for name in _COMPARED)}
    FROM usage
    WHERE NOT estimated
    GROUP BY ALL
"""  # noqa: S608 - the names above, nothing from outside


class Billed(Protocol):
    """What one provider billed for the calls of one tenant to one agent."""

    @property
    def tenant(self) -> str | None:
        """The tenant, None where a call had none."""

    @property
    def agent_id(self) -> str:
        """The agent that the calls were routed to."""

    @property
    def modality(self) -> str:
        """The kind of provider."""

    @property
    def provider(self) -> str:
        """The provider as it calls itself."""

    @property
    def model(self) -> str:
        """The model."""

    @property
    def quantities(self) -> Mapping[str, int]:
        """Quantity → amount; what is not there is zero."""


def compare(ledger: duckdb.DuckDBPyConnection, billed: Iterable[Billed]) -> tuple[list[str], int]:
    """Return the differences as sentences, and how many quantities were compared."""
    booked = {
        tuple(row[:5]): dict(zip(_COMPARED, row[5:], strict=True))
        for row in ledger.execute(_BOOKED).fetchall()
    }
    expected = {
        (it.tenant, it.agent_id, it.modality, it.provider, it.model): it.quantities for it in billed
    }
    differences: list[str] = []
    compared = 0
    for group in sorted({*booked, *expected}, key=str):
        ours, theirs = booked.get(group, {}), expected.get(group, {})
        for name in _COMPARED:
            compared += 1
            if ours.get(name, 0) != theirs.get(name, 0):
                differences.append(
                    f"{' / '.join(str(part) for part in group)}: {name} booked "
                    f"{ours.get(name, 0)}, billed {theirs.get(name, 0)}"
                )
    return differences, compared
