"""
The exceptions that meterkit raises.

* MeterKitError
  x ConfigurationError        the kit is configured wrongly; the message says how to fix it
  x UsageError                a call such as ``record()`` has an invalid argument
  x InsufficientBalanceError  a quota or a wallet has fewer units left than are to be held; in `governance.refusal`
  x LedgerError               the ledger cannot be opened, read or written now
  x WebhookError              the request is not a valid webhook event from Stripe
  x StripeFailedError         Stripe did not respond to a command, or refused it
"""

from __future__ import annotations


class MeterKitError(Exception):
    """Base class of all exceptions that meterkit raises on purpose."""


class ConfigurationError(MeterKitError, ValueError):
    """
    The configuration is invalid; the message says how to fix it.

    Raised while meters, prices and the kit are built, never while serving requests.
    """


class UsageError(MeterKitError, ValueError):
    """
    An argument, such as a company, user or quantity, is invalid.

    Raised by direct calls such as ``kit.record()``.
    Inside a request, the same mistake is logged, and counted in ``kit.health()`` instead.

    Attributes:
        reason: Name under which ``kit.health()`` counts this mistake.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class LedgerError(MeterKitError):
    """The ledger cannot be opened, read or written; meanwhile, usage stays in the journal."""


class WebhookError(MeterKitError):
    """
    The request is not a webhook event from Stripe, or cannot be read; nothing was stored.

    Attributes:
        status: HTTP status to respond with: 400, 411 or 413.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class StripeFailedError(MeterKitError):
    """Stripe did not respond to a command, or refused it; the message says what to do."""
