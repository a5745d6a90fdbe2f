"""What a customer sees of the next invoice."""

from __future__ import annotations

import json

from followed_account import api, make_following_kit, price, stripe  # noqa: F401 - fixtures
from plain_exchange import PlainExchange


def test_each_line_names_its_meter(make_following_kit, api, price):
    """A customer of several meters sees which of them a line is for."""
    kit = make_following_kit(identify=lambda _: "acme", customer_page="/usage")
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit.sync()
    kit.record("calls", "acme", 150)
    kit.flush()
    exchange = PlainExchange(path="/usage")
    exchange.publish(kit)

    (invoice,) = json.loads(kit.page.respond(exchange).body)["invoices"]
    kit.recorder.refuse(exchange)

    assert [("calls", 100, 1), ("calls", 50, 2)] == [
        (line["meter"], line["quantity"], line["tier"]) for line in invoice["lines"]
    ]
