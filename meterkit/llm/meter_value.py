"""`tokens`: a meter's ``value=`` for responses in the shape of a provider's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from meterkit.llm.token_reader import TokenReader
from meterkit.llm.token_usage import KINDS, Kind, checked_kinds
from meterkit.metering.dimensions.declaration import TOLD_BY_MODELS
from meterkit.metering.dimensions.quantities import Told
from meterkit.metering.meter import StreamedValue


@dataclass(frozen=True)
class Tokens(StreamedValue):
    """
    Tokens of some kinds, in the response's body; created by `tokens`.

    Attributes:
        kinds: Kinds that are added up.
    """

    kinds: tuple[Kind, ...]
    told: ClassVar[tuple[str, ...]] = TOLD_BY_MODELS

    def reader(self, encoding: str) -> TokenReader:
        """Return a new reader of a body with the Content-Encoding *encoding*."""
        return TokenReader(encoding)

    def read(self, reader: TokenReader) -> int:
        """
        Return the tokens that *reader* has found.

        Raises:
            UsageError: The response has told none.
        """
        return reader.required().count(*self.kinds)

    def parts(self, reader: TokenReader) -> Iterable[tuple[Told, int]]:
        """
        Return the tokens that *reader* has found, by kind, with the model and the provider.

        Raises:
            UsageError: The response has told none.
        """
        return reader.required().parts(self.kinds).items()


def tokens(*kinds: Kind) -> Tokens:
    """
    Count the tokens that the response says were used, for an app or a proxy whose responses are those of a provider.

    With ``by=("model", "kind")`` or ``"provider"``, the tokens are told apart by what the response says of them.

    The body is read while it passes, and not kept. A stream that breaks off counts what it has told by then.

    Args:
        kinds: Kinds of token that are added up, such as ``"input", "cached_input"`` or ``*llm.OUTPUT``; all by default.
            A kind that no meter names is not billed: an answer may consist of ``output``, ``reasoning`` and
            ``output_audio``.

    Raises:
        ConfigurationError: A kind is unknown.
    """
    return Tokens(checked_kinds(kinds or KINDS, "tokens()"))
