"""
From a provider's block of usage to disjoint kinds of token.

What is inside of what differs. OpenAI: cached, written and audio tokens are inside of the prompt's, reasoning and audio
inside of the completion's. Anthropic: reads from and writes to the cache are on top of ``input_tokens``, thinking is
inside of ``output_tokens``. Gemini: cached tokens are inside of the prompt's; thoughts, and prompts that tools made,
are on top. docs/llm.md has the table with the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meterkit.core.validation import checked_quantity
from meterkit.errors import UsageError
from meterkit.llm.token_usage import TokenUsage

Block = Mapping[str, Any]


def usage_in(block: Block, model: str) -> TokenUsage | None:
    """
    Return the tokens of *block*; None if it has none of the fields that say how many, as in the middle of a stream.

    Raises:
        UsageError: A field is not a countable number of tokens.
    """
    if _tells(block, "promptTokenCount", "candidatesTokenCount", "totalTokenCount"):
        return _gemini(block, model)
    if _tells(block, "prompt_token_count", "candidates_token_count", "total_token_count"):
        return _gemini(_camel(block), model)
    if _tells(block, "prompt_tokens", "completion_tokens"):
        return _openai(block, model, "prompt_tokens", "completion_tokens")
    if _tells(block, "input_tokens", "output_tokens"):
        if _tells(block, "total_tokens", "input_tokens_details", "input_token_details"):
            return _openai(block, model, "input_tokens", "output_tokens")
        return _anthropic(block, model)
    return None


def is_partial(block: Block) -> bool:
    """Return whether *block* is Anthropic's, of which a later one may tell only the fields that have changed."""
    names = ("input_tokens", "output_tokens")
    return _tells(block, *names) and not _tells(block, "total_tokens", "input_tokens_details", "prompt_tokens")


def _openai(block: Block, model: str, prompt_name: str, completion_name: str) -> TokenUsage:
    """
    Split the prompt's and the completion's tokens. What a detail says is never more than what it is a part of.

    xAI's reasoning tokens are on top of the completion's, which shows in the total.
    """
    prompt, completion = _number(block, prompt_name), _number(block, completion_name)
    of_prompt = _object(block, f"{prompt_name}_details") or _object(block, "input_token_details")
    of_completion = _object(block, f"{completion_name}_details") or _object(block, "output_token_details")
    reasoning = _number(of_completion, "reasoning_tokens")
    if reasoning and _number(block, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    cached = min(_number(of_prompt, "cached_tokens"), prompt)
    written = min(_number(of_prompt, "cache_write_tokens"), prompt - cached)
    audio = min(_number(of_prompt, "audio_tokens"), prompt - cached - written)
    reasoning = min(reasoning, completion)
    spoken = min(_number(of_completion, "audio_tokens"), completion - reasoning)
    return TokenUsage(
        "openai",
        model,
        input=prompt - cached - written - audio,
        cached_input=cached,
        cache_write=written,
        input_audio=audio,
        output=completion - reasoning - spoken,
        reasoning=reasoning,
        output_audio=spoken,
    )


def _anthropic(block: Block, model: str) -> TokenUsage:
    """Add the summaries that compaction makes of a long conversation: the fields beside ``iterations`` lack them."""
    parts = [block]
    iterations = block.get("iterations")
    if isinstance(iterations, list):
        parts += [each for each in iterations if isinstance(each, Mapping) and each.get("type") == "compaction"]
    generated = sum(_number(part, "output_tokens") for part in parts)
    thinking = min(_number(_object(block, "output_tokens_details"), "thinking_tokens"), generated)
    return TokenUsage(
        "anthropic",
        model,
        input=sum(_number(part, "input_tokens") for part in parts),
        cached_input=sum(_number(part, "cache_read_input_tokens") for part in parts),
        cache_write=sum(_number(part, "cache_creation_input_tokens") for part in parts),
        output=generated - thinking,
        reasoning=thinking,
    )


def _gemini(block: Block, model: str) -> TokenUsage:
    prompt = _number(block, "promptTokenCount")
    candidates = _number(block, "candidatesTokenCount")
    cached = min(_number(block, "cachedContentTokenCount"), prompt)
    heard = _of_audio(block, "promptTokensDetails") - _of_audio(block, "cacheTokensDetails")
    audio = min(max(heard, 0), prompt - cached)
    spoken = min(_of_audio(block, "candidatesTokensDetails"), candidates)
    return TokenUsage(
        "gemini",
        model,
        input=prompt - cached - audio + _number(block, "toolUsePromptTokenCount"),
        cached_input=cached,
        input_audio=audio,
        output=candidates - spoken,
        reasoning=_number(block, "thoughtsTokenCount"),
        output_audio=spoken,
    )


def _of_audio(block: Block, name: str) -> int:
    details = block.get(name)
    if not isinstance(details, list):
        return 0
    parts = [each for each in details if isinstance(each, Mapping) and str(each.get("modality")).endswith("AUDIO")]
    return sum(_number(part, "tokenCount") for part in parts)


def _tells(block: Block, *names: str) -> bool:
    return any(block.get(name) is not None for name in names)


def _object(block: Block, name: str) -> Block:
    found = block.get(name)
    return found if isinstance(found, Mapping) else {}


def _number(block: Block, name: str) -> int:
    value = block.get(name)
    if value is None:
        return 0
    try:
        return checked_quantity(value)
    except UsageError as error:
        raise UsageError(
            f"the usage in the response has {value!r:.100} as {name}: {error}", reason="tokens_not_countable"
        ) from None


def _camel(block: Block) -> Block:
    """Return *block* of Google's Python client with the names of the API."""

    def named(name: str) -> str:
        first, *others = name.split("_")
        return first + "".join(other.capitalize() for other in others)

    def renamed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {named(str(key)): renamed(each) for key, each in value.items()}
        return [renamed(each) for each in value] if isinstance(value, list) else value

    camel: Block = renamed(block)
    return camel
