"""The proxy that shows a kit what the sandbox lacks."""

from __future__ import annotations

from followed_account import api, make_following_kit, make_shown_kit, price, shown, stripe  # noqa: F401 - fixtures


def test_it_shows_other_fields_and_sends_what_it_gets(make_shown_kit, shown, api, price):
    """The kit sees a trial; the account has none."""
    kit = make_shown_kit()
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    shown.rewrite("subscription", {"status": "trialing", "currency": "eur"})
    shown.rewrite("price", lambda found: found.update(currency=found["currency"].replace("usd", "eur")))
    kit.sync()
    (preview,) = kit.preview("acme")

    assert ("trialing", "eur") == (preview.status, preview.currency)
    assert "active" == api.subscriptions.retrieve(subscription.id).status


def test_it_answers_by_itself(make_shown_kit, shown):
    """With any status."""
    kit = make_shown_kit()
    shown.answer("GET", "/v1/invoices", 403, {"error": {"type": "invalid_request_error", "message": "not allowed"}})

    assert "not allowed" in kit.sync().error
