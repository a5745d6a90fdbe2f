"""
`unique()` and `maximum()`: aggregations that are not plain sums.

An exchange is sighted with a value; the ledger knows which values a billing period has seen, or the highest of them,
and what goes to Stripe's sum is the increase. In the journal a sighting is a cell like any other: where the user
stands, it has the value, after a character that no id has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from meterkit.core.usage_key import HIGHEST, UNIQUE
from meterkit.core.validation import checked_id, checked_quantity
from meterkit.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from meterkit.metering.exchange import Exchange


Of: TypeAlias = "str | Callable[[Exchange], Any]"


@dataclass(frozen=True, slots=True)
class Aggregation:
    """
    How a value is found, and whether different ones are counted, or the highest. Made by `unique` and `maximum`.

    Attributes:
        mark: `UNIQUE` or `HIGHEST`.
        of: ``user``, the name of what views add, or a function of the exchange.
    """

    mark: str
    of: Of

    def observation(self, value: Any) -> str:
        """
        What stands for *value* in a cell.

        Raises:
            UsageError: It cannot be counted.
        """
        if self.mark == UNIQUE:
            return UNIQUE + checked_id(value, "value")
        return HIGHEST + str(checked_quantity(value))

    def recorded(self, quantity: int, user: str, value: str | None) -> str:
        """
        What stands in a cell for what ``kit.record()`` was given.

        Raises:
            UsageError: There is no value, or it cannot be counted.
        """
        if self.mark == HIGHEST:
            return self.observation(quantity)
        found = value or (user if self.of == "user" else "")
        if not found:
            what = "user=" if self.of == "user" else "value="
            raise UsageError(f"this meter counts unique values: give record() {what}", reason="value_missing")
        return self.observation(found)

    def found(self, exchange: Exchange, user: str | None) -> Any:
        """
        The value that *exchange* has; None for none.

        Raises:
            Exception: The user's function did.
        """
        if callable(self.of):
            return self.of(exchange)
        if self.mark == HIGHEST:
            return exchange.highest(self.of)
        return user if self.of == "user" else exchange.values.get(self.of)


def unique(of: Of) -> Aggregation:
    """
    Count each value once in a billing period.

    Args:
        of: ``"user"``: the user that ``identify=`` or ``identify()`` names. Another name: what the view said with
            ``add_value(name, ...)``. Or a function of the `Exchange` that answers a str, or None for none.

    Raises:
        ConfigurationError: *of* is neither.
    """
    return Aggregation(UNIQUE, _checked(of, "unique"))


def maximum(of: Of) -> Aggregation:
    """
    Count the highest value of a billing period: seats, or stored gigabytes.

    Args:
        of: The name of what the view said with ``add_usage(name, ...)``; or a function of the `Exchange` that answers
            an int, or None for none.

    Raises:
        ConfigurationError: *of* is neither.
    """
    return Aggregation(HIGHEST, _checked(of, "maximum"))


def _checked(of: Any, what: str) -> Of:
    if (isinstance(of, str) and of.strip()) or (callable(of) and not inspect.iscoroutinefunction(of)):
        return of  # type: ignore[no-any-return]
    raise ConfigurationError(f"{what}() takes a name, or a plain function of an Exchange, not {of!r:.200}")
