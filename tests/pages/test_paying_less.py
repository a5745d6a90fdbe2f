"""What a customer may try to pay less, done at the sandbox's own pages and a running app: as the docs say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from guard import GUARD
from hosted_browser import Browser as Hosted
from page_browser import Browser
from page_kits import CALLS
from signed import SECRET
from test_sign_up import hosted, pay, subscriptions  # noqa: F401 - a fixture

from meterkit import Governance, MeterKit, Pages, Plan, Price, Quota, Tier, Webhook
from meterkit.sandbox import Sandbox

pytestmark = pytest.mark.long

HOUR, DAY = 3600, 24 * 3600

FREE_TO_BEGIN_WITH = Price.graduated(CALLS, Tier(up_to=10), Tier(unit_price="1.00"))
PLANS = [
    Plan("team", fee="99.00", prices=[Price.per_unit(CALLS, "0.05")]),
    Plan("payg", prices=[FREE_TO_BEGIN_WITH]),
    Plan("bounded", prices=[FREE_TO_BEGIN_WITH], limits=[Quota(CALLS, 25, per="month")]),
]


@pytest.fixture
def shop(make_kit: Callable[..., MeterKit], stripe: Sandbox) -> MeterKit:
    """A kit whose governance has looked once."""
    kit = make_kit(
        plans=PLANS,
        pages=Pages("/billing", plans=[plan.name for plan in PLANS]),
        stripe_key=stripe.api_key,
        stripe_base=stripe.url,
        webhook=Webhook(None, secret=SECRET),
        governance=Governance(subscription=True, overdue_days=7),
    )
    kit.provision()
    assert kit.governor is not None
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    return kit


class Customer:
    """Acme's people, at their browser and with their key."""

    def __init__(self, browser: Browser, follow: Callable[[], object], hosted: Hosted) -> None:
        browser.headers |= {"Origin": "http://testserver", "Referer": "http://testserver/billing"}
        self.browser, self.follow, self.hosted = browser, follow, hosted

    def subscribe(self, plan: str) -> None:
        pay(self.hosted, self.browser.post(f"/billing/checkout?plan={plan}").headers["location"])
        self.follow()

    def use(self, times: int) -> list[int]:
        return [self.browser.get("/whole").status for _ in range(times)]


@pytest.fixture
def acme(shop: MeterKit, open_page: Callable[..., Browser], hosted: Hosted, tell: Any, events: Any) -> Customer:
    def follow() -> None:
        tell(shop, *events())
        shop.flush()

    return Customer(open_page(shop), follow, hosted)


def settle(shop: MeterKit) -> None:
    shop.flush()
    assert not shop.report(include_open=True).trouble


@pytest.mark.parametrize(("plan", "allowed"), [("payg", 30), ("bounded", 25)])
def test_free_units_again_and_again(
    acme: Customer, shop: MeterKit, api: Any, clock: Any, plan: str, allowed: int
) -> None:
    """Each subscription begins with them; a quota for the month bounds that."""
    got = 0
    for _ in range(3):
        acme.subscribe(plan)
        got += acme.use(10).count(201)
        settle(shop)
        clock.advance(2 * HOUR)
        running = next(each for each in subscriptions(api) if each.ended_at is None)
        api.subscriptions.cancel(running.id, {"invoice_now": True})
        acme.follow()

    assert allowed == got
    assert [402] == acme.use(1)
    assert {0} == {invoice.total for invoice in api.invoices.list({}).data}


def test_an_end_in_mid_period(acme: Customer, shop: MeterKit, api: Any, clock: Any) -> None:
    """Stripe makes no invoice of it, so all of it is named, also what got through until the webhook came."""
    acme.subscribe("payg")
    before = acme.use(20)
    settle(shop)
    clock.advance(HOUR)
    api.subscriptions.cancel(subscriptions(api)[0].id)
    unknown = acme.use(5)
    acme.follow()
    after = acme.use(2)
    clock.advance(HOUR)
    settle(shop)
    (account,) = shop.customers()

    assert ({201}, {201}, {402}) == (set(before), set(unknown), set(after))
    assert {"calls": 25} == account.unbilled
    assert ["25 calls of acme"] == [line[:16] for line in shop.health()["attention"]]


def test_a_debt_and_a_new_subscription(acme: Customer, shop: MeterKit, api: Any, clock: Any, stripe: Sandbox) -> None:
    """It goes on to block until it is paid."""
    acme.subscribe("team")
    (first,) = subscriptions(api)
    stripe.payments(first.customer, "fail")
    clock.advance(31 * DAY)
    api.invoices.list({})
    clock.advance(2 * HOUR)
    api.invoices.list({})
    clock.advance(8 * DAY)
    acme.follow()
    overdue = acme.use(1)
    api.subscriptions.cancel(first.id)
    acme.follow()
    stripe.payments(first.customer, "succeed")
    acme.subscribe("team")
    again = acme.use(1)
    (debt,) = [invoice for invoice in api.invoices.list({}).data if invoice.status == "open"]
    api.invoices.pay(debt.id)
    acme.follow()

    assert ([402], [402], [201]) == (overdue, again, acme.use(1))
