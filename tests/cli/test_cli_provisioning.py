"""From an empty Stripe account to a paid invoice, through the command line alone."""

from __future__ import annotations

from decimal import Decimal

import pytest
import stripe as stripe_python
from cli_shell import cells, data_of, meterkit
from fake_clock import NOON
from stripe_types import wrong_requests

from meterkit.sandbox import Sandbox
from meterkit.stripe_api.transport import HTTPXClient

pytestmark = pytest.mark.long

BILLING = f"""
from meterkit import Meter, MeterKit, Price, Tier

credit_scores = Meter("credit_scores", path="/RetrieveCreditScore", method="POST", status=200)
kit = MeterKit(
    meters=[credit_scores],
    prices=[
        Price.graduated(
            credit_scores,
            Tier(up_to=100, unit_price="5.00"),
            Tier(up_to=1_000, unit_price="3.00"),
            Tier(unit_price="2.00"),
        )
    ],
    clock=lambda: {NOON + 600},
)
"""
KEY = "meterkit:credit_scores:usd:month"


@pytest.fixture
def empty(shop, monkeypatch):
    """An empty Stripe account that the command line is pointed at, and the classical example."""
    (shop / "billing.py").write_text(BILLING)
    with Sandbox(now=NOON + 600) as sandbox:
        monkeypatch.setenv("METERKIT_STRIPE_BASE", sandbox.url)
        monkeypatch.setenv("STRIPE_SECRET_KEY", sandbox.api_key)
        yield sandbox
        assert [] == wrong_requests(sandbox)


@pytest.fixture
def api(empty):
    http = HTTPXClient()
    yield stripe_python.StripeClient(empty.api_key, base_addresses={"api": empty.url}, http_client=http).v1
    http.close()


def test_an_empty_account_becomes_a_paid_invoice(empty, api, shop):
    """1,500 queries of acme cost $4,200.00."""
    (shop / "usage.csv").write_text(
        "meter,company,quantity,at\n" + "credit_scores,acme,1,2026-03-01T12:10:00Z\n" * 1_500
    )
    codes = [
        meterkit(*words)[0]
        for words in (
            ("provision", "billing:kit"),
            ("subscribe", "billing:kit", "acme", "--name", "Acme & Sons", "--email", "billing@acme.example"),
            ("backfill", "billing:kit", "usage.csv"),
            ("report", "billing:kit", "--open"),
        )
    ]
    _, (preview,) = data_of("preview", "billing:kit", "acme")
    empty.advance(seconds=32 * 24 * 3600)
    (invoice,) = api.invoices.list({"status": "paid"}).data

    assert [0, 0, 0, 0] == codes
    assert (420_000, Decimal("4200.00")) == (invoice.total, Decimal(preview["total"]))
    (customer,) = api.customers.list().data
    assert ("Acme & Sons", "billing@acme.example", "acme") == (
        customer.name,
        customer.email,
        customer.metadata["company"],
    )


PLANS = f"""
from meterkit import Meter, MeterKit, Plan, Price, Tier

credit_scores = Meter("credit_scores", path="/RetrieveCreditScore", method="POST", status=200)
tiers = [
    Tier(up_to=100, unit_price="5.00"),
    Tier(up_to=1_000, unit_price="3.00"),
    Tier(unit_price="2.00"),
]
kit = MeterKit(
    meters=[credit_scores],
    plans=[
        Plan("basic", prices=[Price.per_unit(credit_scores, "5.00")]),
        Plan("pro", prices=[Price.graduated(credit_scores, *tiers)]),
    ],
    clock=lambda: {NOON + 600},
)
"""


def test_a_plan_becomes_a_paid_invoice(empty, api, shop):
    """1,500 queries of acme on the plan pro cost $4,200.00; each command twice changes nothing."""
    (shop / "billing.py").write_text(PLANS)
    (shop / "usage.csv").write_text(
        "meter,company,quantity,at\n" + "credit_scores,acme,1,2026-03-01T12:10:00Z\n" * 1_500
    )
    commands = [
        ("provision", "billing:kit"),
        ("subscribe", "billing:kit", "acme", "--plan", "pro", "--email", "billing@acme.example"),
        ("backfill", "billing:kit", "usage.csv"),
        ("report", "billing:kit", "--open"),
    ]
    codes = [meterkit(*words)[0] for words in commands for _ in range(2)]
    _, (preview,) = data_of("preview", "billing:kit", "acme")
    empty.advance(seconds=32 * 24 * 3600)
    (invoice,) = api.invoices.list({"status": "paid"}).data

    assert [0] * 8 == codes
    assert (420_000, Decimal("4200.00")) == (invoice.total, Decimal(preview["total"]))


def test_the_webhook_endpoint(empty, api, shop):
    """Its secret is shown once; the kit needs none before."""
    with_webhook = BILLING.replace("MeterKit, Price", "MeterKit, Price, Webhook").replace(
        "    clock=", '    webhook=Webhook("/stripe/webhook"),\n    clock='
    )
    (shop / "billing.py").write_text(with_webhook)
    words = ("provision", "billing:kit", "--webhook", "https://api.example.com/stripe/webhook")
    code, out, err = meterkit(*words)
    again = data_of(*words)

    assert (0, "") == (code, err)
    assert "STRIPE_WEBHOOK_SECRET=whsec_" in out
    assert (0, None) == (again[0], again[1]["webhook_secret"])
    assert 1 == len(api.webhook_endpoints.list().data)


def test_a_plan_is_to_be_chosen(empty, shop):
    """The message says among which."""
    (shop / "billing.py").write_text(PLANS)
    code, _, err = meterkit("subscribe", "billing:kit", "acme")

    assert (2, True) == (code, "--plan basic, --plan pro" in err)


def test_a_price_that_has_changed(empty, api, shop):
    """A second subscription is refused, and what the message says moves the first."""
    cheap = BILLING.replace('unit_price="5.00"', 'unit_price="1.00"')
    (shop / "billing.py").write_text(cheap)
    meterkit("provision", "billing:kit")
    meterkit("subscribe", "billing:kit", "acme")
    (shop / "billing.py").write_text(BILLING)
    meterkit("provision", "billing:kit")
    code, _, err = meterkit("subscribe", "billing:kit", "acme")
    (price,) = [price.id for price in api.prices.list().data if price.lookup_key != KEY]
    words = ("move", "billing:kit", "--price", price, "--to", KEY, "--company", "acme")
    planned = meterkit(*words, "--dry-run")
    moved = meterkit(*words)
    again = meterkit(*words)
    (subscription,) = api.subscriptions.list().data

    assert (1, True) == (code, f"meterkit move --price {price} --to {KEY} --company acme" in err)
    assert ["acme", subscription.id, price, KEY, "0.00 usd", "0.00 usd", ""] == cells(planned[1])[-1]
    assert (0, True) == (moved[0], f"moved: {subscription.id} of acme" in moved[1])
    assert (0, "Nothing to move.\n", "") == again
    assert [KEY] == [item.price.lookup_key for item in subscription["items"].data]


def test_what_is_left_where_it_is(empty, api, shop):
    """The exit code says so, and the output why."""
    (shop / "billing.py").write_text(PLANS)
    meterkit("provision", "billing:kit")
    (price,) = [each.id for each in api.prices.list().data if "plan:basic" in each.lookup_key]
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    mode = {"type": "classic"}
    subscription = api.subscriptions.create(
        {"customer": customer, "items": [{"price": price}], "billing_mode": mode}
    ).id
    meterkit("sync", "billing:kit")
    words = ("move", "billing:kit", "--plan", "basic", "--to", "pro")
    code, out, _ = meterkit(*words)
    data = data_of(*words)

    assert (1, True) == (code, f"left: {subscription} of acme: it is in classic billing mode" in out)
    assert (1, [("left", ["acme"])]) == (data[0], [(each["state"], each["companies"]) for each in data[1]])


def test_the_plan(empty):
    """Before anything is done; and what was."""
    code, out, err = meterkit("provision", "billing:kit")

    assert (0, "") == (code, err)
    assert "Stripe, test mode" in out
    assert [
        ["step", "object", "name", "why"],
        ["create", "meter", "credit_scores", ""],
        ["create", "product", "meterkit_credit_scores", ""],
        ["create", "price", KEY, ""],
    ] == cells(out)
    assert ["done: create meter credit_scores", "done: create product meterkit_credit_scores"] == [
        line for line in out.splitlines() if line.startswith("done")
    ][:2]
    assert "Nothing to do." in meterkit("provision", "billing:kit")[1]


def test_a_dry_run(empty):
    """It says what would be done, and only reads."""
    code, out, _ = meterkit("provision", "billing:kit", "--dry-run")
    _, data = data_of("provision", "billing:kit", "--dry-run")

    assert 0 == code
    assert "Dry run; steps that would be executed: 3." in out
    assert (False, False, ["create"] * 3) == (
        data["livemode"],
        data["applied"],
        [each["kind"] for each in data["steps"]],
    )
    assert {"GET"} == {request.method for request in empty.requests}


def test_drift(empty, api):
    """The choices are listed, and the exit code says that something is to be decided."""
    api.billing.meters.create(
        {"display_name": "x", "event_name": "credit_scores", "default_aggregation": {"formula": "count"}}
    )
    code, out, _ = meterkit("provision", "billing:kit")

    assert 1 == code
    assert "formula is 'count', not 'sum'; Stripe cannot change that" in out
    assert "* meter credit_scores: give the meter another event_name= in the code" in out
    assert "Nothing else to do." in out


def test_subscribing_twice(empty, api):
    """Nothing is made twice."""
    meterkit("provision", "billing:kit")
    first, second = (data_of("subscribe", "billing:kit", "acme", "--days-until-due", "14") for _ in range(2))

    assert [(0, True), (0, False)] == [(code, data.pop("is_new")) for code, data in (first, second)]
    assert first == second
    (subscription,) = api.subscriptions.list().data
    assert ("send_invoice", 14) == (subscription.collection_method, subscription.days_until_due)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("subscribe", "billing:kit", "acme"), "run meterkit provision first"),
        (("subscribe", "billing:kit", " "), "company id must not be empty"),
    ],
)
def test_a_subscription_that_cannot_be(empty, words, complaint):
    """The message says why, and nothing is made."""
    code, _, err = meterkit(*words)

    assert code in (1, 2)
    assert complaint in err
    assert {"GET"} >= {request.method for request in empty.requests}


@pytest.mark.parametrize("verb", ["provision", "import"])
def test_without_a_key(empty, monkeypatch, verb):
    """The message names the variable."""
    monkeypatch.delenv("STRIPE_SECRET_KEY")
    code, out, err = meterkit(verb, *(["billing:kit"] if verb == "provision" else []))

    assert (2, "") == (code, out)
    assert "STRIPE_SECRET_KEY" in err


def test_with_a_wrong_key(empty, monkeypatch):
    """The message says what to check."""
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_wrong")
    code, _, err = meterkit("provision", "billing:kit")

    assert 1 == code
    assert "401" in err
    assert "check stripe_key=" in err


def test_import(empty, shop):
    """What was provisioned comes back as code, which provisions to nothing."""
    meterkit("provision", "billing:kit")
    code, out, err = meterkit("import")
    (shop / "imported.py").write_text(out)

    assert (0, "") == (code, err)
    assert "Nothing to do." in meterkit("provision", "imported:kit")[1]


def test_an_invoice_is_explained(empty, api, shop):
    """From its lines to the meter events, and from those to the hours and users; what is on no invoice comes last."""
    rows = ["acme,20,2026-03-01T12:10:00Z,ada", "acme,85,2026-03-01T12:10:00Z,bob", "acme,1,2026-03-01T11:00:00Z,"]
    (shop / "usage.csv").write_text(
        "\n".join(["meter,company,quantity,at,user", *(f"credit_scores,{row}" for row in rows)])
    )
    meterkit("provision", "billing:kit")
    meterkit("subscribe", "billing:kit", "acme")
    meterkit("backfill", "billing:kit", "usage.csv")
    meterkit("report", "billing:kit", "--open")
    empty.advance(seconds=32 * 24 * 3600)
    meterkit("sync", "billing:kit")
    (invoice,) = api.invoices.list().data
    code, data = data_of("explain", "billing:kit", "acme", "credit_scores", "--month", "2026-03")
    out = meterkit("explain", "billing:kit", "acme", "credit_scores")[1]

    billed, rest = data
    assert (0, invoice.id, "paid") == (code, billed["invoice"]["id"], billed["invoice"]["status"])
    assert [(100, 50_000), (5, 1_500)] == [(quantity, amount) for _, quantity, amount in billed["lines"]]
    assert [(105, "sent", {"ada": 20, "bob": 85})] == [
        (
            event["report"]["quantity"],
            event["report"]["state"],
            {usage["user"]: usage["quantity"] for usage in event["usage"]},
        )
        for event in billed["events"]
    ]
    assert (None, [1]) == (rest["invoice"], [event["report"]["quantity"] for event in rest["events"]])
    assert f"Invoice {invoice.number}, paid, 2026-03-01T12:10Z to 2026-04-01T12:10Z" in out
    assert "(Tier 1 at $5.00 / month): 500.00 usd" in out
    assert ["2026-03-01T12:10Z", "bob", "85", "", "", ""] in cells(out)


def test_nothing_to_explain(empty):
    """It says where to look."""
    code, _, err = meterkit("explain", "billing:kit", "acme", "credit_scores")

    assert 2 == code
    assert "see meterkit usage" in err
