"""Connected accounts: each is a world of its own, which a platform acts in by a header."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import APRIL, HOUR, Shop, refused
from webhook_receiver import Receiver

pytestmark = pytest.mark.long


class ShopOf(Shop):
    """A shop whose every call acts in a connected account."""

    def __init__(self, sandbox, account):
        super().__init__(sandbox)
        self.client = stripe.StripeClient(
            sandbox.api_key,
            base_addresses={"api": sandbox.url, "meter_events": sandbox.url},
            max_network_retries=0,
            http_client=self.http,
            stripe_account=account,
        )
        self.v1, self.v2 = self.client.v1, self.client.v2


@pytest.fixture
def connected(shop):
    """The shop of a connected account."""
    account = shop.v1.accounts.create({"type": "standard", "email": "one@acme.example", "country": "DE"})
    shop = ShopOf(shop.sandbox, account.id)
    shop.account = account
    yield shop
    shop.http.close()


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def test_each_account_has_its_own_objects(shop, connected):
    """Nothing of one is found in the other."""
    ours, theirs = shop.customer(name="ours"), connected.customer(name="theirs")

    assert (["ours"], ["theirs"]) == (
        [each.name for each in shop.v1.customers.list().data],
        [each.name for each in connected.v1.customers.list().data],
    )
    for shop_, customer in ((shop, theirs), (connected, ours)):
        with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
            shop_.v1.customers.retrieve(customer.id)


def test_each_account_bills_its_own_usage(shop, connected):
    """Also where meters have the same event name; time is the same for all."""
    customers = []
    for each, used in ((shop, 5), (connected, 7)):
        customer = each.customer()
        each.subscribe(customer, each.price(each.meter(), unit_amount=100))
        each.send(customer, used)
        customers.append(customer)
    shop.sandbox.advance(to=APRIL + HOUR)

    assert [500, 700] == [
        each.invoices(customer)[0].amount_paid for each, customer in zip((shop, connected), customers, strict=True)
    ]
    assert [5, 7] == [shop.sandbox.usage("queries", customer.id) for customer in customers]
    assert [5, 7] == [event.value for event in shop.sandbox.meter_events]


def test_payments_of_a_connected_account(shop, connected):
    """Are decided by the customer, whichever account that is in."""
    customer = connected.customer()
    connected.subscribe(customer, connected.price(connected.meter(), unit_amount=100))
    connected.send(customer, 5)
    shop.sandbox.payments(customer.id, "fail")
    shop.sandbox.advance(to=APRIL + HOUR)

    assert "open" == connected.invoices(customer)[0].status


def test_the_account_of_a_request(shop, connected):
    """The key's, or the one in the header."""
    ours = shop.v1.accounts.retrieve_current()

    assert connected.account.id == connected.v1.accounts.retrieve_current().id
    assert ours.id not in (connected.account.id, "")
    assert ours.id == shop.v1.accounts.retrieve(ours.id).id
    assert ours.id == ShopOf(shop.sandbox, ours.id).v1.accounts.retrieve_current().id


def test_accounts_are_created_listed_changed_and_deleted(shop, connected):
    """By the platform."""
    accounts = shop.v1.accounts
    other = accounts.create({"controller": {"stripe_dashboard": {"type": "none"}}, "metadata": {"a": "1"}})
    changed = accounts.update(other.id, {"email": "new@acme.example", "business_profile": {"name": "Acme"}})
    listed = [each.id for each in accounts.list().data]
    accounts.delete(connected.account.id)

    assert ("DE", "standard", "none") == (connected.account.country, connected.account.type, other.type)
    assert ("new@acme.example", "Acme", "1") == (changed.email, changed.business_profile.name, changed.metadata["a"])
    assert [other.id, connected.account.id] == listed
    assert [other.id] == [each.id for each in accounts.list().data]
    with pytest.raises(stripe.PermissionError, match="does not have access"):
        connected.v1.customers.list()


def test_an_unknown_account(shop):
    """Is refused."""
    with pytest.raises(stripe.PermissionError) as caught:
        ShopOf(shop.sandbox, "acct_none").v1.customers.list()

    assert "account_invalid" == caught.value.error.code
    with pytest.raises(stripe.InvalidRequestError, match="No such account"):
        shop.v1.accounts.retrieve("acct_none")


def test_a_connected_account_connects_no_others(connected):
    """Only the platform does."""
    assert "platform" in str(refused(connected.v1.accounts.create, {}))


def test_a_connect_endpoint_hears_the_connected_accounts(shop, connected, receiver):
    """Its events say which account they are from; the platform's own do not come."""
    endpoint = shop.v1.webhook_endpoints.create(
        {"url": receiver.url, "enabled_events": ["customer.created"], "connect": True}
    )
    shop.customer(name="ours")
    connected.customer(name="theirs")
    shop.sandbox.webhooks.deliver()
    (event,) = receiver.events(endpoint.secret)

    assert ("theirs", connected.account.id) == (event.data.object.name, event.account)


def test_other_endpoints_do_not(shop, connected, receiver):
    """They hear of their own account alone, which is not named."""
    ours = shop.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.created"]})
    connected.customer(name="theirs")
    shop.customer(name="ours")
    shop.sandbox.webhooks.deliver()
    (event,) = receiver.events(ours.secret)

    assert ("ours", None) == (event.data.object.name, event.to_dict().get("account"))


def test_an_endpoint_of_the_connected_account(shop, connected, receiver):
    """Is sent the account's events as its own."""
    theirs = connected.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.created"]})
    shop.customer(name="ours")
    connected.customer(name="theirs")
    shop.sandbox.webhooks.deliver()
    (event,) = receiver.events(theirs.secret)

    assert ("theirs", None) == (event.data.object.name, event.to_dict().get("account"))


def test_an_account_that_changes(shop, connected, receiver):
    """The platform's Connect endpoint hears of it."""
    endpoint = shop.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"], "connect": True})
    shop.v1.accounts.update(connected.account.id, {"capabilities": {"card_payments": {"requested": True}}})
    shop.sandbox.webhooks.deliver()
    (event,) = receiver.events(endpoint.secret)

    assert ("account.updated", "active") == (event.type, event.data.object.capabilities.card_payments)


def test_a_destination_for_the_events_of_accounts(shop, connected, receiver):
    """Thin events name the account as their context, by which the receiver fetches them."""
    made = shop.v2.core.event_destinations.create(
        {
            "name": "Connect",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["*"],
            "events_from": ["@accounts"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    connected.stream({"event_name": "none", "payload": {"stripe_customer_id": "cus_1", "value": "1"}})
    shop.sandbox.advance(seconds=10)
    notification = shop.client.parse_event_notification(
        receiver.bodies[0], receiver.headers[0], made.webhook_endpoint.signing_secret, tolerance=10**10
    )

    assert connected.account.id == str(notification.context)
    assert 1 == notification.fetch_event().data.reason.error_count


def test_an_idempotency_key_belongs_to_an_account(shop, connected):
    """The same key in two accounts is two keys."""
    made = [
        each.v1.customers.create({"name": name}, {"idempotency_key": "a"}).name
        for each, name in ((shop, "ours"), (connected, "theirs"))
    ]

    assert ["ours", "theirs"] == made
