"""The team's pages in a real browser: what they show, their filters and files, and who does not see them."""

from __future__ import annotations

import csv
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
import shop
from business import COMPANIES, DAY, api, shop_kit, trade


@pytest.fixture
def customers(served, stripe, tmp_path):
    """Customers by company, after two months of business, in the second of which Globex has not paid."""
    return trade(stripe, tmp_path, months=2)


def test_all_pages(visit, customers, stripe, tmp_path):
    """A member of the team goes through all of them."""
    assert visit.call("/billing/team").status in (403, 404)
    visit.log_in(company="acme")
    assert visit.call("/billing/team").status in (403, 404)

    visit.log_in(staff="yes")
    visit.until("/billing/team", "Companies with usage 4")
    navigation = visit.page.get_by_role("navigation").get_by_role("link")
    links = [each.get_attribute("href") for each in navigation.all()]
    assert len(links) >= 5
    for link in links:
        visit.open(f"/billing/{link.removeprefix('./')}" if not link.startswith(("/", "../")) else link)
        assert visit.page.get_by_role("heading", level=1).count() == 1
        visit.inspect()

    # A company, and its invoice beside Stripe's.
    visit.open("/billing/team/companies")
    assert all(name in visit.page.inner_text("main") for name in COMPANIES)
    visit.follow("acme")
    visit.inspect()
    invoice = next(
        each
        for each in api(stripe).invoices.list({"customer": customers["acme"]}).data
        if each.billing_reason == "subscription_cycle"
    )
    assert invoice.number in visit.text
    assert f"{Decimal(invoice.total).scaleb(-2):,}" in visit.text

    # Filters are in the address, and a file has what is shown.
    visit.open("/billing/team/companies")
    visit.page.get_by_label("Company id or name contains").fill("hool")
    visit.press("Show")
    assert ["hool"] == parse_qs(urlsplit(visit.page.url).query)["q"]
    main = visit.page.inner_text("main")
    assert ("hooli" in main, "acme" in main) == (True, False)
    with visit.page.expect_download() as started:
        visit.page.get_by_role("link", name="CSV").first.click()
    with started.value.path().open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    assert ["hooli"] == [row[0] for row in rows[1:]]

    # What is used now is there soon, in the day's row.
    with shop_kit(stripe, tmp_path) as kit:
        kit.record(shop.CALLS, "acme", 1_000)
        kit.flush()
        today = stripe.now - stripe.now % DAY
        used = sum(row.quantity for row in kit.usage(meter="calls", since=today))
    assert used >= 1_000
    visit.until("/billing/team/usage", f"{used:,}")
