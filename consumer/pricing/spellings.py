"""Under which names the price list may know a model that LiveKit named.

The two name spaces differ in few, documented ways, and each has its line here. A name without
content ("unknown", from a plugin that hides its model) is translated only where the provider sells
exactly one such product.
"""

from __future__ import annotations

from typing import Final

_RENAMED: Final = {
    # AssemblyAI has one name for two prices; the list keeps the bare name for files. LiveKit's
    # plugin only streams.
    ("assemblyai", "stt", "universal-3-5-pro"): "universal-3-5-pro-streaming",
    # LiveKit names Polly's engine, the list the product.
    ("aws", "tts", "generative"): "polly-generative",
    ("aws", "tts", "long-form"): "polly-long-form",
    ("aws", "tts", "neural"): "polly-neural",
    ("aws", "tts", "standard"): "polly-standard",
    # LiveKit names a custom language model of Amazon Transcribe, and "unknown" without one.
    ("aws", "stt", "unknown"): "transcribe",
}


def spellings(list_id: str, modality: str, model: str) -> tuple[str, ...]:
    """Return the names to look for, best first.

    A LiveKit Inference string may end in a language ("deepgram/nova-3:en") or a voice
    ("cartesia/sonic-2:<voice>"): neither changes the price, except that Deepgram's multilingual
    models are models of their own. Google's names may come as a path.
    """
    name = model.strip().lower()
    if (renamed := _RENAMED.get((list_id, modality, name))) is not None:
        return (renamed,)
    if list_id == "google":
        return (name.rpartition("/")[2],)
    if list_id == "livekit" and ":" in name:
        base, _, suffix = name.partition(":")
        return (name, f"{base}-multi", base) if suffix == "multi" else (name, base)
    return (name,)
