"""`TokenUsage`: the tokens of one response, by kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from meterkit.errors import ConfigurationError
from meterkit.metering.dimensions.quantities import Told
from meterkit.metering.dimensions.values import OTHER, value_of

Provider: TypeAlias = Literal["openai", "anthropic", "gemini"]

Kind: TypeAlias = Literal["input", "cached_input", "cache_write", "input_audio", "output", "reasoning", "output_audio"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""All kinds of token. They are disjoint: each token is of exactly one."""

INPUT: tuple[Kind, ...] = ("input", "cached_input", "cache_write", "input_audio")
"""The kinds that a prompt consists of."""

OUTPUT: tuple[Kind, ...] = ("output", "reasoning", "output_audio")
"""The kinds that a model generates."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """
    The tokens of one response. The kinds are disjoint, so that they add up to what the provider charges for.

    Attributes:
        provider: Whose shape the response has: ``openai``, ``anthropic`` or ``gemini``.
        model: Model that the response names; empty if it names none.
        input: Tokens of the prompt that are of no other kind: neither cached nor audio.
        cached_input: Tokens of the prompt that were read from a cache.
        cache_write: Tokens of the prompt that were written to a cache.
        input_audio: Tokens of audio in the prompt that were not read from a cache, if the provider tells them apart.
        output: Tokens of the answer that are of no other kind: what the client sees, and calls of tools.
        reasoning: Tokens that the model generated to think, if the provider tells them apart.
        output_audio: Tokens of audio in the answer, if the provider tells them apart.
    """

    provider: Provider
    model: str = ""
    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    input_audio: int = 0
    output: int = 0
    reasoning: int = 0
    output_audio: int = 0

    @property
    def total(self) -> int:
        """Tokens of all kinds."""
        return self.count(*KINDS)

    def count(self, *kinds: Kind) -> int:
        """Return the sum of *kinds*, such as ``usage.count(*OUTPUT)``; 0 without any."""
        return sum(getattr(self, kind) for kind in kinds)

    def parts(self, kinds: Iterable[Kind]) -> dict[Told, int]:
        """Return the tokens of each of *kinds* that were used, with the values of `TOLD_BY_MODELS`."""
        model = value_of(self.model)
        model = OTHER if model is None else model
        found: dict[Told, int] = {}
        for kind in kinds:
            quantity = self.count(kind)
            if quantity:
                found[("kind", kind), ("model", model), ("provider", self.provider)] = quantity
        return found


def checked_kinds(kinds: Iterable[Any], where: str) -> tuple[Kind, ...]:
    """
    Return *kinds* as a tuple, each once; *where* names them in errors.

    Raises:
        ConfigurationError: One is unknown, or there is none.
    """
    found = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if not found:
        raise ConfigurationError(f"{where} needs at least one kind of token: {', '.join(map(repr, KINDS))}")
    for kind in found:
        if kind not in KINDS:
            import difflib

            close = difflib.get_close_matches(str(kind), KINDS, n=1)
            cure = f"did you mean {close[0]!r}?" if close else f"the kinds are {', '.join(map(repr, KINDS))}"
            raise ConfigurationError(f"{where}: {kind!r:.100} is no kind of token; {cure}")
    return tuple(dict.fromkeys(found))
