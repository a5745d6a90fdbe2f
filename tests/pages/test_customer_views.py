"""What a customer sees is what the kit, the ledger and Stripe say of it, and of nobody else."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_stacks import STACKS
from fake_clock import Clock
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from jsonschema import Draft202012Validator
from page_browser import Browser, Page
from page_kits import CALLS
from signed import SECRET
from thorough import first

from meterkit import Governance, Meter, MeterKit, Plan, Price, Quota, Tier, Webhook
from meterkit.sandbox import Sandbox

DAY = 86_400
TOKENS = Meter("tokens")
PLANS = [
    Plan(
        "pro",
        fee="49.00",
        prices=[
            Price.graduated(CALLS, Tier(up_to=2, unit_price="5.00"), Tier(unit_price="3.00", flat_price="1.00")),
            Price.package(TOKENS, "0.02", size=1000),
        ],
    )
]
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "customer-page.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def make_shop(make_kit: Callable[..., MeterKit], stripe: Sandbox) -> Callable[..., MeterKit]:
    """Makes kits with a plan that the sandbox has."""

    def make(**options: Any) -> MeterKit:
        defaults: dict[str, Any] = {
            "plans": PLANS,
            "governance": Governance(quotas=[Quota(CALLS, 10), Quota(TOKENS, 10**9, per="day")], overdue_days=None),
            "customer_page": "/usage",
            "stripe_key": stripe.api_key,
            "stripe_base": stripe.url,
            "webhook": Webhook(None, secret=SECRET),
        }
        kit = make_kit(CALLS, TOKENS, **{**defaults, **options})
        kit.provision()
        return kit

    return make


@pytest.fixture
def shop(make_shop: Callable[..., MeterKit]) -> MeterKit:
    """Acme is subscribed, and has used three calls of the month."""
    kit = make_shop()
    kit.subscribe("acme", plan="pro", email="ann@acme.example")
    kit.subscribe("globex", plan="pro", email="bob@globex.example")
    kit.record(CALLS, "acme", 3)
    kit.record(TOKENS, "acme", 2500)
    kit.record(CALLS, "globex", 777)
    kit.flush()
    return kit


@pytest.fixture
def billed(shop: MeterKit, api: Any, clock: Clock, events: Any, tell: Any) -> MeterKit:
    """A month later: acme's card was declined, so the invoice is open."""
    shop.report()
    (customer,) = [each for each in api.customers.list().data if each.metadata["company"] == "acme"]
    clock.advance(32 * DAY)
    api.invoices.list()
    tell(shop, *events())
    shop.sync()
    assert customer
    return shop


def json_of(browser: Browser) -> Any:
    return json.loads(browser.get("/usage").body)


def test_the_page_says_what_the_kit_says(shop: MeterKit, open_page: Callable[..., Browser]) -> None:
    """Usage, place in the tiers, limit, plan, and the next invoice: the figures of kit.preview()."""
    page = open_page(shop).get("/billing")
    (preview,) = shop.preview("acme")

    assert f"{preview.total:,.2f} USD so far" in page.words
    assert "Account acme Plan pro" in page.words
    assert "In good standing" in page.words
    assert "3 used in this period" in page.words
    assert "3 of at most 10 per billing period" in page.words
    assert "The next unit is here" in page.words
    assert "2,500" in page.words
    for line in preview.lines:
        assert f"{line.amount:,.2f} USD" in page.words
    assert "globex" not in page.text
    assert "777" not in page.text


def test_what_is_expected(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser], clock: Clock) -> None:
    """Usage, cost, and the day on which a limit is reached; in the JSON, too, which keeps to its schema."""
    kit = make_kit(
        CALLS,
        prices=[Price.per_unit(CALLS, "0.10")],
        governance=Governance(quotas=[Quota(CALLS, 2000), Quota(CALLS, 101, per="day")], spending_cap="200"),
        customer_page="/usage",
    )
    for _ in range(14):
        kit.record(CALLS, "acme", 100)
        clock.advance(DAY)
    kit.flush()
    browser = open_page(kit)
    found, words = json_of(browser), browser.get("/billing").words

    assert "At this pace, about 3,049 by the end of the period" in words
    assert "At this pace, this limit is reached on 21 March 2026" in words
    assert "At this pace, the usage of this period costs about 304.90 USD" in words
    assert "At this pace, the spending cap of 200.00 USD is reached on 21 March 2026" in words
    assert 1 == words.count("this limit is reached")
    assert [] == [*Draft202012Validator(SCHEMA).iter_errors(found)]
    assert ["quota", "spending_cap"] == [each["kind"] for each in found["forecast"]["limits"]]


@pytest.mark.long
def test_invoices_have_links(billed: MeterKit, open_page: Callable[..., Browser], api: Any) -> None:
    """To Stripe's page of each; drafts are not shown, and the total is Stripe's."""
    page = open_page(billed).get("/billing")
    theirs = [each for each in api.invoices.list().data if each.customer == billed.preview("acme")[0].customer]
    shown = [each for each in theirs if each.status != "draft"]

    assert shown
    for each in shown:
        assert each.hosted_invoice_url in page.links
        assert str(each.number) in page.words
        assert f"{each.total / 100:,.2f} USD" in page.words
    assert len(shown) == len([link for link in page.links if "invoice" in link])


@pytest.mark.long
def test_twelve_months(shop: MeterKit, open_page: Callable[..., Browser]) -> None:
    """As bars and as a table, the current month first."""
    page = open_page(shop).get("/billing")

    assert 24 == page.text.count("<rect")
    assert "Month calls tokens Mar 2026 3 2,500 Feb 2026 0 0" in page.words
    assert "Apr 2025 0 0" in page.words


@pytest.mark.long
def test_the_same_as_the_json(billed: MeterKit, open_page: Callable[..., Browser], stripe: Sandbox) -> None:
    """A fact is defined once: each figure of the JSON is on the page."""
    browser = open_page(billed)
    found, page = json_of(browser), browser.get("/billing")

    assert found["billed"]
    for invoice in found["billed"]:
        assert invoice["invoice"] in page.words
    for month in found["months"]:
        assert f"{month['used']['tokens']:,}" in page.words


@pytest.mark.parametrize("state", first(["plain"], among=["shop", "billed", "overdue", "nobody", "plain"]))
def test_the_schema(
    state: str,
    request: pytest.FixtureRequest,
    make_kit: Callable[..., MeterKit],
    open_page: Callable[..., Browser],
) -> None:
    """Of the JSON holds for all that can be said."""
    if state == "plain":
        kit = make_kit(customer_page="/usage", prices=[Price.per_unit(CALLS, "0.0000025")])
    else:
        kit = request.getfixturevalue("shop" if state == "nobody" else "billed" if state == "overdue" else state)
    if state == "overdue":
        make_overdue(kit)
    found = json_of(open_page(kit, company="nobody" if state == "nobody" else "acme"))

    assert [] == [error.message for error in Draft202012Validator(SCHEMA).iter_errors(found)]
    assert (state == "overdue") == (found["overdue"] is not None)


def make_overdue(kit: MeterKit, *, customer: str = "", number: str = "ACME-<1>") -> None:
    """Let the ledger know of an invoice that should have been paid yesterday."""
    from meterkit.accounts.models import Invoice

    now = int(kit.clock())
    customer = customer or kit.preview("acme")[0].customer
    invoice = Invoice(
        id="in_1", customer=customer, subscription=None, number=number, status="open", billing_reason="manual",
        collection_method="send_invoice", currency="usd", total=1200, amount_remaining=700, attempts=0, created=now - 9,
        period_start=now - 9, period_end=now, due_at=now - DAY, next_attempt_at=None, finalized_at=now - 9,
        url="https://invoice.stripe.com/i/1", checked_at=now,
    )  # fmt: skip
    process = kit.process()
    with process.database().transaction() as connection:
        process.accounts().put(connection, invoice)


@pytest.mark.long
def test_who_is_overdue_is_told_where_to_pay(shop: MeterKit, open_page: Callable[..., Browser]) -> None:
    """With the amount that is left."""
    make_overdue(shop)
    page = open_page(shop).get("/billing")

    assert "Invoice ACME-<1> of 7.00 USD is overdue. Pay it now" in page.words
    assert "https://invoice.stripe.com/i/1" in page.links


@pytest.mark.parametrize("number", ["<script>1</script>", "\u202e1-EMCA", "A" * 10_000], ids=["markup", "rtl", "long"])
def test_numbers(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser], number: str) -> None:
    """Of invoices are what somebody typed in elsewhere: escaped, isolated and cut, too."""
    kit = make_kit()
    kit.link("acme", "cus_1")
    make_overdue(kit, customer="cus_1", number=number)
    page = open_page(kit).get("/billing")

    assert "<script" not in page.text
    assert "A" * 130 not in page.text
    assert f"<bdi>{html.escape(number[:20])}" in page.text


@pytest.mark.long
def test_an_address_that_is_no_link(shop: MeterKit, open_page: Callable[..., Browser]) -> None:
    """Is none, should the ledger ever hold one."""
    import sqlalchemy as sa

    from meterkit.ledger import schema

    make_overdue(shop)
    with shop.process().database().transaction() as connection:
        connection.execute(sa.update(schema.invoices).values(url="javascript:alert(1)"))

    assert "javascript" not in open_page(shop).get("/billing").text


@pytest.mark.long
def test_a_customer_who_pays_for_others(billed: MeterKit, open_page: Callable[..., Browser]) -> None:
    """Their invoices are shown to none of these."""
    customer = billed.preview("acme")[0].customer
    billed.link("initech", customer)

    assert [[], []] == [json_of(open_page(billed, company))["billed"] for company in ("acme", "initech")]


NAMES = {
    "markup": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "template": "{{ 7 * 7 }}{% raise %}",
    "arabic": "شركة",
    "long": "x" * 255,
}


@pytest.mark.parametrize("name", first(["markup", "arabic"], among=NAMES))
def test_names(make_kit: Callable[..., MeterKit], name: str) -> None:
    """Are escaped, isolated from what is around them, and cut."""
    company = NAMES[name]
    kit = make_kit(identify=lambda _: company)
    kit.record(CALLS, company, 3)
    kit.flush()
    browser = Browser(STACKS[0], STACKS[0].make(kit), {})
    page = browser.get("/billing")

    assert 200 == page.status
    assert "3 used in this period" in page.words
    assert "<script" not in page.text
    assert "<img" not in page.text
    assert "<bdi>" in page.text
    assert company[:100] in page.words
    assert "x" * 200 not in page.text


def test_a_meter_without_usage(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser]) -> None:
    """A new customer finds a page, not an error; what is never billed is not shown."""
    page = open_page(make_kit(CALLS, Meter("internal", path="*", billable=False))).get("/billing")

    assert 200 == page.status
    assert "0 used in this period" in page.words
    assert "There are no invoices yet" in page.words
    assert "internal" not in page.text


def test_a_limit_of_nothing(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser]) -> None:
    """Is full."""
    kit = make_kit(governance=Governance(quotas=[Quota(CALLS, 0)]))

    assert "0 of at most 0" in open_page(kit).get("/billing").words


@pytest.mark.long
def test_every_table_scrolls_and_has_a_caption(shop: MeterKit, open_page: Callable[..., Browser]) -> None:
    """For a narrow screen, and for a screen reader; there is one main landmark, and a link that leads to it."""
    page: Page = open_page(shop).get("/billing")

    assert page.text.count("<table") == page.text.count("<caption") == page.text.count('class="scroll"')
    assert 1 == page.text.count("<main") == page.text.count("<h1")
    assert "#main" == next(link for link in page.links if "static" not in link)
