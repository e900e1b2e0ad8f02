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
_BY_HOST: Final = (
    (re.compile(r"(^|\.)openai\.azure\.com$"), "azure.ai.openai"),
    (re.compile(r"(^|\.)openai\.com$"), "openai"),
    (re.compile(r"(^|\.)anthropic\.com$"), "anthropic"),
    (re.compile(r"^generativelanguage\.googleapis\.com$"), "gcp.gemini"),
    (re.compile(r"(^|-|\.)aiplatform\.googleapis\.com$"), "gcp.vertex_ai"),
    (re.compile(r"^bedrock[a-z-]*\..*\.amazonaws\.com$"), "aws.bedrock"),
    (re.compile(r"(^|\.)groq\.com$"), "groq"),
    (re.compile(r"(^|\.)x\.ai$"), "x_ai"),
    (re.compile(r"(^|\.)services\.ai\.azure\.com$"), "azure.ai.inference"),
    (re.compile(r"(^|\.)mistral\.ai$"), "mistral_ai"),
    (re.compile(r"(^|\.)cohere\.(ai|com)$"), "cohere"),
    (re.compile(r"(^|\.)moonshot\.(ai|cn)$"), "moonshot_ai"),
    (re.compile(r"(^|\.)deepseek\.com$"), "deepseek"),
    (re.compile(r"(^|\.)cerebras\.ai$"), "cerebras"),
    (re.compile(r"(^|\.)together\.(xyz|ai)$"), "together"),
    (re.compile(r"(^|\.)fireworks\.ai$"), "fireworks"),
    (re.compile(r"(^|\.)openrouter\.ai$"), "openrouter"),
    (re.compile(r"(^|\.)perplexity\.ai$"), "perplexity"),
)
_PORT = re.compile(r"(?<=[a-z]):\d{1,5}$")
_PLUGIN = re.compile(r"^livekit\.plugins\.([a-z0-9_]+)(\.|$)")


@lru_cache(maxsize=1024)
def normalise_provider(raw: str) -> str:
    """Return the normalised name of a provider label; `unknown` for an empty one.

    The host table follows the OpenTelemetry GenAI registry (`aws.bedrock`, `gcp.vertex_ai`,
    `azure.ai.openai`, `x_ai`, `mistral_ai`); what the registry does not know keeps its own name in
    lower case with spaces as underscores. A plugin's class label gives the plugin's name.
    """
    value = _PORT.sub("", raw.strip().lower())
    if not value:
        return "unknown"
    if plugin := _PLUGIN.match(value):
        value = plugin[1]
    for host, name in _BY_HOST:
        if host.search(value):
            return name
    compact = "".join(c for c in value if c.isalnum())
    return _BY_NAME.get(compact, re.sub(r"\s+", "_", value))[:128]
