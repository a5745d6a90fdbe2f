"""A wallet that was renamed, removed or is only in newer code: what was paid for it is neither lost nor forgotten."""

from __future__ import annotations

import os
from datetime import datetime, timezone

import pytest
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from hosted_browser import Browser
from signed import SECRET
from wallet_kits import CALLS, TOKENS, figures

from meterkit import Pack, Wallet, Webhook

SMALL = Pack("1,000 credits", amount=1_000, price="10.00")
OTHER = Wallet("other", unit="points", spends={CALLS: 1})
CREDITS = Wallet("credits", unit="credits", spends={CALLS: 1}, packs=[SMALL])


@pytest.fixture
def selling(make_kit, stripe):
    """A function that makes kits with some wallets, which take webhooks; one ends before the next begins."""
    made = []

    def make(*wallets):
        if made:
            made.pop().close()  # its thread would look at what the next one is told
        about = {"stripe_key": stripe.api_key, "stripe_base": stripe.url, "customer_ids": False}
        made.append(make_kit(CALLS, wallets=wallets, webhook=Webhook(None, secret=SECRET), **about))
        return made[-1]

    return make


@pytest.fixture
def paid(selling):
    """A kit that has sold a pack."""
    kit = selling(CREDITS)
    kit.provision()
    with Browser() as browser:
        browser.open(kit.checkout_url("acme", pack=SMALL, success_url="https://shop.example/paid"))
        browser.press("Pay", card_number="4242424242424242", email="ann@acme.example")
    return kit


def waiting(kit):
    """Why events wait."""
    return {each.reason for each in kit.webhook_events() if each.state == "received"}


def test_a_pack_is_paid_where_the_code_lacks_its_wallet(paid, selling, tell, events):
    """The event waits, and says what to do; whoever has the wallet grants it, once."""
    other = selling(OTHER)
    tell(other, *events())
    (reason,) = waiting(other)
    again = selling(CREDITS)
    before = figures(again)
    for _ in range(2):
        tell(again, *events())

    assert "has paid for 'credits', and no wallet of this kit has that name: add it to wallets= again" in reason
    assert ({}, {"granted": "1000", "left": "1000"}, set()) == (before, figures(again), waiting(again))


def test_a_refund_where_the_code_lacks_its_wallet(paid, selling, tell, events, api):
    """It waits, too, and takes back later."""
    tell(paid, *events())
    intent = api.invoice_payments.list().data[0].payment.payment_intent
    api.refunds.create({"payment_intent": intent, "amount": 250})
    other = selling(OTHER)
    tell(other, *events())
    (reason,) = waiting(other)
    again = selling(CREDITS)
    before = figures(again)
    tell(again)

    assert "refunds what was paid for 'credits'" in reason
    assert ("1000", "750") == (before["left"], figures(again)["left"])
    assert set() == waiting(again)


@pytest.mark.parametrize(
    "wallets",
    [
        [],
        [Wallet("renamed", unit="credits", spends={CALLS: 1})],
        [Wallet("credits", unit="points", spends={CALLS: 1})],
        [Wallet("credits", currency="usd", spends={CALLS: 1})],
    ],
)
def test_what_is_left_in_a_wallet_that_is_gone(make_kit, wallets):
    """The kit's health names it, until the wallet is back; nothing of it is lost."""
    kit = make_kit(CALLS, wallets=[CREDITS])
    kit.grant("acme", "credits", 100)
    kit.grant("globex", "credits", "0.5")
    before = kit.health()["attention"]
    changed = make_kit(CALLS, wallets=wallets)
    changed.record("calls", "acme", 7)
    changed.flush()
    (said,) = [each for each in changed.health()["attention"] if "nothing can spend" in each]
    again = make_kit(CALLS, wallets=[CREDITS])

    assert "nothing can spend what is left in the wallet 'credits', 100.5 credits of 2 companies" in said
    assert not any("nothing can spend" in each for each in [*before, *again.health()["attention"]])
    assert {"granted": "100", "left": "100"} == figures(again)


def test_what_is_used_up_or_expired_in_a_wallet_that_is_gone(make_kit, clock):
    """Concerns nobody."""
    kit = make_kit(CALLS, wallets=[CREDITS])
    kit.grant("acme", "credits", 7)
    kit.record("calls", "acme", 7)
    kit.flush()
    kit.grant("acme", "credits", 5, expires=datetime.fromtimestamp(clock() + 60, timezone.utc))
    clock.advance(60)

    assert not any("nothing can spend" in each for each in make_kit(CALLS).health()["attention"])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("wallets", [[], [OTHER]])
def test_a_process_of_the_old_code_folds_what_a_new_one_has_taken(make_kit, wallets):
    """As in a deployment: it cannot spend it, and says so."""
    wallets = [Wallet(each.name, unit=each.unit, spends={TOKENS: 1}) for each in wallets]
    child = os.fork()
    if not child:
        try:
            new = make_kit(CALLS, TOKENS, wallets=[CREDITS])
            new.grant("acme", "credits", 100)
            with new.hold("acme", 20) as hold:
                hold.settle(15)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    old = make_kit(CALLS, TOKENS, wallets=wallets)
    old.flush()
    new = make_kit(CALLS, TOKENS, wallets=[CREDITS])

    assert "'acme' has used 15 of the wallet 'credits', which the code of this process lacks" in str(old.health())
    assert [15] == [row.quantity for row in old.usage()]
    assert {"granted": "100", "left": "100"} == figures(new)
    assert [] == new.audit_wallets()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_process_of_the_same_code_folds_what_another_has_taken(make_kit):
    """It spends it, and has nothing to say."""
    child = os.fork()
    if not child:
        try:
            new = make_kit(CALLS, wallets=[CREDITS])
            new.grant("acme", "credits", 100)
            with new.hold("acme", 20) as hold:
                hold.settle(15)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    kit = make_kit(CALLS, wallets=[CREDITS])
    kit.flush()

    assert "wallet_not_spent" not in kit.health()["problems"]
    assert {"granted": "100", "spent": "15", "left": "85"} == figures(kit)
