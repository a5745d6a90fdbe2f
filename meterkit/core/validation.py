"""
Bounds on ids, quantities and timestamps, and the checks that enforce them.

One place for the bounds, so that ``record()``, ``add_usage()``, ``identify=`` and measured values agree.
"""

from __future__ import annotations

import operator
from datetime import datetime
from typing import Any

from meterkit.errors import UsageError

MAX_QUANTITY = 999_999_999_999_999
"""Stripe: the value of a meter event has at most 15 significant digits."""

MAX_ID_LENGTH = 255
"""Characters in a company or user id. Longer than any Stripe id; short enough to keep a journal small."""

MAX_ID_BYTES = 3 * MAX_ID_LENGTH
"""In UTF-8, where an emoji takes four: a row of an index of PostgreSQL has 2,704, for two ids and two names."""

MAX_EVENT_NAME_LENGTH = 100
"""Stripe: ``event_name`` has at most 100 characters."""


OLDEST_SECONDS = 35 * 24 * 3600
"""Stripe: a meter event is at most 35 days old."""


def checked_quantity(value: Any) -> int:
    """
    *value* as an int from 0 to `MAX_QUANTITY`.

    Raises:
        UsageError: It is not an int (a float or bool is none), is negative, or has over 15 digits.
    """
    if type(value) is not int:
        if isinstance(value, bool):
            raise UsageError(f"a quantity is an int, not the bool {value}", reason="quantity_not_int")
        try:
            value = operator.index(value)  # also takes the ints of numpy and the like
        except Exception:
            raise UsageError(
                f"a quantity is an int, not {type(value).__name__}; count in a smaller unit, "
                "such as milliseconds instead of seconds",
                reason="quantity_not_int",
            ) from None
    if value < 0:
        raise UsageError("a quantity is 0 or more; usage is corrected, not subtracted", reason="quantity_negative")
    if value > MAX_QUANTITY:
        raise UsageError("a quantity has at most 15 digits; count in a larger unit", reason="quantity_too_large")
    return int(value)


def checked_id(value: Any, what: str) -> str:
    """
    *value* as the id of a company or user: 1 to `MAX_ID_LENGTH` printable characters.

    Raises:
        UsageError: It is not such a string. *what* names it in the message and in the reason.
    """
    if not isinstance(value, str):
        raise UsageError(f"a {what} id is a str, not {type(value).__name__}", reason=f"{what}_not_str")
    if not value or value.isspace():
        raise UsageError(f"a {what} id is empty; answer None for nobody", reason=f"{what}_empty")
    if len(value) > MAX_ID_LENGTH:
        raise UsageError(f"a {what} id has {len(value)} characters, over {MAX_ID_LENGTH}", reason=f"{what}_too_long")
    if not value.isprintable():
        raise UsageError(f"a {what} id has unprintable characters", reason=f"{what}_unprintable")
    if not value.isascii() and len(value.encode()) > MAX_ID_BYTES:
        raise UsageError(f"a {what} id has over {MAX_ID_BYTES} bytes in UTF-8", reason=f"{what}_too_long")
    return str.__str__(value)  # of a subclass, such as an enum's, too


def is_customer_id(company: str) -> bool:
    """Return whether *company* is a Stripe customer id; such a company pays for itself."""
    return company.startswith("cus_")


def checked_customer(value: Any) -> str:
    """
    *value* as the id of a Stripe customer.

    Raises:
        UsageError: It is none.
    """
    customer = checked_id(value, "customer")
    if not is_customer_id(customer):
        raise UsageError(
            f"a Stripe customer id begins with cus_, unlike {customer!r:.60}", reason="customer_not_stripe"
        )
    return customer


def checked_moment(value: Any, now: float) -> int:
    """
    *value*, a moment of the last `OLDEST_SECONDS`, in unix seconds.

    Raises:
        UsageError: It is no datetime with a time zone, is older, or lies ahead.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise UsageError(
            f"at= is a datetime with a time zone, such as datetime.now(timezone.utc), not {value!r:.100}",
            reason="at_not_aware",
        )
    moment = int(value.timestamp())
    if moment < now - OLDEST_SECONDS:
        raise UsageError(
            f"{value:%Y-%m-%d %H:%M} is over 35 days ago, and Stripe takes no usage that old; bill it by an invoice "
            "item instead",
            reason="at_too_old",
        )
    if moment > now:
        raise UsageError(f"{value:%Y-%m-%d %H:%M} lies ahead; count usage when it happens", reason="at_in_future")
    return moment
