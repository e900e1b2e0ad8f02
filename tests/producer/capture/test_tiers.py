"""Service tiers: each request is counted on the meter of the tier that its provider bills.

Real sessions, with models shaped as LiveKit's plugins are, and LiveKit Inference's own model against
a gateway on loopback. Each keeps its books by what it was sent.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, Callable
from enum import Enum
from typing import Any, Final

import pytest
from livekit.agents import Agent, AgentSession, inference, llm
from livekit.agents.llm._realtime.gpt_live import GPTLiveModel
from livekit.agents.metrics import LLMMetrics
from livekit.agents.metrics.base import Metadata
from livekit.agents.types import NOT_GIVEN

from tests.support.conservation import assert_conserved, assert_one_end
from tests.support.interrupted_call import attach
from tests.support.interruptible import InterruptibleLLM, Moments
from tests.support.pool_agents import QUIET
from tests.support.realtime import ScriptedRealtime
from tests.support.recorder import Recorder
from tests.support.tiered import KEYS, Gateway, GoogleTier, TieredLLM
from tests.support.waiting import until
from tests.support.wrappers import ChoosingLLM, DelegatingLLM, GuardingLLM
from voicecosts.consumer.pricing.own.keys import Mistake, selector
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.capture.tiers import STANDARD, tier_name
from voicecosts.producer.events import Batch, encode, version_of

OPENAI: Final = "api.openai.com"
GROQ: Final = "api.groq.com"
AZURE: Final = "acme.openai.azure.com"


@pytest.fixture(autouse=True)
def _no_warnings_of_livekit() -> None:
    logging.getLogger("livekit").setLevel(logging.ERROR)


class Talk:
    """A metered session, and what was counted of it by tier."""

    def __init__(self, model: Any, *keepers: Any, **options: Any) -> None:
        self.session: AgentSession[Any] = AgentSession(llm=model, **{**QUIET, **options})
        self.keepers = keepers or (model,)
        self.recorder = Recorder()
        self.attachment = attach(self.session, self.recorder)

    async def say(self, *texts: str, agent: Agent | None = None) -> Talk:
        """Start, have each text answered, and end."""
        await self.session.start(agent or Agent(instructions="Be brief."))
        for text in texts or ("When do you close?",):
            await self.session.run(user_input=text)
        return await self.end()

    async def end(self, *, interrupted: bool = False) -> Talk:
        """End the session; whatever it used is conserved."""
        await self.session.aclose()
        await self.attachment.closed.wait()
        self.attachment.detach()
        ATTRIBUTION.held.release()
        assert_conserved(self.recorder, *self.keepers, interrupted=interrupted)
        assert_one_end(self.recorder, self.attachment.session_id)
        return self

    def tiers(self, quantity: str = "requests", *, estimated: bool = False) -> dict[str, int]:
        """Return tier → total of a language or realtime model, from the end of the session."""
        found: Counter[str] = Counter()
        for meter in self.recorder.ends()[-1].meters:
            if meter.modality in {"llm", "realtime"} and meter.estimated is estimated:
                found[meter.service_tier] += getattr(meter.totals, quantity)
        return {tier: amount for tier, amount in found.items() if amount}


def openai(tier: Any = NOT_GIVEN, **options: Any) -> Callable[[], TieredLLM]:
    """Return how to make a model of OpenAI."""
    return lambda: TieredLLM(OPENAI, tier, **options)


def groq(tier: Any = NOT_GIVEN, **options: Any) -> Callable[[], TieredLLM]:
    """Return how to make a model of Groq."""
    return lambda: TieredLLM(GROQ, tier, **options)


def google(tier: Any = NOT_GIVEN, *, vertex: bool = False) -> Callable[[], TieredLLM]:
    """Return how to make a model of Google."""
    return lambda: TieredLLM("Vertex AI" if vertex else "Gemini", tier)


def azure(tier: Any = NOT_GIVEN, **options: Any) -> Callable[[], TieredLLM]:
    """Return how to make a model of Azure."""
    return lambda: TieredLLM(AZURE, tier, **options)


CONFIGURED: Final = {
    "openai priority": (openai("priority"), "priority"),
    "openai flex": (openai("flex"), "flex"),
    "openai auto": (openai("auto"), ""),
    "openai default": (openai("default"), ""),
    "openai not given": (openai(), ""),
    "openai none": (openai(None), ""),
    "openai, as somebody typed it": (openai(" Priority\n"), "priority"),
    "openai in the body": (openai(extra_body={"service_tier": "flex"}), "flex"),
    "openai priority, served as the standard one": (openai("priority", served="default"), ""),
    "openai auto, served as priority by the project": (
        openai("auto", served="priority"),
        "priority",
    ),
    "openai priority, of which nothing is said": (openai("priority", served="auto"), "priority"),
    "groq flex": (groq("flex"), "flex"),
    "groq performance": (groq("performance"), "performance"),
    "groq on demand": (groq("on_demand"), ""),
    "groq auto, whose answer decides no price": (groq("auto", served="flex"), ""),
    "google priority": (google(GoogleTier.PRIORITY), "priority"),
    "google flex by its text": (google("flex"), "flex"),
    "google standard": (google(GoogleTier.STANDARD), ""),
    "google unspecified": (google(GoogleTier.UNSPECIFIED), ""),
    "vertex priority": (google(GoogleTier.PRIORITY, vertex=True), "priority"),
    "vertex not given": (google(vertex=True), ""),
    "azure not given": (azure(served="default"), ""),
    "azure with a deployment of priority": (azure(served="priority"), "priority"),
}
"""A model → the tier that its provider bills."""


@pytest.mark.parametrize("case", CONFIGURED)
async def test_a_request_is_counted_on_the_meter_of_its_tier(case: str) -> None:
    """The provider's own name of the tier; the standard one has none, and its bytes stay as they were."""
    make, tier = CONFIGURED[case]
    model = make()
    talk = await Talk(model).say()
    assert talk.tiers() == {tier: 1}
    assert talk.tiers("input_tokens") == {
        tier: sum(b["input_tokens"] for b in model.received.values())
    }
    assert {version_of(each) for each in talk.recorder.readings()} == {2 if tier else 1}
    assert (
        b"service_tier" in encode(Batch(producer_id="p", number=1, events=talk.recorder.readings()))
    ) == bool(tier)


LIVEKIT: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "priority": ({"inference_class": "priority"}, "priority"),
    "low": ({"inference_class": "low"}, "low"),
    "standard": ({"inference_class": "standard"}, ""),
    "none": ({}, ""),
    "a tier of the vendor": ({"extra_kwargs": {"service_tier": "flex"}}, "flex"),
    "a class and a tier of the vendor": (
        {"inference_class": "priority", "extra_kwargs": {"service_tier": "flex"}},
        "priority+flex",
    ),
}


@pytest.mark.parametrize("case", LIVEKIT)
async def test_the_class_of_livekit_inference_is_its_tier(case: str) -> None:
    """LiveKit's own model, as it asks LiveKit's gateway. What the vendor answers is not LiveKit's bill."""
    options, tier = LIVEKIT[case]
    async with Gateway(served="scale") as gateway:
        model = inference.LLM("openai/gpt-4.1-mini", base_url=gateway.url, **KEYS, **options)
        talk = await Talk(model, Booked(gateway.billed)).say()
        await model.aclose()
    assert talk.tiers() == {tier: 1}
    [(inference_class, vendor)] = gateway.billed
    assert inference_class == options.get("inference_class")
    assert vendor == options.get("extra_kwargs", {}).get("service_tier")


class Booked(llm.LLM[Any]):
    """Stands for a gateway where books are compared."""

    def __init__(self, billed: Any) -> None:
        super().__init__()
        self.billed = billed

    def chat(self, **_request: Any) -> llm.LLMStream:
        """Refuse."""
        raise NotImplementedError


class Asking(Agent):
    """Asks its model itself, with arguments of its own."""

    def __init__(self, **asked: Any) -> None:
        super().__init__(instructions="Be brief.")
        self._asked = asked

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: Any, _settings: Any
    ) -> AsyncIterable[Any]:
        """Ask the session's model."""
        model = self.session.llm
        assert isinstance(model, llm.LLM)
        async with model.chat(chat_ctx=chat_ctx, tools=tools, **self._asked) as stream:
            async for chunk in stream:
                yield chunk


@pytest.mark.parametrize(
    ("configured", "asked", "tier"),
    [
        (NOT_GIVEN, {"service_tier": "flex"}, "flex"),
        (NOT_GIVEN, {"service_tier": "default"}, ""),
        ("priority", {"service_tier": "flex"}, "priority"),
        ("default", {"service_tier": "flex"}, ""),
        ("priority", {}, "priority"),
    ],
)
async def test_the_tier_of_one_request_is_the_one_that_the_plugin_sent(
    configured: Any, asked: dict[str, str], tier: str
) -> None:
    """LiveKit's plugins let the model's own win; whichever wins, what was sent counts."""
    model = TieredLLM(OPENAI, configured)
    talk = await Talk(model).say(agent=Asking(extra_kwargs=asked))
    assert talk.tiers() == {tier: 1}
    assert [tier_name(page) for page in model.received] == [tier]


@pytest.mark.parametrize(
    ("configured", "asked", "tier"),
    [("priority", "standard", ""), (None, "priority", "priority"), ("low", NOT_GIVEN, "low")],
)
async def test_the_class_of_one_request_wins_over_the_models(
    configured: Any, asked: Any, tier: str
) -> None:
    """LiveKit Inference takes the class of a request first."""
    async with Gateway() as gateway:
        model = inference.LLM(
            "openai/gpt-4.1", base_url=gateway.url, inference_class=configured, **KEYS
        )
        talk = await Talk(model, Booked(gateway.billed)).say(agent=Asking(inference_class=asked))
        await model.aclose()
    assert talk.tiers() == {tier: 1}
    assert [tier_name(sent) for sent, _ in gateway.billed] == [tier]


async def test_a_request_keeps_the_tier_that_was_configured_when_it_was_made() -> None:
    """Options that change while a request is answered are those of the next one."""
    model = TieredLLM(OPENAI, "priority")

    def change(moment: str) -> bool:
        if moment == "llm sent":
            model._opts.service_tier = "flex"
        return False

    model.moments.listen = change
    talk = await Talk(model).say("one", "two", "three")
    assert talk.tiers() == {"priority": 1, "flex": 2}
    assert {page: bill["requests"] for page, bill in model.received.items()} == {
        "priority": 1,
        "flex": 2,
    }


@pytest.mark.parametrize("tier", ["priority", "auto"])
async def test_what_is_estimated_of_a_request_that_was_cut_off_has_its_tier(tier: str) -> None:
    """The second prompt holds the first; both meters of the request are of the tier it was sent with."""
    model = TieredLLM(OPENAI, tier)
    model.answer = lambda _context: ("It is open until six in the evening. " * 20, [])
    talk = Talk(model)
    await talk.session.start(Agent(instructions="Be brief."))
    await talk.session.run(user_input="When do you close?")
    speech: list[Any] = []

    def cut_off(moment: str) -> bool:
        if moment != "llm chunk" or model.moments.names.count(moment) < 120:
            return False
        model.moments.listen = None
        speech[0].interrupt(force=True)
        return True

    model.moments.listen = cut_off
    speech.append(talk.session.generate_reply(user_input="And on Sundays?"))
    await speech[0]
    await until(lambda: any(reading.estimated for reading in talk.recorder.readings()))
    await talk.end(interrupted=True)
    name = tier_name(tier)
    assert talk.tiers() == {name: 2}
    assert talk.tiers("input_tokens", estimated=True).keys() == {name}
    assert talk.tiers("output_tokens", estimated=True).keys() == {name}


async def test_of_an_adapter_the_model_that_served_has_the_tier() -> None:
    """The first one fails; the second one is billed, at its own tier."""
    first = TieredLLM(OPENAI, "priority", fails=True, name="first")
    second = TieredLLM(GROQ, "flex", name="second")
    adapter = llm.FallbackAdapter([first, second], max_retry_per_llm=0)
    talk = await Talk(adapter, first, second).say()
    assert talk.tiers() == {"flex": 1}


@pytest.mark.parametrize("wrapper", [DelegatingLLM, ChoosingLLM, GuardingLLM])
async def test_of_a_wrapper_the_model_inside_has_the_tier(wrapper: Any) -> None:
    """Whatever stands around a model, the one that is asked by LiveKit's request counts."""
    model = TieredLLM(GROQ, "flex")
    talk = await Talk(wrapper(model), model).say()
    assert talk.tiers() == {"flex": 1}


async def test_two_models_of_one_name_are_two_meters() -> None:
    """A tool asks the same model at another tier: the price may differ, so the count does."""
    model, other = TieredLLM(OPENAI, "priority"), TieredLLM(OPENAI)

    class Both(Agent):
        async def llm_node(self, chat_ctx: Any, tools: Any, _settings: Any) -> AsyncIterable[Any]:
            for each in (other, model):
                async with each.chat(chat_ctx=chat_ctx, tools=tools) as stream:
                    async for chunk in stream:
                        yield chunk

    talk = await Talk(model, model, other).say(agent=Both(instructions="Be brief."))
    assert talk.tiers() == {"priority": 1, "": 1}


@pytest.mark.parametrize(
    ("tier", "name"), [("ultrafast", "ultrafast"), ("default", ""), (NOT_GIVEN, "")]
)
async def test_a_realtime_connection_has_the_tier_of_its_model(tier: Any, name: str) -> None:
    """GPT-Live takes one, and one more for the model to which it delegates."""
    options = GPTLiveModel(
        api_key="none", service_tier=tier, responses_options={"service_tier": "priority"}
    )._opts
    model = ScriptedRealtime(session_us=7_500_000)
    model._opts = options  # type: ignore[attr-defined]
    talk = Talk(model)
    await talk.session.start(Agent(instructions="Be brief."))
    await talk.session.run(user_input="Hello")
    delegated = DELEGATED.model_copy(update={"label": model.label})
    talk.session._activity._rt_session.emit("metrics_collected", delegated)  # type: ignore[union-attr]
    talk.keepers = (model, Booked(defaultdict(Counter, {0: Counter(requests=1, **TOKENS)})))
    await talk.end()
    meters = talk.recorder.ends()[-1].meters
    assert {(m.modality, m.service_tier) for m in meters} == {
        ("realtime", name),
        ("llm", "priority"),
    }


TOKENS: Final = {"input_tokens": 20, "output_tokens": 5}
DELEGATED: Final = LLMMetrics(
    label="",
    request_id="resp-1",
    timestamp=time.time(),
    duration=0,
    ttft=-1,
    cancelled=False,
    prompt_tokens=20,
    prompt_cached_tokens=0,
    completion_tokens=5,
    total_tokens=25,
    tokens_per_second=0,
    metadata=Metadata(model_name="gpt-5.5", model_provider=OPENAI),
)
"""What a model reports to which GPT-Live delegates, by its connection."""


async def test_a_model_that_reports_without_a_request_has_the_tier_of_its_options() -> None:
    """A model of one's own may emit metrics itself."""
    model = TieredLLM(GROQ, "flex")
    talk = Talk(model, Booked(defaultdict(Counter, {0: Counter(requests=1, **TOKENS)})))
    await talk.session.start(Agent(instructions="Be brief."))
    model.emit("metrics_collected", DELEGATED.model_copy(update={"label": model.label}))
    await until(lambda: bool(talk.recorder.readings()))
    await talk.end()
    assert talk.tiers() == {"flex": 1}


class Hostile:
    """Options that raise whatever is read of them."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class OddLLM(InterruptibleLLM):
    """Has options that no plugin has, and writes them into its requests."""

    def __init__(self, odd: Any) -> None:
        super().__init__(Moments(), lambda _context: ("It is open until six.", []))
        self._opts = odd

    def chat(self, **request: Any) -> llm.LLMStream:
        """Make a request."""
        stream = super().chat(**request)
        stream._extra_kwargs = self._opts  # type: ignore[attr-defined]
        return stream


@pytest.mark.parametrize(
    "make",
    [Hostile, lambda: None, lambda: 7, object, lambda: {"service_tier": ["flex"]}, list],
    ids=["raises", "none", "a number", "an object", "a list in a dictionary", "a list"],
)
async def test_odd_options_are_the_standard_tier_and_never_reach_the_call(
    make: Callable[[], Any],
) -> None:
    """The call goes on, and all of its usage is counted."""
    talk = await Talk(OddLLM(make())).say()
    assert talk.tiers() == {"": 1}
    assert talk.recorder.unmeasured == 0


class Plain(Enum):
    """An enumeration whose members are no texts."""

    FLEX = "flex"
    NUMBER = 3


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (Plain.FLEX, "flex"),
        (Plain.NUMBER, ""),
        (NOT_GIVEN, ""),
        (None, ""),
        (3, ""),
        ("AUTO", ""),
        ("Default ", ""),
        ("fl\x00ex\u200b\x1b[31m", "flex[31m"),
        ("x" * 100, "x" * 64),
        ("  ", ""),
        ("\ud800", "?"),
    ],
)
def test_a_tier_is_named_as_the_contract_carries_it(given: Any, name: str) -> None:
    """In lower case, without control characters, at most 64 characters; what is no text names none."""
    assert tier_name(given) == name


def test_the_price_file_refuses_the_names_that_no_meter_has() -> None:
    """Both sides know the same names of the standard tier: a price for one could never match."""
    refused = set()
    for tier in STANDARD - {""}:
        try:
            selector("service_tier", tier)
        except Mistake:
            refused.add(tier)
    assert refused == STANDARD - {""}
    assert selector("service_tier", "priority+flex") == "priority+flex"
