"""Provider names in one spelling: the OpenTelemetry registry's where it has one, else lower case.

LiveKit plugins name themselves freely: a brand ("ElevenLabs"), an API host ("api.openai.com"), a
cloud product ("Amazon Polly"). One provider must have one name, or its cost is split.
The raw label always travels beside the normalised one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_BY_NAME: Final = {
    "awsbedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "amazonbedrock": "aws.bedrock",
    "amazonpolly": "aws.polly",
    "amazontranscribe": "aws.transcribe",
    "googlecloudplatform": "gcp",
    "googlecloud": "gcp",
    "vertexai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "azureopenai": "azure.ai.openai",
    "azurespeech": "azure.speech",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
}
_BY_HOST: Final = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "openrouter.ai": "openrouter",
}
"""The standard host of a vendor. Any other host of it may have other prices, so it keeps its name."""

_BY_PATTERN: Final = (
    (re.compile(r"\.openai\.azure\.com$"), "azure.ai.openai"),
    (re.compile(r"\.services\.ai\.azure\.com$"), "azure.ai.inference"),
    (re.compile(r"(^|[.-])aiplatform\.googleapis\.com$"), "gcp.vertex_ai"),
    (re.compile(r"^bedrock[a-z-]*\.[a-z0-9-]+\.amazonaws\.com$"), "aws.bedrock"),
)
"""Hosts that are named after a customer or a region, with one list price for all of them."""

_HOST: Final = re.compile(r"^(?:[a-z]+://)?([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\d+)?(?:/.*)?$")
_PLUGIN = re.compile(r"^livekit\.plugins\.([a-z0-9_]+)(\.|$)")


@lru_cache(maxsize=1024)
def normalise_provider(raw: str) -> str:
    """Return the normalised name of a provider label; `unknown` for an empty one.

    The names follow the OpenTelemetry GenAI registry (`aws.bedrock`, `gcp.vertex_ai`,
    `azure.ai.openai`, `x_ai`, `mistral_ai`); what the registry does not know keeps its own name in
    lower case with spaces as underscores. A plugin's class label gives the plugin's name. A meter is
    priced under one name, so labels of different prices never share one: `eu.api.openai.com` is not
    `openai`, and an unknown host keeps its port.
    """
    value = raw.strip().lower()
    if not value:
        return "unknown"
    if plugin := _PLUGIN.match(value):
        value = plugin[1]
    elif (found := _HOST.match(value)) and (name := _of_host(found[1])):
        return name
    compact = "".join(c for c in value if c.isalnum())
    return _BY_NAME.get(compact, re.sub(r"\s+", "_", value))[:128]


def _of_host(host: str) -> str | None:
    known = _BY_HOST.get(host)
    return known or next((name for pattern, name in _BY_PATTERN if pattern.search(host)), None)
