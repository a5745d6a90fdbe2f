"""A customer signs up, calls, fails to pay, is blocked, settles, and is served again; all in a real browser."""

from __future__ import annotations

from decimal import Decimal

from business import api
from guard import tries

VISA, FAILS_LATER = "4242 4242 4242 4242", "4000 0000 0000 0341"
DAY = 24 * 3600


def check_out(visit, card):
    """Fill in the form of Checkout's page, and pay."""
    page = visit.page
    assert "/c/pay/" in page.url
    page.get_by_label("E-mail").fill("ada@acme.example")
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("Card number").fill(card)
    visit.press("Pay and subscribe")


def dollars(cents):
    """An amount as the page shows it."""
    return f"{Decimal(cents).scaleb(-2):,} USD"


def test_from_sign_up_to_recovery(visit, stripe):
    """The page shows what Stripe's invoices say, and leads from each state to the next."""
    visit.log_in(company="acme")
    assert "No subscription is known" in visit.open("/billing/")
    visit.inspect()
    visit.press("Subscribe to pro")
    check_out(visit, VISA)
    stripe.webhooks.deliver()

    visit.until("/billing/", "In good standing")
    assert "/billing/" in visit.page.url
    (first,) = api(stripe).invoices.list({}).data
    assert (2000, "paid") == (first.total, first.status)
    visit.until("/billing/", first.number)
    assert "Paid" in visit.text

    assert 200 == visit.call("/v1/score").status
    visit.until("/billing/", "1 used in this period")
    assert "20.50 USD so far" in visit.text
    visit.inspect()

    # The customer's next payment fails.
    stripe.payments(first.customer, "fail")
    stripe.advance(seconds=32 * DAY)
    stripe.advance(seconds=DAY)
    for _ in tries():
        if visit.call("/v1/score").status == 402:
            break
    newest = api(stripe).invoices.list({}).data[0]
    assert "open" == newest.status
    visit.until("/billing/", f"Invoice {newest.number} of {dollars(newest.amount_remaining)} is overdue")
    refusal = visit.call("/v1/score").json()
    assert "overdue" == refusal["reason"]
    visit.inspect()

    # The portal takes another card, and with it the money.
    visit.press("Manage payment and subscription")
    assert "/p/session/" in visit.page.url
    pay = visit.page.locator("form", has=visit.page.get_by_role("button", name=f"Pay {newest.number}"))
    pay.get_by_label("Card number").fill(VISA)
    visit.press(f"Pay {newest.number}")
    assert "paid" == api(stripe).invoices.retrieve(newest.id).status
    stripe.webhooks.deliver()
    with visit.page.expect_navigation():
        visit.page.get_by_role("link", name="Back").click()
    visit.until("/billing/", "In good standing")
    for _ in tries():
        if visit.call("/v1/score").status == 200:
            break
    visit.inspect()
