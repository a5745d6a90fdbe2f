"""
`unique()` and `maximum()`: aggregations that are not plain sums.

An exchange is an observation of a value. The ledger stores which values were observed in a billing period, or the
highest of them, and Stripe is sent the increase, so that its sum is right. In the journal an observation has a usage
key like any other usage: in place of the user it has the value, after a character that no id contains.
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
    from meterkit.events.event import Event
    from meterkit.metering.exchange import Exchange


Of: TypeAlias = "str | Callable[[Exchange], Any] | Callable[[Event], Any]"


@dataclass(frozen=True, slots=True)
class Aggregation:
    """
    How to find a value, and whether to count distinct values or the highest. Created by `unique` and `maximum`.

    Attributes:
        mark: `UNIQUE` or `HIGHEST`.
        of: ``user``, a name that views pass to ``add_value`` or ``add_usage``, a path into an event's data, or a
            function of the exchange or event.
    """

    mark: str
    of: Of

    def observation(self, value: Any) -> str:
        """
        Return the observation of *value*, as it stands in a usage key.

        Raises:
            UsageError: *value* cannot be counted.
        """
        if self.mark == UNIQUE:
            return UNIQUE + checked_id(value, "value")
        return HIGHEST + str(checked_quantity(value))

    def recorded(self, quantity: int, user: str, value: str | None) -> str:
        """
        Return the observation for a call of ``kit.record()``, as it stands in a usage key.

        Raises:
            UsageError: The value is missing, or cannot be counted.
        """
        if self.mark == HIGHEST:
            return self.observation(quantity)
        found = value or (user if self.of == "user" else "")
        if not found:
            argument = "user=" if self.of == "user" else "value="
            raise UsageError(f"this meter counts unique values: pass {argument} to record()", reason="value_missing")
        return self.observation(found)

    def takes(self, said: int | str) -> bool:
        """Return whether a view may add *said* under the name in `of`: a quantity or a value."""
        return isinstance(said, int) == (self.mark == HIGHEST)

    def found(self, exchange: Exchange, user: str | None) -> Any:
        """
        Return the value of *exchange*, or None if it has none.

        Raises:
            Exception: The user's function raised it.
        """
        of: Any = self.of  # that of a meter of exchanges, which takes one
        if callable(of):
            return of(exchange)
        if self.mark == HIGHEST:
            return exchange.highest(of)
        return user if of == "user" else exchange.values.get(of)


def unique(of: Of) -> Aggregation:
    """
    Count each value once per billing period.

    Args:
        of: ``"user"`` for the user that ``identify=`` returns or ``identify()`` sets; another name for the value that
            the view passes to ``add_value(name, ...)``; or a function of the `Exchange` that returns a str or None.
            For a meter with ``event_type=``, a path into the event's data such as ``"$.device"``, or a function of
            the `Event`.

    Raises:
        ConfigurationError: *of* is neither a name nor a plain function.
    """
    return Aggregation(UNIQUE, _checked(of, "unique"))


def maximum(of: Of) -> Aggregation:
    """
    Count the highest value of a billing period, such as seats or stored gigabytes.

    Args:
        of: Name under which the view passes quantities to ``add_usage(name, ...)``; or a function of the `Exchange`
            that returns an int or None. For a meter with ``event_type=``, a path into the event's data such as
            ``"$.gb"``, or a function of the `Event`.

    Raises:
        ConfigurationError: *of* is neither a name nor a plain function.
    """
    return Aggregation(HIGHEST, _checked(of, "maximum"))


def _checked(of: Any, function: str) -> Of:
    if (isinstance(of, str) and of.strip()) or (callable(of) and not inspect.iscoroutinefunction(of)):
        return of  # type: ignore[no-any-return]
    raise ConfigurationError(f"{function}() needs a name or a plain function of an Exchange, not {of!r:.200}")
