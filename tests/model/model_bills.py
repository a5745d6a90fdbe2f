"""
Accounts as people have them, made by hypothesis: what the kit says that they owe is what the sandbox bills.

Each step is something that an owner of a Stripe account does, or that time does. After each, the webhooks are followed,
all usage is reported, and the bills are compared.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import stripe as stripe_python
from fake_clock import Clock
from guard import GUARD
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_exchange import PlainExchange
from signed import SECRET, body_of, signature_of
from stripe_account import make_meter

from meterkit import Governance, Meter, MeterKit, Webhook
from meterkit.sandbox import Sandbox

HOUR, DAY = 3600, 24 * 3600
COMPANIES = ("acme", "globex")
CAP = Decimal("50.00")
TIERS = [{"up_to": 100, "unit_amount": 50}, {"up_to": "inf", "unit_amount_decimal": "30.5", "flat_amount": 700}]
EUROS = {"eur": {"unit_amount_decimal": "8.5"}}
COUNTED: dict[str, int] = {}
"""How many previews had a total, and how many said that they could not tell; for the figures of a run."""

choices = st.integers(0, 2**16)


class Bills(RuleBasedStateMachine):
    """One kit, and an account in the sandbox with two customers."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.stripe = Sandbox(now=self.clock)
        self.stripe.__enter__()
        self.api = stripe_python.StripeClient(self.stripe.api_key, base_addresses={"api": self.stripe.url}).v1
        self.kit = MeterKit(
            meters=[Meter("calls"), Meter("egress")],
            data_dir=Path(self.directory.name) / "meterkit",
            clock=self.clock,
            flush_interval=3600.0,
            webhook=Webhook(None, secret=SECRET),
            stripe_key=self.stripe.api_key,
            stripe_base=self.stripe.url,
            late="next_invoice",
            identify=lambda exchange: exchange.headers["x-company"],
            governance=Governance(spending_cap=str(CAP)),
        )
        self.kit.governor.begin()
        assert self.kit.governor.ready.wait(GUARD)
        self.followed = set()
        self.expected = {}
        self.prices = self.make_prices()
        self.customers = {
            company: self.api.customers.create({"metadata": {"company": company}}).id for company in COMPANIES
        }
        self.follow()

    def teardown(self):
        """Close all."""
        self.kit.close()
        self.stripe.__exit__(None, None, None)
        self.directory.cleanup()

    def make_prices(self):
        """Metered prices of both meters, in dollars and some in euros, and two fees."""
        meters = {name: make_meter(self.stripe, name).id for name in ("calls", "egress")}

        def price(meter=None, *, interval="month", **fields):
            recurring = {"interval": interval}
            if meter is not None:
                recurring |= {"usage_type": "metered", "meter": meters[meter]}
            product = {"name": meter or "Fee"}
            return self.api.prices.create(
                {"currency": "usd", "product_data": product, "recurring": recurring, **fields}
            ).id

        return {
            "cheap": price("calls", unit_amount=10, currency_options=EUROS),
            "dear": price("calls", unit_amount_decimal="33.3", currency_options=EUROS),
            "tiers": price("calls", billing_scheme="tiered", tiers_mode="graduated", tiers=TIERS),
            "egress": price("egress", unit_amount=7, transform_quantity={"divide_by": 10, "round": "up"}),
            "fee": price(unit_amount=2000),
            "yearly": price(unit_amount=90000, interval="year"),
        }

    # What is there.

    def running(self):
        """The subscriptions that have not ended."""
        return [
            each
            for company in COMPANIES
            for each in self.api.subscriptions.list({"customer": self.customers[company]}).data
        ]

    def one(self, choice):
        """One of the running subscriptions, and its company; None if there is none."""
        found = self.running()
        return found[choice % len(found)] if found else None

    def company_of(self, subscription):
        """Who pays for it."""
        return next(company for company, customer in self.customers.items() if customer == subscription.customer)

    def attempt(self, change, *arguments):
        """Do something that Stripe may refuse; nothing has changed then."""
        try:
            return change(*arguments)
        except stripe_python.InvalidRequestError:
            return None

    # What the owner of the account does.

    @initialize(
        names=st.sets(st.sampled_from(["cheap", "tiers", "egress", "fee", "yearly"]), min_size=1, max_size=3),
        quantity=st.integers(0, 300),
    )
    def begin(self, names, quantity):
        """Nothing happens to an account without a subscription."""
        self.put("acme", names | {"cheap"} if "tiers" not in names else names)
        if quantity:
            self.kit.record("calls", "acme", quantity)

    @rule(
        who=st.sampled_from(COMPANIES),
        names=st.sets(st.sampled_from(["cheap", "dear", "tiers", "egress", "fee", "yearly"]), min_size=1, max_size=3),
        mode=st.sampled_from(["flexible", "flexible", "classic"]),
        trial=st.sampled_from([None, None, 10]),
        currency=st.sampled_from([None, None, "eur"]),
    )
    def subscribe(self, who, names, mode, trial, currency):
        """Begin a subscription; a customer has two at most."""
        if sum(self.company_of(each) == who for each in self.running()) >= 2:
            return
        options = {"billing_mode": {"type": mode}}
        if trial:
            options["trial_period_days"] = trial
        if currency:
            options["currency"] = currency
        self.put(who, names, **options)

    def put(self, who, names, **options):
        """Put prices on a new subscription."""
        items = [{"price": self.prices[name]} for name in sorted(names)]
        self.attempt(self.api.subscriptions.create, {"customer": self.customers[who], "items": items, **options})

    @rule(
        choice=choices,
        name=st.sampled_from(["cheap", "dear", "tiers", "egress", "fee", None]),
        behavior=st.sampled_from(["create_prorations", "create_prorations", "always_invoice", "none"]),
        waiting=st.sampled_from([0, 0, 7]),
    )
    def change_item(self, choice, name, behavior, waiting):
        """Give an item another price, or remove it; some usage may wait to be reported."""
        subscription = self.one(choice)
        if subscription is None:
            return
        if waiting:
            self.kit.record("calls", self.company_of(subscription), waiting)
        items = subscription["items"].data
        item = {"id": items[choice % len(items)].id}
        item |= {"deleted": True} if name is None else {"price": self.prices[name]}
        changed = {"items": [item], "proration_behavior": behavior}
        self.attempt(self.api.subscriptions.update, subscription.id, changed)

    @rule(choice=choices, name=st.sampled_from(["cheap", "egress", "fee"]))
    def add_item(self, choice, name):
        """Put a price on a running subscription."""
        subscription = self.one(choice)
        if subscription is not None:
            self.attempt(self.api.subscriptions.update, subscription.id, {"items": [{"price": self.prices[name]}]})

    @rule(choice=choices, behavior=st.sampled_from(["void", "mark_uncollectible", "keep_as_draft", None]))
    def pause(self, choice, behavior):
        """Pause collection, or resume it."""
        subscription = self.one(choice)
        if subscription is not None:
            pause = {"behavior": behavior} if behavior else ""
            self.api.subscriptions.update(subscription.id, {"pause_collection": pause})

    @rule(
        choice=choices,
        terms=st.sampled_from(
            [
                {"percent_off": 12.5, "duration": "forever"},
                {"percent_off": 100, "duration": "once"},
                {"amount_off": 500, "currency": "usd", "duration": "repeating", "duration_in_months": 2},
            ]
        ),
        where=st.sampled_from(["subscription", "item", "customer"]),
    )
    def discount(self, choice, terms, where):
        """Give a coupon to a subscription, to one of its items, or to its customer."""
        subscription = self.one(choice)
        if subscription is None:
            return
        coupon = self.api.coupons.create(terms).id
        if where == "customer":
            with suppress(ValueError):  # in another currency
                self.stripe.discount(subscription.customer, coupon)
            return
        discounts = [{"coupon": coupon}]
        items = subscription["items"].data
        if where == "item":
            params = {"items": [{"id": items[choice % len(items)].id, "discounts": discounts}]}
        else:
            params = {"discounts": discounts}
        self.attempt(self.api.subscriptions.update, subscription.id, params)

    @rule(choice=choices, amount=st.sampled_from([1000, 3000, None]), reset=st.booleans())
    def threshold(self, choice, amount, reset):
        """Let Stripe invoice as soon as enough was used."""
        subscription = self.one(choice)
        if subscription is not None:
            given = {"amount_gte": amount, "reset_billing_cycle_anchor": reset} if amount else ""
            self.attempt(self.api.subscriptions.update, subscription.id, {"billing_thresholds": given})

    @rule(choice=choices, how=st.sampled_from(["at_period_end", "now", "invoice_now", "later", "no"]))
    def cancel(self, choice, how):
        """End a subscription at once, or later."""
        subscription = self.one(choice)
        if subscription is None:
            return
        if how in ("now", "invoice_now"):
            self.api.subscriptions.cancel(subscription.id, {"invoice_now": how == "invoice_now"})
            return
        at_end = {"at_period_end": True, "no": False}
        change = {"cancel_at": int(self.clock()) + 3 * DAY} if how == "later" else {"cancel_at_period_end": at_end[how]}
        self.attempt(self.api.subscriptions.update, subscription.id, change)

    @rule(choice=choices, end=st.sampled_from(["now", 5]))
    def end_trial(self, choice, end):
        """End a trial, or give one."""
        subscription = self.one(choice)
        if subscription is not None:
            moment = end if end == "now" else int(self.clock()) + end * DAY
            self.attempt(self.api.subscriptions.update, subscription.id, {"trial_end": moment})

    # What the customers do, and what time does.

    @rule(who=st.sampled_from(COMPANIES), meter=st.sampled_from(["calls", "egress"]), quantity=st.integers(1, 400))
    def use(self, who, meter, quantity):
        """Use something."""
        self.kit.record(meter, who, quantity)

    @rule(who=st.sampled_from(COMPANIES), quantity=st.integers(1, 90), days=st.sampled_from([1, 6, 20]))
    def use_late(self, who, quantity, days):
        """Record what was used some days ago."""
        self.kit.record("calls", who, quantity, at=datetime.fromtimestamp(self.clock() - days * DAY, timezone.utc))

    @rule(seconds=st.sampled_from([60, HOUR, 5 * HOUR, 3 * DAY, 9 * DAY]))
    def wait(self, seconds):
        """Let time pass."""
        self.clock.advance(seconds)

    @precondition(lambda self: self.expected)
    @rule()
    def wait_for_invoices(self):
        """Let all monthly periods end and their invoices become final: they are what the previews said."""
        expected = self.expected
        self.clock.advance(32 * DAY)
        self.follow()
        for subscription, (company, preview) in expected.items():
            if preview.total is None or preview.period_end > self.clock() - 2 * HOUR:
                continue
            bills = [
                each
                for each in self.api.invoices.list({"customer": self.customers[company]}).auto_paging_iter()
                if each.parent.subscription_details.subscription == subscription
                and (each.period_end, each.billing_reason) == (preview.period_end, "subscription_cycle")
            ]
            found = sum((self.without_late_items(each) for each in bills), Decimal(0))
            assert found == preview.total, (preview, [json.loads(str(each)) for each in bills])

    # What must hold.

    def follow(self):
        """Hand the kit all webhooks that it has not seen, and report all usage."""
        while True:
            self.api.invoices.list()  # lets the sandbox bring itself up to date
            events = []
            for event in self.api.events.list({"limit": 100}).auto_paging_iter():
                if event.id in self.followed:
                    break
                events.append(event)
            for event in events[::-1]:
                self.followed.add(event.id)
                payload = body_of(json.loads(str(event)))
                self.kit.receive(payload, signature_of(payload, self.clock()))
            if events:
                error = self.kit.process().stripe_jobs.follow().error
                assert not error, error
            sent = self.kit.report(include_open=True)
            assert not sent.trouble, sent
            if not events and not sent.sealed:  # what is reported may make an invoice due
                return

    @invariant()
    def the_bills_are_the_same(self):
        """Each preview is what Stripe would bill, or says what it does not know; and no cap blocks below its amount."""
        self.follow()
        self.clock.advance(1)  # webhooks tell when something was changed by the second
        self.expected = {}
        owed = dict.fromkeys(COMPANIES, Decimal(0))
        for company in COMPANIES:
            said = {each.subscription: each for each in self.kit.preview(company)}
            for subscription in self.running():
                if self.company_of(subscription) != company:
                    continue
                preview, bill = said.pop(subscription.id), self.upcoming(subscription)
                owed[company] += self.usage_of(subscription, bill)
                self.compare(subscription, preview, bill)
                self.expected[subscription.id] = company, preview
            assert not said, said
            self.check_cap(company, owed[company])

    def compare(self, subscription, preview, bill):
        """One preview with one bill."""
        is_known = preview.total is not None
        COUNTED["known" if is_known else "unknown"] = COUNTED.get("known" if is_known else "unknown", 0) + 1
        if is_known and bill is not None:
            found = self.without_late_items(bill)
            assert found == preview.total, (preview, json.loads(str(bill)), json.loads(str(subscription)))

    def upcoming(self, subscription):
        """Stripe's own preview; None if there is none."""
        return self.attempt(self.api.invoices.create_preview, {"subscription": subscription.id})

    def without_late_items(self, bill):
        """The total of an invoice, without what meterkit has added for late usage."""
        late = 0
        for line in bill.lines.data:
            if line.parent.type == "invoice_item_details":
                late += line.amount - sum(each.amount for each in line.discount_amounts or ())
        return Decimal(bill.total - late).scaleb(-2)

    def usage_of(self, subscription, bill):
        """What the usage of the period costs in dollars, if anything is charged."""
        pause = subscription.pause_collection
        if bill is None or subscription.currency != "usd" or subscription.status == "trialing":
            return Decimal(0)
        if pause is not None and pause.behavior != "keep_as_draft":
            return Decimal(0)
        fees = {self.prices["fee"], self.prices["yearly"]}
        cost = sum(
            line.amount - sum(each.amount for each in line.discount_amounts or ())
            for line in bill.lines.data
            if line.amount > 0 and line.pricing is not None and line.pricing.price_details.price not in fees
        )
        return Decimal(cost).scaleb(-2)

    def check_cap(self, company, owed):
        """A company that is blocked owes as much as the cap."""
        exchange = PlainExchange("GET", "/", headers={"x-company": company})
        exchange.publish(self.kit)
        refused = self.kit.governor.check(exchange)
        if refused is None:
            self.kit.recorder.close(exchange)
        else:
            self.kit.recorder.refuse(exchange)
            assert owed >= CAP, (company, owed, json.loads(refused.body))
