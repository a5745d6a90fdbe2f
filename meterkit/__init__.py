"""Usage-based billing for Python web APIs, in process."""

from __future__ import annotations

from meterkit.errors import ConfigurationError, LedgerError, MeterKitError, UsageError
from meterkit.exchange import Exchange, Identity, add_usage, identify, skip
from meterkit.meter import Meter, response_json

__all__ = [
    "ConfigurationError",
    "Exchange",
    "Identity",
    "LedgerError",
    "Meter",
    "MeterKitError",
    "UsageError",
    "add_usage",
    "identify",
    "response_json",
    "skip",
]
