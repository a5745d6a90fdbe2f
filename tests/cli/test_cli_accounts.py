"""The commands about companies and their Stripe customers."""

from __future__ import annotations

import pytest
import stripe as stripe_python
from cli_shell import cells, data_of, meterkit
from fake_clock import NOON

from meterkit import Governance, Meter, Quota
from meterkit.stripe_api.transport import HTTPXClient

pytestmark = pytest.mark.long

SECRET = "whsec_of_the_shop"
BILLING = f"""
from meterkit import Meter, MeterKit, Webhook

kit = MeterKit(
    meters=[Meter("credit_scores"), Meter("egress")],
    clock=lambda: {NOON + 600},
    webhook=Webhook("/stripe/webhook", secret="{SECRET}"),
)
"""


class Client:
    """Stripe's API, with a client of its own that is closed after it."""

    def __init__(self, stripe):
        self.http = HTTPXClient()
        self.api = stripe_python.StripeClient(
            stripe.api_key, base_addresses={"api": stripe.url}, http_client=self.http
        ).v1

    def __enter__(self):
        return self.api

    def __exit__(self, *_):
        self.http.close()


@pytest.fixture
def subscribed(shop, stripe):
    """A Stripe customer with acme in its metadata, and a subscription; returns both ids."""
    (shop / "billing.py").write_text(BILLING)
    http = HTTPXClient()
    api = stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}, http_client=http).v1
    api.customers.update(stripe.customer, {"metadata": {"company": "acme"}})
    (meter, *_) = [each for each in api.billing.meters.list().data if each.event_name == "credit_scores"]
    recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
    price = api.prices.create(
        {"currency": "usd", "unit_amount": 5, "product_data": {"name": "x"}, "recurring": recurring}
    )
    subscription = api.subscriptions.create({"customer": stripe.customer, "items": [{"price": price.id}]})
    http.close()
    return stripe.customer, subscription.id


def test_sync_and_customers(shop, used, stripe, subscribed):
    """What waits for nobody is reported after that; globex goes on to wait, which the exit code says."""
    customer, subscription = subscribed
    used.flush()

    synced = data_of("sync", "billing:kit")
    code, data = data_of("customers", "billing:kit")
    _, reported = data_of("report", "billing:kit", "--open")

    read = {"customers": 1, "subscriptions": 1, "invoices": 0, "ambiguous": [], "error": "", "refused": []}
    assert (0, read) == synced
    assert (1, [("acme", customer, "good"), ("globex", None, "unknown")]) == (
        code,
        [(each["company"], each["customer"], each["standing"]) for each in data],
    )
    period = {"id": subscription, "status": "active", "period_end": "2026-04-01T12:10Z"}
    assert ([period], {"credit_scores": 1500, "egress": 7}, "2026-03-01T12:00Z") == (
        data[0]["subscriptions"],
        data[0]["waiting"],
        data[0]["oldest"],
    )
    assert 2 == reported["sent"]


def test_no_name_speaks_to_the_terminal(shop, used, stripe, subscribed):
    """Not even one that would clear it; in JSON it is escaped."""
    with Client(stripe) as api:
        api.customers.update(stripe.customer, {"name": "\x1b[2JAc\x07me\u202e"})
    used.flush()
    meterkit("sync", "billing:kit")
    shown = [meterkit("customers", "billing:kit", *words)[1] for words in ([], ["--json"])]

    assert r"acme (\u001b[2JAc\u0007me\u202e)" == cells(shown[0])[1][0]
    assert not any(set("\x1b\x07\u202e") & set(each) for each in shown)


def test_the_tables(shop, used, stripe, subscribed):
    """The same, for people."""
    customer, subscription = subscribed
    used.flush()

    tables = [cells(meterkit(verb, "billing:kit")[1]) for verb in ("sync", "customers", "webhook-events")]

    assert [["customers", "subscriptions", "invoices"], ["1", "1", "0"]] == tables[0]
    assert [
        ["company", "customer", "subscription", "standing", "overdue", "waiting", "since", "unbilled"],
        [
            "acme (Acme)",
            customer,
            f"{subscription} active until 2026-04-01T12:10Z",
            "good",
            "",
            "1,500 credit_scores, 7 egress",
            "2026-03-01T12:00Z",
            "",
        ],
        ["globex", "unlinked: call kit.link()", "", "unknown", "", "80 credit_scores", "2026-03-01T12:00Z", ""],
    ] == tables[1]
    assert [] == tables[2]


def test_usage_that_no_price_bills(shop, used, stripe, subscribed):
    """Egress is on no subscription: it is shown, and the exit code is 1."""
    used.flush()
    data_of("sync", "billing:kit")
    data_of("report", "billing:kit", "--open")
    code, data = data_of("customers", "billing:kit")
    _, shown, _ = meterkit("customers", "billing:kit")

    assert (1, {"egress": 7}) == (code, data[0]["unbilled"])
    assert "7 egress" == cells(shown)[1][-1]


def test_sync_without_a_key(shop):
    """It says what is missing."""
    code, out, err = meterkit("sync", "billing:kit")

    assert (2, "") == (code, out)
    assert "STRIPE_SECRET_KEY" in err


def test_a_preview(shop, used, stripe, subscribed):
    """The invoice line by line, what it leaves out, and nobody else's."""
    _, subscription = subscribed
    used.flush()
    data_of("sync", "billing:kit")
    code, data = data_of("preview", "billing:kit", "acme")
    said = meterkit("preview", "billing:kit")
    nobody = meterkit("preview", "billing:kit", "globex")

    assert (0, [(subscription, "75", ["credit_scores"])]) == (
        code,
        [(each["subscription"], str(each["total"]), [line["event_name"] for line in each["lines"]]) for each in data],
    )
    assert [
        ["meter", "tier", "quantity", "price", "amount"],
        ["credit_scores", "", "1,500", "0.05", "75.00"],
        ["total", "", "", "", "75.00 usd"],
    ] == cells(said[1])
    assert "Assumptions:\n* there is no tax" in said[1]
    assert (2, "") == nobody[:2]
    assert "see meterkit customers, or run meterkit sync" in nobody[2]


def test_customers_that_nobody_has_linked(shop, used, stripe):
    """They are shown, and one line links one of them."""
    (shop / "billing.py").write_text(BILLING)
    meterkit("sync", "billing:kit")
    _, before = data_of("customers", "billing:kit", "--unlinked")
    _, table, _ = meterkit("customers", "billing:kit", "--unlinked")
    _, hint, _ = meterkit("customers", "billing:kit")
    linked = data_of("link", "billing:kit", "acme", stripe.customer, "--by", "ann")
    _, after = data_of("customers", "billing:kit", "--unlinked")
    _, actions = data_of("actions", "billing:kit")

    assert [{"customer": stripe.customer, "name": "Acme", "subscriptions": []}] == before
    assert [stripe.customer, "Acme", ""] in cells(table)
    assert "Stripe customers that pay for no company: 1" in hint
    assert ((0, {"links": 1, "linked": 1}), []) == (linked, after)
    assert ["link", "acme", "ann"] == [actions[0][name] for name in ("action", "subject", "by")]


def test_many_are_linked_from_a_file(shop, used):
    """Again, it changes nothing."""
    (shop / "billing.py").write_text(BILLING)
    (shop / "links.csv").write_text("\ufeffcompany,customer,note\nacme,cus_1,x\nglobex,acct_2,y\n", encoding="utf-8")
    first = data_of("link", "billing:kit", "--csv", "links.csv")
    again = meterkit("link", "billing:kit", "--csv", "links.csv")
    _, known = data_of("customers", "billing:kit")

    assert (0, {"links": 2, "linked": 2}) == first
    assert (0, "linked: 0, linked before: 2\n", "") == again
    assert [("acme", "cus_1"), ("globex", "acct_2")] == [(each["company"], each["customer"]) for each in known]


WRONG_FILES = {
    "a company twice": ("company,customer\nacme,cus_1\nacme,cus_2\n", "line 3 links 'acme' again, after line 2"),
    "no customer": ("company,customer\nacme,\n", "line 2 lacks a customer"),
    "other columns": ("a,b\nacme,cus_1\n", "company,customer"),
    "a subscription": ("company,customer\nglobex,cus_1\nacme,sub_1\n", "not 'sub_1'"),
    "no text": ("company,customer\n\x00\xff\n", "customer"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_a_wrong_file_links_nothing(shop, used, wrong):
    """The message names the line."""
    (shop / "billing.py").write_text(BILLING)
    content, message = WRONG_FILES[wrong]
    (shop / "links.csv").write_text(content)
    code, out, err = meterkit("link", "billing:kit", "--csv", "links.csv")
    _, known = data_of("customers", "billing:kit")

    assert (True, "") == (code in (1, 2), out)
    assert message in err
    assert [] == [each for each in known if each["customer"]]


@pytest.mark.parametrize(
    "words", [("acme",), (), ("acme", "cus_1", "--csv", "links.csv"), ("acme", "--csv", "links.csv")], ids=str
)
def test_a_link_of_what(shop, used, words):
    """One company and its customer, or a file."""
    code, _, err = meterkit("link", "billing:kit", *words)

    assert (2, True) == (code, "--csv FILE" in err)


def test_a_limit_is_asked_for_anew(shop, make_kit):
    """The app's function that returns the limit is called again with the next flush; only for that company."""
    asked = []
    calls = Meter("credit_scores")
    quota = Quota(calls, limit=lambda company: asked.append(company) or 10)
    kit = make_kit(calls, Meter("egress"), identify=lambda _: None, governance=Governance(quotas=[quota]))
    for company in ("acme", "globex"):
        kit.record("credit_scores", company)
    kit.flush()
    kit.flush()
    before = list(asked)
    code, out, err = meterkit("refresh", "billing:kit", "acme")
    kit.flush()

    assert (0, "Each process looks at acme anew with its next flush.\n", "") == (code, out, err)
    assert [*before, "acme"] == asked
    assert (0, {"company": "acme"}) == data_of("refresh", "billing:kit", "acme")
