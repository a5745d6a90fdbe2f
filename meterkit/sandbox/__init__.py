"""
A local Stripe double: real HTTP on the loopback interface, with state, a clock to advance, and faults on demand::

    with Sandbox() as stripe:
        client = StripeClient(stripe.api_key, base_addresses={"api": stripe.url, "meter_events": stripe.url})

It supports customers, products, prices, coupons, billing meters, meter events of v1 and v2, alerts, subscriptions and
their schedules, invoices, payments, credit, Checkout, the customer portal, webhooks, connected accounts, test clocks,
and responds with 404 or 400 to anything else. It imports nothing from the rest of meterkit: a double that shares code
with what it tests confirms its bugs::

    server ─▶ gateway    checks the request (`protocol`: keys, parameters, idempotency, rate limits), applies `faults`
                 ▼
              cycle      runs whatever is due by now
                 ▼
              hosted     pages for a browser: Checkout, the customer portal
              platform   webhook endpoints, event destinations, delivery, connected accounts, test clocks
              scheduling subscription schedules
              billing    customers, subscriptions, trials, changes, thresholds, previews
              invoicing  invoices, their lines, discounts, balances, credit, payments
              charging   payment methods, payment intents, the payments of invoices, setup intents
              catalog    products, prices, coupons, promotion codes
              metering   meters, meter events, summaries, alerts, error reports, the event log
                 ▼
              state      account, usage, clock, switches, currencies

`Sandbox` puts them together; `control` serves ``/_sandbox/``, for other processes, and `browser` the hosted pages.
"""

from __future__ import annotations

from meterkit.sandbox.faults import Fault
from meterkit.sandbox.protocol.frame import Received
from meterkit.sandbox.sandbox import Sandbox
from meterkit.sandbox.state.switches import Switches
from meterkit.sandbox.state.usage import MeterEvent

__all__ = ["Fault", "MeterEvent", "Received", "Sandbox", "Switches"]
