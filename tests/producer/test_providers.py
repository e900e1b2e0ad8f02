"""Provider names: one provider is one name, whatever its plugin calls it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicecosts.producer.providers import normalise_provider

SPELLINGS = {
    "openai": ["openai", "OpenAI", " OpenAI ", "api.openai.com", "https://api.openai.com/v1"],
    "azure.ai.openai": ["Azure OpenAI", "azure_openai", "my-unit.openai.azure.com"],
    "anthropic": ["Anthropic", "api.anthropic.com"],
    "aws.bedrock": [
        "AWS Bedrock",
        "Amazon Bedrock",
        "bedrock-runtime.us-east-1.amazonaws.com",
        "bedrock.eu-west-1.amazonaws.com",
    ],
    "aws.polly": ["Amazon Polly", "amazon polly"],
    "aws.transcribe": ["Amazon Transcribe"],
    "gcp.vertex_ai": [
        "Vertex AI",
        "vertex_ai",
        "us-central1-aiplatform.googleapis.com",
        "aiplatform.googleapis.com",
    ],
    "gcp.gemini": ["Gemini", "generativelanguage.googleapis.com"],
    "x_ai": ["xAI", "x.ai", "api.x.ai"],
    "mistral_ai": ["MistralAI", "Mistral AI", "mistral", "api.mistral.ai"],
    "groq": ["Groq", "api.groq.com"],
    "deepseek": ["DeepSeek", "api.deepseek.com"],
    "cerebras": ["api.cerebras.ai", "cerebras"],
    "together": ["api.together.xyz", "api.together.ai", "Together"],
    "fireworks": ["api.fireworks.ai", "Fireworks"],
    "openrouter": ["openrouter.ai", "OpenRouter"],
    "perplexity": ["api.perplexity.ai", "Perplexity"],
    "deepgram": ["Deepgram", "deepgram", "livekit.plugins.deepgram.stt.STT"],
    "cartesia": ["Cartesia", "livekit.plugins.cartesia.tts.TTS", "livekit.plugins.cartesia"],
    "elevenlabs": ["ElevenLabs"],
    "livekit": ["livekit"],
    "unknown": ["", "  ", "\t\n", "unknown"],
}


@pytest.mark.parametrize(
    ("raw", "expected"), [(raw, name) for name, raws in SPELLINGS.items() for raw in raws]
)
def test_every_spelling_of_a_provider_is_one_name(raw: str, expected: str) -> None:
    """Brands, API hosts, cloud products and plugin labels of one provider become one name."""
    assert normalise_provider(raw) == expected


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_normalised_name_is_left_alone(name: str) -> None:
    """Normalising twice changes nothing, so stored names can be normalised again."""
    assert normalise_provider(name) == name


@pytest.mark.parametrize(
    "host",
    [
        "notopenai.com",
        "openai.com.example.org",
        "openai.example.org",
        "groq.com.evil.net",
        "foox.ai",
        "s3.amazonaws.com",
        "proxy.internal",
        "eu.api.openai.com",
        "eu-west-1.api.x.ai",
        "openai:8000",
        "llm.acme.test:8000",
    ],
)
def test_a_host_that_only_resembles_a_provider_keeps_its_own_name(host: str) -> None:
    """A proxy or a look-alike is not priced as the provider it resembles."""
    assert normalise_provider(host) == host


def test_what_is_not_known_keeps_its_own_name_in_one_spelling() -> None:
    """An unlisted provider is lower case with underscores, so that spellings still meet."""
    assert normalise_provider("Speech  Works\tPro") == "speech_works_pro"
    assert normalise_provider("speech works pro") == "speech_works_pro"


@given(st.text(max_size=300))
def test_a_normalised_name_always_fits_the_contract(raw: str) -> None:
    """Whatever a plugin calls itself, the name has 1 to 128 characters."""
    assert 1 <= len(normalise_provider(raw)) <= 128


def test_a_long_name_is_cut_at_the_contracts_length() -> None:
    """A name keeps as much of itself as the contract carries."""
    assert normalise_provider("p" * 129) == "p" * 128


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("api.openai.com:443", "openai"),
        ("bedrock", "aws.bedrock"),
        ("api.cohere.com", "cohere"),
        ("api.moonshot.cn", "moonshot_ai"),
        ("hub.services.ai.azure.com", "azure.ai.inference"),
    ],
)
def test_hosts_and_products_have_the_registrys_names(raw: str, normalised: str) -> None:
    """Ports do not matter, and a product is named as the registry names it."""
    assert normalise_provider(raw) == normalised
