"""What Stripe tells of a company changes what it may do: with the next flush, and not when an old answer expires."""

from __future__ import annotations

import pytest
from guard import GUARD
from plain_exchange import PlainExchange, serve

from meterkit import Governance, Meter, Quota

CALLS = Meter("calls")


@pytest.fixture
def govern(make_following_kit):
    """A function that makes kits which follow Stripe, with a `Governance` that has looked once."""

    def govern(**rules):
        kit = make_following_kit(identify=lambda exchange: "acme", governance=Governance(**rules))
        kit.governor.begin()
        assert kit.governor.ready.wait(GUARD)
        kit.flush()
        return kit

    return govern


def is_blocked(kit):
    exchange = PlainExchange()
    exchange.publish(kit)
    block = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)
    return block is not None


@pytest.mark.parametrize("by", ["webhook", "sync"])
def test_who_subscribes_leaves_the_free_limit_at_once(govern, api, price, tell, events, by):
    """Also in processes to which Stripe said nothing. Who has no news is not asked about."""
    plans, asked = {}, []

    def limit(company):
        asked.append(company)
        return plans.get(company, 1)

    kits = [govern(quotas=[Quota(CALLS, limit, per="day")]) for _ in range(2)]
    for kit in kits:
        serve(kit)
        kit.record(CALLS, "globex")
    for kit in (*kits, *kits):
        kit.flush()
    before = [is_blocked(kit) for kit in kits]
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    plans["acme"] = None
    asked.clear()
    if by == "sync":
        kits[0].sync()
    else:
        tell(kits[0], *events())
    for kit in (*kits, *kits):
        kit.flush()

    assert ([True, True], [False, False]) == (before, [is_blocked(kit) for kit in kits])
    assert {"acme"} == set(asked)


def test_news_that_could_not_be_read_is_still_news(govern, api, tell, events, monkeypatch):
    """What fails in between is done with the next flush."""
    limits = {"acme": 0}
    kit = govern(quotas=[Quota(CALLS, lambda company: limits[company], per="day")])
    serve(kit)
    kit.flush()
    before = is_blocked(kit)
    limits["acme"] = None
    api.customers.create({"metadata": {"company": "acme"}})
    tell(kit, *events())
    builder = kit.process().figures.publisher.builder
    monkeypatch.setattr(builder, "_changes", None)
    with pytest.raises(AttributeError):
        kit.flush()
    monkeypatch.undo()
    monkeypatch.setattr(kit.governor._limits[0], "_known", {"acme": kit.governor._limits[0]._known["acme"]})
    kit.flush()

    assert (True, False) == (before, is_blocked(kit))


def test_a_price_that_has_changed_lifts_the_cap(govern, api, price, tell, events, clock):
    """A subscription is moved to a cheaper price within its period, and the company may go on."""
    kit = govern(spending_cap="10.00")
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    tell(kit, *events())
    clock.advance(3600)  # the hour in which the period began was counted to the one before
    for _ in range(3):
        serve(kit)
    kit.flush()
    before = is_blocked(kit)
    clock.advance(3600)
    dear = api.prices.retrieve(price)
    cheap = api.prices.create(
        {
            "currency": "usd",
            "product": dear.product,
            "recurring": {"interval": "month", "usage_type": "metered", "meter": dear.recurring.meter},
            "unit_amount": 1,
        }
    )
    api.subscription_items.update(subscription["items"].data[0].id, {"price": cheap.id})
    tell(kit, *events())
    kit.flush()

    assert (True, False) == (before, is_blocked(kit))
