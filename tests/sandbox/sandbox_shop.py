"""Short ways for the sandbox's tests to say what they are about; every call is one of stripe-python's."""

from __future__ import annotations

from datetime import datetime, timezone

from stripe import RequestsClient, StripeClient

START = int(datetime(2026, 3, 1, tzinfo=timezone.utc).timestamp())
MINUTE, HOUR, DAY = 60, 3600, 86400
APRIL = START + 31 * DAY


class Shop:
    """Short ways to the objects that most tests need; each is one call of stripe-python."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.http = RequestsClient(timeout=30)
        self.client = StripeClient(
            sandbox.api_key, base_addresses={"api": sandbox.url}, max_network_retries=0, http_client=self.http
        )
        self.v1 = self.client.v1

    def customer(self, **params):
        return self.v1.customers.create(params)

    def meter(self, event_name="queries", formula="sum", **params):
        return self.v1.billing.meters.create(
            {
                "display_name": event_name,
                "event_name": event_name,
                "default_aggregation": {"formula": formula},
                **params,
            }
        )

    def product(self, **params):
        return self.v1.products.create({"name": "Credit Score", "unit_label": "query", **params})

    def price(self, meter=None, product=None, recurring=None, **params):
        usage = {"usage_type": "metered", "meter": meter.id} if meter else {}
        return self.v1.prices.create(
            {
                "currency": "usd",
                "product": product or self.product().id,
                "recurring": {"interval": "month", **usage, **(recurring or {})},
                **params,
            }
        )

    def subscribe(self, customer, *prices, **params):
        return self.v1.subscriptions.create(
            {"customer": customer.id, "items": [{"price": price.id} for price in prices], **params}
        )

    def send(self, customer, value=1, *, event_name="queries", key=None, **params):
        payload = {"stripe_customer_id": getattr(customer, "id", customer), "value": str(value)}
        options = {"idempotency_key": key} if key else {}
        return self.v1.billing.meter_events.create(
            {"event_name": event_name, "payload": payload, **params}, options=options
        )

    def summary(self, meter, customer, start=START - DAY, end=START + DAY, **params):
        return self.v1.billing.meters.event_summaries.list(
            meter.id, {"customer": customer.id, "start_time": start, "end_time": end, **params}
        )

    def invoices(self, customer):
        return self.v1.invoices.list({"customer": customer.id}).data

    def events(self, *types):
        found = self.v1.events.list({"types": list(types), "limit": 100}).data
        return [event.type for event in reversed(found)]
