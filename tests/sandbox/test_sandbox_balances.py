"""The customer balance, sums that are too small to charge, and credit grants."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, DAY, HOUR, START, day, refused

pytestmark = pytest.mark.long

MAY = day(5, 1)


@pytest.fixture
def calls(shop):
    """0.01 a call."""
    return shop.price(shop.meter(), unit_amount=1)


@pytest.fixture
def customer(shop):
    return shop.customer()


def sums(shop, customer):
    """Status, total, balances and amount due of each invoice, oldest first."""
    return [
        (each.status, each.total, each.starting_balance, each.amount_due, each.ending_balance)
        for each in reversed(shop.invoices(customer))
    ]


def balance(shop, customer):
    return shop.v1.customers.retrieve(customer.id).balance


def transactions(shop, customer):
    """Type, amount and ending balance of each, oldest first."""
    found = shop.v1.customers.balance_transactions.list(customer.id).data
    return [(each.type, each.amount, each.ending_balance) for each in reversed(found)]


def test_a_sum_that_is_too_small_waits_for_a_later_invoice(shop, sandbox, calls, customer):
    """18 cents are paid with 0 and owed; the next 40 make 58."""
    shop.subscribe(customer, calls)
    shop.send(customer, 18)
    sandbox.advance(to=APRIL + HOUR)
    owed = balance(shop, customer)
    shop.send(customer, 40)
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=MAY + HOUR)

    assert (owed, balance(shop, customer)) == (18, 0)
    assert sums(shop, customer) == [("paid", 18, 0, 0, 18), ("paid", 40, 18, 58, 0)]
    assert [each.amount_paid for each in shop.invoices(customer)] == [58, 0]
    assert (preview.total, preview.starting_balance, preview.amount_due, preview.ending_balance) == (40, 18, 58, None)
    assert transactions(shop, customer) == [("invoice_too_small", 18, 18), ("applied_to_invoice", -18, 0)]


def test_the_minimum_is_the_currencys(shop, customer):
    """0.30 GBP and 0.50 EUR; of an invoice that is sent, there is none; a switch takes it away."""
    for currency, amount, due in [("gbp", 29, 0), ("gbp", 30, 30), ("eur", 49, 0), ("jpy", 50, 50)]:
        each = shop.customer()
        shop.subscribe(each, shop.price(unit_amount=amount, currency=currency))
        assert shop.invoices(each)[0].amount_due == due
    shop.subscribe(customer, shop.price(unit_amount=18), collection_method="send_invoice", days_until_due=7)
    assert shop.invoices(customer)[0].amount_due == 18


def test_the_minimum_is_a_switch(make_shop):
    """For tests that count in cents."""
    shop = make_shop(minimum_charge=False)
    customer = shop.customer()
    shop.subscribe(customer, shop.price(unit_amount=18))

    assert sums(shop, customer) == [("paid", 18, 0, 18, 0)]


def test_credit_pays_before_the_card(shop, sandbox, customer):
    """A negative balance is the customer's; what is left of it stays."""
    create = shop.v1.customers.balance_transactions.create
    made = create(customer.id, {"amount": -1500, "currency": "usd", "description": "Sorry", "metadata": {"a": "b"}})
    shop.subscribe(customer, shop.price(unit_amount=1000))
    sandbox.advance(to=APRIL + HOUR)

    assert (made.type, made.description, made.ending_balance, made.metadata.to_dict()) == (
        "adjustment",
        "Sorry",
        -1500,
        {"a": "b"},
    )
    assert sums(shop, customer) == [("paid", 1000, -1500, 0, -500), ("paid", 1000, -500, 500, 0)]
    assert transactions(shop, customer)[1:] == [("applied_to_invoice", 1000, -500), ("applied_to_invoice", 500, 0)]
    assert refused(create, customer.id, {"amount": 1, "currency": "eur"}).param == "currency"
    assert shop.v1.customers.balance_transactions.retrieve(customer.id, made.id).id == made.id
    changed = shop.v1.customers.balance_transactions.update(customer.id, made.id, {"description": "Very"})
    assert changed.description == "Very"


def test_a_balance_has_the_customers_currency(shop, sandbox, customer):
    """No subscription in another one, as long as something is left; a last invoice in the old one is left alone."""
    euro, dollar = (shop.price(shop.meter(each), unit_amount=1, currency=each) for each in ("eur", "usd"))
    subscription = shop.subscribe(customer, euro)
    create = shop.v1.customers.balance_transactions.create
    create(customer.id, {"amount": -5, "currency": "eur"})
    shop.send(customer, 18, event_name="eur")
    sandbox.advance(seconds=DAY)
    shop.v1.subscriptions.cancel(subscription.id, {"invoice_now": True})
    refused(shop.subscribe, customer, dollar)
    create(customer.id, {"amount": 5, "currency": "eur"})
    shop.subscribe(customer, dollar)
    create(customer.id, {"amount": -7, "currency": "usd"})
    sandbox.advance(seconds=2 * HOUR)

    assert sums(shop, customer) == [("paid", 18, 0, 18, 0)]
    assert balance(shop, customer) == -7


def test_a_balance_is_set_with_the_customer(shop):
    """As a transaction of its own."""
    customer = shop.customer(balance=-500, name="Ada")
    update = shop.v1.customers.update

    assert (customer.balance, customer.currency) == (-500, "usd")
    assert (update(customer.id, {"balance": 100}).balance, update(customer.id, {"name": "A"}).balance) == (100, 100)
    assert transactions(shop, customer) == [("initial", -500, -500), ("adjustment", 600, 100)]


def test_an_invoice_below_nought_is_credit(shop, sandbox, customer):
    """A proration that credits more than the invoice charges."""
    shop.subscribe(customer, shop.price(unit_amount=1000))
    shop.v1.invoice_items.create({"customer": customer.id, "amount": -3000, "currency": "usd"})
    sandbox.advance(to=APRIL + HOUR)

    assert sums(shop, customer)[-1] == ("paid", -2000, 0, 0, -2000)
    assert balance(shop, customer) == -2000


def test_a_void_invoice_gives_the_balance_back(shop, sandbox, customer):
    """As if it had never been."""
    sandbox.payments(customer.id, "fail")
    shop.v1.customers.balance_transactions.create(customer.id, {"amount": -400, "currency": "usd"})
    shop.subscribe(customer, shop.price(unit_amount=1000))
    (invoice,) = shop.invoices(customer)
    shop.v1.invoices.void_invoice(invoice.id)

    assert (invoice.amount_due, balance(shop, customer)) == (600, -400)
    assert transactions(shop, customer)[-1] == ("unapplied_from_invoice", -400, -400)


@pytest.fixture
def grant(shop, customer):
    """A function that grants credit in dollars."""

    def make(value, *, prices=None, **params):
        scope = {"prices": [{"id": each.id} for each in prices]} if prices else {"price_type": "metered"}
        return shop.v1.billing.credit_grants.create(
            {
                "customer": customer.id,
                "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": value}},
                "applicability_config": {"scope": scope},
                **params,
            }
        )

    return make


def available(shop, customer, **given):
    """What can be used, and all that is left."""
    wanted = given or {"type": "applicability_scope", "applicability_scope": {"price_type": "metered"}}
    summary = shop.v1.billing.credit_balance_summary.retrieve({"customer": customer.id, "filter": wanted})
    return [(each.available_balance.monetary.value, each.ledger_balance.monetary.value) for each in summary.balances]


def test_credit_pays_for_metered_lines_when_the_invoice_is_final(shop, sandbox, calls, customer, grant):
    """Not for a fee, nor for an amount without a price."""
    granted = grant(300)
    shop.subscribe(customer, calls, shop.price(unit_amount=1000))
    shop.send(customer, 500)
    shop.v1.invoice_items.create({"customer": customer.id, "amount": 70, "currency": "usd"})
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=APRIL)
    draft = shop.invoices(customer)[0]
    sandbox.advance(seconds=HOUR)
    final = shop.invoices(customer)[0]

    assert (draft.total, final.total, final.amount_paid, preview.total) == (1570 + 0, 1270, 1270, 1270)
    (credit,) = final.total_pretax_credit_amounts
    transaction = shop.v1.billing.credit_balance_transactions.retrieve(credit.credit_balance_transaction)
    assert (credit.amount, credit.type, credit.discount) == (300, "credit_balance_transaction", None)
    assert transaction.debit.credits_applied.to_dict() == {
        "invoice": final.id,
        "invoice_line_item": final.lines.data[0].id,
    }
    assert available(shop, customer) == [(0, 0)]
    assert available(shop, customer, type="credit_grant", credit_grant=granted.id) == [(0, 0)]
    listed = shop.v1.billing.credit_balance_transactions.list({"customer": customer.id}).data
    assert [each.type for each in listed] == ["debit", "credit"]


def test_credit_comes_after_discounts(shop, sandbox, calls, customer, grant):
    """Half of 5.00 is off, 2.00 are credit."""
    grant(200)
    half = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    shop.subscribe(customer, calls, discounts=[{"coupon": half.id}])
    shop.send(customer, 500)
    sandbox.advance(to=APRIL + HOUR)

    (invoice,) = shop.invoices(customer)
    assert (invoice.subtotal, invoice.total) == (500, 50)
    assert [each.amount for each in invoice.lines.data[0].pretax_credit_amounts] == [250, 200]


def test_grants_are_used_in_stripes_order(shop, sandbox, calls, customer, grant):
    """By priority, then what expires first, then promotional before paid."""
    paid, promotional = grant(100), grant(100, category="promotional")
    soon, first = grant(100, expires_at=MAY), grant(100, priority=1)
    later = grant(100, effective_at=MAY)
    shop.subscribe(customer, calls)
    shop.send(customer, 250)
    sandbox.advance(to=APRIL + HOUR)

    def left(each):
        return available(shop, customer, type="credit_grant", credit_grant=each.id)

    assert [left(each)[0][1] for each in (first, soon, promotional, paid, later)] == [0, 0, 50, 100, 100]
    assert left(later) == [(0, 100)]
    assert available(shop, customer) == [(150, 250)]


def test_a_grant_is_for_some_prices(shop, sandbox, calls, customer, grant):
    """Others are paid in money."""
    other = shop.price(shop.v1.billing.meters.retrieve(calls.recurring.meter), unit_amount=2)
    grant(1000, prices=[other])
    shop.subscribe(customer, calls)
    shop.send(customer, 250)
    sandbox.advance(to=APRIL + HOUR)

    assert [each.total for each in shop.invoices(customer)] == [250]


def test_a_grant_expires(shop, sandbox, customer, grant):
    """At its time or at once; what is left is gone."""
    late, early = grant(300, expires_at=START + DAY), grant(200)
    shop.v1.billing.credit_grants.expire(early.id)
    sandbox.advance(seconds=DAY)

    assert available(shop, customer) == [(0, 0)]
    listed = shop.v1.billing.credit_balance_transactions.list({"customer": customer.id, "credit_grant": late.id}).data
    assert [(each.debit or each.credit).type for each in listed] == ["credits_expired", "credits_granted"]
    assert listed[0].created == START + DAY
    refused(shop.v1.billing.credit_grants.expire, early.id)


def test_a_grant_is_voided_if_nothing_was_used(shop, sandbox, calls, customer, grant):
    """Else it can only expire."""
    used, unused = grant(300), grant(300, priority=90)
    shop.subscribe(customer, calls)
    shop.send(customer, 100)
    sandbox.advance(to=APRIL + HOUR)

    assert shop.v1.billing.credit_grants.void_grant(unused.id).voided_at == sandbox.now
    refused(shop.v1.billing.credit_grants.void_grant, used.id)
    assert available(shop, customer) == [(200, 200)]


def test_a_void_invoice_gives_the_credit_back(shop, sandbox, calls, customer, grant):
    """To its grant."""
    sandbox.payments(customer.id, "fail")
    grant(300)
    shop.subscribe(customer, calls)
    shop.send(customer, 500)
    sandbox.advance(to=APRIL + HOUR)
    shop.v1.invoices.void_invoice(shop.invoices(customer)[0].id)

    assert available(shop, customer) == [(300, 300)]
    newest = shop.v1.billing.credit_balance_transactions.list({"customer": customer.id}).data[0]
    assert newest.credit.type == "credits_application_invoice_voided"


def test_grants_are_changed_and_listed(shop, calls, customer, grant):
    """When they expire, and their metadata."""
    made = grant(300, name="Prepaid", metadata={"a": "b"})
    changed = shop.v1.billing.credit_grants.update(made.id, {"expires_at": APRIL, "metadata": {"c": "d"}})

    assert (made.name, made.category, made.priority, made.effective_at) == ("Prepaid", "paid", 50, START)
    assert (changed.expires_at, changed.metadata.to_dict()) == (APRIL, {"a": "b", "c": "d"})
    assert [each.id for each in shop.v1.billing.credit_grants.list({"customer": customer.id}).data] == [made.id]
    assert shop.v1.billing.credit_grants.retrieve(made.id).id == made.id
    licensed = shop.price(unit_amount=1)
    assert refused(grant, 1, prices=[licensed]).param == "applicability_config[scope][prices][0][id]"
    assert refused(grant, 1, expires_at=START).param == "expires_at"
    assert refused(grant, 0).param == "amount[monetary][value]"
