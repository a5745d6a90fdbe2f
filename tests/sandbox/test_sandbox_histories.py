"""Random lives of a subscription: a preview is the invoice that comes, sums add up, and nothing breaks the sandbox."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
import stripe
import thorough
from sandbox_shop import CLASSICAL, DAY, HOUR

USUAL = (5011, 5014, 5023)
SEEDS = range(5000, 5060)


class Life:
    """A customer with a subscription, to which things happen by chance."""

    def __init__(self, shop, seed):
        self.shop, self.sandbox, self.chance = shop, shop.sandbox, Random(seed)
        self.compared = 0
        self.currency = self.chance.choice(["usd", "usd", "kwd", "ugx", "jpy"])
        self.prices = self._prices()
        self.coupons = [
            shop.v1.coupons.create({"percent_off": 33, "duration": "once"}),
            shop.v1.coupons.create({"percent_off": 10, "duration": "forever"}),
            shop.v1.coupons.create({"percent_off": 100, "duration": "repeating", "duration_in_months": 2}),
        ]
        self.customer = shop.customer()
        self.subscription = self._subscribe()

    def _prices(self):
        def in_both(amounts):  # dollars can be euros, too
            return {**amounts, "currency_options": {"eur": amounts}} if self.currency == "usd" else amounts

        meter, shop = self.shop.meter(), self.shop
        mode = {"billing_scheme": "tiered", "tiers_mode": self.chance.choice(["graduated", "volume"])}
        flat = [(meter, 130, "month"), (None, 3100, "month"), (None, 30_000, "year"), (None, 700, "week")]
        return [
            shop.price(meter, currency=self.currency, **mode, **in_both({"tiers": CLASSICAL})),
            *(
                shop.price(
                    each, currency=self.currency, recurring={"interval": every}, **in_both({"unit_amount": amount})
                )
                for each, amount, every in flat
            ),
        ]

    def _subscribe(self):
        maybe = {
            "trial_period_days": self.chance.choice([1, 5, 40]),
            "discounts": [{"coupon": self.chance.choice(self.coupons).id}],
            "billing_thresholds": {"amount_gte": 5000, "reset_billing_cycle_anchor": self.chance.random() < 0.3},
            "billing_cycle_anchor": self.sandbox.now + 5 * DAY,
        }
        params = {name: value for name, value in maybe.items() if self.chance.random() < 0.3}
        if self.currency == "usd" and self.chance.random() < 0.4:
            params["currency"] = "eur"
        return self.shop.subscribe(self.customer, *self.chance.sample(self.prices, 2), **params)

    def go_on(self):
        """Let one thing happen; Stripe may refuse it."""
        happens = [
            self.use,
            self.use,
            self.wait,
            self.change_item,
            self.change,
            self.owe,
            self.end_period,
            self.end_period,
        ]
        with suppress(stripe.InvalidRequestError):
            self.chance.choice(happens)()
        self.subscription = self.shop.v1.subscriptions.retrieve(self.subscription.id)

    def use(self):
        self.shop.send(self.customer, self.chance.choice([1, 7, 150, 1200]))

    def wait(self):
        self.sandbox.advance(seconds=self.chance.choice([1, HOUR, DAY, 17 * DAY]))

    def change_item(self):
        items, price = self.shop.v1.subscription_items, self.chance.choice(self.prices)
        item = self.chance.choice(self.subscription.items.data)
        behavior = {"proration_behavior": self.chance.choice(["none", "create_prorations", "always_invoice"])}
        self.chance.choice(
            [
                lambda: items.update(item.id, {"price": price.id, **behavior}),
                lambda: items.update(item.id, {"quantity": self.chance.randint(0, 4), **behavior}),
                lambda: items.create({"subscription": self.subscription.id, "price": price.id, **behavior}),
                lambda: items.delete(item.id, behavior),
            ]
        )()

    def change(self):
        pause = self.chance.choice(["void", "keep_as_draft", "mark_uncollectible"])
        params = self.chance.choice(
            [
                {"billing_cycle_anchor": {"type": "now"}},
                {"pause_collection": {"behavior": pause, "resumes_at": self.sandbox.now + 40 * DAY}},
                {"trial_end": self.sandbox.now + self.chance.choice([HOUR, 50 * DAY])},
                {"trial_end": "now"},
                {"discounts": [{"coupon": self.chance.choice(self.coupons).id}]},
                {"cancel_at": self.chance.choice(["", "max_period_end"])},
            ]
        )
        self.shop.v1.subscriptions.update(self.subscription.id, params)

    def owe(self):
        amount, currency = self.chance.choice([-30_000, 500, 40_000]), self.subscription.currency
        amount -= amount % 100
        customers = self.shop.v1.customers.balance_transactions
        self.chance.choice(
            [
                lambda: self.shop.v1.invoice_items.create(
                    {"customer": self.customer.id, "amount": amount, "currency": currency}
                ),
                lambda: customers.create(self.customer.id, {"amount": amount, "currency": currency}),
                lambda: self.shop.v1.billing.credit_grants.create(
                    {
                        "customer": self.customer.id,
                        "amount": {"type": "monetary", "monetary": {"currency": currency, "value": 5000}},
                        "applicability_config": {"scope": {"price_type": "metered"}},
                    }
                ),
            ]
        )()

    def end_period(self):
        """Compare the preview with the invoice that comes, if nothing else is under way."""
        self.sandbox.advance(seconds=2 * HOUR)
        subscription = self.shop.v1.subscriptions.retrieve(self.subscription.id)
        if subscription.status == "canceled" or subscription.pause_collection:
            return
        before = {each.id for each in self.invoices()}
        preview = self.shop.v1.invoices.create_preview({"subscription": subscription.id})
        ends = [item.current_period_end for item in subscription.items.data]
        self.sandbox.advance(to=min([*ends, subscription.cancel_at or ends[0]]) + HOUR)
        made = [each for each in self.invoices() if each.id not in before]
        if not made:
            assert preview.total == 0
        if len(made) == 1 and made[0].status != "draft":
            assert said(made[0]) == said(preview)
            self.compared += 1

    def invoices(self):
        return list(self.shop.v1.invoices.list({"customer": self.customer.id, "limit": 100}).auto_paging_iter())


def said(invoice):
    """What an invoice comes to, and by what lines."""
    lines = sorted((line.description or "", line.amount) for line in invoice.lines.data)
    return invoice.currency, invoice.total, invoice.starting_balance, invoice.amount_due, lines


@pytest.mark.parametrize("seed", thorough.first(USUAL, among=thorough.some([*USUAL, 5001, 5002], among=SEEDS)))
def test_a_preview_is_the_invoice_that_comes(make_shop, seed):
    """Whatever happened before."""
    shop = make_shop(minimum_charge=bool(seed % 2))
    life = Life(shop, seed)
    for _ in range(12):
        if life.subscription.status != "canceled":
            life.go_on()

    for each in life.invoices():
        lines = list(shop.v1.invoices.line_items.list(each.id, {"limit": 100}).auto_paging_iter())
        off = sum(amount.amount for line in lines for amount in line.pretax_credit_amounts)
        assert each.total == sum(line.amount for line in lines) - off
        assert each.total % {"ugx": 100, "kwd": 10}.get(each.currency, 1) == 0
    assert life.compared or seed not in USUAL
