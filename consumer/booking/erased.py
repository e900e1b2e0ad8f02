"""Tenants that were erased: known by a salted digest, so that what is kept of them names nobody. Pure.

The salt keeps digests of two erasures apart. It does not hide a name from who has the ledger and a list of names to
try: nothing that can recognise a name could.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

_REMEMBERED: Final = 10_000


class Erasure(Struct, frozen=True):
    """One erasure: its operation, the project it was of (`None`: all), salt and digest."""

    operation: int
    project: str | None
    salt: str
    digest: str


class Erased:
    """The erasures that are in force."""

    def __init__(self, erasures: Iterable[Erasure] = ()) -> None:
        self._erasures = tuple(erasures)
        self._found: dict[tuple[str, str], int | None] = {}

    def __repr__(self) -> str:
        return f"<Erased: {len(self._erasures)}>"

    def __bool__(self) -> bool:
        """Whether anything was erased."""
        return bool(self._erasures)

    def by(self, project: str, tenant: str | None) -> int | None:
        """Return the operation that erased a tenant; `None` where none did."""
        if not self._erasures or tenant is None:
            return None
        if (project, tenant) not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[project, tenant] = next(
                (
                    each.operation
                    for each in self._erasures
                    if each.project in (None, project) and each.digest == digest(each.salt, tenant)
                ),
                None,
            )
        return self._found[project, tenant]


NOBODY: Final = Erased()


def digest(salt: str, tenant: str) -> str:
    """Return what a tenant is known by."""
    return hashlib.sha256(f"{salt}\0{tenant}".encode()).hexdigest()
