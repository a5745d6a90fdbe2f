"""Amounts: minor units (cents) as exact decimals, rounded once per invoice line."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterkit.sandbox.state.switches import Switches

# Currencies without cents: 500 is ¥500.
ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
# Stripe: they have two decimals, which must be 00.
WHOLE = frozenset(["isk", "ugx"])
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "aud": "A$", "cad": "CA$"}
_ROUNDINGS = {"half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}


def rounded(amount: Decimal, rounding: str, step: int = 1) -> int:
    """Return an amount rounded to whole minor units, or to tens or hundreds; *rounding* decides about halves."""
    return int((amount / step).quantize(Decimal(1), rounding=_ROUNDINGS[rounding])) * step


def line_amount(amount: Decimal, currency: str, switches: Switches) -> int:
    """Return the amount of an invoice line."""
    return rounded(amount, switches.rounding, _step(currency, tens=switches.last_digit == "lines"))


def total_amount(amount: int, currency: str, switches: Switches) -> int:
    """Return the total of an invoice: the sum of its lines, of which a switch may round the last digit."""
    return rounded(Decimal(amount), switches.rounding, _step(currency, tens=switches.last_digit == "totals"))


def smallest(currency: str) -> int:
    """Return the smallest amount that can be charged, in minor units: all amounts must be multiples of it."""
    return _step(currency, tens=True)


def _step(currency: str, *, tens: bool) -> int:
    if currency in WHOLE:
        return 100
    return 10 if tens and currency in THREE_DECIMAL else 1


def text(number: Decimal) -> str:
    """Return a decimal as Stripe writes it: without an exponent or trailing zeros."""
    shown = format(number, "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def shown(minor: Decimal, currency: str) -> str:
    """Return an amount in minor units as readable text: 3.6 cents are `$0.036`, 500 are `$5.00`."""
    symbol = SYMBOLS.get(currency, f"{currency.upper()} ")
    if currency in ZERO_DECIMAL:
        return f"{symbol}{text(minor)}"
    decimals = 3 if currency in THREE_DECIMAL else 2
    whole, _, fraction = text(minor.scaleb(-decimals)).partition(".")
    return f"{symbol}{int(whole):,}.{fraction.ljust(decimals, '0')}"
