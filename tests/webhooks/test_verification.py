"""What comes in as a webhook: Stripe's is kept once, before it is acknowledged; all else is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
from contextlib import suppress

import pytest
import thorough
from hypothesis import example, given, settings
from hypothesis import strategies as st
from signed import SECRET, body_of, signature_of, snapshot, thin

from meterkit import ConfigurationError, MeterKitError, Webhook, WebhookError
from meterkit.webhooks.verification import read

OTHER = "whsec_other"
INVOICE = {"object": "invoice", "id": "in_1"}
EVENT = body_of(snapshot("invoice.paid", INVOICE))
ZEROS = "0" * 64


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
    [
        *(None, "", "t=1", "v1=00", "nonsense", "t=x,v1=00", "t=1772367000,v1=", "é=1,==", "t=1,v1=é", 5, b"t=1,v1=00"),
        *(f"t=1772367000,v0={ZEROS}", f"t=1772367000,v1={ZEROS}", f"t=,v1={ZEROS}", f"t={'9' * 5000},v1={ZEROS}"),
        *(f"t=1772367000,v1={ZEROS[:-1]}é", f"t=١٧٧٢٣٦٧٠٠٠,v1={ZEROS}", "t=1772367000,v1=\ud800"),
    ],
    ids=ascii,
)
def test_a_wrong_signature_is_refused(kit, signature):
    """With the status to answer, and nothing is kept."""
    with pytest.raises(WebhookError) as refused:
        kit.receive(EVENT, signature)

    assert 400 == refused.value.status
    assert [] == kept(kit)


@pytest.mark.parametrize(
    "change",
    [
        lambda old, now: f"{old},t={now}",
        lambda old, now: f"t={now},{old}",
        lambda old, now: old.replace("t=", "t= "),
        lambda old, now: old.replace("t=", "t=0"),
        lambda old, now: old.replace("t=", "t=+"),
        lambda old, now: f"{old},",
        lambda old, now: f"{old},nonsense",
    ],
)
@pytest.mark.parametrize("age", [0, 90 * 24 * 3600])
def test_a_genuine_header_with_something_added_is_refused(kit, clock, change, age):
    """So nobody makes an old event look new: one time is signed, and that same time has to be recent."""
    genuine = signature_of(EVENT, clock() - age)

    with pytest.raises(WebhookError) as refused:
        kit.receive(EVENT, change(genuine, int(clock())))
    assert 400 == refused.value.status


@pytest.mark.parametrize("payload", [None, 5, 10**12, [], "\ud800"], ids=ascii)
def test_a_payload_that_is_no_body_is_refused(kit, clock, payload):
    """Also where a view hands over the wrong thing."""
    with pytest.raises(WebhookError) as refused:
        kit.receive(payload, signature_of(EVENT, clock()))

    assert 400 == refused.value.status


@pytest.mark.parametrize("changed", [EVENT + b" ", EVENT.replace(b"paid", b"void"), b"", b"\xff\xfe"])
def test_a_changed_body_is_refused(kit, clock, changed):
    """Its signature is of another."""
    with pytest.raises(WebhookError):
        kit.receive(changed, signature_of(EVENT, clock()))


def event_with(**changed):
    return json.dumps(snapshot("invoice.paid", {**INVOICE, **changed.pop("about", {})}, **changed)).encode()


@pytest.mark.parametrize(
    "body",
    [
        *(b"{}", b"[]", b"5", b'{"object": "event"}', b"{", b'{"object": "event", "id": 5}', b'"\\ud800"'),
        *(b"[" * 100_000, b'{"object":' * 20_000, b"9" * 6000, b"NaN", EVENT.decode().encode("utf-16")),
        *(event_with(created=created) for created in (2**63, -1, 1e300, True, None, "9999-99-99", "0001-01-01", [])),
        *(event_with(id=text) for text in ("evt_\ud800", "evt_\0", "", "e" * 256)),
        *(event_with(about={"id": text}) for text in ("in_\ud800", "in_\0")),
        event_with(account="acct_\ud800"),
    ],
    ids=lambda body: ascii(body[:30]),
)
def test_a_signed_body_that_is_no_event_is_refused(kit, clock, body):
    """Whatever Stripe may have meant by it; and what no database could keep is no event either."""
    with pytest.raises(WebhookError) as refused:
        kit.receive(body, signed_bytes(body, clock()))

    assert 400 == refused.value.status
    assert "internal_error" not in kit.health()["problems"]


def signed_bytes(body, at):
    """A right signature of any bytes, also of such as are no text."""
    digest = hmac.new(SECRET.encode(), b"%d.%b" % (int(at), body), hashlib.sha256).hexdigest()
    return f"t={int(at)},v1={digest}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(snapshot("a", {}))), inner),
    max_leaves=10,
)
"""Values with the keys of an event, lone surrogates and all that JSON cannot say included."""

HEADER = st.lists(st.sampled_from(["t", "v1", "v0", "=", ",", "1772367000", ZEROS, "é", "\ud800", " ", "+", "0"])).map(
    "".join
)
NOW = 1_772_367_000


def read_all(body, header):
    """What the reader makes of it: an event, or an error that it names."""
    for livemode in (None, True, False):
        with suppress(WebhookError):
            event = read(body, header, Webhook(None, secret=SECRET), now=NOW, livemode=livemode)
            assert all(each.isprintable() and each.encode() for each in (event.id, event.type))
            assert 0 <= event.created < 2**63
            assert (event.object_type + event.object_id + event.reason).isprintable()


@pytest.mark.parametrize("tries", thorough.some([100], among=[100, 20_000]))
def test_no_bytes_and_no_header_raise_anything_else(tries):
    """Whoever knows the secret may send what he likes, and so may everybody else."""

    @settings(max_examples=tries)
    @given(JSON, st.fixed_dictionaries({}, optional=dict.fromkeys(snapshot("a", {}), JSON)), st.binary(), HEADER)
    @example(None, {"data": {"object": {"id": "\ud800"}}}, b"", "")
    @example(None, {"created": 10**400}, b"\xff", f"t={NOW},v1={ZEROS}")
    def reads(anything, changed, noise, header):
        for value in (anything, {**snapshot("invoice.paid", INVOICE), **changed}):
            body = json.dumps(value).encode()
            read_all(body, signed_bytes(body, NOW))
            read_all(body, header)
        read_all(noise, signed_bytes(noise, NOW))
        read_all(noise.decode("latin-1"), header)

    reads()


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
        (
            thin("v1.invoice.paid", {"id": "in_1", "type": "invoice"}, id="evt_1", context="acct_other"),
            "another account",
        ),
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
    """And not its path; nor its secret, which is not shown."""
    for wrong in ("/stripe/webhook", SECRET, {"secret": SECRET}, [SECRET]):
        with pytest.raises(ConfigurationError, match="Webhook") as refused:
            make_kit(webhook=wrong)
        assert SECRET not in str(refused.value)


def test_the_secret_comes_from_the_environment(monkeypatch, make_following_kit, clock):
    """And is not shown."""
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", f"{OTHER},{SECRET}")
    webhook = Webhook("/hook")

    assert make_following_kit(webhook=webhook).receive(EVENT, signature_of(EVENT, clock()))
    assert "whsec" not in repr(webhook)
