"""Provider labels: which price list is asked, and which labels have none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.agents.telemetry import trace_types
from voice_prices.data import providers

from voicecosts.consumer.pricing import providers as labels
from voicecosts.consumer.pricing.providers import price_list
from voicecosts.producer.providers import normalise_provider

BRANDS = {
    "Deepgram": "deepgram",
    "Cartesia": "cartesia",
    "ElevenLabs": "elevenlabs",
    "AssemblyAI": "assemblyai",
    "Rime": "rime",
    "Azure": "azure",
    "Azure STT": "azure",
    "Azure TTS": "azure",
    "AWS Bedrock": "aws",
    "Amazon Polly": "aws",
    "Amazon Transcribe": "aws",
    "Google Cloud Platform": "google",
    "Vertex AI": "google",
    "Gemini": "google",
    "MistralAI": "mistral",
    "xAI": "x-ai",
    "livekit": "livekit",
}
HOSTS = {
    "api.openai.com": "openai",
    "api.groq.com": "groq",
    "api.x.ai": "x-ai",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.deepseek.com": "deepseek",
    "api.cerebras.ai": "cerebras",
    "api.anthropic.com": "anthropic",
    "API.OpenAI.com:443": "openai",
    "https://api.openai.com/v1": "openai",
    "acme.openai.azure.com": "azure",
    "acme.services.ai.azure.com": "azure",
    "generativelanguage.googleapis.com": "google",
    "us-central1-aiplatform.googleapis.com": "google",
    "bedrock-runtime.us-east-1.amazonaws.com": "aws",
    "agent-gateway.livekit.cloud": "livekit",
}
REGISTRY = {
    "aws.bedrock": "aws",
    "gcp.vertex_ai": "google",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "x_ai": "x-ai",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
}
WITHOUT_LIST = {"ibm.watsonx.ai"}
OF_ONE_VENDOR = [
    "eu.api.openai.com",
    "us.api.openai.com",
    "openai.com",
    "eu-west-1.api.x.ai",
    "codestral.mistral.ai",
    "console.groq.com",
    "gateway.acme.anthropic.com",
    "openai.azure.com",
    "bedrock-runtime.vpce.us-east-1.amazonaws.com",
]
"""Hosts beside the standard ones of a vendor that has a list. They have none: their prices may differ."""


@pytest.mark.parametrize(("label", "expected"), [*BRANDS.items(), *HOSTS.items()])
def test_what_a_plugin_says_of_itself_finds_its_list(label: str, expected: str) -> None:
    """Brands, products and API hosts as LiveKit plugins report them have their price list."""
    assert price_list(normalise_provider(label), label) == expected


@pytest.mark.parametrize(("name", "expected"), REGISTRY.items())
def test_registry_spellings_find_their_list(name: str, expected: str) -> None:
    """OpenTelemetry's names serve where the plugin itself said nothing."""
    assert price_list(name, "") == expected


@pytest.mark.parametrize("label", [*BRANDS, *HOSTS, *OF_ONE_VENDOR])
def test_the_normalised_name_alone_finds_the_same_list(label: str) -> None:
    """A reading without a raw label is priced like one with it."""
    assert price_list(normalise_provider(label), "") == price_list("unknown", label)


KNOWN = [*BRANDS, *HOSTS, *REGISTRY, *labels._NAMES, *labels._HOSTS]
VENDORS = sorted({host.partition(".")[2] for host in HOSTS if "." in host})
LABELS = st.one_of(
    st.text(max_size=40),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["", "https://", " "]),
            st.sampled_from(
                ["", "eu.", "eu-", "api.", "eu.api.", "livekit.plugins.", "bedrock.a.b."]
            ),
            st.sampled_from([*KNOWN, *VENDORS, "open.ai", "xn--openai.com"]),
            st.sampled_from(["", ":443", ":8000", "/v1", ":8000/v1", ".", ".test", ".stt.STT"]),
        ),
    ),
)


@given(LABELS)
def test_what_has_another_list_has_another_identity(label: str) -> None:
    """A meter knows only the normalised name, so that alone decides: no two labels of one name differ."""
    name = normalise_provider(label)
    assert price_list(name, label) == price_list(name, ""), name


@pytest.mark.parametrize("host", OF_ONE_VENDOR)
def test_another_host_of_a_vendor_is_a_provider_of_its_own(host: str) -> None:
    """A regional host takes no price from the standard one, and the standard one does not lose its."""
    assert price_list(normalise_provider(host), host) is None
    assert normalise_provider(host) == host


def test_azure_is_never_relabelled_as_openai() -> None:
    """The host of a customer's Azure resource asks Azure's list, though it holds 'openai'."""
    assert price_list("openai", "acme.openai.azure.com") == "azure"


def test_the_raw_label_is_asked_before_the_normalised_name() -> None:
    """What the plugin said decides over what it was normalised to."""
    assert price_list("openai", "api.groq.com") == "groq"


@pytest.mark.parametrize(
    "host", ["localhost:8000", "llm.acme.test", "openai.proxy.acme.test", "eu.api.openai.com"]
)
def test_an_unknown_host_has_no_list_whatever_it_is_called(host: str) -> None:
    """A proxy or a regional endpoint has prices of its own, not the brand's in its name."""
    assert price_list("openai", host) is None


def test_a_label_that_says_nothing_leaves_the_decision_to_the_name() -> None:
    """A raw label which is neither known nor a host does not hide a known name."""
    assert price_list("deepgram", "my speech") == "deepgram"


@pytest.mark.parametrize(
    ("label", "expected"),
    [("livekit.plugins.deepgram.stt.STT", "deepgram"), ("livekit.plugins.xai.tts.TTS", "x-ai")],
)
def test_a_plugin_known_by_its_class_finds_its_list(label: str, expected: str) -> None:
    """Metrics without metadata carry the class label of the plugin, which is not a host."""
    assert price_list(normalise_provider(label), label) == expected


@pytest.mark.parametrize("label", ["(more)", "unknown", "", "acme", "livekit-local-inference"])
def test_labels_without_a_list_have_none(label: str) -> None:
    """Merged meters, local models and unknown vendors are not looked up anywhere."""
    assert price_list(label, label) is None


def test_every_list_named_here_exists() -> None:
    """No label points to a list that the installed package does not have."""
    known = {provider.id for provider in providers}
    named = {*labels._NAMES.values(), *labels._HOSTS.values()}
    named |= {list_id for _, list_id in labels._HOST_PATTERNS}
    assert named <= known


def test_every_host_and_name_livekit_knows_is_known_here() -> None:
    """LiveKit's own tables of hosts and names are covered, but for vendors without a list."""
    hosts = trace_types._PROVIDER_BY_HOST
    names = trace_types._PROVIDER_BY_NAME
    spelled = [*hosts.items(), *names.items()]
    spelled += [(f"acme{suffix}", name) for suffix, name in trace_types._PROVIDER_BY_HOST_SUFFIX]
    missing = [label for label, name in spelled if price_list(name, label) is None]
    assert {dict(spelled)[label] for label in missing} == WITHOUT_LIST
