"""
Bounds on ids, quantities and timestamps, and the checks that enforce them.

They are shared by ``record()``, ``add_usage()``, ``identify=`` and measured values.
"""

from __future__ import annotations

import operator
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from meterkit.errors import UsageError

MAX_QUANTITY = 999_999_999_999_999
"""Stripe: the value of a meter event has at most 15 significant digits."""

MAX_SUM = 10**38 - 1
"""Largest sum of quantities that the ledger can store."""

MAX_ID_LENGTH = 255
"""Characters in a company or user id: longer than any Stripe id, and short enough to keep a journal small."""

MAX_ID_BYTES = 3 * MAX_ID_LENGTH
"""Bytes of an id in UTF-8, where an emoji takes four. PostgreSQL: an index row has 2,704, for two ids and two names."""

MAX_EVENT_NAME_LENGTH = 100
"""Stripe: ``event_name`` has at most 100 characters."""


OLDEST_SECONDS = 35 * 24 * 3600
"""Stripe: a meter event is at most 35 days old."""


def content_length(value: str) -> int | None:
    """Return the bytes that the Content-Length *value* declares, leading zeros or not; None if it is not a length."""
    if not value.isascii() or not value.isdigit():
        return None
    digits = value.lstrip("0")
    return (
        int(digits or "0") if len(digits) <= MAX_LENGTH_DIGITS else None
    )  # int() of many digits takes long, or raises


MAX_LENGTH_DIGITS = 15
"""Digits of the largest length that is believed, which is far more than anybody sends, and a countable quantity."""


def checked_quantity(value: Any, *, most: int = MAX_QUANTITY) -> int:
    """
    Return *value* as an int from 0 to *most*.

    Args:
        value: Quantity to check.
        most: Largest quantity that is accepted: what a single call may count, unless it is a sum.

    Raises:
        UsageError: *value* is not an int (floats and bools are not), is negative, or is larger than *most*.
    """
    if type(value) is not int:
        if isinstance(value, bool):
            raise UsageError(f"quantity must be an int, not the bool {value}", reason="quantity_not_int")
        try:
            value = operator.index(value)  # also accepts the ints of numpy and the like
        except Exception:
            raise UsageError(
                f"quantity must be an int, not {type(value).__name__}; count in a smaller unit, "
                "such as milliseconds instead of seconds",
                reason="quantity_not_int",
            ) from None
    if value < 0:
        raise UsageError(
            "quantity must not be negative; to reverse usage, use `meterkit correct`", reason="quantity_negative"
        )
    if value > most:
        raise UsageError(
            f"quantity must have at most {len(str(most))} digits; count in a larger unit", reason="quantity_too_large"
        )
    return int(value)


def checked_id(value: Any, kind: str) -> str:
    """
    Return *value* as an id: a str of 1 to `MAX_ID_LENGTH` printable characters.

    Args:
        value: Id to check.
        kind: What the id stands for, such as ``company``; used in the message and in the reason.

    Raises:
        UsageError: *value* is not such a string.
    """
    if not isinstance(value, str):
        raise UsageError(f"{kind} id must be a str, not {type(value).__name__}", reason=f"{kind}_not_str")
    if not value or value.isspace():
        raise UsageError(f"{kind} id must not be empty; return None if the {kind} is unknown", reason=f"{kind}_empty")
    if len(value) > MAX_ID_LENGTH:
        raise UsageError(
            f"{kind} id must have at most {MAX_ID_LENGTH} characters, not {len(value)}", reason=f"{kind}_too_long"
        )
    if not value.isprintable():
        raise UsageError(f"{kind} id must not contain unprintable characters", reason=f"{kind}_unprintable")
    if not value.isascii() and len(value.encode()) > MAX_ID_BYTES:
        raise UsageError(f"{kind} id must have at most {MAX_ID_BYTES} bytes in UTF-8", reason=f"{kind}_too_long")
    return str.__str__(value)  # a plain str, even if *value* is of a subclass such as an enum's


SubjectId: TypeAlias = "str | int | UUID"
"""Id of a company or a user, as the application knows it: a text, or a primary key, which stands for its text."""


def checked_subject_id(value: Any, kind: str) -> str:
    """
    Return *value* as the id of a company or a user: like `checked_id`, and an int or a UUID as text.

    Args:
        value: Id to check.
        kind: ``company`` or ``user``; used in the message and in the reason.

    Raises:
        UsageError: *value* is not such an id.
    """
    if not isinstance(value, str):
        if isinstance(value, int) and not isinstance(value, bool):
            value = format(value, "d")  # not str(): an enum has a name
        elif isinstance(value, UUID):
            value = str(value)
    return checked_id(value, kind)


def checked_by(value: Any) -> str:
    """
    Return who does something, as the audit trail keeps it: *value*, a name like an id; empty if it is None.

    Raises:
        UsageError: *value* is not such a string.
    """
    return "" if value is None else checked_id(value, "by")


def is_customer_id(company: str) -> bool:
    """Return whether *company* is a Stripe customer id; such a company pays for itself."""
    return company.startswith("cus_")


_OTHER_IDS = ("sub_", "si_", "price_", "prod_", "in_", "ii_", "mtr_", "evt_", "pi_", "pm_", "ch_", "sk_", "rk_", "pk_")
"""Beginnings of what is copied from Stripe by mistake; nobody's customer is called that."""


def checked_customer(value: Any, company: str) -> str:
    """
    Return *value* as the id of the Stripe customer that pays for *company*.

    Stripe makes ids such as ``cus_...``, and ``acct_...`` for accounts of API v2; older customers may have any other.

    Raises:
        UsageError: *value* is not such an id, or the two look exchanged.
    """
    customer = checked_id(value, "customer")
    if customer.startswith(_OTHER_IDS):
        raise UsageError(
            f"customer must be the id of a Stripe customer, such as cus_..., not {customer!r:.60}",
            reason="customer_not_stripe",
        )
    if is_customer_id(company) and not customer.startswith(("cus_", "acct_")):
        raise UsageError(
            f"{company!r:.60} looks like the customer, and {customer!r:.60} like the company: exchange them",
            reason="customer_not_stripe",
        )
    return customer


def checked_moment(value: Any, now: float) -> int:
    """
    Return *value*, a time within the last `OLDEST_SECONDS`, in Unix seconds.

    Raises:
        UsageError: *value* is not a datetime with a time zone, is older, or is in the future.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise UsageError(
            f"at= must be a datetime with a time zone, such as datetime.now(timezone.utc), not {value!r:.100}",
            reason="at_not_aware",
        )
    moment = int(value.timestamp())
    if moment < now - OLDEST_SECONDS:
        raise UsageError(
            f"{value:%Y-%m-%d %H:%M} is more than 35 days ago, and Stripe does not accept usage that old; bill it with "
            "an invoice item",
            reason="at_too_old",
        )
    if moment > now:
        raise UsageError(
            f"{value:%Y-%m-%d %H:%M} is in the future; record usage when it happens", reason="at_in_future"
        )
    return moment
