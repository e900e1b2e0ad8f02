"""Whose price list a provider label means.

LiveKit plugins name a brand ("ElevenLabs"), a product ("Amazon Polly") or the host they call
("api.groq.com"); OpenTelemetry has its own spellings ("gcp.vertex_ai"). Only labels listed here
have a price list: an unknown host may be a proxy with prices of its own, so it is never taken for
the brand that its name resembles.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_NAMES: Final = {
    # Cloud products. `gcp`, `aws.polly`, `azure.speech` are the producer's spellings.
    "amazon": "aws",
    "amazonbedrock": "aws",
    "amazonpolly": "aws",
    "amazontranscribe": "aws",
    "aws": "aws",
    "awsbedrock": "aws",
    "awspolly": "aws",
    "awstranscribe": "aws",
    "bedrock": "aws",
    "azure": "azure",
    "azureaiinference": "azure",
    "azureaiopenai": "azure",
    "azureopenai": "azure",
    "azurespeech": "azure",
    "azurestt": "azure",
    "azuretts": "azure",
    "gcp": "google",
    "gcpgemini": "google",
    "gcpgenai": "google",
    "gcpvertexai": "google",
    "gemini": "google",
    "google": "google",
    "googlecloud": "google",
    "googlecloudplatform": "google",
    "googlegenai": "google",
    "vertexai": "google",
    "vertexaimodelgarden": "google",
    # LiveKit Inference resells models at prices of its own. This is its Build and Ship list.
    "livekit": "livekit",
    # Everyone else, under the name they go by and the one that OpenTelemetry gave them.
    "anthropic": "anthropic",
    "assemblyai": "assemblyai",
    "cartesia": "cartesia",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepgram": "deepgram",
    "deepseek": "deepseek",
    "elevenlabs": "elevenlabs",
    "fireworks": "fireworks",
    "fireworksai": "fireworks",
    "gladia": "gladia",
    "groq": "groq",
    "hume": "hume",
    "inworld": "inworld",
    "lmnt": "lmnt",
    "mistral": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshotai": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "rime": "rime",
    "soniox": "soniox",
    "speechmatics": "speechmatics",
    "telnyx": "telnyx",
    "together": "together",
    "togetherai": "together",
    "twilio": "twilio",
    "ultravox": "ultravox",
    "xai": "x-ai",
}
"""By the label's letters and digits alone, so that "AWS Bedrock" and "aws.bedrock" are one."""

_HOSTS: Final = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.telnyx.com": "telnyx",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "generativelanguage.googleapis.com": "google",
    "openrouter.ai": "openrouter",
}
_HOST_PATTERNS: Final = (
    (re.compile(r"\.(openai|services\.ai|cognitiveservices)\.azure\.com$"), "azure"),
    (re.compile(r"(^|[.-])aiplatform\.googleapis\.com$"), "google"),
    (re.compile(r"^bedrock[a-z-]*\.[a-z0-9-]+\.amazonaws\.com$"), "aws"),
    (re.compile(r"\.livekit\.cloud$"), "livekit"),
)
_PLUGIN: Final = re.compile(r"^livekit\.plugins\.([a-z0-9_]+)(\.|$)")
_HOST: Final = re.compile(
    r"^(?:[a-z]+://)?([a-z0-9-]+(?:\.[a-z0-9-]+)+|localhost|[a-z0-9-]+(?=:\d))(?::\d+)?(?:/.*)?$"
)


@lru_cache(maxsize=1024)
def price_list(provider: str, provider_raw: str) -> str | None:
    """Return the price list's id for a provider, `None` when there is none.

    The plugin's own label (`provider_raw`) decides where it is known or is a host; otherwise the
    normalised name does.
    """
    known = _list(provider_raw)
    if known is not None or _is_host(provider_raw):
        return known
    return _list(provider)


def _list(label: str) -> str | None:
    value = label.strip().lower()
    if plugin := _PLUGIN.match(value):
        value = plugin[1]
    name = "".join(character for character in value if character.isalnum())
    if (known := _NAMES.get(name)) is not None:
        return known
    if (found := _HOST.match(value)) is None:
        return None
    host = found[1]
    if (known := _HOSTS.get(host)) is not None:
        return known
    return next((known for pattern, known in _HOST_PATTERNS if pattern.search(host)), None)


def _is_host(label: str) -> bool:
    value = label.strip().lower()
    return _HOST.match(value) is not None and _PLUGIN.match(value) is None
