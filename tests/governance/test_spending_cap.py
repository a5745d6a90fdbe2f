"""The spending cap and the notices of amounts on accounts as people have them: never below what is billed."""

from __future__ import annotations

import json

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    make_following_kit,
    make_shown_kit,
    shown,
    stripe,
    tell,
)
from guard import GUARD
from plain_exchange import PlainExchange
from signed import snapshot
from stripe_account import make_meter

from meterkit import Governance, Meter, Notify, Quota

pytestmark = pytest.mark.long

HOUR, DAY = 3600, 24 * 3600
CALLS = Meter("calls")


@pytest.fixture
def meter(stripe):
    """The meter calls, by id."""
    return make_meter(stripe, "calls").id


@pytest.fixture
def make_price(api, meter):
    """A function that makes a price of the meter calls at so many cents a unit, unless other fields are given."""

    def make(cents, *, metered=True, every=None, **fields):
        recurring = {"interval": "month", **({"usage_type": "metered", "meter": meter} if metered else {})}
        product = {"name": "Calls"}
        return api.prices.create(
            {
                "currency": "usd",
                "product_data": product,
                "recurring": recurring | (every or {}),
                **({} if cents is None else {"unit_amount_decimal": str(cents)}),
                **fields,
            }
        ).id

    return make


@pytest.fixture
def subscribe(api):
    """A function that makes a customer acme with a subscription for each list of prices."""

    def subscribe(*subscriptions):
        customer = api.customers.create({"metadata": {"company": "acme"}}).id
        return [
            api.subscriptions.create({"customer": customer, "items": [{"price": each} for each in prices]})
            for prices in subscriptions
        ]

    return subscribe


@pytest.fixture
def govern(make_shown_kit):
    """A function that makes a kit with a `Governance`, which has read the account and looked once."""

    def govern(*, notify=(), **rules):
        kit = make_shown_kit(identify=lambda _: "acme", governance=Governance(**rules), notify=notify)
        kit.sync()
        kit.governor.begin()
        assert kit.governor.ready.wait(GUARD)
        kit.flush()
        return kit

    return govern


def use(kit, quantity):
    kit.record("calls", "acme", quantity)
    kit.flush()


def ask(kit):
    """Status of a request, the reason for a warning, and the problem if it is blocked."""
    exchange = PlainExchange("GET", "/anything")
    exchange.publish(kit)
    answer = kit.governor.check(exchange)
    if answer is None:
        return 200, exchange.warning, {}
    kit.recorder.refuse(exchange)
    return answer.status, None, json.loads(answer.body)


def told(kit):
    """Kinds of the notices that are due."""
    return {notice.kind for _, notice in kit.process().dispatcher._rule_evaluator().evaluate(int(kit.clock()))}


SPENT = [Notify.threshold(amount="50.00", to=lambda notice: None)]


def coupon(**terms):
    applied = {"percent_off": None, "amount_off": None, "currency": None, "duration": "forever", "applies_to": None}
    source = {"coupon": applied | terms}
    return {"discounts": [{"object": "discount", "id": "di_1", "start": 0, "end": None, "source": source}]}


def trial(subscription):
    start, end = (subscription["items"]["data"][0][f"current_period_{edge}"] for edge in ("start", "end"))
    subscription.update(status="trialing", trial_start=start, trial_end=end)


FREE = {
    "trial": trial,
    "pause": {"pause_collection": {"behavior": "void", "resumes_at": None}},
    "uncollectible": {"pause_collection": {"behavior": "mark_uncollectible", "resumes_at": None}},
    "coupon of all": coupon(percent_off=100),
    "coupon of half": coupon(percent_off=50),
    "coupon of an amount": coupon(amount_off=2000, currency="usd"),
    "another currency": {"currency": "eur"},
}


@pytest.mark.parametrize("why", FREE)
def test_what_is_free_is_not_spent(govern, shown, make_price, subscribe, why):
    """60 units at $1 do not reach a cap of $50, and nobody is told that they do."""
    subscribe([make_price(100)])
    shown.rewrite("subscription", FREE[why])
    kit = govern(spending_cap="50.00", notify=SPENT)
    use(kit, 60)

    assert ((200, None, {}), set()) == (ask(kit), told(kit))


def test_what_a_coupon_leaves_is_spent(govern, shown, make_price, subscribe):
    """Of 120 units at $1, half."""
    subscribe([make_price(100)])
    shown.rewrite("subscription", FREE["coupon of half"])
    kit = govern(spending_cap="50.00", notify=SPENT)
    use(kit, 99)
    before = ask(kit)[0]
    use(kit, 1)
    status, _, problem = ask(kit)

    assert (200, 402, "50.00") == (before, status, problem["amount"])
    assert {"threshold"} == told(kit)


def test_what_may_be_less_is_only_warned_about(govern, shown, make_price, subscribe):
    """A coupon in another currency is not understood."""
    subscribe([make_price(100)])
    shown.rewrite("subscription", coupon(amount_off=2000, currency="eur"))
    kit = govern(spending_cap="50.00", notify=SPENT)
    use(kit, 60)

    assert ((200, "spending_cap", {}), set()) == (ask(kit), told(kit))


def test_a_warning_does_not_hide_a_quota(govern, shown, make_price, subscribe):
    """Of two rules, the one that blocks counts."""
    subscribe([make_price(100)])
    shown.rewrite("subscription", coupon(amount_off=2000, currency="eur"))
    kit = govern(spending_cap="50.00", quotas=[Quota(CALLS, 60)])
    use(kit, 60)
    status, _, problem = ask(kit)

    assert (429, "quota") == (status, problem["reason"])


def test_two_subscriptions_on_one_meter(govern, make_price, subscribe):
    """Stripe bills the usage twice, and so it is spent twice."""
    price = make_price(100)
    subscribe([price], [price])
    kit = govern(spending_cap="500.00")
    use(kit, 301)

    assert (402, "602.00") == (ask(kit)[0], ask(kit)[2]["amount"])


def test_a_price_that_is_changed_within_the_period(govern, clock, shown, api, tell, make_price, subscribe):
    """Each unit costs what it cost when it was used."""
    before, after = make_price(10), make_price(100)
    (subscription,) = subscribe([before])
    kit = govern(spending_cap="500.00")
    use(kit, 1000)
    clock.advance(HOUR)
    shown.answer("GET", "/v1/invoiceitems", 403, {"error": {"type": "invalid_request_error", "message": "No right"}})
    shown.rewrite("subscription_item", {"price": json.loads(str(api.prices.retrieve(after)))})
    about = {"object": "subscription", "id": subscription.id}
    tell(kit, snapshot("customer.subscription.updated", about, created=int(clock.now)))
    clock.advance(HOUR)
    use(kit, 10)
    cheap = ask(kit)
    use(kit, 440)  # with what was used before, which may be free, it is $550
    maybe = ask(kit)
    use(kit, 50)

    assert ((200, None, {}), (200, "spending_cap", {}), 402) == (cheap, maybe, ask(kit)[0])


@pytest.mark.parametrize("first", ["metered", "licensed"])
def test_a_quota_on_monthly_usage_beside_a_yearly_fee(govern, clock, shown, make_price, subscribe, first):
    """It begins anew with the month, whichever was put on the subscription first."""
    prices = [make_price(100), make_price(120000, metered=False)]
    subscribe(prices if first == "metered" else prices[::-1])
    year = {"current_period_end": int(clock.now) + 365 * DAY}
    shown.rewrite("subscription_item", lambda item: item.update({} if item["price"]["recurring"]["meter"] else year))
    kit = govern(quotas=[Quota(CALLS, 10)])
    use(kit, 10)
    exchange = PlainExchange("GET", "/anything")
    exchange.publish(kit)
    refused = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)

    assert 429 == refused.status
    assert int(dict(refused.headers)["Retry-After"]) <= 31 * DAY


def test_shillings_of_uganda(govern, make_price, subscribe):
    """300 are not 30,000."""
    subscribe([make_price(10000, currency="ugx")])
    kit = govern(spending_cap="2000", currency="ugx")
    use(kit, 3)
    before = ask(kit)[0]
    use(kit, 17)

    assert (200, 402, "2000.00") == (before, ask(kit)[0], ask(kit)[2]["amount"])


def test_sums_of_many_digits_end_the_round_for_nobody(govern, make_price, subscribe):
    """A petabyte, and it is billed; others are told, too."""
    subscribe([make_price("0.000000009")])
    kit = govern(spending_cap="50.00", notify=SPENT)
    for _ in range(5):
        kit.record("calls", "acme", 200_000_000_000_000)
    use(kit, 0)

    assert (402, "90000.00") == (ask(kit)[0], ask(kit)[2]["amount"])
    assert {"threshold"} == told(kit)


def test_a_price_that_cannot_be_computed_ends_the_round_for_nobody(govern, make_price, subscribe, api):
    """Customers choose what they pay: nothing is known of that company, and all of the other's is."""
    subscribe([make_price(100)])
    kit = govern(spending_cap="50.00", notify=SPENT)
    with kit.process().database().transaction() as connection:
        connection.exec_driver_sql("UPDATE meterkit_items SET price = replace(price, '\"100\"', 'null')")
    kit.record("calls", "acme", 60)
    kit.record("calls", "globex", 60)
    kit.flush()

    assert (200, set()) == (ask(kit)[0], told(kit))
