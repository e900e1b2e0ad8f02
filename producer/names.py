"""Names and texts as the event contract carries them.

No value is refused, because an error here would end the metering of a call: a name that is too long
is shortened, a telephone number is masked, text that cannot be encoded is replaced. Of a long value
only the beginning is read, because this runs on the voice loop: LiveKit allows 64 KiB of metadata
for a room, and names no bound for a job's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

MAX_NAME: Final = 128
MAX_LABELS: Final = 16
MAX_READ: Final = 16_384
"""How many characters of a name are looked at."""

_MAX_TEXT: Final = 256
_MAX_LABEL: Final = 64
# Twice what is kept, because masking shortens what comes before the end.
_MASKED: Final = 512
_PHONE_NUMBER: Final = re.compile(r"(?:\+|(?<!\d)00)\d[\d ().-]{5,20}\d|\d{9,}")
_DIGIT: Final = re.compile(r"\d")
_IN_A_NUMBER: Final = frozenset(" ().-+")
_CONTAINERS: Final = (Mapping, list, tuple, set, frozenset, bytes, bytearray, memoryview)


def name(value: Any, default: str) -> str:
    """Return `value` as a name the contract carries: 1 to 128 characters.

    A longer one keeps its head and ends in a hash of the whole, so that two long names do not
    become one; blank or absent gives `default`. Of more than 16,384 characters the hash is of the
    first 16,384 and the length.
    """
    text = plain(value).strip() if value is not None else ""
    if not text:
        return default
    length = len(value) if isinstance(value, str) else 0
    if len(text) <= MAX_NAME and length <= MAX_READ:
        return text
    whole = text.encode("utf-8", "replace")
    if length > MAX_READ:
        whole += b"~%d" % length
    digest = hashlib.blake2b(whole, digest_size=8).hexdigest()
    return f"{text[: MAX_NAME - 17]}~{digest}"


def plain(value: Any) -> str:
    """Return `value` as text that can be encoded: JSON may bring half a surrogate pair.

    A text is cut after 16,384 characters. What has parts, or no text of its own, is named by its
    type: nobody can tell beforehand how long writing it out would take.
    """
    if type(value) is str and len(value) <= MAX_READ and value.isascii():
        return value
    return _encodable(_written(value, MAX_READ))


def text(value: Any) -> str:
    """Return an identifying text of at most 256 characters, without telephone numbers.

    LiveKit names the rooms of telephone calls after the caller's number (`call-_+15551234567_x`).
    Text that begins like an international number, and any run of nine digits or more, becomes `#`.
    """
    head = "" if value is None else _written(value, _MASKED + 1)
    if len(head) > _MASKED:
        head = _before_a_number(head[:_MASKED])
    kept = _encodable(head)
    if _DIGIT.search(kept):  # ten times as fast as looking for a number everywhere
        kept = _PHONE_NUMBER.sub("#", kept)
    return kept[:_MAX_TEXT]


def labels(given: Mapping[Any, Any]) -> dict[str, str]:
    """Return labels as the contract carries them: of the first 16, keys and values made plain.

    A key has at most 64 characters. Where two keys become one, the later value stays, as it would
    if they had been equal.
    """
    return {
        _encodable(_written(key, _MAX_LABEL)): text(value)
        for key, value in islice(given.items(), MAX_LABELS)
    }


def _written(value: Any, length: int) -> str:
    """Return a value as text of at most so many characters."""
    if isinstance(value, str):
        # Not str(value): of an enumeration with texts that would be the name of the member.
        return str.__str__(value) if len(value) <= length else value[:length]
    if isinstance(value, _CONTAINERS):
        return f"<{type(value).__name__}>"
    try:
        return str(value)[:length]
    except Exception:  # noqa: BLE001 - a foreign object's own code, or an integer without end
        return f"<{type(value).__name__}>"


def _encodable(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _before_a_number(head: str) -> str:
    """Return a text without the number that its cut may have split: half a number is not masked."""
    end = len(head)
    while end and (head[end - 1].isdecimal() or head[end - 1] in _IN_A_NUMBER):
        end -= 1
    return head[:end]
