"""What voice agents commonly run on, each price written out leg by leg.

A line is modality, LiveKit's provider label and model, totals, the row that prices them, and the
expected money. The figures are the list's own: prices by the minute or hour are stored there by the
thousand seconds with six decimals, so some totals differ from the vendor's page in the sixth digit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tests.consumer.pricing.asking import kchar, kmin, ksec, mtok, seconds
from voicecosts.producer.events import Quantities

LLM: Final = Quantities(
    input_tokens=10_000, cache_read_input_tokens=4_000, output_tokens=1_000, requests=7
)
CLAUDE: Final = Quantities(
    input_tokens=10_000,
    cache_read_input_tokens=4_000,
    cache_creation_input_tokens=1_000,
    output_tokens=1_000,
    requests=7,
)
STT: Final = Quantities(audio_us=seconds(90))
STT_TOKENS: Final = Quantities(
    audio_us=seconds(90), input_tokens=900, output_tokens=200, requests=3
)
TTS: Final = Quantities(characters=1_234, audio_us=seconds(77), requests=3)
TTS_TOKENS: Final = Quantities(
    characters=1_234, audio_us=seconds(77), input_tokens=300, output_tokens=1_500, requests=3
)
REALTIME: Final = Quantities(
    input_tokens=10_000,
    text_input_tokens=3_000,
    audio_input_tokens=7_000,
    cache_read_input_tokens=5_000,
    text_cache_read_input_tokens=1_000,
    audio_cache_read_input_tokens=4_000,
    output_tokens=2_000,
    text_output_tokens=500,
    audio_output_tokens=1_500,
    requests=7,
)
SESSION: Final = Quantities(session_us=seconds(180))


def llm(fresh: str, cached: str, output: str) -> Decimal:
    """Price `LLM`: 6,000 fresh and 4,000 cached input tokens, 1,000 of output."""
    return mtok(fresh, 6_000) + mtok(cached, 4_000) + mtok(output, 1_000)


def claude(fresh: str, created: str, cached: str, output: str) -> Decimal:
    """Price `CLAUDE`: of 10,000 input tokens 1,000 wrote and 4,000 read the cache."""
    return mtok(fresh, 5_000) + mtok(created, 1_000) + mtok(cached, 4_000) + mtok(output, 1_000)


def realtime(*rates: str) -> Decimal:
    """Price `REALTIME`: text fresh, cached and out, then audio fresh, cached and out."""
    amounts = (2_000, 1_000, 500, 3_000, 4_000, 1_500)
    legs = (mtok(rate, amount) for rate, amount in zip(rates, amounts, strict=True))
    return sum(legs, Decimal(0))


Case = tuple[str, str, str, Quantities, str, Decimal]
Missing = tuple[str, str, str, Quantities, str]

PRICED: Final[list[Case]] = [
    # Language models, at their vendors
    ("llm", "api.openai.com", "gpt-4o", LLM, "openai/gpt-4o", llm("2.5", "1.25", "10")),
    (
        "llm",
        "api.openai.com",
        "gpt-4o-mini",
        LLM,
        "openai/gpt-4o-mini",
        llm("0.15", "0.075", "0.6"),
    ),
    (
        "llm",
        "api.openai.com",
        "gpt-4o-mini-2024-07-18",
        LLM,
        "openai/gpt-4o-mini",
        llm("0.15", "0.075", "0.6"),
    ),
    ("llm", "api.openai.com", "gpt-4.1", LLM, "openai/gpt-4.1", llm("2", "0.5", "8")),
    ("llm", "api.openai.com", "gpt-4.1-mini", LLM, "openai/gpt-4.1-mini", llm("0.4", "0.1", "1.6")),
    ("llm", "api.openai.com", "gpt-5-mini", LLM, "openai/gpt-5-mini", llm("0.25", "0.025", "2")),
    ("llm", "api.openai.com", "gpt-5.4", LLM, "openai/gpt-5.4", llm("2.5", "0.25", "15")),
    (
        "llm",
        "api.anthropic.com",
        "claude-haiku-4-5-20251001",
        CLAUDE,
        "anthropic/claude-haiku-4-5",
        claude("1", "1.25", "0.1", "5"),
    ),
    (
        "llm",
        "api.anthropic.com",
        "claude-sonnet-4-5",
        CLAUDE,
        "anthropic/claude-sonnet-4-5",
        claude("3", "3.75", "0.3", "15"),
    ),
    (
        "llm",
        "AWS Bedrock",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        CLAUDE,
        "aws/regional.anthropic.claude-haiku-4-5-20251001-v1:0",
        claude("1.1", "1.375", "0.11", "5.5"),
    ),
    (
        "llm",
        "AWS Bedrock",
        "amazon.nova-pro-v1:0",
        LLM,
        "aws/amazon.nova-pro-v1:0",
        llm("0.8", "0.2", "3.2"),
    ),
    (
        "llm",
        "Gemini",
        "gemini-2.0-flash",
        LLM,
        "google/gemini-2.0-flash",
        llm("0.1", "0.025", "0.4"),
    ),
    (
        "llm",
        "Vertex AI",
        "gemini-2.5-flash",
        LLM,
        "google/gemini-2.5-flash",
        llm("0.3", "0.03", "2.5"),
    ),
    ("llm", "Gemini", "gemini-2.5-pro", LLM, "google/gemini-2.5-pro", llm("1.25", "0.125", "10")),
    (
        "llm",
        "api.groq.com",
        "llama-3.3-70b-versatile",
        LLM,
        "groq/llama-3.3-70b-versatile",
        llm("0.59", "0.59", "0.79"),
    ),
    (
        "llm",
        "api.cerebras.ai",
        "gpt-oss-120b",
        LLM,
        "cerebras/gpt-oss-120b",
        llm("0.35", "0.35", "0.75"),
    ),
    (
        "llm",
        "api.x.ai",
        "grok-4-fast",
        LLM,
        "x-ai/grok-4-fast-reasoning",
        llm("0.2", "0.05", "0.5"),
    ),
    (
        "llm",
        "api.deepseek.com",
        "deepseek-chat",
        LLM,
        "deepseek/deepseek-chat",
        llm("0.27", "0.07", "1.1"),
    ),
    (
        "llm",
        "api.together.xyz",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        LLM,
        "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        llm("0.88", "0.88", "0.88"),
    ),
    (
        "llm",
        "api.fireworks.ai",
        "accounts/fireworks/models/gpt-oss-20b",
        LLM,
        "fireworks/gpt-oss-20b",
        llm("0.07", "0.04", "0.3"),
    ),
    ("llm", "acme.openai.azure.com", "o3-mini", LLM, "azure/o3-mini", llm("1.1", "0.55", "4.4")),
    ("llm", "acme.openai.azure.com", "gpt-4o", LLM, "openai/gpt-4o", llm("2.5", "1.25", "10")),
    # Transcription
    ("stt", "Deepgram", "nova-3", STT, "deepgram/nova-3", ksec("0.08", 90)),
    ("stt", "Deepgram", "nova-2-general", STT, "deepgram/nova-2", ksec("0.097222", 90)),
    ("stt", "Deepgram", "flux-general-en", STT, "deepgram/flux-general", ksec("0.108333", 90)),
    (
        "stt",
        "AssemblyAI",
        "universal-streaming-english",
        STT,
        "assemblyai/universal-streaming-english",
        ksec("0.041667", 90),
    ),
    (
        "stt",
        "AssemblyAI",
        "universal-3-5-pro",
        STT,
        "assemblyai/universal-3-5-pro-streaming",
        ksec("0.125", 90),
    ),
    ("stt", "Cartesia", "ink-2", STT, "cartesia/ink-2", ksec("0.15", 90)),
    (
        "stt",
        "ElevenLabs",
        "scribe_v2_realtime",
        STT,
        "elevenlabs/scribe_v2_realtime",
        ksec("0.108333", 90),
    ),
    ("stt", "Gladia", "solaria-1", STT, "gladia/solaria-1", ksec("0.208333", 90)),
    ("stt", "Speechmatics", "enhanced", STT, "speechmatics/enhanced", ksec("0.119444", 90)),
    (
        "stt",
        "Google Cloud Platform",
        "latest_long",
        STT,
        "google/stt-standard",
        ksec("0.266667", 90),
    ),
    ("stt", "Amazon Transcribe", "unknown", STT, "aws/transcribe", ksec("0.1667", 90)),
    ("stt", "api.openai.com", "whisper-1", STT, "openai/whisper-1", ksec("0.1", 90)),
    (
        "stt",
        "api.groq.com",
        "whisper-large-v3-turbo",
        STT,
        "groq/whisper-large-v3-turbo",
        ksec("0.011111", 90),
    ),
    (
        "stt",
        "api.openai.com",
        "gpt-4o-mini-transcribe",
        STT_TOKENS,
        "openai/gpt-4o-mini-transcribe",
        mtok("3", 900) + mtok("5", 200),
    ),
    ("stt", "Soniox", "stt-rt-v3", STT_TOKENS, "soniox/stt-rt", mtok("2", 900) + mtok("4", 200)),
    # Voices
    ("tts", "Cartesia", "sonic-3", TTS, "cartesia/sonic-3", kchar("0.05", 1_234)),
    (
        "tts",
        "ElevenLabs",
        "eleven_turbo_v2_5",
        TTS,
        "elevenlabs/eleven_turbo_v2_5",
        kchar("0.05", 1_234),
    ),
    (
        "tts",
        "ElevenLabs",
        "eleven_multilingual_v2",
        TTS,
        "elevenlabs/eleven_multilingual_v2",
        kchar("0.1", 1_234),
    ),
    ("tts", "Deepgram", "aura-2-andromeda-en", TTS, "deepgram/aura-2", kchar("0.03", 1_234)),
    ("tts", "Rime", "mistv2", TTS, "rime/mist", kchar("0.03", 1_234)),
    ("tts", "Amazon Polly", "generative", TTS, "aws/polly-generative", kchar("0.03", 1_234)),
    (
        "tts",
        "Inworld",
        "inworld-tts-1.5-max",
        TTS,
        "inworld/inworld-tts-1.5-max",
        kchar("0.035", 1_234),
    ),
    ("tts", "api.openai.com", "tts-1", TTS, "openai/tts-1", kchar("0.015", 1_234)),
    (
        "tts",
        "api.openai.com",
        "gpt-4o-mini-tts",
        TTS_TOKENS,
        "openai/gpt-4o-mini-tts",
        mtok("0.6", 300) + mtok("12", 1_500),
    ),
    # Speech to speech
    (
        "realtime",
        "api.openai.com",
        "gpt-realtime",
        REALTIME,
        "openai/gpt-realtime",
        realtime("4", "0.4", "16", "32", "0.4", "64"),
    ),
    (
        "realtime",
        "api.openai.com",
        "gpt-realtime-mini",
        REALTIME,
        "openai/gpt-realtime-mini",
        realtime("0.6", "0.06", "2.4", "10", "0.3", "20"),
    ),
    (
        "realtime",
        "Gemini",
        "gemini-2.5-flash-native-audio-preview-09-2025",
        REALTIME,
        "google/gemini-live-2.5-flash-preview",
        realtime("0.5", "0.5", "2", "3", "3", "12"),
    ),
    (
        "realtime",
        "AWS Bedrock",
        "amazon.nova-sonic-v1:0",
        REALTIME,
        "aws/amazon.nova-sonic-v1:0",
        realtime("0.06", "0.06", "0.24", "3.4", "3.4", "13.6"),
    ),
    (
        "realtime",
        "api.x.ai",
        "grok-voice-think-fast-2.0",
        SESSION,
        "x-ai/grok-voice-think-fast-2.0",
        kmin("80", 3),
    ),
    # LiveKit Inference, at LiveKit's prices
    (
        "llm",
        "livekit",
        "openai/gpt-4o-mini",
        LLM,
        "livekit/openai/gpt-4o-mini",
        llm("0.15", "0.075", "0.6"),
    ),
    ("llm", "livekit", "openai/gpt-5", LLM, "livekit/openai/gpt-5", llm("1.25", "0.13", "10")),
    (
        "llm",
        "livekit",
        "google/gemini-2.5-flash",
        LLM,
        "livekit/google/gemini-2.5-flash",
        llm("0.3", "0.03", "2.5"),
    ),
    ("stt", "livekit", "deepgram/nova-3:en", STT, "livekit/deepgram/nova-3", ksec("0.08", 90)),
    (
        "stt",
        "livekit",
        "deepgram/nova-3:multi",
        STT,
        "livekit/deepgram/nova-3-multi",
        ksec("0.096667", 90),
    ),
    (
        "stt",
        "livekit",
        "cartesia/ink-whisper",
        STT,
        "livekit/cartesia/ink-whisper",
        ksec("0.05", 90),
    ),
    (
        "stt",
        "livekit",
        "assemblyai/universal-streaming",
        STT,
        "livekit/assemblyai/universal-streaming",
        ksec("0.041667", 90),
    ),
    (
        "tts",
        "livekit",
        "cartesia/sonic-2:a-voice",
        TTS,
        "livekit/cartesia/sonic-2",
        kchar("0.05", 1_234),
    ),
    ("tts", "livekit", "rime/mistv2", TTS, "livekit/rime/mistv2", kchar("0.03", 1_234)),
    (
        "tts",
        "livekit",
        "inworld/inworld-tts-1.5-max",
        TTS,
        "livekit/inworld/inworld-tts-1.5-max",
        kchar("0.035", 1_234),
    ),
]

UNPRICED: Final[list[Missing]] = [
    ("stt", "Cartesia", "ink-whisper", STT, "the list only knows 'ink-2'"),
    ("tts", "Cartesia", "sonic-2", TTS, "the list only knows 'sonic-3'"),
    ("stt", "AssemblyAI", "universal-streaming", STT, "no list price for model"),
    ("stt", "AssemblyAI", "u3-rt-pro", STT, "no list price for model"),
    ("stt", "Azure STT", "unknown", STT, "no list price for model 'unknown' of provider 'azure'"),
    ("tts", "Azure TTS", "unknown", TTS, "no list price for model 'unknown' of provider 'azure'"),
    ("stt", "Deepgram", "nova", STT, "gives no rate for 'nova'"),
    ("stt", "ElevenLabs", "scribe_v1", STT, "gives no rate for 'scribe_v1'"),
    ("stt", "api.openai.com", "gpt-4o-transcribe", STT, "is billed by tokens, but only audio_us"),
    ("stt", "Soniox", "stt-rt-v3", STT, "is billed by tokens, but only audio_us"),
    ("tts", "api.openai.com", "gpt-4o-mini-tts", TTS, "is billed by tokens, but only characters"),
    ("tts", "Google Cloud Platform", "Chirp3", TTS, "no list price for model 'Chirp3'"),
    ("tts", "Rime", "arcana", TTS, "no list price for model 'arcana'"),
    ("tts", "PlayHT", "PlayDialog", TTS, "no price list for provider 'PlayHT'"),
    ("tts", "Inworld", "inworld-tts-1", TTS, "no list price for model 'inworld-tts-1'"),
    ("realtime", "api.openai.com", "gpt-realtime-2", REALTIME, "no list price for model"),
    (
        "realtime",
        "Vertex AI",
        "gemini-live-2.5-flash-native-audio",
        REALTIME,
        "no list price for model",
    ),
    ("llm", "livekit", "openai/gpt-oss-20b", LLM, "of provider 'livekit'"),
    ("llm", "llm.acme.test", "gpt-4o", LLM, "no price list for provider 'llm.acme.test'"),
    ("interruption", "livekit", "adaptive interruption", LLM, "no list price for model"),
    ("turn_detector", "livekit", "turn-detector-v1", LLM, "no list price for model"),
]
"""What has no right price, and what the reason must say."""
