"""`Cost`: what a unit of a meter costs the seller."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.errors import ConfigurationError
from meterkit.margin.cost_table import CostTable, TableFile
from meterkit.margin.unit_costs import CostSource
from meterkit.metering.meter import Meter
from meterkit.pricing.price import Money, money
from meterkit.pricing.rates.declaration import listed_rates, unit_rate
from meterkit.pricing.rates.table import Rate

if TYPE_CHECKING:
    from meterkit.llm.token_usage import Kind


@dataclass(frozen=True)
class Cost:
    """
    What a unit of a meter costs you. Never sent to Stripe, and never shown to customers.

    Create it with `Cost.per_unit`, `Cost.by` or `Cost.genai_prices`.

    Attributes:
        meter: Meter whose usage costs it.
        dimensions: Names of the meter's dimensions that the cost depends on; empty if all units cost the same.
        source: Where the amounts come from.
        currency: Three-letter currency code of the amounts, lower case.
    """

    meter: Meter
    dimensions: tuple[str, ...]
    source: CostSource
    currency: str = "usd"

    def __post_init__(self) -> None:
        if not isinstance(self.meter, Meter):
            raise ConfigurationError(f"Cost: meter= must be a Meter, not {self.meter!r:.100}")
        if not isinstance(self.currency, str) or len(self.currency) != 3 or not self.currency.isalpha():
            raise ConfigurationError(f"{self}: currency= must be three letters such as 'usd', not {self.currency!r}")
        object.__setattr__(self, "currency", self.currency.lower())
        unknown = [name for name in self.dimensions if name not in self.meter.dimensions]
        if unknown:
            raise ConfigurationError(
                f"{self}: {self.meter} has no dimension {unknown[0]!r}, only "
                f"{', '.join(map(repr, self.meter.dimensions)) or 'none'}; name it in Meter(by=...)"
            )
        self.source.check()

    def __str__(self) -> str:
        return f"Cost of {self.meter}"

    @classmethod
    def per_unit(cls, meter: Meter, amount: Money, *, per: int = 1, currency: str = "usd") -> Cost:
        """
        Return a cost that is the same for all units.

        Args:
            meter: Meter whose usage costs it.
            amount: Cost of *per* units, in whole currency: ``"0.25"``; a float is refused, because it is not exact.
            per: Number of units that the amount is for.
            currency: Three-letter currency code.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        where = f"Cost.per_unit of {meter}"
        each = unit_rate(amount, _checked_per(per, where), f"{where}: amount", money)
        return cls(meter, (), CostTable((Rate((), each),)), currency)

    @classmethod
    def by(
        cls,
        meter: Meter,
        dimensions: str | Iterable[str],
        amounts: Mapping[Any, Any] | None = None,
        *,
        table: str | os.PathLike[str] | None = None,
        per: int = 1,
        default: Money | None = None,
        currency: str = "usd",
    ) -> Cost:
        """
        Return a cost that depends on the values of dimensions, such as the model and the kind of token.

        Values may be patterns, as in `Price.by`, which takes the same dicts and files: the most specific one counts.
        Usage whose values nothing matches has no known cost: `meterkit.MeterKit.margin` names it.

        Args:
            meter: Meter whose usage costs it.
            dimensions: Name of a dimension of the meter, or several.
            amounts: Cost of *per* units in whole currency, by value; for several dimensions nested, as in
                ``{"small": {"input": "0.10"}}``, or with tuples as keys.
            table: File with the amounts instead, which is read for each report: ``.csv``, ``.toml`` or ``.json``, with
                a field for each dimension, ``price``, and optionally ``from``, the UTC day from which it costs that.
            per: Number of units that the amounts are for.
            default: Cost of *per* units of all other values, in whole currency; None if it is not known.
            currency: Three-letter currency code.

        Raises:
            ConfigurationError: An argument is wrong, or the table; the message says how to correct it.
        """
        where = f"Cost.by of {meter}"
        names = _checked_names(dimensions, where)
        if table is None:
            rates = listed_rates(names, amounts, table=None, per=per, default=default, what=where, amount=money)
            return cls(meter, names, CostTable(*rates), currency)
        if amounts is not None:
            raise ConfigurationError(f"{where}: pass either a dict of amounts, or table= with a file that has them")
        return cls(meter, names, TableFile(os.fspath(table), names, _checked_per(per, where), default, where), currency)

    @classmethod
    def genai_prices(
        cls,
        meter: Meter,
        *,
        by: Iterable[str] | None = None,
        model: str | None = None,
        kind: Kind | None = None,
        provider: str | None = None,
        currency: str = "usd",
        exchange_rate: Money | None = None,
    ) -> Cost:
        """
        Return a cost that the package ``genai-prices`` knows: list prices of language models.

        Needs ``pip install 'meterkit[genai-prices]'``. The prices are those in the installed package, or what its
        ``UpdatePrices`` has loaded; each day's usage costs what that day's price was. Prices that depend on the length
        of a single request or the time of day are taken at their base.

        Args:
            meter: Meter that counts tokens.
            by: Names of the meter's dimensions with the model, the kind of token, and optionally the provider, in this
                order, less those given here; by default ``model``, ``kind``, and ``provider`` if the meter has that.
            model: Model that all usage of the meter is of, such as ``"gpt-5-mini"``; None if a dimension tells.
            kind: Kind of token that the meter counts, one of ``meterkit.llm.KINDS``; None if a dimension tells.
            provider: Provider whose prices count, such as ``"azure"``; by default, the dimension tells, or else the
                model's name.
            currency: Three-letter code of the currency that costs are wanted in.
            exchange_rate: How much of *currency* a US dollar is, such as ``"0.86"``; required unless that is ``usd``.

        Raises:
            ConfigurationError: The package is not installed, or an argument is wrong.
        """
        from meterkit.margin.model_prices import ModelPrices

        where = f"Cost.genai_prices of {meter}"
        told = [name for name, fixed in (("model", model), ("kind", kind)) if fixed is None]
        has_provider = provider is None and "provider" in meter.dimensions
        names = (*told, *(["provider"] if has_provider else [])) if by is None else _checked_names(by, where)
        if len(names) not in (len(told), len(told) + (provider is None)):
            wanted = " and ".join(told) or "nothing, as model= and kind= are given"
            raise ConfigurationError(
                f"{where}: by= must name the dimensions of {wanted}, and optionally of the provider; not {names!r:.200}"
            )
        if (exchange_rate is None) is not (str(currency).lower() == "usd"):
            raise ConfigurationError(
                f"{where}: list prices are in US dollars; for another currency, give both currency= and exchange_rate="
            )
        rate = Decimal(1) if exchange_rate is None else money(exchange_rate, f"{where}: exchange_rate")
        return cls(meter, names, ModelPrices(model, kind, provider, rate), currency)


def checked_costs(costs: Any, meters: Mapping[str, Meter]) -> tuple[Cost, ...]:
    """
    Return the costs of a kit; each must be for one of *meters*, and at most one for each.

    Raises:
        ConfigurationError: One is not; the message says how to correct it.
    """
    if isinstance(costs, Cost) or not isinstance(costs, Iterable):
        raise ConfigurationError(f"costs= must be a list of Cost; {costs!r:.200} is not a list")
    found: dict[str, Cost] = {}
    for cost in costs:
        if not isinstance(cost, Cost):
            raise ConfigurationError(f"costs= must be a list of Cost; {cost!r:.200} is not a Cost")
        if meters.get(cost.meter.name) != cost.meter:
            raise ConfigurationError(f"there is a Cost of {cost.meter}, which is not in meters=; add it there")
        if cost.meter.name in found:
            raise ConfigurationError(f"there are two Costs of {cost.meter}; add their amounts up in one")
        found[cost.meter.name] = cost
    return tuple(found.values())


def _checked_names(dimensions: Any, where: str) -> tuple[str, ...]:
    names = (dimensions,) if isinstance(dimensions, str) else tuple(dimensions)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ConfigurationError(f"{where} needs names of dimensions, such as 'model', each once; not {names!r:.200}")
    return names


def _checked_per(per: Any, where: str) -> int:
    if not isinstance(per, int) or isinstance(per, bool) or per < 1:
        raise ConfigurationError(f"{where}: per= must be a positive int, such as 1_000_000, not {per!r:.50}")
    return per
