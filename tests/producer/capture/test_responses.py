"""One response at a time: what it leaves open or contradicts never touches the rest of its meter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.agents.metrics.base import Metadata, RealtimeModelMetrics

from tests.producer.capture.livekit_metrics import llm, realtime
from voicecosts.producer.capture.responses import correct, correct_kinds
from voicecosts.producer.capture.usage import usage_of

AMOUNTS = st.integers(0, 50) | st.integers(0, 2**40)
TOKENS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)
KINDS = ("text", "audio", "image")
PROVIDERS = st.sampled_from([("Gemini", "gemini-2.5-pro"), ("api.x.ai", "grok-4"), ("Maker", "m")])


def used(metrics: Any) -> dict[str, int]:
    """Return the quantities in `metrics` without the request itself."""
    usage = usage_of(metrics, now_us=5)
    assert usage is not None
    assert usage.unread == ()
    return {name: amount for name, amount in usage.quantities.items() if name != "requests"}


def said(prompt: int, completion: int, total: int, **more: Any) -> Any:
    """Return a response of a language model without cached tokens."""
    fields = {"prompt_cached_tokens": 0, "cache_creation_tokens": 0, "reasoning_tokens": 0}
    return llm(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=total, **fields | more
    )


def of(provider: str, model: str) -> dict[str, Metadata]:
    """Name provider and model."""
    return {"metadata": Metadata(model_provider=provider, model_name=model)}


class TestTotal:
    @pytest.mark.parametrize(
        ("provider", "model"),
        [
            ("Gemini", "gemini-2.5-pro"),
            ("Vertex AI", "gemini-3-flash-preview"),
            ("generativelanguage.googleapis.com", "gemini-2.5-flash"),
            ("Gemini", "gemini-2.0-flash-thinking-exp"),
        ],
    )
    def test_what_only_geminis_total_has_is_reasoning(self, provider: str, model: str) -> None:
        """LiveKit's plugin passes on the candidates without the thoughts; Google bills both."""
        assert used(said(10_000, 1_740, 13_680, **of(provider, model))) == {
            "input_tokens": 10_000,
            "output_tokens": 3_680,
            "reasoning_output_tokens": 1_940,
        }

    @pytest.mark.parametrize(
        ("provider", "model"),
        [("Maker", "m-1"), ("Gemini", "gemini-2.0-flash"), ("livekit", "google/gemini-2.5-pro")],
    )
    def test_what_only_a_total_has_is_other_tokens_elsewhere(
        self, provider: str, model: str
    ) -> None:
        """Nobody knows what they were: neither input nor output, and not nothing."""
        assert used(said(100, 20, 150, **of(provider, model))) == {
            "input_tokens": 100,
            "output_tokens": 20,
            "other_tokens": 30,
        }

    def test_reasoning_that_is_in_the_output_is_not_counted_twice(self) -> None:
        """A total that is the sum of its parts has nothing to add."""
        metrics = said(100, 50, 150, reasoning_tokens=30, **of("Gemini", "gemini-2.5-pro"))
        assert used(metrics) == {
            "input_tokens": 100,
            "output_tokens": 50,
            "reasoning_output_tokens": 30,
        }

    def test_reasoning_that_is_named_beside_the_output_joins_it(self) -> None:
        """The total of xAI includes its reasoning, and its completion tokens do not."""
        assert used(said(32, 9, 135, reasoning_tokens=94, **of("api.x.ai", "grok-4"))) == {
            "input_tokens": 32,
            "output_tokens": 103,
            "reasoning_output_tokens": 94,
        }

    @pytest.mark.parametrize("total", [0, -5, 100, None, float("nan"), "120", 10**13])
    def test_a_smaller_or_odd_total_says_nothing(self, total: Any) -> None:
        """A remainder is never negative, and a total that is none takes nothing away."""
        assert used(said(100, 20, total)) == {"input_tokens": 100, "output_tokens": 20}

    def test_a_response_with_nothing_but_a_total_is_counted(self) -> None:
        """What was used is not hidden because its parts are unknown."""
        assert used(said(0, 0, 70)) == {"other_tokens": 70}

    def test_more_cached_tokens_than_input_make_the_response_unknown(self) -> None:
        """Its parts contradict each other, so no part of it may be priced; its size is kept."""
        metrics = said(10, 5, 15, prompt_cached_tokens=30)
        assert used(metrics) == {"other_tokens": 35}

    def test_reasoning_above_the_output_makes_the_output_unknown(self) -> None:
        """The input of such a response is sound, and stays."""
        assert used(said(100, 20, 120, reasoning_tokens=50)) == {
            "input_tokens": 100,
            "other_tokens": 50,
        }

    def test_thoughts_of_a_realtime_model_are_text(self) -> None:
        """Gemini Live bills them as text, and its split of the output is without them."""
        metrics = realtime(total_tokens=750, **of("Gemini", "gemini-live-2.5-flash-preview"))
        found = used(metrics)
        assert (found["output_tokens"], found["reasoning_output_tokens"]) == (150, 60)
        assert (found["text_output_tokens"], found["audio_output_tokens"]) == (110, 35)
        assert "other_tokens" not in found

    @given(st.fixed_dictionaries(dict.fromkeys(TOKENS, AMOUNTS)), AMOUNTS, PROVIDERS)
    def test_settled_amounts_can_be_priced_and_none_is_lost_or_doubled(
        self, amounts: dict[str, int], total: int, named: tuple[str, str]
    ) -> None:
        """Special parts fit into general ones, and all parts make what the provider counted."""
        after = {name: amount for name, amount in amounts.items() if amount}
        correct(after, total, *named)
        read, written = after.get("input_tokens", 0), after.get("output_tokens", 0)
        cached = after.get("cache_read_input_tokens", 0)
        assert cached + after.get("cache_creation_input_tokens", 0) <= read
        assert after.get("reasoning_output_tokens", 0) <= written
        assert all(amount > 0 for amount in after.values())
        whole = read + written + after.get("other_tokens", 0)
        sides = amounts["input_tokens"] + amounts["output_tokens"]
        assert whole >= total
        if total >= sides and amounts["reasoning_output_tokens"] <= amounts["output_tokens"]:
            special = amounts["cache_read_input_tokens"] + amounts["cache_creation_input_tokens"]
            if special <= amounts["input_tokens"]:
                assert whole == total


def heard(
    text: int = 0, audio: int = 0, image: int = 0, *, total: int, cached: int = 0, **split: int
) -> Any:
    """Return a realtime response that says these kinds of its input, and of its cached input."""
    return realtime(
        input_tokens=total,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(
            text_tokens=text,
            audio_tokens=audio,
            image_tokens=image,
            cached_tokens=cached,
            cached_tokens_details=RealtimeModelMetrics.CachedTokenDetails(**split),
        ),
    )


def input_of(metrics: Any) -> dict[str, int]:
    """Return the input tokens of a realtime response."""
    return {name: amount for name, amount in used(metrics).items() if "input" in name}


class TestKinds:
    def test_a_complete_split_is_kept(self) -> None:
        """What a provider says of its tokens is counted as it says it."""
        metrics = heard(40, 60, total=100, cached=30, text_tokens=10, audio_tokens=20)
        assert input_of(metrics) == {
            "input_tokens": 100,
            "text_input_tokens": 40,
            "audio_input_tokens": 60,
            "cache_read_input_tokens": 30,
            "text_cache_read_input_tokens": 10,
            "audio_cache_read_input_tokens": 20,
        }

    def test_cached_tokens_are_of_the_only_kind_of_input(self) -> None:
        """Where a response heard audio alone, all that was cached of it was audio."""
        found = input_of(heard(audio=60, total=60, cached=20))
        assert found["audio_cache_read_input_tokens"] == 20
        assert found["audio_input_tokens"] == 60

    @pytest.mark.parametrize(
        "metrics",
        [
            heard(40, 60, total=100, cached=30),
            heard(40, 60, total=100, cached=30, text_tokens=10),
            heard(40, 40, total=100, cached=30),
            heard(40, 60, total=90, cached=30, text_tokens=10, audio_tokens=20),
            heard(40, 60, total=100, cached=30, text_tokens=10, audio_tokens=30),
            heard(5, 95, total=100, cached=30, text_tokens=10, audio_tokens=20),
        ],
        ids=["unsplit", "partly", "unsplit beside video", "too much", "cached too much", "of kind"],
    )
    def test_a_split_that_cannot_be_used_is_left_out(self, metrics: Any) -> None:
        """Its tokens are input of no known kind, so they alone are unpriced."""
        assert input_of(metrics).keys() == {"input_tokens", "cache_read_input_tokens"}

    def test_input_that_no_kind_names_stays_unnamed(self) -> None:
        """Gemini's video is in the sum of its input, and in no split."""
        metrics = heard(40, 40, total=100, cached=30, text_tokens=10, audio_tokens=10)
        found = input_of(metrics)
        assert (found["text_input_tokens"], found["audio_input_tokens"]) == (40, 40)
        assert found["input_tokens"] == 100

    def test_a_split_of_the_output_above_its_sum_is_left_out(self) -> None:
        """The output is counted, and its kinds are not known."""
        found = used(realtime(output_tokens=80))
        assert {name for name in found if "output" in name} == {"output_tokens"}

    @given(
        st.fixed_dictionaries(
            dict.fromkeys(
                [
                    "input_tokens",
                    "cache_read_input_tokens",
                    "output_tokens",
                    *(f"{kind}_input_tokens" for kind in KINDS),
                    *(f"{kind}_cache_read_input_tokens" for kind in KINDS),
                    *(f"{kind}_output_tokens" for kind in KINDS),
                ],
                AMOUNTS,
            )
        ),
        AMOUNTS,
        PROVIDERS,
    )
    def test_after_it_no_sum_of_responses_can_contradict_itself(
        self, amounts: dict[str, int], total: int, named: tuple[str, str]
    ) -> None:
        """Each kind holds what was cached of it, and all kinds fit into their sum."""
        after = {name: amount for name, amount in amounts.items() if amount}
        correct(after, total, *named)
        correct_kinds(after)
        kinds = [after.get(f"{kind}_input_tokens", 0) for kind in KINDS]
        cached = [after.get(f"{kind}_cache_read_input_tokens", 0) for kind in KINDS]
        unnamed = after.get("input_tokens", 0) - sum(kinds)
        open_cached = after.get("cache_read_input_tokens", 0) - sum(cached)
        assert 0 <= open_cached <= unnamed
        assert all(part <= whole for part, whole in zip(cached, kinds, strict=True))
        outputs = sum(after.get(f"{kind}_output_tokens", 0) for kind in KINDS)
        assert outputs <= after.get("output_tokens", 0)


def test_a_response_that_could_not_be_read_in_part_is_left_as_it_is() -> None:
    """One odd field costs its own quantity and no other, so nothing is inferred from its absence."""
    usage = usage_of(llm(prompt_tokens="many"), now_us=5)
    assert usage is not None
    assert usage.unread == ("prompt_tokens",)
    assert usage.quantities["cache_read_input_tokens"] == 31
    assert "other_tokens" not in usage.quantities
