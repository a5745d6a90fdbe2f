"""What the team sees of Stripe: subscriptions and invoices with their links, plans, and each line down to the hours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from page_browser import Browser, tags_of
from page_kits import CALLS
from signed import SECRET
from team_tables import of_team, rows_of, sum_of

from meterkit import MeterKit, Plan, Price, Quota, Webhook
from meterkit.core.periods import DAY
from meterkit.sandbox import Sandbox

PRO = Plan("pro", fee="49.00", prices=[Price.per_unit(CALLS, "0.10")], limits=[Quota(CALLS, 100)])
FREE = Plan("free")
DASHBOARD = "https://dashboard.stripe.com/test"


@pytest.fixture
def make_shop(make_kit: Callable[..., MeterKit], stripe: Sandbox) -> Callable[..., MeterKit]:
    def make(**options: Any) -> MeterKit:
        defaults: dict[str, Any] = {
            "plans": [PRO, FREE],
            "default_plan": "free",
            "stripe_key": stripe.api_key,
            "stripe_base": stripe.url,
            "webhook": Webhook(None, secret=SECRET),
        }
        return make_kit(**{**defaults, **options})

    return make


@pytest.fixture
def kit(make_shop: Callable[..., MeterKit], stripe: Sandbox, clock: Any) -> MeterKit:
    """A kit with a company on a plan, whose first month is invoiced, and that has gone on."""
    kit = make_shop()
    kit.provision()
    kit.subscribe("acme", plan="pro", name="Acme & Sons")
    for _ in range(3):
        kit.record("calls", "acme", 30, user="ann")
        kit.record("calls", "globex", 1)
        kit.flush()
        clock.advance(3600)
        kit.report()
    clock.advance(32 * DAY)
    kit.sync()
    kit.record("calls", "acme", 85)
    kit.flush()
    return kit


@pytest.fixture
def browser(open_page: Callable[..., Browser], kit: MeterKit) -> Browser:
    return open_page(kit)


@pytest.mark.long
def test_the_objects_in_stripe(browser: Browser, kit: MeterKit, api: Any) -> None:
    """With links to Stripe's dashboard, in test mode."""
    page = of_team(browser, "company", id="acme")
    links = {attributes["href"] for tag, attributes in tags_of(page.text) if tag == "a"}
    (account,) = [each for each in kit.customers() if each.company == "acme"]
    invoices = list(api.invoices.list({"customer": account.customer}))
    shown = rows_of(browser, "company", "invoices", id="acme")

    assert f"{DASHBOARD}/customers/{account.customer}" in links
    assert f"{DASHBOARD}/subscriptions/{account.subscriptions[0][0]}" in links
    assert {f"{DASHBOARD}/invoices/{each.id}" for each in invoices} <= links
    assert "Acme & Sons" in page.words
    assert {each.number: each.total for each in invoices} == {
        row["invoice"]: int(row["total"].replace(".", "")) for row in shown
    }


@pytest.mark.long
def test_the_next_invoice(browser: Browser, kit: MeterKit) -> None:
    """As the preview has it."""
    (preview,) = kit.preview("acme")
    rows = rows_of(browser, "company", "next-1", id="acme")

    assert ["85"] == [row["quantity"] for row in rows if row["for"] == "calls"]
    assert [str(preview.total)] == [row["amount"] for row in rows if row["for"] == "total"]


def test_from_an_invoice_to_its_hours(browser: Browser, kit: MeterKit, api: Any) -> None:
    """A line of the meter is the sum of its meter events; an hour has its users."""
    page = of_team(browser, "company", id="acme")
    invoices = [link for link in page.links if "team/invoice?" in link]
    pages = [browser.get(f"/billing/{link.removeprefix('../')}", headers={"X-Staff": "yes"}) for link in invoices]
    lines = [link for each in pages for link in each.links if "team/hours?" in link]
    query = dict(part.split("=") for part in lines[0].partition("?")[2].split("&"))
    hours = rows_of(browser, "hours", "hours", **query)
    windows = [link for link in of_team(browser, "hours", **query).links if "team/hour?" in link]
    (first,) = rows_of(browser, "hour", id="acme", meter="calls", window=windows[0].rpartition("window=")[2])
    explained = [event for period in kit.explain("acme", "calls", month="2026-03") for event in period.events]

    assert 1 == len(lines)
    assert [30, 30, 30] == [int(row["quantity"]) for row in hours]
    assert [event.report.identifier for event in explained] == [row["meter event"] for row in hours]
    assert "Sum of the meter events 90" in of_team(browser, "hours", **query).words
    assert ("ann", "30", "30") == (first["user"], first["quantity"], first["in meter events"])


@pytest.mark.long
def test_what_is_on_no_invoice_yet(browser: Browser) -> None:
    """It is in no meter event yet."""
    (row,) = rows_of(browser, "hours", "unreported", id="acme")

    assert ("calls", "85") == (row["meter"], row["not reported yet"])


@pytest.mark.long
def test_the_invoice_of_another(browser: Browser, kit: MeterKit) -> None:
    """Is not shown as this company's."""
    identity = next(link for link in of_team(browser, "company", id="acme").links if "team/invoice?" in link)
    invoice = identity.rpartition("=")[2]

    assert 200 == of_team(browser, "invoice", id="acme", invoice=invoice).status
    assert {404} == {
        of_team(browser, *query[:1], **query[1]).status
        for query in (
            ("invoice", {"id": "globex", "invoice": invoice}),
            ("invoice", {"id": "acme", "invoice": "in_1"}),
            ("hours", {"id": "globex", "invoice": invoice, "line": "0"}),
            ("hours", {"id": "acme", "invoice": invoice, "line": "99"}),
            ("hours", {"id": "acme", "invoice": invoice, "line": "x"}),
            ("hour", {"id": "acme", "meter": "calls", "window": "x"}),
        )
    }


def test_usage_by_plan(browser: Browser, kit: MeterKit) -> None:
    """Each company counts for its plan; those without a subscription for the default plan."""
    rows = rows_of(browser, "usage", by="plan", meter="calls", months="3")
    of_pro = rows_of(browser, "usage", plan="pro", months="3")

    assert sum_of(kit, company="acme") == sum(int(row["pro"]) for row in rows)
    assert sum_of(kit, company="acme") == sum(int(row["calls"]) for row in of_pro)
    assert sum_of(kit, company="globex") == sum(int(row["free"]) for row in rows)
    assert ["acme"] == [row["company"] for row in rows_of(browser, "companies", plan="pro")]
    assert ["globex"] == [row["company"] for row in rows_of(browser, "companies", plan="free")]


@pytest.mark.long
def test_near_the_limit_of_a_plan(browser: Browser) -> None:
    """It is a quota like others."""
    assert [("acme", "quota of calls per period", "85%")] == [
        (row["company"], row["limit"], row["used"]) for row in rows_of(browser, "", "near")
    ]


@pytest.mark.long
def test_who_is_overdue(browser: Browser, kit: MeterKit, stripe: Sandbox, clock: Any) -> None:
    """With the invoice; and the list of companies finds it."""
    (account,) = [each for each in kit.customers() if each.company == "acme"]
    stripe.payments(account.customer or "", "fail")
    clock.advance(32 * DAY)
    kit.sync()
    (overdue,) = rows_of(browser, "", "overdue")

    assert ("acme", "usd") == (overdue["company"], overdue["amount currency"])
    assert ["acme"] == [row["company"] for row in rows_of(browser, "companies", standing="overdue")]
    assert "overdue" in of_team(browser, "company", id="acme").words
