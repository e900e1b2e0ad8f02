"""The class of a leg is worked out from what LiveKit says of it, and holds no number."""

from __future__ import annotations

import pytest

from voicecosts.producer.capture.telephony import LegClass, is_connected, leg_class

IN, OUT = {"sip.ruleID": "SDR_1"}, {"sip.ruleID": ""}
OWN, TRUNK = {"sip.trunkID": "PN_PPN_x"}, {"sip.trunkID": "ST_x"}
LOCAL, FREE = "+15105550123", "+18885550123"
CANADA, MOBILE = "+14165550123", "+4915112345678"


def numbers(trunk: str | None, other: str | None) -> dict[str, str]:
    """Return the two numbers of a call, of which one may be hidden."""
    known = {"sip.trunkPhoneNumber": trunk, "sip.phoneNumber": other}
    return {key: number for key, number in known.items() if number is not None}


@pytest.mark.parametrize(
    ("attributes", "carrier", "expected"),
    [
        # A number that was bought at LiveKit: LiveKit is the carrier.
        (IN | OWN | numbers(LOCAL, MOBILE), "", LegClass("us-local-inbound")),
        (IN | OWN | numbers(FREE, MOBILE), "", LegClass("us-tollfree-inbound")),
        (IN | OWN | numbers(LOCAL, None), "telnyx", LegClass("us-local-inbound")),
        (IN | numbers(LOCAL, FREE), "", LegClass("us-local-inbound")),  # takes no trunk
        (IN | TRUNK | numbers(LOCAL, FREE), "livekit", LegClass("us-local-inbound")),
        (IN | OWN | numbers(None, None), "", LegClass("unknown-inbound")),
        # A trunk of a third party, whose carrier nobody names.
        (IN | TRUNK | numbers(LOCAL, MOBILE), "", LegClass("sip-thirdparty")),
        (OUT | TRUNK | numbers(LOCAL, MOBILE), "", LegClass("sip-thirdparty")),
        (numbers(LOCAL, MOBILE), "", LegClass("sip-thirdparty")),
        ({}, "", LegClass("sip-thirdparty")),
        # The operator names the carrier.
        (
            IN | TRUNK | numbers(LOCAL, MOBILE),
            "telnyx",
            LegClass("sip-thirdparty", "telnyx", "us-local-inbound"),
        ),
        (
            IN | numbers(FREE, MOBILE),
            "telnyx",
            LegClass("sip-thirdparty", "telnyx", "us-tollfree-inbound"),
        ),
        (
            OUT | TRUNK | numbers(FREE, LOCAL),
            "telnyx",
            LegClass("sip-thirdparty", "telnyx", "us-local-outbound"),
        ),
        (
            OUT | TRUNK | numbers(LOCAL, CANADA),
            "telnyx",
            LegClass("sip-thirdparty", "telnyx", "ca-local-outbound"),
        ),
        (
            OUT | TRUNK | numbers(LOCAL, MOBILE),
            "telnyx",
            LegClass("sip-thirdparty", "telnyx", "de-mobile-outbound"),
        ),
        (
            OUT | TRUNK | numbers(LOCAL, "+919812345678"),
            "telnyx",
            LegClass("sip-thirdparty", "telnyx", "in-outbound"),
        ),
        (
            OUT | TRUNK | numbers(LOCAL, None),
            "telnyx",
            LegClass("sip-thirdparty", "telnyx", "unknown-outbound"),
        ),
        # What the call says of its carrier wins.
        (
            IN | TRUNK | numbers(LOCAL, MOBILE) | {"sip.twilio.callSid": "CA1"},
            "telnyx",
            LegClass("sip-thirdparty", "twilio", "us-local-inbound"),
        ),
        (
            OUT | TRUNK | numbers(LOCAL, FREE) | {"sip.twilio.accountSid": "AC1"},
            "",
            LegClass("sip-thirdparty", "twilio", "us-tollfree-outbound"),
        ),
    ],
)
def test_the_class_of_a_leg(attributes: dict[str, str], carrier: str, expected: LegClass) -> None:
    """A dispatch rule took it or it was dialled; the number that counts is the one called."""
    assert leg_class(attributes, carrier) == expected


@pytest.mark.parametrize(
    ("status", "is_up"),
    [
        ("active", True),
        ("automation", True),
        ("", True),
        ("dialing", False),
        ("ringing", False),
        ("hangup", False),
        ("something new", False),
    ],
)
def test_a_leg_is_up_from_the_answer_to_the_hangup(status: str, *, is_up: bool) -> None:
    """Only what carriers charge for counts; a leg without a status is in the room, so it is up."""
    assert is_connected({"sip.callStatus": status}) is is_up
    assert is_connected({})
