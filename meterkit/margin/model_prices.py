"""List prices of language models, from the package ``genai-prices``, which has them as data and makes no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

from meterkit.core.periods import DAY
from meterkit.errors import ConfigurationError
from meterkit.llm.token_usage import KINDS, Kind, checked_kinds
from meterkit.margin.unit_costs import UnitCost
from meterkit.metering.dimensions.values import OTHER
from meterkit.pricing.price import EXACT

USAGE: Mapping[Kind, tuple[str, ...]] = {
    "input": ("input_tokens",),
    "cached_input": ("input_tokens", "cache_read_tokens"),
    "cache_write": ("input_tokens", "cache_write_tokens"),
    "input_audio": ("input_tokens", "input_audio_tokens"),
    "output": ("output_tokens",),
    "reasoning": ("output_tokens",),
    "output_audio": ("output_tokens", "output_audio_tokens"),
}
"""
What the package counts one token of each kind as: its ``input_tokens`` and ``output_tokens`` include all others, where
our kinds are disjoint.
"""

_KINDS: Mapping[str, Kind] = {kind: kind for kind in KINDS}

PRICES: Mapping[Kind, tuple[str, ...]] = {
    "input": ("input_mtok",),
    "cached_input": ("cache_read_mtok", "input_mtok"),
    "cache_write": ("cache_write_mtok", "input_mtok"),
    "input_audio": ("input_audio_mtok", "input_mtok"),
    "output": ("output_mtok",),
    "reasoning": ("output_mtok",),
    "output_audio": ("output_audio_mtok", "output_mtok"),
}
"""Attributes of a model's price that say what a token of each kind costs: the first that is set does."""

PROVIDERS = {"gemini": "google"}
"""Names of providers in `meterkit.llm` that the package calls otherwise."""


@dataclass(frozen=True)
class ModelPrices:
    """
    List prices of tokens.

    Attributes:
        model: Model of all usage; None if the first value tells.
        kind: Kind of all tokens; None if the next value tells.
        provider: Provider whose prices count; None if a further value tells, or else the model's name.
        exchange_rate: How much of the currency of the costs a US dollar is.
    """

    model: str | None
    kind: Kind | None
    provider: str | None
    exchange_rate: Decimal = Decimal(1)

    def check(self) -> None:
        """
        Check that the package is installed, without importing it, and that the kind is one.

        Raises:
            ConfigurationError: It is not.
        """
        if self.kind is not None:
            checked_kinds(self.kind, "Cost.genai_prices(kind=...)")
        if find_spec("genai_prices") is None:
            raise ConfigurationError("Cost.genai_prices needs genai-prices: pip install 'meterkit[genai-prices]'")

    def current(self) -> _Current:
        """Return the prices of the installed package, or those that its ``UpdatePrices`` has loaded since."""
        return _Current(self)


class _Current:
    def __init__(self, prices: ModelPrices) -> None:
        self._prices = prices
        self._days: dict[tuple[str, str], list[date]] = {}

    def of(self, values: Sequence[str], start: int, end: int) -> tuple[UnitCost, ...]:
        """Return what a token costs from the Unix second *start* to *end*, excluded."""
        told = list(values)
        model = told.pop(0) if self._prices.model is None else self._prices.model
        kind = _KINDS.get(told.pop(0)) if self._prices.kind is None else self._prices.kind
        provider = self._prices.provider or (told.pop() if told else "")
        if not model or OTHER in (model, provider) or kind is None:
            return (UnitCost(start, None),)
        whose = (PROVIDERS.get(provider, provider), model)
        found = [
            UnitCost(since, self._each(whose, kind, since)) for since in (start, *self._changes(whose, start, end))
        ]
        return tuple(rate for at, rate in enumerate(found) if not at or rate.each != found[at - 1].each)

    def _changes(self, whose: tuple[str, str], start: int, end: int) -> list[int]:
        """Return the Unix seconds of the days between *start* and *end*, excluded, on which a price begins to hold."""
        if whose not in self._days:
            known = self._calculated(whose, {"input_tokens": 1}, start)
            listed = [] if known is None else known.model.prices
            days = [getattr(each.constraint, "start_date", None) for each in listed] if isinstance(listed, list) else []
            self._days[whose] = [day for day in days if isinstance(day, date)]
        return sorted({_second(day) for day in self._days[whose] if start < _second(day) < end})

    def _each(self, whose: tuple[str, str], kind: Kind, at: int) -> Decimal | None:
        # The price of a second token: that of the first may contain a price per request.
        one, two = (self._calculated(whose, dict.fromkeys(USAGE[kind], number), at) for number in (1, 2))
        if one is None or two is None:
            return None
        each = EXACT.subtract(two.total_price, one.total_price)
        # Nothing is a price only if the package says so: it also adds up nothing for a kind that it has no price of.
        is_listed = any(getattr(one.model_price, name, None) is not None for name in PRICES[kind])
        return EXACT.multiply(each, self._prices.exchange_rate) if each or is_listed else None

    def _calculated(self, whose: tuple[str, str], usage: Mapping[str, int], at: int) -> Any:
        """Return what *usage* costs on the day that begins at *at*, with a provider and a model; None if not known."""
        from genai_prices import Usage, calc_price

        # At noon: where nights are cheaper, they are so around midnight.
        moment = datetime.fromtimestamp(at + DAY // 2, timezone.utc)
        provider, model = whose
        try:
            return calc_price(
                Usage(**usage), model_ref=model, provider_id=provider or None, genai_request_timestamp=moment
            )
        except (LookupError, ValueError):  # it knows no such model; or it cannot tell what such a token costs
            return None


def _second(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())
