"""Names and texts as the event contract carries them.

No value is refused, because an error here would end the metering of a call: a name that is too long
is shortened, a telephone number is masked, text that cannot be encoded is replaced.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

MAX_NAME: Final = 128
_MAX_TEXT: Final = 256
_PHONE_NUMBER = re.compile(r"(?:\+|(?<!\d)00)\d[\d ().-]{5,20}\d|\d{9,}")


def name(value: Any, default: str) -> str:
    """Return `value` as a name the contract carries: 1 to 128 characters.

    A longer one keeps its head and ends in a hash of the whole, so that two long names do not
    become one; blank or absent gives `default`.
    """
    text = plain(value).strip() if value is not None else ""
    if not text:
        return default
    if len(text) <= MAX_NAME:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{text[: MAX_NAME - 17]}~{digest}"


def plain(value: Any) -> str:
    """Return `value` as text that can be encoded: JSON may bring half a surrogate pair."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def text(value: Any) -> str:
    """Return an identifying text of at most 256 characters, without telephone numbers.

    LiveKit names the rooms of telephone calls after the caller's number (`call-_+15551234567_x`).
    Text that begins like an international number, and any run of nine digits or more, becomes `#`.
    """
    return _PHONE_NUMBER.sub("#", plain(value or ""))[:_MAX_TEXT]
