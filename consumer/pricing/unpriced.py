"""How much of a meter's usage is in no cost: the amounts behind "not in these costs".

Said in usage and not in rows, so that "3 requests of this model have no price" is true however the
usage was split into readings.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class UnpricedUsage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The part of a meter's running totals that its cost does not cover, in the same units.

    `requests` are those of the whole meter as soon as any of its usage has no price. Input and
    output tokens include what is cached, audio or reasoning among them. Durations are microseconds.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    other_tokens: int = 0
    characters: int = 0
    audio_us: int = 0
    session_us: int = 0


UNPRICED: Final[tuple[str, ...]] = UnpricedUsage.__struct_fields__
"""Their names; with `unpriced_` before it, each is a column of the ledger, in this order."""
