"""Webhook endpoints and event destinations that a client creates: who is sent what, signed with which secret."""

from __future__ import annotations

import pytest
import stripe
from guard import GUARD
from sandbox_shop import DAY, refused
from webhook_receiver import Receiver

from meterkit.sandbox import Sandbox


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def endpoint(shop, receiver, *events, **params):
    return shop.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": list(events) or ["*"], **params})


def destination(shop, receiver, *events, **params):
    return shop.v2.core.event_destinations.create(
        {
            "name": "Ours",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": list(events) or ["*"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
            **params,
        }
    )


def unknown_event_name(shop):
    """Let a thin event occur."""
    shop.stream({"event_name": "none", "payload": {"stripe_customer_id": "cus_1", "value": "1"}})
    shop.sandbox.advance(seconds=10)


def test_the_secret_is_told_once(shop, receiver):
    """In the response to the request that creates the endpoint."""
    made = endpoint(shop, receiver, "customer.created")
    shop.customer(name="Acme")
    shop.sandbox.webhooks.deliver()
    (event,) = receiver.events(made.secret)
    read = [shop.v1.webhook_endpoints.retrieve(made.id), *shop.v1.webhook_endpoints.list().data]

    assert ("customer.created", "Acme") == (event.type, event.data.object.name)
    assert [None, None] == [each.to_dict().get("secret") for each in read]


def test_each_endpoint_is_sent_what_it_listens_to(shop):
    """Signed with its own secret, and labelled with its own version of the API."""
    one, other = Receiver(), Receiver()
    with one, other:
        ones = endpoint(shop, one, "customer.created", api_version="2024-06-20")
        others = endpoint(shop, other, "customer.updated", "customer.deleted")
        customer = shop.customer()
        shop.v1.customers.update(customer.id, {"name": "new"})
        shop.v1.customers.delete(customer.id)
        shop.sandbox.webhooks.deliver()
        got = [
            [(event.type, event.api_version) for event in receiver.events(made.secret)]
            for receiver, made in ((one, ones), (other, others))
        ]

    version = shop.v1.events.list().data[0].api_version
    assert [
        [("customer.created", "2024-06-20")],
        [("customer.updated", version), ("customer.deleted", version)],
    ] == got


def test_an_endpoint_can_be_changed(shop, receiver):
    """What it listens to, its description, its metadata and its URL."""
    made = endpoint(shop, receiver, "customer.created", description="Ours", metadata={"a": "1", "b": "2"})
    changed = shop.v1.webhook_endpoints.update(
        made.id, {"enabled_events": ["customer.updated"], "description": "", "metadata": {"a": ""}}
    )
    shop.v1.customers.update(shop.customer().id, {"name": "new"})
    shop.sandbox.webhooks.deliver()

    assert (["customer.updated"], None, {"b": "2"}) == (
        changed.enabled_events,
        changed.description,
        changed.metadata.to_dict(),
    )
    assert ["customer.updated"] == [event.type for event in receiver.events(made.secret)]


def test_a_url_can_be_changed(shop, receiver):
    """What waits goes to the new one."""
    made = shop.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    shop.customer()
    shop.sandbox.webhooks.deliver()
    shop.v1.webhook_endpoints.update(made.id, {"url": receiver.url})
    shop.sandbox.advance(seconds=DAY)

    assert ["customer.created"] == [event.type for event in receiver.events(made.secret)]


def test_nothing_is_sent_to_a_disabled_endpoint(shop, receiver):
    """Until it is enabled again."""
    made = endpoint(shop, receiver)
    disabled = shop.v1.webhook_endpoints.update(made.id, {"disabled": True})
    shop.customer(name="a")
    enabled = shop.v1.webhook_endpoints.update(made.id, {"disabled": False})
    shop.customer(name="b")
    shop.sandbox.webhooks.deliver()

    assert ("disabled", "enabled") == (disabled.status, enabled.status)
    assert ["b"] == [event.data.object.name for event in receiver.events(made.secret)]


def test_nothing_is_sent_to_a_deleted_endpoint(shop, receiver):
    """Nor is it found."""
    made = endpoint(shop, receiver)
    deleted = shop.v1.webhook_endpoints.delete(made.id)
    shop.customer()
    shop.sandbox.webhooks.deliver()

    assert (made.id, True) == (deleted.id, deleted.deleted)
    assert ([], []) == (receiver.bodies, shop.v1.webhook_endpoints.list().data)
    with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint"):
        shop.v1.webhook_endpoints.retrieve(made.id)


@pytest.mark.parametrize("end", ["disabled", "deleted"])
def test_an_invoice_does_not_wait_for_an_endpoint_that_is_gone(shop, receiver, end):
    """Which had refused its event."""
    made = endpoint(shop, receiver, "invoice.created")
    receiver.answers = [500]
    customer, meter = shop.customer(), shop.meter()
    shop.subscribe(customer, shop.price(meter, unit_amount=100))
    shop.send(customer)
    shop.sandbox.advance(seconds=31 * DAY)
    if end == "disabled":
        shop.v1.webhook_endpoints.update(made.id, {"disabled": True})
    else:
        shop.v1.webhook_endpoints.delete(made.id)
    shop.sandbox.advance(seconds=DAY)

    assert (1, "paid") == (len(receiver.bodies), shop.invoices(customer)[0].status)


def test_endpoints_of_a_test_are_listed(shop, receiver):
    """Newest first, whoever created them."""
    ours = shop.sandbox.webhooks.send_to(receiver.url, events=["invoice.paid"])
    made = endpoint(shop, receiver)

    assert [made.id, ours.id] == [each.id for each in shop.v1.webhook_endpoints.list().data]
    assert [ours.id, made.id] == [each.id for each in shop.sandbox.webhooks.endpoints]


def test_a_url_needs_a_scheme_and_a_host(shop):
    """As on Stripe."""
    create = shop.v1.webhook_endpoints.create

    assert "explicit scheme" in str(refused(create, {"url": "example.com/hook", "enabled_events": ["*"]}))
    assert "url_invalid" == refused(create, {"url": "https://", "enabled_events": ["*"]}).code
    misnamed = {"url": "https://shop.example/", "enabled_events": ["invoice.paid", "invoice paid"]}
    assert "enabled_events[1]" == refused(create, misnamed).param
    assert "enabled_events" == refused(create, {"url": "https://shop.example/"}).param
    assert (
        "api_version"
        == refused(create, {"url": "https://shop.example/", "enabled_events": ["*"], "api_version": "newest"}).param
    )
    with pytest.raises(ValueError, match="explicit scheme"):
        shop.sandbox.webhooks.send_to("example.com/hook")


def test_a_destination_is_sent_thin_events(shop, receiver):
    """Signed with the secret that its creation returned on request."""
    made = destination(shop, receiver, "v1.billing.meter.no_meter_found")
    shop.customer()
    unknown_event_name(shop)
    notification = shop.client.parse_event_notification(
        receiver.bodies[0], receiver.headers[0], made.webhook_endpoint.signing_secret, tolerance=10**10
    )

    assert (1, "v1.billing.meter.no_meter_found") == (len(receiver.bodies), notification.type)
    assert b"pending_webhooks" not in receiver.bodies[0]
    assert receiver.url == made.webhook_endpoint.url


def test_a_destination_is_sent_snapshots(shop, receiver):
    """If it says so, with the version that it says."""
    made = destination(
        shop, receiver, "customer.created", event_payload="snapshot", snapshot_api_version="2026-10-28.endive"
    )
    shop.customer()
    unknown_event_name(shop)
    (event,) = receiver.events(made.webhook_endpoint.signing_secret)

    assert ("customer.created", "2026-10-28.endive") == (event.type, event.api_version)


def test_what_a_destination_does_not_tell(shop, receiver):
    """Its secret never again, its URL on request."""
    made = destination(shop, receiver)
    plain = shop.v2.core.event_destinations.retrieve(made.id)
    asked = shop.v2.core.event_destinations.retrieve(made.id, {"include": ["webhook_endpoint.url"]})

    assert (None, None) == (plain.webhook_endpoint.url, plain.webhook_endpoint.signing_secret)
    assert (receiver.url, None) == (asked.webhook_endpoint.url, asked.webhook_endpoint.signing_secret)


def test_a_destination_can_be_changed_and_deleted(shop, receiver):
    """Disabled and enabled, too."""
    destinations = shop.v2.core.event_destinations
    made = destination(shop, receiver, metadata={"a": "1", "b": "2"})
    changed = destinations.update(made.id, {"name": "Theirs", "metadata": {"a": None}, "enabled_events": ["x.y"]})
    disabled = destinations.disable(made.id)
    unknown_event_name(shop)
    enabled = destinations.enable(made.id)
    deleted = destinations.delete(made.id)

    assert ("Theirs", {"b": "2"}, ["x.y"]) == (changed.name, changed.metadata.to_dict(), changed.enabled_events)
    assert ("disabled", "user") == (disabled.status, disabled.status_details.disabled.reason)
    assert ("enabled", None) == (enabled.status, enabled.status_details)
    assert (made.id, [], []) == (deleted.id, destinations.list().data, receiver.bodies)


def test_a_ping_goes_to_one_destination(shop, receiver):
    """Whatever it listens to."""
    other = Receiver()
    with other:
        made = destination(shop, receiver, "v1.billing.meter.no_meter_found")
        destination(shop, other)
        ping = shop.v2.core.event_destinations.ping(made.id)
        shop.sandbox.webhooks.deliver()
        got = len(receiver.bodies), len(other.bodies)

    assert ((1, 0), "v2.core.event_destination.ping") == (got, ping.type)
    assert made.id == ping.fetch_related_object().id


def test_destinations_are_listed_page_by_page(shop, receiver):
    """Newest first."""
    made = [destination(shop, receiver).id for _ in range(3)]
    listed = shop.v2.core.event_destinations.list({"limit": 2})

    assert made[::-1] == [each.id for each in listed.auto_paging_iter()]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"event_payload": "snapshot"}, "snapshot_api_version"),
        ({"snapshot_api_version": "2026-10-28.endive"}, "snapshot_api_version"),
        ({"type": "amazon_eventbridge"}, "type"),
        ({"webhook_endpoint": {"url": "nowhere"}}, "url"),
    ],
)
def test_a_destination_that_is_refused(shop, receiver, params, param):
    """With the parameter that is wrong."""
    assert param in str(refused(destination, shop, receiver, **params)) or param == "url"


def test_where_time_runs_events_go_to_created_endpoints(receiver):
    """By themselves."""
    with Sandbox() as sandbox:
        client = stripe.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1
        made = client.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.created"]})
        client.customers.create({})
        assert receiver.came.wait(GUARD)

    assert "customer.created" == receiver.events(made.secret)[0].type
