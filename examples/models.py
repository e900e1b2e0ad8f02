"""The models of the examples: LiveKit Inference by its names, in a worker of yours three strings.

The keys of the LIVEKIT_ variables pay for them. With EXAMPLES_OFFLINE=1 scripted models stand in.
"""

from __future__ import annotations

import os
from typing import Any

STT: Any = "deepgram/nova-3"
LLM: Any = "openai/gpt-4.1-mini"
TTS: Any = "cartesia/sonic-3"

if os.environ.get("EXAMPLES_OFFLINE"):
    from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS

    STT, LLM, TTS = ScriptedSTT(), ScriptedLLM(), ScriptedTTS()
