"""What the ledger knows of customers, subscriptions and invoices: what Stripe has now, whatever events came."""

from __future__ import annotations

import random
import sqlite3
import threading

import httpx
import pytest
import stripe as stripe_python
from guard import GUARD
from signed import SECRET, snapshot

from meterkit import Meter, UsageError, Webhook
from meterkit.sandbox import Sandbox

pytestmark = pytest.mark.long

DAY = 24 * 3600
KEPT = ("customers", "subscriptions", "items", "invoices", "accounts")


def ledger_of(kit):
    """All that is kept of Stripe, but for when it was looked at."""
    with sqlite3.connect(kit._settings.data_dir / "ledger.sqlite") as connection:
        connection.row_factory = sqlite3.Row
        rows = {table: connection.execute(f"SELECT * FROM meterkit_{table} ORDER BY 1").fetchall() for table in KEPT}
    connection.close()
    looked = {"checked_at", "linked_at"}
    return {table: [drop(dict(row), looked) for row in found] for table, found in rows.items()}


def drop(row, names):
    return {name: value for name, value in row.items() if name not in names}


def use(api, customer, quantity):
    payload = {"stripe_customer_id": customer, "value": str(quantity)}
    api.billing.meter_events.create({"event_name": "calls", "payload": payload})


def subscribe(api, price, company="acme", **metadata):
    customer = api.customers.create({"name": f"{company} Inc", "metadata": metadata or {"company": company}})
    subscription = api.subscriptions.create({"customer": customer.id, "items": [{"price": price}]})
    return customer.id, subscription.id


def only(kit, company="acme"):
    return {account.company: account for account in kit.customers()}[company]


def test_a_customer_pays_for_the_company_that_its_metadata_name(kit, api, price, tell, events, clock, stripe):
    """Usage that waits is reported with the next report, and nobody had to link anything."""
    kit.record("calls", "acme", 3)
    clock.advance(3600)
    kit.report()
    before = (kit.health()["books"]["calls"]["unlinked"], stripe.usage("calls", "cus_nobody"))
    customer, subscription = subscribe(api, price)
    tell(kit, *events())
    kit.report()

    assert (3, 0) == before
    assert 3 == stripe.usage("calls", customer)
    account = only(kit)
    assert (customer, "metadata", "acme Inc", "good") == (
        account.customer,
        account.source,
        account.name,
        account.standing,
    )
    assert [(subscription, "active")] == [(found, status) for found, status, _ in account.subscriptions]


def test_the_key_of_the_metadata_can_be_chosen(make_following_kit, api, price, tell, events):
    """Whatever the application calls it there."""
    kit = make_following_kit(metadata_key="tenant_id")
    customer, _ = subscribe(api, price, tenant_id="globex", company="other")
    tell(kit, *events())

    assert {"globex": customer} == {account.company: account.customer for account in kit.customers()}


def test_a_link_outweighs_the_metadata(kit, api, price, tell, events):
    """What the application says stands, whatever comes later."""
    kit.link("acme", "cus_chosen")
    subscribe(api, price)
    tell(kit, *events())

    assert "cus_chosen" == only(kit).customer


def test_metadata_that_change(kit, api, price, tell, events):
    """The company goes with them, from one customer to the other."""
    first, _ = subscribe(api, price)
    second = api.customers.create({"name": "Other"}).id
    tell(kit, *events())
    api.customers.update(first, {"metadata": {"company": ""}})
    tell(kit, snapshot("customer.updated", {"object": "customer", "id": first}, id="evt_a"))
    between = [account.company for account in kit.customers()]
    api.customers.update(second, {"metadata": {"company": "acme"}})
    tell(kit, snapshot("customer.updated", {"object": "customer", "id": second}, id="evt_b"))

    assert ([], second) == (between, only(kit).customer)


def test_two_customers_that_name_the_same_company(kit, api, price, tell, events):
    """One of them pays, and goes on to; that is named. When it is deleted, the other pays."""
    both = {subscribe(api, price)[0], subscribe(api, price)[0]}
    tell(kit, *events())
    payer = only(kit).customer
    ambiguous = kit.health()["problems"]["company_ambiguous"]["message"]
    api.customers.delete(payer)
    tell(kit, snapshot("customer.deleted", {"object": "customer", "id": payer}, id="evt_gone"))

    assert "'acme'" in ambiguous
    assert both == {payer, only(kit).customer}


@pytest.mark.parametrize("named", ["cus_other", " ", "x" * 300, "a\nb"])
def test_metadata_that_name_no_company(kit, api, tell, events, named):
    """They are somebody else's."""
    api.customers.create({"metadata": {"company": named}})
    found = tell(kit, *events())

    assert ("", []) == (found.error, kit.customers())


def month_of_events(api, stripe, price, clock, events):
    """A month with two customers, an upgrade, a cancellation and a deleted customer, and all its events."""
    acme, subscription = subscribe(api, price)
    globex, other = subscribe(api, price, "globex")
    use(api, acme, 1500)
    use(api, globex, 7)
    gone = api.customers.create({"name": "Gone", "metadata": {"company": "gone"}}).id
    clock.advance(10 * DAY)
    api.customers.update(acme, {"name": "Acme & Sons"})
    api.subscriptions.cancel(other)
    api.customers.delete(gone)
    clock.advance(25 * DAY)
    api.subscriptions.retrieve(subscription)  # lets the sandbox bring its invoices up to date
    return events()


@pytest.mark.parametrize("seed", range(4))
def test_events_in_any_order_and_any_number(
    make_following_kit, api, stripe, price, tell, clock, events, seed, tmp_path
):
    """A month's events, in Stripe's order once, end in the same state as shuffled, repeated, and with gaps between."""
    month = month_of_events(api, stripe, price, clock, events)
    orderly = make_following_kit(data_dir=tmp_path / "orderly")
    tell(orderly, *month)
    chance = random.Random(seed)
    disorderly = make_following_kit(data_dir=tmp_path / "disorderly")
    told = [*month, *chance.choices(month, k=20)]
    chance.shuffle(told)
    for start in range(0, len(told), 7):
        tell(disorderly, *told[start : start + 7])

    assert ledger_of(orderly) == ledger_of(disorderly)
    assert {"applied", "ignored"} == {event.state for event in disorderly.webhook_events()}
    kept = ledger_of(orderly)
    assert {"Acme & Sons", "globex Inc", ""} == {row["name"] for row in kept["customers"]}
    assert {"active", "canceled"} == {row["status"] for row in kept["subscriptions"]}
    assert {"acme", "globex"} == {row["company"] for row in kept["accounts"]}
    assert kept["invoices"]


def test_sync_finds_what_no_webhook_told(make_following_kit, api, stripe, price, tell, clock, events, tmp_path):
    """An account that was there before, or webhooks that were missed: the state is the same."""
    told, synced = make_following_kit(data_dir=tmp_path / "told"), make_following_kit(data_dir=tmp_path / "synced")
    tell(told, *month_of_events(api, stripe, price, clock, events))
    found = synced.sync()

    expected = ledger_of(told)
    expected["customers"] = [row for row in expected["customers"] if not row["deleted"]]  # which lists do not show
    assert expected == ledger_of(synced)
    assert (2, 2, "") == (found.customers, found.subscriptions, found.error)


def test_sync_notices_invoices_that_were_settled(kit, api, price, stripe, clock, tell, events):
    """A draft that was deleted, or an invoice that was paid, while no webhook came."""
    customer, subscription = subscribe(api, price)
    use(api, customer, 5)
    clock.advance(31 * DAY)
    api.subscriptions.retrieve(subscription)
    kit.sync()
    (draft,) = [row["status"] for row in ledger_of(kit)["invoices"]]
    clock.advance(50 * DAY)
    kit.sync()

    assert ("draft", ["paid"]) == (draft, [row["status"] for row in ledger_of(kit)["invoices"]])


@pytest.mark.parametrize("fault", ["500", "reset_before", "html", "429"])
def test_while_stripe_does_not_answer_events_wait(kit, api, price, tell, events, stripe, fault):
    """Nothing is applied by halves, the reason is shown, and the next look makes up for it."""
    customer, _ = subscribe(api, price)
    stripe.fail(fault, path=None, times=50)
    trouble = tell(kit, *events_of_customer(customer))
    waiting = [(event.state, bool(event.reason)) for event in kit.webhook_events()]
    stripe.heal()
    tell(kit)

    assert trouble.error
    assert [("received", True)] == waiting
    assert [("applied", "")] == [(event.state, event.reason) for event in kit.webhook_events()]
    assert customer == only(kit).customer


def events_of_customer(customer):
    return [snapshot("customer.created", {"object": "customer", "id": customer})]


def test_an_object_that_stripe_does_not_have(kit, tell):
    """A draft that was deleted in the meantime: there is nothing to keep."""
    found = tell(kit, snapshot("invoice.created", {"object": "invoice", "id": "in_gone"}))

    assert "" == found.error
    assert ["applied"] == [event.state for event in kit.webhook_events()]


def test_a_function_that_finds_the_customer(make_following_kit, api, price, stripe, clock):
    """It is asked once for each company that waits, and what it answers is remembered."""
    customer, _ = subscribe(api, price, other="x")
    asked = []
    kit = make_following_kit(find_customer=lambda company: asked.append(company) or {"acme": customer}.get(company))
    for _ in range(2):
        kit.record("calls", "acme", 2)
        kit.record("calls", "stranger", 1)
        clock.advance(3600)
        kit.report()

    assert 4 == stripe.usage("calls", customer)
    assert ["acme", "stranger", "stranger"] == asked
    assert ("resolver", 2) == (only(kit).source, only(kit, "stranger").waiting["calls"])


@pytest.mark.parametrize("answer", ["", 5, UsageError("no", reason="x")])
def test_a_function_that_finds_no_customer(make_following_kit, clock, stripe, api, answer):
    """It may raise, or answer nonsense: the company waits, that is named, and the others are reported."""
    known = api.customers.create({}).id
    api.billing.meters.create({"display_name": "c", "event_name": "calls", "default_aggregation": {"formula": "sum"}})

    def find(company):
        if isinstance(answer, Exception):
            raise answer
        return answer

    kit = make_following_kit(find_customer=find)
    kit.record("calls", "acme", 2)
    kit.record("calls", known, 1)
    clock.advance(3600)
    kit.report()

    assert 1 == stripe.usage("calls", known)
    assert "acme" in kit.health()["problems"]["find_customer_failed"]["message"]
    assert {"calls": 2} == only(kit).waiting


def told(stripe):
    """The thin events of the sandbox, as their webhooks deliver them."""
    listed = httpx.get(
        f"{stripe.url}/v2/core/events", headers={"Authorization": f"Bearer {stripe.api_key}"}, timeout=GUARD
    )
    return listed.json()["data"]


def test_what_stripe_drops_later_is_rejected_with_its_reason(make_kit, clock, tell, tmp_path):
    """A 200 means that it was received. Once the cause is mended, it is reported again."""
    with Sandbox(now=clock, unknown_customer="async") as stripe:
        api = stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1
        api.billing.meters.create(
            {"display_name": "c", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        customer = api.customers.create({}).id
        webhook = Webhook(None, secret=SECRET)
        kit = make_kit(Meter("calls"), webhook=webhook, stripe_key=stripe.api_key, stripe_base=stripe.url)
        kit.link("acme", "cus_gone")
        kit.record("calls", "acme", 5)
        kit.record("calls", customer, 7)
        clock.advance(3600)
        kit.report()
        sent = kit.health()["books"]["calls"]["sent"]
        clock.advance(10)
        api.customers.list()  # lets the sandbox bring itself up to date
        tell(kit, *told(stripe))
        (refused,) = kit.health()["refused"]
        kit.link("acme", customer)
        kit.process().stripe_jobs.reporter().retry()
        kit.report()

        assert (12, 12) == (sent, stripe.usage("calls", customer))
        assert ("rejected", 5) == (refused["state"], refused["quantity"])
        assert "meter_event_customer_not_found: No such customer: 'cus_gone'" == refused["error"]
        assert {"applied"} == {event.state for event in kit.webhook_events()}


def test_errors_of_events_that_are_not_ours(make_kit, clock, tell):
    """Another program's: there is nothing to do about them here."""
    with Sandbox(now=clock, unknown_customer="async") as stripe:
        api = stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1
        api.billing.meters.create(
            {"display_name": "c", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        payload = {"stripe_customer_id": "cus_gone", "value": "1"}
        api.billing.meter_events.create({"event_name": "calls", "payload": payload, "identifier": "mine-x.y"})
        clock.advance(10)
        api.customers.list()
        webhook = Webhook(None, secret=SECRET)
        kit = make_kit(Meter("calls"), webhook=webhook, stripe_key=stripe.api_key, stripe_base=stripe.url)
        found = tell(kit, *told(stripe))

        assert "" == found.error
        assert {"applied"} == {event.state for event in kit.webhook_events()}


def test_while_another_process_follows(make_following_kit, api, price, events, tell, stripe):
    """It is its business: no trouble here; who asks for everything is told to wait."""
    kit, other = make_following_kit(), make_following_kit()
    customer, _ = subscribe(api, price)
    held = stripe.fail("slow", path=f"/v1/customers/{customer}")
    first = threading.Thread(target=tell, args=(kit, *events_of_customer(customer)))
    first.start()
    assert held.wait(GUARD)
    found = [other.process().stripe_jobs.follow().error, other.sync().error]
    held.release()
    first.join()

    assert ["", "another process is syncing accounts now"] == found
    assert "follow_failed" not in other.health()["problems"]
    assert customer == only(kit).customer


def test_a_customer_pays_for_the_company_that_its_subscriptions_metadata_name(kit, api, price, tell, events):
    """Checkout writes there what it is given; a customer that it makes has no metadata."""
    customer = api.customers.create({"name": "Acme"}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}], "metadata": {"company": "acme"}})
    tell(kit, *events())
    api.customers.update(customer, {"name": "Acme & Sons"})
    tell(kit, *events())

    assert [("acme", customer, "metadata")] == [(each.company, each.customer, each.source) for each in kit.customers()]


def test_a_subscription_that_names_the_company_of_another_customer(kit, api, price, tell, events):
    """The first goes on to pay, and it is said."""
    first, _ = subscribe(api, price)
    tell(kit, *events())
    second = api.customers.create({"name": "Other"}).id
    api.subscriptions.create({"customer": second, "items": [{"price": price}], "metadata": {"company": "acme"}})
    tell(kit, *events())

    assert [("acme", first)] == [(each.company, each.customer) for each in kit.customers()]
    assert "company_ambiguous" in kit.health()["problems"]


def refusal(permission):
    """What Stripe answers to a restricted key that lacks a right."""
    message = (
        "The provided key 'rk_test_***' does not have the required permissions for this endpoint. Having the "
        f"'{permission}' permission would allow this request to continue."
    )
    return {"error": {"type": "invalid_request_error", "message": message}}


def test_a_restricted_key_is_told_all_that_it_lacks(make_shown_kit, shown, api, price):
    """At once, and what it may read is read."""
    subscribe(api, price)
    for path, permission in {
        "/v1/customers": "rak_customer_read",
        f"/v1/prices/{price}": "rak_plan_read",
        "/v1/prices": "rak_plan_read",
        "/v1/billing/meters": "rak_billing_meter_read",
    }.items():
        shown.answer("GET", path, 403, refusal(permission))
    kit = make_shown_kit()
    refused = kit.sync()
    shown.clear()
    complete = kit.sync()

    assert ["Customers", "Prices", "Billing meters"] == refused.refused
    assert "may not read Customers, Prices, Billing meters" in refused.error
    assert "rak_customer_read" in refused.error
    assert ([], "", 1, 1) == (complete.refused, complete.error, complete.customers, complete.subscriptions)


def test_a_key_that_may_read_all_but_customers(make_shown_kit, shown, api, price):
    """The subscriptions are read all the same."""
    subscribe(api, price)
    shown.answer("GET", "/v1/customers", 403, refusal("rak_customer_read"))
    found = make_shown_kit().sync()

    assert (0, 1, ["Customers"]) == (found.customers, found.subscriptions, found.refused)
