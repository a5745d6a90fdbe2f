"""Test and live mode never mix: a ledger of the one refuses a key of the other, until it is told to forget."""

from __future__ import annotations

import pytest
from plain_exchange import PlainExchange
from rewriting_proxy import RewritingProxy
from stripe_account import api, make_meter
from stripe_types import wrong_requests

from meterkit import ConfigurationError, Governance, Meter, Notify
from meterkit.sandbox import Sandbox

DAY = 24 * 3600

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]


def open_account(key, clock):
    return Sandbox(now=clock, api_key=key, livemode="_live_" in key)


@pytest.fixture
def accounts(clock):
    """Stripe accounts in test and in live mode, each with a customer whose metadata name acme."""
    with open_account("sk_test_sandbox", clock) as test, open_account("sk_live_sandbox", clock) as live:
        for each in (test, live):
            make_meter(each, "calls")
            each.customer = api(each).customers.create({"metadata": {"company": "acme"}}).id
        yield {"test": test, "live": live}
        assert [] == wrong_requests(test) + wrong_requests(live)


@pytest.fixture
def told():
    """The notices."""
    return []


@pytest.fixture
def make(make_kit, accounts, told):
    """A function that makes a kit with a key of a mode, which all share a directory."""

    def make(mode, **options):
        account = accounts[mode]
        defaults = {
            "stripe_key": account.api_key,
            "stripe_base": account.url,
            "customer_ids": False,
            "identify": lambda exchange: "acme",
            "governance": Governance(overdue_days=0),
            "notify": [Notify.overdue(to=told.append)],
        }
        return make_kit(Meter("calls"), **{**defaults, **options})

    return make


@pytest.fixture
def tested(make, accounts, clock):
    """A kit in test mode, whose acme has an unpaid invoice, and usage that is reported and that waits."""
    kit = make("test")
    account = accounts["test"]
    recurring = {"interval": "month"}
    price = api(account).prices.create(
        {"currency": "usd", "unit_amount": 700, "recurring": recurring, "product_data": {"name": "Base"}}
    )
    api(account).subscriptions.create({"customer": account.customer, "items": [{"price": price.id}]})
    account.payments(account.customer, "fail")
    clock.advance(32 * DAY)
    api(account).invoices.list()
    kit.sync()
    kit.record("calls", "acme", 5)
    clock.advance(3600)
    kit.report()
    kit.record("calls", "acme", 7)
    kit.flush()
    tell(kit)
    assert (402, 5) == (status_of(kit), account.usage("calls", account.customer))
    return kit


def status_of(kit):
    kit.process().begin()
    kit.flush()
    exchange = PlainExchange("GET", "/calls")
    exchange.publish(kit)
    response = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)
    return 200 if response is None else response.status


def tell(kit):
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver(next(iter(kit.process().dispatcher._channels)))


def test_a_live_key_with_a_ledger_of_test_mode(tested, make, accounts, clock, told):
    """Nothing is read or reported, nobody is blocked or told anything, and what to do is said."""
    tested.close()
    kit = make("live")
    calls = [kit.sync, kit.report, lambda: kit.preview("acme"), lambda: kit.subscribe("acme"), kit.reconcile]
    for call in calls:
        with pytest.raises(ConfigurationError, match="belongs to Stripe's test mode, and the kit to its live mode"):
            call()
    before = list(told)
    clock.advance(61)
    tell(kit)
    attention = " ".join(kit.health()["attention"])

    assert 200 == status_of(kit)
    assert "meterkit forget-mode" in attention
    assert "another data_dir= or ledger=" in attention
    assert ["overdue"] == [notice.kind for notice in before] == [notice.kind for notice in told]
    live = accounts["live"]
    assert 0 == live.usage("calls", live.customer)


def test_late_usage_of_the_other_mode(tested, make, accounts, clock):
    """It is not named: those invoices do not exist in the kit's mode."""
    account = accounts["test"]
    account.payments(account.customer, "succeed")
    for invoice in api(account).invoices.list({"status": "open"}).data:
        api(account).invoices.pay(invoice.id)
    price = api(account).prices.create(
        {
            "currency": "usd",
            "unit_amount": 100,
            "recurring": {
                "interval": "month",
                "usage_type": "metered",
                "meter": api(account).billing.meters.list({}).data[0].id,
            },
            "product_data": {"name": "Calls"},
        }
    )
    (subscription,) = api(account).subscriptions.list({}).data
    api(account).subscriptions.update(subscription.id, {"items": [{"price": price.id}]})
    clock.advance(60)
    tested.sync()
    clock.advance(32 * DAY)
    api(account).invoices.list({})
    tested.sync()
    late = int(clock()) - 5 * DAY
    tested.process().ledger().fold("late", [(("calls", "calls", "acme", "", late), 20, late)])
    tested.report()
    before = tested.health()["attention"]
    tested.close()
    after = make("live").health()["attention"]

    assert ([True], [False]) == tuple(
        [any("after invoice" in each for each in attention)] for attention in (before, after)
    )


def test_it_forgets(tested, make, accounts, clock, told):
    """The live customer pays then, for all that was not reported; usage and books stay."""
    tested.close()
    kit = make("live")
    forgotten = kit.forget_mode(by="ann")
    kit.sync()
    clock.advance(3600)
    kit.report()
    clock.advance(61)
    tell(kit)
    test, live = accounts["test"], accounts["live"]

    assert "test" == forgotten
    assert [(live.customer, "good")] == [(each.customer, each.standing) for each in kit.customers()]
    assert (5, 7) == (test.usage("calls", test.customer), live.usage("calls", live.customer))
    assert 12 == kit.health()["books"]["calls"]["sent"]
    assert (200, ["overdue"]) == (status_of(kit), [notice.kind for notice in told])
    assert [("forget_mode", "test", "ann")] == [(each.action, each.subject, each.by) for each in kit.actions()]


def test_two_accounts_of_one_mode(make, accounts, clock):
    """A key of another account does not mix the two, until the ledger has forgotten the first."""
    make("test").sync()
    with open_account("sk_test_another", clock) as other:
        make_meter(other, "calls")
        customer = api(other).customers.create({"metadata": {"company": "acme"}}).id
        kit = make("test", stripe_key=other.api_key, stripe_base=other.url)
        with pytest.raises(ConfigurationError, match="was synced with the Stripe account acct_") as caught:
            kit.sync()
        before = [each.customer for each in kit.customers()]
        kit.forget_mode()
        kit.sync()

        assert [accounts["test"].customer] == before
        assert [customer] == [each.customer for each in kit.customers()]
    assert "meterkit forget-mode" in str(caught.value)


def test_a_key_that_may_not_read_its_account(make, accounts):
    """It cannot be told then, and all else is read."""
    account = accounts["test"]
    with RewritingProxy(account) as shown:
        refusal = {"error": {"type": "invalid_request_error", "message": "The key lacks rak_account_read"}}
        shown.answer("GET", "/v1/account", 403, refusal)
        found = make("test", stripe_base=shown.url).sync()

    assert (1, "", []) == (found.customers, found.error, found.refused)


def test_nothing_of_the_other_mode_stays(tested, make, clock):
    """Of all that Stripe has told, and of notices about it."""
    tested.close()
    kit = make("test")
    told = ("customers", "subscriptions", "subscription_states", "items", "stripe_meters", "invoices", "webhook_events")
    written = (*told, "former_items", "opening_balances", "notices", "deliveries")

    def rows():
        with kit.process().database().snapshot() as connection:
            tables = (f"SELECT count(*) FROM meterkit_{name}" for name in written)
            return dict(zip(written, (connection.exec_driver_sql(table).scalar() for table in tables), strict=True))

    with kit.process().database().transaction() as connection:
        for statement in (
            "webhook_events VALUES ('evt_1', 'x', 1, 'invoice', 'in_1', 1, 'received', '', NULL, '')",
            "former_items VALUES ('', 1, 2, 2, '', '', NULL, NULL, NULL, '', 0, 0, NULL)",
            "opening_balances VALUES ('cus_1', 'calls', 1, 2, 3)",
        ):
            connection.exec_driver_sql(f"INSERT INTO meterkit_{statement}")
    before = rows()
    kit.forget_mode()

    assert [] == [name for name, number in before.items() if not number]
    assert [] == [name for name, number in rows().items() if number]


def test_links_of_the_application(make, accounts):
    """Those to customers of the other mode go with them; others stay, as they may be of this one."""
    kit = make("test")
    kit.link("acme", accounts["test"].customer)
    kit.link("globex", accounts["live"].customer)
    kit.sync()
    kit.forget_mode()

    assert {"globex": accounts["live"].customer} == {each.company: each.customer for each in kit.customers()}


def test_a_ledger_that_belongs_to_no_mode(make):
    """Nothing is deleted."""
    kit = make("test")
    kit.link("acme", "cus_1")

    assert None is kit.forget_mode()
    assert ["acme"] == [each.company for each in kit.customers()]


@pytest.mark.parametrize("key", ["sk_org_test_1", "sk_org_live_1", "something"])
def test_keys_whose_mode_is_unknown(tested, make, accounts, key, monkeypatch):
    """They say nothing, and are not refused for it; an organization's key is of neither mode."""
    monkeypatch.setenv("METERKIT_LIVE_IN_TESTS", "1")
    kit = make("test", stripe_key=key)

    assert "401" in kit.sync().error


def test_provision_needs_no_ledger(tested, make, accounts):
    """So it may make what the other mode needs."""
    tested.close()

    assert ["unchanged"] == [step.kind for step in make("live").provision().steps]
