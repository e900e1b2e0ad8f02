"""The amounts of one response, made such that sums over many of them can be priced.

A meter's totals are sums: what one response leaves open, or contradicts, could be seen in them no
more, or would spoil the price of all others. So it is corrected here, response by response. Nothing
is guessed: tokens of which nobody can tell what they were are `other_tokens`, and a split that
cannot be used is left out, so that those tokens are input or output of no known kind. Neither has a
price. What is sound is not touched.
"""

from __future__ import annotations

import re
from typing import Final

from voicecosts.producer.providers import normalise_provider

_INPUT: Final = ("text_input_tokens", "audio_input_tokens", "image_input_tokens")
_CACHED: Final = (
    "text_cache_read_input_tokens",
    "audio_cache_read_input_tokens",
    "image_cache_read_input_tokens",
)
_OUTPUT: Final = ("text_output_tokens", "audio_output_tokens", "image_output_tokens")

_GOOGLE: Final = frozenset({"gcp.gemini", "gcp.vertex_ai", "google"})
_THINKING: Final = re.compile(r"gemini-(?!1\.|2\.0(?!.*thinking))", re.IGNORECASE)
"""Models whose thoughts Google bills as output and counts in `total_token_count` alone: LiveKit's
plugin passes on `candidates_token_count`, which is without them. Gemini 1 and 2.0 do not think.
The same total has what a tool of Google's own put into the prompt; LiveKit does not tell which."""


def correct(used: dict[str, int], total: int, provider: str, model: str) -> None:
    """Correct the tokens in `used`, quantity → amount, whose sum the provider says is `total`.

    * Where cached tokens are more than the input, nothing of the response is known but its size.
    * What `total` has above input and output is reasoning where the response names as much of it
      (xAI), or where the provider is known to hide it there (Gemini); else it is other tokens.
      A smaller `total` says nothing.
    * Where reasoning is more than the output, and `total` does not explain it, the output is other
      tokens.
    """
    get = used.get
    read, written = get("input_tokens", 0), get("output_tokens", 0)
    cached = get("cache_read_input_tokens", 0) + get("cache_creation_input_tokens", 0)
    reasoning = get("reasoning_output_tokens", 0)
    if total <= read + written and cached <= read and reasoning <= written:
        return
    if cached > read:
        everything = max(total, cached + max(written, reasoning))
        for name in [name for name in used if name.endswith("_tokens")]:
            del used[name]
        used["other_tokens"] = everything
        return
    more = max(0, total - read - written)
    if 0 < reasoning <= more and (reasoning == more or reasoning > written):
        thoughts = reasoning
    elif more and not reasoning and _thinks(provider, model):
        thoughts = more
    else:
        thoughts = 0
    if thoughts:
        written += thoughts
        more -= thoughts
        used["output_tokens"] = written
        used["reasoning_output_tokens"] = reasoning = thoughts
    if reasoning > written:
        more = max(more + written, reasoning)
        del used["reasoning_output_tokens"]
        used.pop("output_tokens", None)
    if more:
        used["other_tokens"] = more


def correct_kinds(used: dict[str, int]) -> None:
    """Correct the kinds of a realtime response: text, audio and images differ tenfold in price.

    Reasoning is text. Cached tokens of no named kind are of the only kind of input there was, or of
    the kind that the input leaves unnamed as well (Gemini's video). Else which tokens were cached
    is open, and the split of the input is left out; so is one that exceeds its total.
    """
    get = used.get
    kinds = [get(name, 0) for name in _INPUT]
    cached = [get(name, 0) for name in _CACHED]
    unnamed = get("input_tokens", 0) - sum(kinds)
    open_cached = get("cache_read_input_tokens", 0) - sum(cached)
    if open_cached > 0 and not unnamed and kinds.count(0) == len(kinds) - 1:
        [only] = (place for place, amount in enumerate(kinds) if amount)
        cached[only] += open_cached
        used[_CACHED[only]] = cached[only]
        open_cached = 0
    is_usable = (
        0 <= open_cached <= unnamed
        and (not open_cached or any(cached))
        and all(part <= whole for part, whole in zip(cached, kinds, strict=True))
    )
    if not is_usable:
        _leave_out(used, _INPUT + _CACHED)
    if get("reasoning_output_tokens"):
        used["text_output_tokens"] = get("text_output_tokens", 0) + used["reasoning_output_tokens"]
    if sum(get(name, 0) for name in _OUTPUT) > get("output_tokens", 0):
        _leave_out(used, _OUTPUT)


def _thinks(provider: str, model: str) -> bool:
    return normalise_provider(provider) in _GOOGLE and _THINKING.search(model) is not None


def _leave_out(used: dict[str, int], names: tuple[str, ...]) -> None:
    for name in names:
        used.pop(name, None)
