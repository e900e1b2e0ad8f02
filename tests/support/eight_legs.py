"""A telephone call with eight legs, whose providers keep books, and the prices that it is booked by.

Recognition, a language model, a voice and both detectors serve the caller first; then a realtime
model takes the call over. The agent is connected all the time, the caller by telephone for a part of
it, and an avatar is recorded by the worker itself.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from livekit.agents import Agent, AgentSession

from tests.support.conservation import Amounts, added, billed
from tests.support.detectors import ScriptedInterruptionDetector, ScriptedTurnDetector
from tests.support.pool_agents import QUIET
from tests.support.realtime import ScriptedRealtime
from tests.support.rooms import CALLER, SIP, Clock, ScriptedRoom, room_job
from tests.support.scripted import Pieces
from tests.support.waiting import until
from voicecosts import CostObserver
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS

TWILIO: Final = {**CALLER, "sip.trunkID": "ST_1", "sip.twilio.callSid": "CA1"}
"""Somebody who calls a number of Twilio's."""

RANG_S: Final = 30
TALKED_S: Final = 61
AFTER_S: Final = 9

AVATAR_S: Final = (Decimal("10.5"), Decimal("1.845678"))
"""An avatar is recorded in two parts; a minimum counts once for both."""

PRICES: Final = """
[[exchange]]
currency = "EUR"
usd = "1.0850"

[[cost]]                        # the list has a price: a contract in euros stands over it
provider = "gladia"
unit = "hour"
price = "0.6100"
currency = "EUR"

[[cost]]
provider = "cartesia"
discount = "15 %"

[[cost]]
provider = "livekit"
modality = "interruption"
unit = "request"
price = "0.0001"

[[cost]]
provider = "livekit"
modality = "turn_detector"
unit = "request"
price = "0.00025"

[[cost]]
provider = "livekit"
modality = "agent_session"
unit = "minute"
price = "0.01"
increment = "60 s"

[[cost]]
provider = "twilio"
unit = "minute"
price = "0.0078"
increment = "60 s"

[[cost]]
provider = "tavus"
modality = "avatar"
unit = "minute"
price = "0.37"
minimum = "30 s"
increment = "1 s"

[[billed]]
tenant = "acme"
markup = "20 %"

[[billed]]
tenant = "globex"
unit = "minute"
price = "0.12"
increment = "60 s"
"""


class ListedRealtime(ScriptedRealtime):
    """A realtime model of which the price list knows."""

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return "api.openai.com"


class EightLegs:
    """One call of a tenant. `number` is in all that is said, so that each book knows the call."""

    def __init__(self, number: int, tenant: str) -> None:
        self.number = number
        self.tenant = tenant
        self.model = ScriptedLLM(model="gpt-4.1-mini", provider="api.openai.com")
        self.ear = ScriptedSTT(model="solaria-1", provider="Gladia")
        self.voice = ScriptedTTS(model="sonic-3", provider="Cartesia")
        self.realtime = ListedRealtime(model="gpt-realtime")
        self.turns = ScriptedTurnDetector()
        self.interruptions: ScriptedInterruptionDetector | None = None

    def books(self) -> Amounts:
        """Return what the providers counted: leg → quantity → amount.

        A leg is a modality; of a telephone call there is one at LiveKit and one at the carrier. Time
        is counted by the script's clock.
        """
        keepers = (self.model, self.ear, self.voice, self.realtime, self.turns, self.interruptions)
        minutes = {
            "agent_session": RANG_S + TALKED_S + AFTER_S,
            "telephony at livekit": TALKED_S,
            "telephony at twilio": TALKED_S,
        }
        clocks = {
            name: {"session_us": seconds * 1_000_000, "requests": 1}
            for name, seconds in minutes.items()
        }
        avatar = {"session_us": int(sum(AVATAR_S) * 1_000_000)}
        return added(billed(self.number, *keepers), clocks, {"avatar": avatar})

    async def run(self, observer: CostObserver, clock: Clock) -> None:
        """Run the call to its end."""
        room, number = ScriptedRoom(), self.number
        with room_job(room.room, job_id=f"job-{number}") as context:
            options = {
                **QUIET,
                "vad": Pieces(samples=10**9),
                "turn_handling": {
                    "turn_detection": self.turns,
                    "interruption": {"mode": "adaptive"},
                },
                "aec_warmup_duration": None,
            }
            session: AgentSession[Any] = AgentSession(
                llm=self.model, stt=self.ear, tts=self.voice, **options
            )
            microphone = session_io(session, number)
            observer.attach(session, agent_id="dental", tenant=self.tenant, job=context)
            room.connect()
            await session.start(Agent(instructions="Be brief."))
            await clock.skip(RANG_S)
            room.join("sip_caller", SIP, TWILIO)
            microphone.say(2.35)
            await until(lambda: number in self.turns.streams)
            for _ in range(3):
                await self.turns.streams[number].predict()
            detector = session._activity._interruption_detector
            assert isinstance(detector, ScriptedInterruptionDetector)
            self.interruptions = detector
            detector.ask(number, requests=4)
            await session.run(user_input=f"#{number}# is there anything on Tuesday?")
            await session.run(user_input=f"#{number}# and on Wednesday, in the afternoon?")
            detector.ask(number, requests=3)
            for seconds in AVATAR_S:
                observer.record(
                    session,
                    modality="avatar",
                    provider="tavus",
                    model="phoenix-3",
                    agent_label="avatar",
                    session_seconds=seconds,
                )
            await take_over(session, Agent(instructions="x", llm=self.realtime, stt=None, tts=None))
            await clock.skip(TALKED_S)
            room.leave("sip_caller")
            for _ in range(2):
                text = f"#{number}# that one, please"
                await session.generate_reply(user_input=text).wait_for_playout()
            await clock.skip(AFTER_S)
            await session.aclose()
        assert await observer.flush(10)


async def take_over(session: AgentSession[Any], agent: Agent) -> None:
    """Hand a call over to another agent, and wait until that one may speak."""
    session.update_agent(agent)
    await until(
        lambda: (
            (activity := session._activity) is not None
            and activity.agent is agent
            and activity.realtime_llm_session is not None
            and not activity.scheduling_paused
        )
    )
