"""
The usage that the app tells in its response headers, ``X-Meterkit-Usage: tokens=12, rows=3``.

They count as if a view had called `meterkit.add_usage`, and the client does not see them. Values of dimensions follow a
quantity: ``X-Meterkit-Usage: tokens=12;model=small;kind=input, tokens=3;model=small;kind=output``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from meterkit.metering.context import ExchangeUsage
from meterkit.metering.dimensions.quantities import told_of
from meterkit.metering.exchange import Exchange

USAGE = b"x-meterkit-usage"
"""Header, or trailer, in which the app tells usage."""

_ENTRY = re.compile(
    r"([^\s=,;]{1,100})=([0-9]{1,15})((?:\s*;\s*[a-z_][a-z0-9_]{0,39}=[^\s=,;]{0,100}){0,4})", re.ASCII | re.IGNORECASE
)


def without_usage(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Return *headers* without those that tell usage, and the values of these."""
    others, told = [], []
    for name, value in headers:
        if name.lower() == USAGE:
            told.append(value)
        else:
            others.append((name, value))
    return others, told


def count(exchange: Exchange | None, told: Iterable[bytes]) -> None:
    """Add to *exchange* what the app told; nothing if no middleware meters it. Never raises."""
    if exchange is None:
        return
    usage = ExchangeUsage(exchange)
    for value in told:
        for entry in value.decode("latin-1").split(","):
            match = _ENTRY.fullmatch(entry.strip())
            if match is not None:
                quantity, parts = int(match[2]), [part.strip().partition("=") for part in match[3].split(";")[1:]]
                if parts:
                    values = told_of({name: value for name, _, value in parts}, exchange.note)
                    usage.add_parts(match[1], quantity, {values: quantity})
                else:
                    usage.add(match[1], quantity)
            elif entry.strip():
                exchange.note(
                    "usage_header_invalid",
                    "the app sent X-Meterkit-Usage with something that was not counted; write a meter's value= and a "
                    "whole number, such as tokens=12 or tokens=12;model=small, several with commas",
                )
