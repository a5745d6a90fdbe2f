"""
Usage-based billing for Python web APIs, in process.

From a request to a line of an invoice, and the package that does each step::

    request      adapters       turn a WSGI, ASGI or Django request into an `Exchange`
                 events         or read usage events, which apps in other languages send
                 mcp            or the call of a tool of an MCP server
                 metering       find the meters that match, and how much each counts
                 llm            read the tokens that a language model has used
                 journal        count it in memory-mapped files that survive a kill
    seconds      ledger         fold the counts into usage rows
                 jetstream      or publish them, for collectors to fold those of many hosts
                 wallets        spend what is paid for ahead
                 top_ups        and buy more when little is left, as the company has agreed
    hour         outbox         write the usage of closed hours as meter events
                 reporting      send them to Stripe, and verify what is uncertain
                 stripe_api     the HTTP client, the retry policy and what Stripe's responses mean

    webhook      webhooks       verify the event, and read from Stripe what has changed
                 accounts       customers, subscriptions, invoices; who is overdue
                 governance     allow or block the next request
                 slices         draw what it may use of quotas and wallets ahead
                 holds          set aside what work may take whose usage is only known at its end
                 publication    publish what that is decided from, after each flush
                 snapshot       the mapped file in which all processes read it
                 notices        notify customers and operators, once
                 channels       by e-mail, Slack, a signed webhook, a log or a function

    page         pages        show customers and the team their usage, and lead to Stripe's own pages

    on demand    pricing        what usage costs: preview, simulation
                 rating         prices by the values of dimensions: rate a month again
                 forecast       what will have been used and owed when a period ends, and when a limit is reached
                 provisioning   make Stripe's meters and prices match the code
                 margin         what usage costs the seller, and what is left
                 shadow         compare what was counted with what another program has billed

`runtime` runs all of this in each process, and what one of them does for all is in `flusher`; `core` holds what the
packages share.
`access_logs` counts what gateways have logged.
`metrics` shows the figures to Prometheus and OpenTelemetry.
`service` serves apps in other languages and gateways over HTTP.
`proxy` meters an app that cannot be changed, from in front of it.
`MeterKit` is the only object that an application builds. `meterkit.sandbox` is a local Stripe double for tests.
Importing this package imports nothing else: no framework, no stripe, no SQLAlchemy.
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
    from meterkit.events.event import Event
    from meterkit.governance.policy import Governance, Known, Quota
    from meterkit.governance.refusal import Block, InsufficientBalanceError, Refusal
    from meterkit.holds.hold import Hold
    from meterkit.jetstream.config import JetStream
    from meterkit.kit import MeterKit
    from meterkit.ledger.schema import metadata
    from meterkit.ledger.schema.alembic import include_name
    from meterkit.margin.cost import Cost
    from meterkit.metering.aggregation import maximum, unique
    from meterkit.metering.context import ExchangeUsage, add_usage, add_value, identify, skip, usage
    from meterkit.metering.exchange import Exchange, Identity
    from meterkit.metering.meter import Meter, response_json
    from meterkit.notices.notice import Notice
    from meterkit.notices.rules import Notify
    from meterkit.pages.config import Pages
    from meterkit.pricing.plan import Amounts, Plan
    from meterkit.pricing.price import Price, Tier
    from meterkit.wallets.pack import Pack
    from meterkit.wallets.wallet import Wallet
    from meterkit.webhooks.config import Webhook

    __version__: str

__all__ = [
    "Amounts",
    "Block",
    "ConfigurationError",
    "Cost",
    "Event",
    "Exchange",
    "ExchangeUsage",
    "Governance",
    "Hold",
    "Identity",
    "InsufficientBalanceError",
    "JetStream",
    "Known",
    "LedgerError",
    "Meter",
    "MeterKit",
    "MeterKitError",
    "Notice",
    "Notify",
    "Pack",
    "Pages",
    "Plan",
    "Price",
    "Quota",
    "Refusal",
    "StripeFailedError",
    "Tier",
    "UsageError",
    "Wallet",
    "Webhook",
    "WebhookError",
    "add_usage",
    "add_value",
    "identify",
    "include_name",
    "maximum",
    "metadata",
    "response_json",
    "skip",
    "unique",
    "usage",
]


# Names by the module that defines them. Each module is imported on first use: a process that needs one class, or none
# (pytest loads the plugin in every project), does not pay for governance, notices and the rest.
_NAMES_BY_MODULE = {
    "errors": (
        "ConfigurationError",
        "LedgerError",
        "MeterKitError",
        "StripeFailedError",
        "UsageError",
        "WebhookError",
    ),
    "events.event": ("Event",),
    "governance.policy": ("Governance", "Known", "Quota"),
    "governance.refusal": ("Block", "InsufficientBalanceError", "Refusal"),
    "holds.hold": ("Hold",),
    "jetstream.config": ("JetStream",),
    "kit": ("MeterKit",),
    "ledger.schema": ("metadata",),
    "ledger.schema.alembic": ("include_name",),
    "margin.cost": ("Cost",),
    "metering.aggregation": ("maximum", "unique"),
    "metering.context": ("ExchangeUsage", "add_usage", "add_value", "identify", "skip", "usage"),
    "metering.exchange": ("Exchange", "Identity"),
    "metering.meter": ("Meter", "response_json"),
    "notices.notice": ("Notice",),
    "notices.rules": ("Notify",),
    "pages.config": ("Pages",),
    "pricing.plan": ("Amounts", "Plan"),
    "pricing.price": ("Price", "Tier"),
    "wallets.pack": ("Pack",),
    "wallets.wallet": ("Wallet",),
    "webhooks.config": ("Webhook",),
}


if not TYPE_CHECKING:  # otherwise, type checkers would accept misspelt names

    def __getattr__(name: str) -> object:
        for module, names in _NAMES_BY_MODULE.items():
            if name in names:
                found = globals()[name] = getattr(import_module(f"meterkit.{module}"), name)
                return found
        if name == "__version__":
            from importlib.metadata import version

            return version("meterkit")
        raise AttributeError(f"module 'meterkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
