"""
`Price` and `Tier`: exact price arithmetic, as Stripe does it.

Amounts are exact decimals in whole currency: ``"5.00"`` is five dollars. Stripe's ``unit_amount`` is in cents, so that
word is not used here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from meterkit.core.validation import MAX_SUM, checked_quantity
from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter

if TYPE_CHECKING:
    from meterkit.pricing.rates.table import RateTable

Money: TypeAlias = "str | Decimal | int"

MAX_DECIMALS = 12
"""Stripe: the most decimal places of ``unit_amount_decimal``, which is in the currency's minor unit."""

MAX_PRICE = Decimal(10**12)
"""Exclusive upper bound of amounts in whole currency: far more than Stripe accepts, and exact within `EXACT`."""

MILLIONTH = Decimal("0.000001")
"""What one unit of a meter of amounts costs, in whole currency; 15 digits of them are a thousand million."""

EXACT = Context(prec=80)
"""Decimal context of all price arithmetic, because the application may have changed that of its thread."""

_NO_MINOR_UNIT = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
_THREE_DECIMALS = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
_WHOLE = frozenset(("isk", "ugx"))
"""Stripe: currencies with two decimals that must be 0."""
_INTERVALS = ("day", "week", "month", "year")


@dataclass(frozen=True)
class Tier:
    """
    One tier of a graduated or volume price.

    Amounts are in whole currency, as a str, `Decimal` or int: ``"5.00"``. A float is refused, because it is not exact.

    Attributes:
        up_to: Last unit of the tier, inclusive; None in the last tier, which has no upper bound.
        unit_price: Price of each unit in the tier, in whole currency.
        flat_price: Fee for reaching the tier, in whole currency, or None. The first tier charges it even without usage.
    """

    _: KW_ONLY
    up_to: int | None = None
    unit_price: Money = Decimal(0)
    flat_price: Money | None = None

    def __post_init__(self) -> None:
        if self.up_to is not None and (
            not isinstance(self.up_to, int) or isinstance(self.up_to, bool) or self.up_to < 1
        ):
            raise ConfigurationError(
                f"Tier(up_to=...) must be a positive int, or left out in the last tier, not {self.up_to!r}"
            )
        object.__setattr__(self, "unit_price", money(self.unit_price, "Tier(unit_price=...)"))
        if self.flat_price is not None:
            object.__setattr__(self, "flat_price", money(self.flat_price, "Tier(flat_price=...)"))


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line of an invoice.

    Attributes:
        quantity: Units on this line; 0 for a flat fee.
        price: Price of one unit or one package, or the flat fee, in whole currency.
        amount: Line total in whole currency, rounded half up to the minor unit, as Stripe rounds each line.
        tier: Number of the tier, from 1; 0 if the price has no tiers.
    """

    quantity: int
    price: Decimal
    amount: Decimal
    tier: int


@dataclass(frozen=True)
class Price:
    """
    What the usage of one meter costs in a billing interval.

    Create it with `Price.per_unit`, `Price.graduated`, `Price.volume`, `Price.package` or `Price.by`.

    Attributes:
        meter: Meter whose usage is priced; with `rates`, that of the amounts, in millionths of the currency.
        scheme: Pricing scheme: ``per_unit``, ``graduated``, ``volume`` or ``package``.
        tiers: Tiers in ascending order of `up_to`; exactly one for ``per_unit`` and ``package``.
        size: Units per package; 1 for the other schemes.
        round: ``up`` to charge a started package in full, ``down`` not to charge it.
        currency: Three-letter currency code in lower case, such as ``usd``.
        interval: Billing interval: ``day``, ``week``, ``month`` or ``year``.
        lookup_key: Lookup key by which ``meterkit provision`` finds the price in Stripe, 1 to 200 characters; None
            derives it from meter, currency and interval, which is enough unless two prices share these.
        rates: Rates by the values of dimensions, which turn usage into amounts; None for most prices.
    """

    meter: Meter
    scheme: Literal["per_unit", "graduated", "volume", "package"]
    tiers: tuple[Tier, ...]
    _: KW_ONLY
    size: int = 1
    round: Literal["up", "down"] = "up"
    currency: str = "usd"
    interval: str = "month"
    lookup_key: str | None = None
    rates: RateTable | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.meter, Meter):
            raise ConfigurationError(f"meter= must be a Meter, not {self.meter!r}")
        if not isinstance(self.currency, str) or len(self.currency) != 3 or not self.currency.isalpha():
            raise ConfigurationError(f"{self}: currency= must be three letters such as 'usd', not {self.currency!r}")
        object.__setattr__(self, "currency", self.currency.lower())
        if self.interval not in _INTERVALS:
            raise ConfigurationError(f"{self}: interval= must be one of {', '.join(_INTERVALS)}, not {self.interval!r}")
        if self.lookup_key is not None and not (isinstance(self.lookup_key, str) and 0 < len(self.lookup_key) <= 200):
            raise ConfigurationError(
                f"{self}: lookup_key= must be a str of 1 to 200 characters, not {self.lookup_key!r:.250}"
            )
        if self.round not in ("up", "down"):
            raise ConfigurationError(f"{self}: round= must be 'up' or 'down', not {self.round!r}")
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise ConfigurationError(f"{self}: size= must be a positive int, not {self.size!r}")
        _check_tiers(self.tiers, self)
        _check_decimals(self.tiers, self)

    def __str__(self) -> str:
        return f"Price of {self.meter}"

    @classmethod
    def per_unit(
        cls,
        meter: Meter,
        unit_price: Money,
        *,
        currency: str = "usd",
        interval: str = "month",
        lookup_key: str | None = None,
    ) -> Price:
        """Return a price at which every unit costs *unit_price*, in whole currency."""
        tiers = (Tier(unit_price=unit_price),)
        return cls(meter, "per_unit", tiers, currency=currency, interval=interval, lookup_key=lookup_key)

    @classmethod
    def graduated(
        cls,
        meter: Meter,
        *tiers: Tier,
        currency: str = "usd",
        interval: str = "month",
        lookup_key: str | None = None,
    ) -> Price:
        """
        Return a price at which each unit costs what its own tier says, as in a tax table.

        *tiers* are in ascending order of `up_to`, and the last one has none.
        """
        return cls(meter, "graduated", tiers, currency=currency, interval=interval, lookup_key=lookup_key)

    @classmethod
    def volume(
        cls,
        meter: Meter,
        *tiers: Tier,
        currency: str = "usd",
        interval: str = "month",
        lookup_key: str | None = None,
    ) -> Price:
        """
        Return a price at which all units cost what the tier of the last unit says.

        *tiers* are in ascending order of `up_to`, and the last one has none.
        """
        return cls(meter, "volume", tiers, currency=currency, interval=interval, lookup_key=lookup_key)

    @classmethod
    def package(
        cls,
        meter: Meter,
        price: Money,
        *,
        size: int,
        round: Literal["up", "down"] = "up",  # noqa: A002 - Stripe's own word, in transform_quantity
        currency: str = "usd",
        interval: str = "month",
        lookup_key: str | None = None,
    ) -> Price:
        """
        Return a price at which each package of *size* units costs *price*, in whole currency.

        With ``round="up"``, a started package is charged in full; with ``"down"``, it is not charged.
        """
        tiers = (Tier(unit_price=price),)
        return cls(
            meter,
            "package",
            tiers,
            size=size,
            round=round,
            currency=currency,
            interval=interval,
            lookup_key=lookup_key,
        )

    @classmethod
    def by(
        cls,
        meter: Meter,
        by: str | Iterable[str],
        prices: Mapping[Any, Any] | None = None,
        *,
        table: str | os.PathLike[str] | None = None,
        per: int = 1,
        default: Money | None = None,
        bill: Literal["amount", "lines"] = "amount",
        currency: str = "usd",
        interval: str = "month",
        lookup_key: str | None = None,
    ) -> Price:
        """
        Return a price at which a unit costs what the values of its dimensions say, such as the model.

        Usage is rated when it reaches the ledger, and keeps its rate when the table changes. In Stripe, the price is
        one of a millionth of the currency for each unit of a meter of amounts, which is the `meter` of the result.

        Args:
            meter: Meter whose usage is priced; it has dimensions (``by=``).
            by: Name of a dimension, or several.
            prices: Price of *per* units by value or pattern, such as ``{"small": "0.10", "gpt-5*": "1.25"}``; with
                several dimensions, by tuples of them, or nested. The most specific entry holds: exact values before
                patterns, then the most characters that are not wildcards, then the first.
            table: File with the prices instead: ``.csv``, ``.toml`` or ``.json``, with a field for each dimension,
                ``price``, and optionally ``from``, the UTC day from which it holds.
            per: Number of units that cost such a price.
            default: Price of *per* units of values that no entry matches; None leaves them without a price: they are
                counted and named in ``kit.health()``, and billed once ``meterkit rerate`` finds a price.
            bill: ``amount`` sends the amounts as meter events, so the invoice has one line; ``lines`` adds a line for
                each combination of values to the draft of the invoice.
            currency: Three-letter currency code.
            interval: Billing interval: ``day``, ``week``, ``month`` or ``year``.
            lookup_key: Lookup key of the price in Stripe; see the attribute.

        Raises:
            ConfigurationError: An argument is wrong, or the file cannot be read; the message says how to correct it.
        """
        from meterkit.pricing.rates.declaration import rate_table

        if not isinstance(currency, str) or len(currency) != 3 or not currency.isalpha():
            raise ConfigurationError(f"Price.by: currency= must be three letters such as 'usd', not {currency!r:.100}")
        about: Any = {"table": table, "per": per, "default": default, "bill": bill, "amount": money}
        rates = rate_table(meter, by, prices, currency=currency.lower(), **about)
        tiers = (Tier(unit_price=MILLIONTH),)
        terms: Any = {"currency": currency, "interval": interval, "lookup_key": lookup_key}
        return cls(rates.amounts, "per_unit", tiers, rates=rates, **terms)

    def lines(self, quantity: int) -> list[Line]:
        """
        Return the invoice lines for the usage of a billing interval, in Stripe's order.

        Raises:
            UsageError: *quantity* is not a non-negative int.
        """
        quantity = checked_quantity(quantity, most=MAX_SUM)
        with localcontext(EXACT):
            return self._lines(quantity)

    def amount(self, quantity: int) -> Decimal:
        """
        Return what the usage of a billing interval costs, in whole currency.

        Raises:
            UsageError: *quantity* is not a non-negative int.
        """
        lines = self.lines(quantity)
        with localcontext(EXACT):
            return sum((line.amount for line in lines), Decimal(0))

    def _lines(self, quantity: int) -> list[Line]:
        if self.scheme in ("per_unit", "package"):
            packages = -(-quantity // self.size) if self.round == "up" else quantity // self.size
            price = Decimal(self.tiers[0].unit_price)
            return [Line(quantity, price, self._rounded(packages * price), 0)]
        if self.scheme == "volume":
            number = next(n for n, tier in enumerate(self.tiers, 1) if tier.up_to is None or quantity <= tier.up_to)
            return self._tier_lines(number, quantity)
        return [line for number, units in self._split(quantity) for line in self._tier_lines(number, units)]

    def _split(self, quantity: int) -> Iterable[tuple[int, int]]:
        """Yield the number of each tier that *quantity* reaches, and the units in it."""
        below = 0
        for number, tier in enumerate(self.tiers, 1):
            if number > 1 and quantity <= below:
                return
            end = quantity if tier.up_to is None else min(quantity, tier.up_to)
            yield number, end - below
            below = end

    def _tier_lines(self, number: int, units: int) -> list[Line]:
        tier = self.tiers[number - 1]
        price = Decimal(tier.unit_price)
        lines = [Line(units, price, self._rounded(units * price), number)]
        if tier.flat_price is not None:
            flat = Decimal(tier.flat_price)
            lines.append(Line(0, flat, self._rounded(flat), number))
        return lines

    def _rounded(self, amount: Decimal) -> Decimal:
        return rounded(amount, self.currency)


def decimals_of(currency: str) -> int:
    """Return the decimal places of amounts in *currency*: 2, unless Stripe lists it as an exception."""
    return 0 if currency in _NO_MINOR_UNIT else 3 if currency in _THREE_DECIMALS else 2


def rounded(amount: Decimal, currency: str) -> Decimal:
    """Return *amount*, in whole *currency*, rounded half up as Stripe rounds the lines of an invoice."""
    smallest, unit = _smallest(currency)
    found = amount.quantize(smallest, rounding=ROUND_HALF_UP)
    return found if smallest is unit else found.quantize(unit)


@lru_cache(maxsize=200)
def _smallest(currency: str) -> tuple[Decimal, Decimal]:
    """Return what amounts in *currency* are multiples of, and its minor unit."""
    unit = Decimal(1).scaleb(-decimals_of(currency))
    return (Decimal(1), unit) if currency in _WHOLE else (unit, unit)


def chargeable(amount: Decimal, currency: str) -> Decimal:
    """Return *amount*, in whole *currency*, rounded half up to what Stripe accepts: the last of three decimals is 0."""
    return amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP) if currency in _THREE_DECIMALS else amount


def whole(minor: Any, currency: str) -> Decimal:
    """Return *minor*, an amount in the minor unit as Stripe has it, in whole *currency*."""
    return Decimal(str(minor)).scaleb(-decimals_of(currency), EXACT)


def digits(amount: Money) -> str:
    """Return an amount in digits, never in exponents, which ``str`` uses below a millionth."""
    return format(Decimal(amount), "f")


def money(value: Any, name: str) -> Decimal:
    """
    Return *value*, an amount in whole currency, as an exact decimal.

    Args:
        value: Amount as a str, `Decimal` or int.
        name: Name of the argument, for the error message.

    Raises:
        ConfigurationError: *value* is a float, not an amount, negative, or not under `MAX_PRICE`.
    """
    if isinstance(value, float):
        raise ConfigurationError(
            f"{name} must be a str or Decimal, because a float is not exact: write {str(value)!r}, with quotes"
        )
    if isinstance(value, bool) or not isinstance(value, str | Decimal | int):
        raise ConfigurationError(f"{name} must be a str or Decimal such as '5.00', not {value!r}")
    try:
        amount = EXACT.create_decimal(value)
    except InvalidOperation:
        raise ConfigurationError(f"{name} must be an amount such as '5.00', not {value!r}") from None
    if not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"{name} must be an amount of 0 or more, not {value!r}")
    if amount >= MAX_PRICE:
        raise ConfigurationError(f"{name} must be under {MAX_PRICE:,}, not {value!r}")
    return amount


def _check_tiers(tiers: Any, price: Price) -> None:
    if not tiers or not all(isinstance(tier, Tier) for tier in tiers):
        raise ConfigurationError(f"{price}: pass at least one Tier, such as Tier(unit_price='5.00')")
    *bounded, last = tiers
    if last.up_to is not None:
        raise ConfigurationError(
            f"{price}: the last tier ends at {last.up_to}, so usage beyond it has no price; leave out its up_to="
        )
    bounds = [tier.up_to for tier in bounded]
    if None in bounds or bounds != sorted(set(bounds)):
        raise ConfigurationError(f"{price}: each tier must have a higher up_to= than the one before it, not {bounds}")


def _check_decimals(tiers: Iterable[Tier], price: Price) -> None:
    most = MAX_DECIMALS + decimals_of(price.currency)
    for tier in tiers:
        for amount in (tier.unit_price, tier.flat_price):
            if amount is not None and -int(Decimal(amount).as_tuple().exponent) > most:
                raise ConfigurationError(
                    f"{price}: {amount} has more than the {most} decimal places that Stripe accepts"
                )
