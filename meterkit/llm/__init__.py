"""
The tokens that a language model has used, out of the provider's responses.

`usage_of` and `TokenReader` read a response of OpenAI, Anthropic or Gemini; `tokens` is a meter's ``value=`` for an app
or a proxy whose responses have such a shape; `watch` counts what the provider's Python client receives.
"""

from meterkit.llm.client_watch import watch
from meterkit.llm.meter_value import tokens
from meterkit.llm.token_reader import TokenReader, usage_of
from meterkit.llm.token_usage import INPUT, KINDS, OUTPUT, Kind, TokenUsage

__all__ = ["INPUT", "KINDS", "OUTPUT", "Kind", "TokenReader", "TokenUsage", "tokens", "usage_of", "watch"]
