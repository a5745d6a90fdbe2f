"""``meterkit shadow``, as a shell sees it."""

from __future__ import annotations

import pytest
import stripe as stripe_python
from cli_shell import cells, data_of, meterkit
from fake_clock import NOON

HOUR = 3600

BILLING = f"""
from meterkit import Meter, MeterKit, Price, Tier

meter = Meter("credit_scores")
tiers = [Tier(up_to=100, unit_price="5.00"), Tier(up_to=1_000, unit_price="3.00"), Tier(unit_price="2.00")]
kit = MeterKit(
    meters=[meter], prices=[Price.graduated(meter, *tiers)], shadow=True, clock=lambda: {NOON + HOUR}
)
"""


@pytest.fixture
def shadowing(shop, make_kit, stripe):
    """A shop in shadow mode, whose former biller has lost 10 of 1,500."""
    from meterkit import Meter

    (shop / "billing.py").write_text(BILLING)
    kit = make_kit(Meter("credit_scores"), shadow=True, customer_ids=False)
    kit.record("credit_scores", "acme", 1_500)
    kit.link("acme", stripe.customer)
    kit.flush()
    http = stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1
    payload = {"stripe_customer_id": stripe.customer, "value": "1490"}
    http.billing.meter_events.create({"event_name": "credit_scores", "payload": payload, "timestamp": NOON + 60})
    return kit


@pytest.mark.long
def test_what_differs(shadowing, stripe):
    """By customer and hour, and in money; the exit code says that something does."""
    code, out, err = meterkit("shadow", "billing:kit")

    assert (1, "") == (code, err)
    assert [
        ["company", "customer", "meter", "counted", "billed", "difference", "amount", "equal"],
        ["acme", stripe.customer, "credit_scores", "1,500", "1,490", "+10", "+20.00 usd", "NO"],
        ["company", "customer", "meter", "start", "counted", "billed", "difference"],
        ["acme", stripe.customer, "credit_scores", "2026-03-01T12:00Z", "1,500", "1,490", "+10"],
    ] == cells(out)
    assert "Billed by meterkit, all invoices together would come to 20.00 usd more." in out


@pytest.mark.long
def test_what_a_report_says(shadowing, stripe):
    """That it has sent nothing, and why; health says so, too."""
    for command in ("report", "health"):
        code, out, err = meterkit(command, "billing:kit")
        assert (0, "") == (code, err)
        assert "In shadow mode, nothing is sent to Stripe" in out


def test_what_is_tolerated(shadowing, stripe):
    """In percent; as JSON, money is exact."""
    code, data = data_of("shadow", "billing:kit", "--tolerance", "1")

    assert (0, {"usd": "20.00"}, [True]) == (code, data["amounts"], [each["agree"] for each in data["compared"]])


@pytest.mark.long
def test_a_file(shadowing, shop):
    """Stripe is not asked; mistakes name their line."""
    (shop / "former.csv").write_text(f"company,meter,start,quantity\nacme,credit_scores,{NOON},1500\n")
    (shop / "wrong.csv").write_text(f"company,meter,start,quantity\nacme,scores,{NOON},1500\n")

    assert 0 == data_of("shadow", "billing:kit", "--csv", "former.csv", "--by", "day")[0]
    for words, said in {
        ("--csv", "wrong.csv"): "line 2: unknown meter 'scores'; available: credit_scores",
        ("--csv", "gone.csv"): "no such file: gone.csv; give a CSV with the columns company,meter,start,quantity",
        ("--tolerance", "all"): "must be a percentage from 0 to 100",
        ("--event-name", "calls"): "must be a meter and an event name, such as calls=api_calls",
    }.items():
        code, _, err = meterkit("shadow", "billing:kit", *words)
        assert (code, said in err) in [(1, True), (2, True)], err
