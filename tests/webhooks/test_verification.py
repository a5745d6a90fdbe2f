"""What comes in as a webhook: Stripe's is kept once, before it is acknowledged; all else is refused."""

from __future__ import annotations

import pytest
from signed import SECRET, body_of, signature_of, snapshot, thin

from meterkit import ConfigurationError, MeterKitError, Webhook, WebhookError

OTHER = "whsec_other"
INVOICE = {"object": "invoice", "id": "in_1"}
EVENT = body_of(snapshot("invoice.paid", INVOICE))


def kept(kit):
    return [(event.id, event.state) for event in kit.webhook_events()]


def test_an_event_is_kept_once(kit, clock):
    """However often it comes, also as text, and with another signature each time."""
    signature = signature_of(EVENT, clock())
    first = kit.receive(EVENT, signature)
    clock.advance(3600)
    again = kit.receive(EVENT.decode(), signature_of(EVENT, clock()))

    assert (True, False) == (first, again)
    assert [("evt_1", "received")] == kept(kit)


def test_an_event_survives_a_restart(kit, make_following_kit, clock):
    """What was acknowledged is in the ledger."""
    kit.receive(EVENT, signature_of(EVENT, clock()))
    kit.close()

    assert [("evt_1", "received")] == kept(make_following_kit())


@pytest.mark.parametrize("secret", [SECRET, OTHER])
@pytest.mark.parametrize("both", [f"{SECRET},{OTHER}", [OTHER, SECRET], f" {OTHER} , {SECRET} "])
def test_several_secrets_while_one_replaces_another(make_following_kit, clock, secret, both):
    """Any of them may have signed."""
    kit = make_following_kit(webhook=Webhook(None, secret=both))

    assert kit.receive(EVENT, signature_of(EVENT, clock(), secret))


def test_an_event_that_is_signed_with_both(kit, clock):
    """As Stripe does while a secret is being rolled."""
    assert kit.receive(EVENT, signature_of(EVENT, clock(), OTHER, SECRET))


@pytest.mark.parametrize(
    "signature",
    [None, "", "t=1", "v1=00", "nonsense", "t=x,v1=00", "t=1772367000,v1=", "t=1772367000,v0=" + "0" * 64, "é=1,=="],
)
def test_a_wrong_signature_is_refused(kit, signature):
    """With the status to answer, and nothing is kept."""
    with pytest.raises(WebhookError) as refused:
        kit.receive(EVENT, signature)

    assert 400 == refused.value.status
    assert [] == kept(kit)


@pytest.mark.parametrize("changed", [EVENT + b" ", EVENT.replace(b"paid", b"void"), b"", b"\xff\xfe"])
def test_a_changed_body_is_refused(kit, clock, changed):
    """Its signature is of another."""
    with pytest.raises(WebhookError):
        kit.receive(changed, signature_of(EVENT, clock()))


@pytest.mark.parametrize("body", [b"{}", b"[]", b"5", b'{"object": "event"}', b"{", b'{"object": "event", "id": 5}'])
def test_a_signed_body_that_is_no_event_is_refused(kit, clock, body):
    """Whatever Stripe may have meant by it."""
    with pytest.raises(WebhookError):
        kit.receive(body, signature_of(body, clock()))


@pytest.mark.parametrize(("skew", "is_taken"), [(-301, False), (-299, True), (0, True), (4000, True)])
def test_clocks_that_differ(kit, clock, skew, is_taken):
    """A signature of long ago is refused, with a hint at the clock; one of the future is not, as Stripe's SDKs do."""
    signature = signature_of(EVENT, clock() + skew)

    if is_taken:
        assert kit.receive(EVENT, signature)
    else:
        with pytest.raises(WebhookError, match="clock"):
            kit.receive(EVENT, signature)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (snapshot("invoice.paid", INVOICE, account="acct_other"), "another account"),
        (snapshot("invoice.paid", INVOICE, livemode=True), "live mode"),
        (snapshot("charge.refunded", {"object": "charge", "id": "ch_1"}), "an object that the ledger does not keep"),
        (snapshot("invoice.upcoming", {"object": "invoice"}), "an object that the ledger does not keep"),
        (thin("v1.billing.alert.triggered", None, id="evt_1"), "an object that the ledger does not keep"),
    ],
)
def test_what_is_not_ours_is_kept_and_ignored(kit, clock, event, why):
    """Stripe hears that it came, and need not send it again."""
    payload = body_of(event)
    kit.receive(payload, signature_of(payload, clock()))

    (only,) = kit.webhook_events()
    assert ("evt_1", "ignored") == (only.id, only.state)
    assert why in only.reason


def test_a_thin_event(kit, clock):
    """It says as much as a snapshot: which object to look at."""
    payload = body_of(thin("v1.invoice.paid", {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"}))
    kit.receive(payload, signature_of(payload, clock()))

    (event,) = kit.webhook_events()
    assert ("invoice", "in_1", 1_772_366_400) == (event.object_type, event.object_id, event.created)


def test_noise_after_a_right_signature_is_no_trouble(kit, clock):
    """Before, it may be that the secret is wrong, which needs attention; after, somebody knocks at the door."""
    attention = []
    for _ in range(2):
        with pytest.raises(WebhookError):
            kit.receive(EVENT, "t=1,v1=00")
        attention.append("webhook_refused" in kit.health()["problems"])
        kit.receive(EVENT, signature_of(EVENT, clock()))

    assert [True, False] == attention
    assert {"received": 2, "refused": 2} == kit.health()["webhook"]


def test_a_kit_without_a_webhook(make_kit):
    """The message says what it lacks."""
    with pytest.raises(MeterKitError, match="webhook="):
        make_kit().receive(EVENT, "t=1,v1=00")


@pytest.mark.parametrize(
    ("path", "options", "cure"),
    [
        ("stripe/webhook", {"secret": SECRET}, "/stripe/webhook"),
        ("/stripe?x=1", {"secret": SECRET}, "/stripe/webhook"),
        (5, {"secret": SECRET}, "/stripe/webhook"),
        ("/hook", {}, "STRIPE_WEBHOOK_SECRET"),
        ("/hook", {"secret": "sk_test_1"}, "whsec_"),
        ("/hook", {"secret": []}, "STRIPE_WEBHOOK_SECRET"),
        ("/hook", {"secret": [SECRET, 5]}, "whsec_"),
        ("/hook", {"secret": SECRET, "tolerance": 0}, "positive"),
    ],
)
def test_a_wrong_webhook_fails_while_building(path, options, cure):
    """Never while serving."""
    with pytest.raises(ConfigurationError, match=cure):
        Webhook(path, **options)


def test_a_kit_takes_only_a_webhook(make_kit):
    """And not its path."""
    with pytest.raises(ConfigurationError, match="Webhook"):
        make_kit(webhook="/stripe/webhook")


def test_the_secret_comes_from_the_environment(monkeypatch, make_following_kit, clock):
    """And is not shown."""
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", f"{OTHER},{SECRET}")
    webhook = Webhook("/hook")

    assert make_following_kit(webhook=webhook).receive(EVENT, signature_of(EVENT, clock()))
    assert "whsec" not in repr(webhook)
