"""
Usage-based billing for Python web APIs, in process.

How a request becomes a line of an invoice, and which file does it::

    before                                   make Stripe match the code             provision, stripe_writes
    request --> wsgi, asgi, flask, django    make an `Exchange` of it               exchange
                                             match it with each `Meter`             meter, rulebook, counting
                                             count it where no kill can take it     journal, generation, flood
    every few seconds                        move the counts into the ledger        flusher, orphans, ledger, database
    every hour                               write meter events                     sealing, outbox
                                             send them, many at a time              reporter, delivery, lanes, verdict
                                             ask Stripe for what is uncertain       comparison
    when Stripe calls                        keep the event and answer              endpoint, receiving, inbox
                                             ask Stripe what has changed            following, accounts, standing
    when you ask                             the invoice as it stands               previewing, stripe_price
                                             whether both agree                     reconciling, summaries
                                             where a line comes from                explaining
                                             what was missed, or is wrong           backfill, correcting, mending

A `MeterKit` holds it together. `meterkit.sandbox` is a Stripe to try it on.
Nothing is imported before it is used: no framework, no stripe, no SQLAlchemy, and of this package what is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterkit.errors import (
        ConfigurationError,
        LedgerError,
        MeterKitError,
        StripeFailedError,
        UsageError,
        WebhookError,
    )
    from meterkit.governance.policy import Governance, Known, Quota
    from meterkit.governance.refusal import Block, Refusal
    from meterkit.kit import MeterKit
    from meterkit.metering.aggregation import maximum, unique
    from meterkit.metering.context import add_usage, add_value, identify, skip
    from meterkit.metering.exchange import Exchange, Identity
    from meterkit.metering.meter import Meter, response_json
    from meterkit.notices.notice import Notice
    from meterkit.notices.rules import Notify
    from meterkit.pricing.price import Price, Tier
    from meterkit.webhooks.config import Webhook

    __version__: str

__all__ = [
    "Block",
    "ConfigurationError",
    "Exchange",
    "Governance",
    "Identity",
    "Known",
    "LedgerError",
    "Meter",
    "MeterKit",
    "MeterKitError",
    "Notice",
    "Notify",
    "Price",
    "Quota",
    "Refusal",
    "StripeFailedError",
    "Tier",
    "UsageError",
    "Webhook",
    "WebhookError",
    "add_usage",
    "add_value",
    "identify",
    "maximum",
    "response_json",
    "skip",
    "unique",
]


# Which module has which name. Each is imported when it is first asked for: a process that needs one class, or none
# (pytest finds the plugin in every project), does not pay for governance, notices and the rest.
_HOMES = {
    "errors": ("ConfigurationError", "LedgerError", "MeterKitError", "StripeFailedError", "UsageError", "WebhookError"),
    "governance.policy": ("Governance", "Known", "Quota"),
    "governance.refusal": ("Block", "Refusal"),
    "kit": ("MeterKit",),
    "metering.aggregation": ("maximum", "unique"),
    "metering.context": ("add_usage", "add_value", "identify", "skip"),
    "metering.exchange": ("Exchange", "Identity"),
    "metering.meter": ("Meter", "response_json"),
    "notices.notice": ("Notice",),
    "notices.rules": ("Notify",),
    "pricing.price": ("Price", "Tier"),
    "webhooks.config": ("Webhook",),
}


if not TYPE_CHECKING:  # or else type checkers would take a misspelt name for one of ours

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                found = globals()[name] = getattr(import_module(f"meterkit.{home}"), name)
                return found
        if name == "__version__":
            from importlib.metadata import version

            return version("meterkit")
        raise AttributeError(f"module 'meterkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
