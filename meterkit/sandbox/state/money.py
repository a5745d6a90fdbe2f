"""Amounts: minor units (cents) as exact decimals, rounded once per invoice line."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

# Currencies without cents: 500 is ¥500.
ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"]
)
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "aud": "A$", "cad": "CA$"}
_ROUNDINGS = {"half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}


def rounded(amount: Decimal, rounding: str) -> int:
    """Return an amount rounded to whole minor units; *rounding* decides about halves."""
    return int(amount.quantize(Decimal(1), rounding=_ROUNDINGS[rounding]))


def text(number: Decimal) -> str:
    """Return a decimal as Stripe writes it: without an exponent or trailing zeros."""
    shown = format(number, "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def shown(minor: Decimal, currency: str) -> str:
    """Return an amount in minor units as readable text: 3.6 cents are `$0.036`, 500 are `$5.00`."""
    symbol = SYMBOLS.get(currency, f"{currency.upper()} ")
    if currency in ZERO_DECIMAL:
        return f"{symbol}{text(minor)}"
    whole, _, fraction = text(minor.scaleb(-2)).partition(".")
    return f"{symbol}{int(whole):,}.{fraction.ljust(2, '0')}"
