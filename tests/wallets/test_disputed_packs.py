"""What a disputed payment has granted is withheld until the dispute is won."""

from __future__ import annotations

import pytest
from followed_account import api, events, shown, stripe, tell  # noqa: F401 - fixtures
from guard import GUARD
from hosted_browser import Browser
from signed import SECRET
from test_wallet_grants import at
from test_wallet_requests import asked
from wallet_kits import figures

from meterkit import Meter, Pack, Wallet, Webhook

CALLS = Meter("calls", path="/v1/*", billable=False)

SMALL = Pack("1,000 credits", amount=1_000, price="10.00")
WINNING, LOSING = ({"evidence": {"uncategorized_text": f"{each}_evidence"}} for each in ("winning", "losing"))


@pytest.fixture
def make_selling_kit(make_kit, stripe):
    """A function that makes kits which sell a pack, and take webhooks."""

    def make(**options):
        wallet = Wallet("credits", unit="credits", spends={CALLS: 1}, packs=[SMALL])
        about = {
            "stripe_key": stripe.api_key,
            "stripe_base": stripe.url,
            "customer_ids": False,
            "identify": lambda exchange: exchange.headers.get("x-company"),
            **options,
        }
        return make_kit(CALLS, wallets=[wallet], webhook=Webhook(None, secret=SECRET), **about)

    return make


@pytest.fixture
def kit(make_selling_kit):
    """A kit whose pack is in Stripe, and was bought by nobody."""
    kit = make_selling_kit()
    kit.provision()
    return kit


@pytest.fixture
def buy(kit, api):
    """A function that pays for a pack in Checkout, and returns the payment."""

    def buy():
        with Browser() as browser:
            browser.open(kit.checkout_url("acme", pack=SMALL, success_url="https://shop.example/paid"))
            fields = {"card_number": "4242424242424242", "email": "ann@acme.example"}
            (form,) = browser.forms
            browser.press("Pay", **{name: value for name, value in fields.items() if name in form.fields})
        return api.invoice_payments.list().data[0].payment.payment_intent

    return buy


def of_disputes(events):
    """Those of *events* that are about disputes."""
    return [each for each in events if each["type"].startswith("charge.dispute")]


@pytest.mark.parametrize(
    ("amount", "left", "uncovered"),
    [
        (None, 0, 200),
        (250, 550, 0),
        pytest.param(800, 0, 0, marks=pytest.mark.long),
        pytest.param(900, 0, 100, marks=pytest.mark.long),
    ],
)
def test_until_it_is_won(kit, buy, stripe, api, tell, events, amount, left, uncovered):
    """Its share is taken back as far as it is left, once, and given back, once; the rest is named meanwhile."""
    paid = buy()
    tell(kit, *events())
    kit.record("calls", "acme", 200)
    kit.flush()
    before = figures(kit)
    dispute = stripe.dispute(paid, amount=amount)
    for _ in range(2):
        tell(kit, *reversed(of_disputes(events())))
    withheld, attention = kit.balance("acme", "credits"), kit.health()["attention"]
    books = kit.audit_wallets()
    api.disputes.update(dispute, WINNING)
    for _ in range(2):
        tell(kit, *of_disputes(events()))

    assert (left, uncovered, 200 - uncovered) == (withheld.left, withheld.uncovered, withheld.spent)
    assert bool(uncovered) == any("refunded or disputed" in each for each in attention)
    assert before == figures(kit)
    assert ["reinstatement", "revocation"] == sorted(
        each.cause for each in kit.wallet_entries("acme", "credits") if each.key == dispute
    )
    assert ([], []) == (books, kit.audit_wallets())


@pytest.mark.parametrize("evidence", [LOSING, None])
def test_one_that_is_lost(kit, buy, stripe, api, tell, events, evidence):
    """It stays taken back, also if it is accepted."""
    dispute = stripe.dispute(buy())
    tell(kit, *events())
    if evidence is None:
        api.disputes.close(dispute)
    else:
        api.disputes.update(dispute, evidence)
    tell(kit, *events())

    assert {"granted": "1000", "revoked": "1000"} == figures(kit)


def test_an_inquiry(kit, buy, stripe, api, tell, events):
    """It takes no money, so it takes back nothing."""
    dispute = stripe.dispute(buy(), inquiry=True)
    tell(kit, *events())
    opened = figures(kit)
    api.disputes.close(dispute)
    tell(kit, *events())

    assert opened == figures(kit) == {"granted": "1000", "left": "1000"}


def test_a_dispute_that_is_told_before_the_payment(kit, buy, stripe, tell, events):
    """It waits for the grant."""
    stripe.dispute(buy())
    tell(kit, *of_disputes(events()))
    before = figures(kit)
    reasons = {each.reason[-18:] for each in kit.webhook_events()}
    tell(kit, *events())
    kit._supervisor.runtime().stripe_jobs.follow()

    assert ({}, {"is not granted yet"}) == (before, reasons)
    assert {"granted": "1000", "revoked": "1000"} == figures(kit)


def test_one_that_is_won_before_anything_is_told(kit, buy, stripe, api, tell, events):
    """Nothing was ever taken back."""
    dispute = stripe.dispute(buy())
    api.disputes.update(dispute, WINNING)
    tell(kit, *reversed(events()))
    kit._supervisor.runtime().stripe_jobs.follow()

    assert {"granted": "1000", "left": "1000"} == figures(kit)
    assert {"applied", "ignored"} >= {each.state for each in kit.webhook_events()}


def test_what_was_refunded_before(kit, buy, stripe, api, tell, events):
    """It is not taken back twice, nor given back."""
    paid = buy()
    api.refunds.create({"payment_intent": paid, "amount": 300})
    tell(kit, *events())
    kit._supervisor.runtime().stripe_jobs.follow()
    refunded = figures(kit)
    dispute = stripe.dispute(paid)
    tell(kit, *events())
    withheld = figures(kit)
    api.disputes.update(dispute, WINNING)
    tell(kit, *events())

    assert {"granted": "1000", "revoked": "1000"} == withheld
    assert refunded == figures(kit) == {"granted": "1000", "revoked": "300", "left": "700"}


def test_the_other_packs_of_the_company(kit, buy, stripe, tell, events):
    """They are none of its business."""
    buy()
    stripe.dispute(buy())
    tell(kit, *events())
    kit._supervisor.runtime().stripe_jobs.follow()

    assert {"granted": "2000", "revoked": "1000", "left": "1000"} == figures(kit)


def test_two_processes(kit, make_selling_kit, buy, stripe, api, tell, events):
    """Whichever is told, it is done once."""
    dispute = stripe.dispute(buy())
    other = make_selling_kit()
    tell(kit, *events())
    tell(other, *events())
    api.disputes.update(dispute, WINNING)
    tell(other, *events())
    tell(kit, *events())

    assert {"granted": "1000", "left": "1000"} == figures(kit)
    assert [] == other.audit_wallets()


@pytest.mark.parametrize("is_refund", [False, True])
def test_what_a_process_holds(kit, make_selling_kit, buy, stripe, api, tell, events, is_refund):
    """It is taken back, too, and opens no request; what was used of it is named."""
    paid = buy()
    tell(kit, *events())
    serving = make_selling_kit()
    kits = [kit, serving]
    for each in kits:
        each.governor.begin()
        assert each.governor.ready.wait(GUARD)
    before = asked(serving, 3)
    dispute = None if is_refund else stripe.dispute(paid)
    if is_refund:
        api.refunds.create({"payment_intent": paid})
    tell(kit, *events())
    serving.close()
    after = asked(kit, 3)
    kit.flush()
    withheld = figures(kit)
    books = kit.audit_wallets()

    assert ([200] * 3, [402] * 3) == (before, after)
    assert {"granted": "1000", "revoked": "1000", "uncovered": "3"} == withheld
    if dispute is not None:
        api.disputes.update(dispute, WINNING)
        tell(kit, *events())
        kit.close()
        assert {"granted": "1000", "left": "1000", "uncovered": "3"} == figures(make_selling_kit())
    assert ([], []) == (books, make_selling_kit().audit_wallets())


def test_what_usage_gives_back(kit, buy, stripe, api, tell, events):
    """What is corrected meanwhile was not used, so it is not owed; it is there if the dispute is won."""
    dispute = stripe.dispute(buy(), amount=1_000)
    tell(kit, *[each for each in events() if each not in of_disputes(events())])
    kit.record("calls", "acme", 200)
    kit.flush()
    tell(kit, *of_disputes(events()))
    before = figures(kit)
    kit.correct("calls", "acme", 150, at=at(kit.clock()))
    corrected = figures(kit)
    api.disputes.update(dispute, WINNING)
    tell(kit, *events())

    assert {"granted": "1000", "revoked": "1000", "uncovered": "200"} == before
    assert {"granted": "1000", "revoked": "1000", "uncovered": "50"} == corrected
    assert {"granted": "1000", "spent": "50", "left": "950"} == figures(kit)
    assert [] == kit.audit_wallets()


@pytest.mark.parametrize(
    ("status", "moved", "left"),
    [
        ("prevented", [-1000], 0),
        ("prevented", [], 1_000),
        pytest.param("appeal_under_review", [-1000], 0, marks=pytest.mark.long),
        pytest.param("of_tomorrow", [-1000], 0, marks=pytest.mark.long),
        pytest.param("of_tomorrow", [-1000, 1000], 1_000, marks=pytest.mark.long),
    ],
)
def test_other_statuses(kit, make_selling_kit, buy, stripe, api, shown, tell, events, status, moved, left):
    """What counts is who has the money."""
    dispute = stripe.dispute(buy())
    first, *_ = api.disputes.retrieve(dispute).to_dict()["balance_transactions"]
    movements = [{**first, "amount": each} for each in moved]
    told = {**api.disputes.retrieve(dispute).to_dict(), "status": status, "balance_transactions": movements}
    shown.answer("GET", f"/v1/disputes/{dispute}", 200, told)
    following = make_selling_kit(stripe_base=shown.url)
    tell(following, *events())
    following._supervisor.runtime().stripe_jobs.follow()

    assert left == kit.balance("acme", "credits").left


def test_one_that_is_won_after_months(kit, buy, stripe, api, tell, events, clock):
    """It hides nothing else that is not covered, also where only a sync finds it."""
    paid = buy()
    kit.sync()
    kit.record("calls", "acme", 20)
    kit.flush()
    dispute = stripe.dispute(paid)
    kit.sync()
    clock.advance(60 * 24 * 3600)
    api.disputes.update(dispute, WINNING)
    kit.record("calls", "globex", 7)
    kit.flush()
    kit.sync()
    (named,) = [each for each in kit.health()["attention"] if "more than the wallet" in each]

    assert {"granted": "1000", "spent": "20", "left": "980"} == figures(kit)
    assert "'globex' has used 7 credits" in named


def test_a_key_that_may_not_read_disputes(kit, make_selling_kit, buy, stripe, api, shown, tell, events):
    """It says so, and keeps no other event waiting; once it may, the dispute is followed."""
    refusal = {"type": "invalid_request_error", "message": "The provided key does not have the permissions"}
    dispute = stripe.dispute(buy())
    shown.answer("GET", f"/v1/disputes/{dispute}", 403, {"error": refusal})
    following = make_selling_kit(stripe_base=shown.url)
    found = tell(following, *of_disputes(events()), *events())
    refused = figures(following)
    waiting = {each.object_type for each in following.webhook_events() if each.state == "received"}
    shown.clear()
    following._supervisor.runtime().stripe_jobs.follow()

    assert "permissions" in found.error
    assert ({"granted": "1000", "left": "1000"}, {"dispute"}) == (refused, waiting)
    assert {"granted": "1000", "revoked": "1000"} == figures(following)


def test_the_endpoint_gets_them(kit, api):
    """`provision` asks Stripe to tell of disputes."""
    kit.provision(webhook="https://api.example.com/stripe")
    (endpoint,) = api.webhook_endpoints.list().data

    assert {"charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed"} < {*endpoint.enabled_events}
