"""Short ways for the sandbox's tests to say what they are about; every call is one of stripe-python's."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from guard import GUARD
from stripe import InvalidRequestError, RequestsClient, StripeClient

START = int(datetime(2026, 3, 1, tzinfo=timezone.utc).timestamp())
MINUTE, HOUR, DAY = 60, 3600, 86400
APRIL = START + 31 * DAY

CLASSICAL = [
    {"up_to": 100, "unit_amount": 500},
    {"up_to": 1000, "unit_amount": 300},
    {"up_to": "inf", "unit_amount": 200},
]


class Shop:
    """Short ways to the objects that most tests need; each is one call of stripe-python."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.http = RequestsClient(timeout=GUARD)
        self.client = StripeClient(
            sandbox.api_key,
            base_addresses={"api": sandbox.url, "meter_events": sandbox.url},
            max_network_retries=0,
            http_client=self.http,
        )
        self.v1 = self.client.v1
        self.v2 = self.client.v2

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

    def send_v2(self, customer, value="1", *, event_name="queries", key=None, **params):
        payload = {"stripe_customer_id": getattr(customer, "id", customer), "value": value}
        options = {"idempotency_key": key} if key else {}
        return self.v2.billing.meter_events.create(
            {"event_name": event_name, "payload": payload, **params}, options=options
        )

    def token(self):
        return self.v2.billing.meter_event_session.create().authentication_token

    def stream(self, *events, token=None):
        return self.v2.billing.meter_event_stream.create(
            {"events": list(events)}, options={"api_key": token or self.token()}
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


def tiered(shop, meter, tiers=CLASSICAL, mode="graduated", **params):
    return shop.price(meter, billing_scheme="tiered", tiers_mode=mode, tiers=tiers, **params)


def refused(call, *args, **params):
    """The 400 that a call gets."""
    with pytest.raises(InvalidRequestError) as caught:
        call(*args, **params)
    assert caught.value.http_status == 400
    return caught.value


def streamed(customer, value="1", event_name="queries", **params):
    """An event for the stream."""
    payload = {"stripe_customer_id": getattr(customer, "id", customer), "value": value}
    return {"event_name": event_name, "payload": payload, **params}


def refused_event(shop, customer, value=1, **params):
    """The error that sending an event gets."""
    with pytest.raises(InvalidRequestError) as caught:
        shop.send(customer, value, **params)
    assert caught.value.http_status == 400
    return caught.value


def cancel(shop, identifier, event_name="queries"):
    """Take an event back."""
    return shop.v1.billing.meter_event_adjustments.create(
        {"type": "cancel", "event_name": event_name, "cancel": {"identifier": identifier}}
    )


def bill(shop, price, used, **subscription):
    """The invoice for one month in which a customer used that much at that price."""
    customer = shop.customer()
    shop.subscribe(customer, price, **subscription)
    shop.send(customer, used)
    shop.sandbox.advance(to=APRIL + HOUR)
    (invoice,) = shop.invoices(customer)
    return invoice


def lines(invoice):
    """What an invoice says: description, quantity and amount of each line."""
    return [(line.description, line.quantity, line.amount) for line in invoice.lines.data]


def day(month, number, year=2026):
    """The first second of a day, UTC."""
    return int(datetime(year, month, number, tzinfo=timezone.utc).timestamp())
