"""Exact amounts: what an application writes as text, as ints in millionths."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeAlias

from meterkit.errors import UsageError
from meterkit.pricing.price import decimals_of

Amount: TypeAlias = "str | Decimal | int"
"""An amount in whole units or whole currency."""

MILLION = 1_000_000

MAX_DIGITS = 12
"""Digits before the point of the largest amount."""

_AMOUNT = re.compile(r"(\d{1,40})(?:\.(\d{1,40}))?", re.ASCII)


def millionths(value: Any, name: str) -> int:
    """
    Return *value*, an amount in whole units, in millionths of the unit.

    Args:
        value: Amount as a str, `Decimal` or int, such as ``"0.25"``.
        name: Name of the argument, for the message.

    Raises:
        UsageError: *value* is a float, is not an amount, is negative, has more than 6 decimals, or is too large.
    """
    if isinstance(value, float):
        raise UsageError(
            f"{name} must be a str, Decimal or int, because a float is not exact: write {str(value)!r}, with quotes",
            reason="amount_float",
        )
    if isinstance(value, bool) or not isinstance(value, str | Decimal | int):
        raise UsageError(f"{name} must be an amount such as '10.00', not {value!r:.100}", reason="amount_wrong")
    text = value.strip() if isinstance(value, str) else _text(value)
    if text.startswith("-"):
        raise UsageError(f"{name} must not be negative, as {text:.40} is", reason="amount_negative")
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise UsageError(f"{name} must be an amount such as '10.00', not {value!r:.100}", reason="amount_wrong")
    whole, decimals = found[1].lstrip("0"), (found[2] or "").rstrip("0")
    if len(decimals) > 6:
        raise UsageError(
            f"{name} must have at most 6 decimals, not {value!s:.60}: round it, or choose a smaller unit "
            "for the wallet",
            reason="amount_too_fine",
        )
    if len(whole) > MAX_DIGITS:
        raise UsageError(f"{name} must have at most {MAX_DIGITS} digits before the point", reason="amount_too_large")
    return int(f"{whole}{decimals:0<6}")


def checked_payment(paid: Any, currency: Any) -> tuple[int, str] | None:
    """
    Return what was paid, in the minor unit of its currency, and the currency's code in small letters; None for nothing.

    Args:
        paid: Amount in whole currency, or None.
        currency: Three-letter code of the currency.

    Raises:
        UsageError: *paid* is no amount of that currency, or *currency* is none.
    """
    if paid is None:
        return None
    if not isinstance(currency, str) or not is_currency(currency.upper()):
        raise UsageError(
            f"currency= must be three letters such as 'usd', not {currency!r:.100}", reason="currency_wrong"
        )
    unit = MILLION // 10 ** decimals_of(currency)
    micros = millionths(paid, "paid=")
    if micros % unit:
        raise UsageError(
            f"paid= must have at most {decimals_of(currency)} decimals, as {currency.upper()} has, not {paid!s:.60}",
            reason="amount_too_fine",
        )
    return micros // unit, currency.lower()


def amount(number: int) -> Decimal:
    """Return *number* millionths as an exact decimal in whole units, without needless zeros: ``Decimal("12.5")``."""
    sign, digits = ("-" if number < 0 else ""), abs(number)
    decimals = f"{digits % MILLION:06d}".rstrip("0")
    return Decimal(f"{sign}{digits // MILLION}{'.' + decimals if decimals else ''}")


def shown(number: int, unit: str) -> str:
    """Return *number* millionths of *unit* for people: ``1,250 credits`` or ``12.50 USD``."""
    whole = number % (MILLION // 100) == 0 and is_currency(unit)
    return f"{amount(number):,.2f} {unit}" if whole else f"{amount(number):,f} {unit}"


def is_currency(unit: str) -> bool:
    """Return whether *unit* is a currency: the ledger keeps these as three capital letters, which no unit is."""
    return len(unit) == 3 and unit.isascii() and unit.isalpha() and unit.isupper()


def _text(value: Decimal | int) -> str:
    if isinstance(value, int):
        return format(value, "d")  # not str(): an enum has a name
    return format(value, "f") if value.is_finite() else str(value)
