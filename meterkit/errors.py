"""
The errors of meterkit, one tree.

* MeterKitError
  x ConfigurationError   while building a kit; says the cure
  x UsageError           ``record()`` got something that cannot be counted
  x LedgerError          the ledger cannot be opened, read or written now
  x WebhookError         what came in as a webhook is not Stripe's
  x StripeFailedError    Stripe did not answer, or refuses, what a command asked for
"""

from __future__ import annotations


class MeterKitError(Exception):
    """Catch this to catch everything that meterkit raises on purpose."""


class ConfigurationError(MeterKitError, ValueError):
    """
    The configuration is wrong, and the message says how to mend it.

    Raised while meters, prices and the kit are built, never while serving.
    """


class UsageError(MeterKitError, ValueError):
    """
    A company, user or quantity cannot be counted.

    Raised by direct calls such as ``kit.record()``.
    Inside a request the same mistake is logged and counted in ``kit.health()`` instead.

    Attributes:
        reason: The name under which ``kit.health()`` counts this mistake.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class LedgerError(MeterKitError):
    """The ledger cannot be opened, read or written; usage stays in the journal meanwhile."""


class WebhookError(MeterKitError):
    """
    What came in as a webhook is not Stripe's, or cannot be read; nothing was done.

    Attributes:
        status: To answer the request with: 400, or 413.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class StripeFailedError(MeterKitError):
    """Stripe did not answer, or refuses, what a command asked for; the message says what to do."""
