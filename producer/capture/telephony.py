"""The class of a telephone call: who carries it, which way it goes, what number it is.

Read from the attributes that LiveKit gives a SIP participant
(https://docs.livekit.io/reference/telephony/sip-participant/). They hold telephone numbers; what
this module returns holds none: the class is all that leaves the worker. Classes are spelled as the
price list spells them: `us-local-inbound`, `us-tollfree-inbound`, `sip-thirdparty`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from voicecosts.producer.capture.numbering import place

LIVEKIT: Final = "livekit"
"""The carrier of a number that was bought at LiveKit."""

_THIRD_PARTY: Final = "sip-thirdparty"
"""What LiveKit charges for a leg over a trunk that is not its own."""

_OWN_NUMBER: Final = "PN_"
"""How LiveKit's id of a number of its own begins; that of a third party's trunk begins `ST_`."""

_TWILIO: Final = "sip.twilio."
_TALKING: Final = frozenset({"active", "automation"})


class LegClass(NamedTuple):
    """What a leg is at LiveKit, and at its carrier where that is another and is known."""

    at_livekit: str
    carrier: str = ""
    at_carrier: str = ""


def leg_class(attributes: Mapping[str, str], carrier: str = "") -> LegClass:
    """Return the class of a leg by the attributes of its SIP participant.

    `carrier` is whom the operator names; what the attributes say wins over it. An inbound call has
    the id of the dispatch rule that took it, and the number that counts is the one that was called:
    the trunk's. Any other call was dialled, and the callee's number counts. LiveKit takes calls
    without a trunk on its own numbers only.
    """
    is_inbound = bool(attributes.get("sip.ruleID"))
    number = attributes.get("sip.trunkPhoneNumber" if is_inbound else "sip.phoneNumber")
    kind = f"{place(number)}-{'inbound' if is_inbound else 'outbound'}"
    trunk = attributes.get("sip.trunkID", "")
    if any(key.startswith(_TWILIO) for key in attributes):
        carrier = "twilio"
    elif trunk.startswith(_OWN_NUMBER) or (is_inbound and not trunk and not carrier):
        carrier = LIVEKIT
    if carrier == LIVEKIT:
        return LegClass(kind)
    return LegClass(_THIRD_PARTY, carrier, kind if carrier else "")


def is_connected(attributes: Mapping[str, str]) -> bool:
    """Whether a leg is up: answered, and not hung up. One that does not say so is up."""
    status = attributes.get("sip.callStatus", "")
    return not status or status in _TALKING
