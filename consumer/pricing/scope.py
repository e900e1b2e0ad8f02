"""Whose usage it was, as far as a price of the operator may depend on it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Scope(Struct, frozen=True, kw_only=True):
    """The identity of a session that a price may be limited to.

    A session without a tenant has `None`, and a price for a tenant never applies to it. `labels`
    are the session's own, by name.
    """

    project: str
    agent_id: str
    tenant: str | None = None
    labels: Mapping[str, str] = {}
