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


def test_the_kit_says_what_the_page_shows(make_following_kit, api, price, clock):
    """To templates of the application's own, with quotas, also in a kit that has no page."""
    from meterkit import Governance, Meter, Quota

    calls = Meter("calls")
    options = {"identify": lambda _: "acme", "governance": Governance(quotas=[Quota(calls, 500)])}
    kit = make_following_kit(customer_page="/usage", **options)
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit.sync()
    kit.record("calls", "acme", 150)
    kit.flush()
    exchange = PlainExchange(path="/usage")
    exchange.publish(kit)
    shown = json.loads(kit.page.respond(exchange).body)
    kit.recorder.refuse(exchange)

    assert 150 == shown["meters"][0]["used"]
    assert [500] == [quota["limit"] for quota in shown["meters"][0]["quotas"]]
    assert shown == kit.statement("acme") == make_following_kit(**options).statement("acme")
