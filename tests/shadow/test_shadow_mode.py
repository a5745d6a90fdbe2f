"""Shadow mode: another program bills, and meterkit counts beside it, until it takes over."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from fake_clock import NOON
from followed_account import api, events, kit, make_following_kit, price, stripe, tell  # noqa: F401 - fixtures
from plain_exchange import PlainExchange, serve
from stripe_account import make_meter

from meterkit import (
    ConfigurationError,
    Governance,
    Meter,
    MeterKit,
    Notify,
    Plan,
    Price,
    Quota,
    Tier,
    UsageError,
    unique,
)

HOUR, DAY = 3600, 24 * 3600


def classical(meter):
    """The price of which 1,500 are $4,200.00."""
    tiers = [Tier(up_to=100, unit_price="5.00"), Tier(up_to=1_000, unit_price="3.00"), Tier(unit_price="2.00")]
    return Price.graduated(meter, *tiers)


@pytest.fixture
def customer(api, price):
    """A customer who pays for acme."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    return customer


@pytest.fixture
def former(api, clock, customer):
    """A function by which the present biller reports."""

    def report(quantity):
        payload = {"stripe_customer_id": customer, "value": str(quantity)}
        api.billing.meter_events.create({"event_name": "calls", "payload": payload, "timestamp": int(clock.now)})

    return report


def writes(stripe):
    """What was written to Stripe, by whomever."""
    return [(each.method, each.path) for each in stripe.requests if each.method != "GET"]


def sent(stripe):
    return [event.value for event in stripe.meter_events]


def books(kit):
    return {place: quantity for place, quantity in kit.health()["books"]["calls"].items() if quantity}


def upcoming(api, customer):
    return Decimal(api.invoices.create_preview({"customer": customer}).total).scaleb(-2)


def total(kit):
    (preview,) = kit.preview("acme")
    return preview.total


def invoiced(api, customer):
    return [each.total for each in api.invoices.list({"customer": customer}).data if each.total]


def test_nothing_is_written_and_all_is_counted(make_following_kit, stripe, api, clock, customer, events, tell):
    """Not by reports, webhooks, syncs, late usage, nor at the end; the preview is what the invoice would be."""
    kit = make_following_kit(shadow=True, report_on_close=True, late="next_invoice")
    before = writes(stripe)
    tell(kit, *events())
    kit.sync()
    for _ in range(3):
        kit.record("calls", "acme", 500)
        clock.advance(HOUR)
        kit.report()
    kit.record("calls", "acme", 1, at=datetime.fromtimestamp(clock.now, timezone.utc) - timedelta(hours=2))
    kit.report(include_open=True)
    previewed, counted = total(kit), sum(row.quantity for row in kit.usage())
    attention = kit.health()["attention"]
    kit.close()

    assert before == writes(stripe)
    assert [] == sent(stripe) == attention
    assert (Decimal("4202.00"), 1_501) == (previewed, counted)


def test_the_switch_in_the_midst_of_a_month(make_following_kit, stripe, api, clock, customer, former):
    """The former biller bills 700, meterkit 800, and the invoice is $4,200.00; so is each preview."""
    shadow = make_following_kit(shadow=True)
    shadow.sync()
    for quantity in (300, 400):
        shadow.record("calls", "acme", quantity)
        former(quantity)
        clock.advance(40 * 60)
        shadow.report()
    before = total(shadow), upcoming(api, customer)
    shadow.close()
    kit = make_following_kit()
    for quantity in (500, 300):
        kit.record("calls", "acme", quantity)
        clock.advance(40 * 60)
        kit.report()
    clock.advance(HOUR)
    kit.report()

    assert (Decimal("2300.00"), Decimal("2300.00")) == before
    assert Decimal("4200.00") == total(kit) == upcoming(api, customer)
    assert {300, 400, 500} == set(sent(stripe))
    assert 1_500 == sum(sent(stripe))
    assert {"counted": 1_500, "sent": 1_500, "balanced": True} == books(kit)
    assert [True] == [each.agree for each in kit.reconcile()]
    clock.advance(31 * DAY)
    kit.report()
    kit.sync()
    assert [420_000] == invoiced(api, customer)
    assert [] == kit.health()["attention"]


@pytest.mark.parametrize("sync", ["at first", "before the report", "after the report", "in the next hour"])
def test_a_month_that_the_former_biller_began(make_following_kit, stripe, api, clock, customer, former, sync):
    """What it had reported before counts once in previews, whenever meterkit first sees the subscription."""
    former(300)
    clock.advance(3 * DAY)
    kit = make_following_kit(shadow=True)
    kit.link("acme", customer)
    if sync == "at first":
        kit.sync()
    kit.record("calls", "acme", 400)
    former(400)
    clock.advance(120)
    if sync == "before the report":
        kit.sync()
    clock.advance(HOUR)
    kit.report()
    if sync == "after the report":
        kit.sync()
    kit.record("calls", "acme", 100)
    former(100)
    clock.advance(120)
    if sync == "in the next hour":
        kit.sync()
    clock.advance(HOUR)
    kit.report()

    assert Decimal("2600.00") == total(kit) == upcoming(api, customer)
    kit.close()
    kit = make_following_kit()
    kit.record("calls", "acme", 700)
    clock.advance(HOUR)
    kit.report()
    assert Decimal("4200.00") == total(kit) == upcoming(api, customer)


@pytest.mark.parametrize("first", ["shadow", "billing"])
def test_a_rolling_deployment(make_following_kit, stripe, clock, customer, former, first):
    """Of two processes in the same hour, each unit is billed once: by the biller of the process that counted it."""
    kits = [make_following_kit(shadow=True), make_following_kit()]
    shadow, billing = kits
    shadow.sync()
    for _ in range(3):
        shadow.record("calls", "acme", 7)
        former(7)
        billing.record("calls", "acme", 10)
        for each in kits:
            each.flush()
        while_both = billing.health()["attention"]
        for each in kits if first == "shadow" else kits[::-1]:
            each.report(include_open=True)
    shadow.close()
    clock.advance(HOUR)
    billing.report()

    assert sorted([7, 7, 7, 10, 10, 10]) == sorted(sent(stripe))
    assert {"counted": 51, "sent": 51, "balanced": True} == books(billing)
    assert [] == billing.health()["attention"]
    (said,) = while_both  # until it is over
    assert said.startswith("7 calls of the last half hour were counted in shadow mode")


def test_what_a_shadow_leaves_in_its_journal(make_following_kit, stripe, clock, customer):
    """A process without shadow mode that flushes what a killed one has counted in it does not bill it."""
    kit = make_following_kit()
    kit.sync()
    script = f"""
import os, signal
from meterkit import Meter, MeterKit
meters, directory = [Meter("calls")], {str(kit._settings.data_dir)!r}
kit = MeterKit(meters=meters, data_dir=directory, shadow=True, flush_interval=3600.0, clock=lambda: {clock.now})
kit.record("calls", "acme", 7)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", script], check=False).returncode
    kit.record("calls", "acme", 10)
    clock.advance(HOUR)
    kit.report()

    assert [10] == sent(stripe)
    assert {"counted": 17, "sent": 17, "balanced": True} == books(kit)


def test_usage_that_waits_for_a_shadow_to_end_is_named(make_following_kit, clock, customer, stripe):
    """A shadow never reports what another process is to bill; that it waits is said, and the cure."""
    kit = make_following_kit()
    kit.sync()
    kit.record("calls", "acme", 10)
    kit.close()
    shadow = make_following_kit(shadow=True)
    clock.advance(3 * HOUR)
    shadow.report()

    (attention,) = shadow.health()["attention"]
    assert attention.startswith("10 calls were counted without shadow mode, and wait for a process without shadow=")
    assert [] == sent(stripe)
    shadow.close()
    make_following_kit().report()
    assert [10] == sent(stripe)


def test_a_time_from_which_meterkit_bills(make_following_kit, stripe, api, clock, customer, former):
    """Every process has it beforehand; each hour is billed by one of both, late usage of it included."""
    kit = make_following_kit(shadow=datetime.fromtimestamp(NOON + HOUR, timezone.utc))
    kit.sync()
    serve(kit, PlainExchange())  # identifies nobody; only to fill the matcher's cache
    kit.record("calls", "acme", 700)
    former(700)
    clock.advance(HOUR - 601)  # the last second
    kit.record("calls", "acme", 5)
    former(5)
    kit.report()
    before = sent(stripe)
    clock.advance(1)
    kit.record("calls", "acme", 795)
    kit.record("calls", "acme", 9, at=datetime.fromtimestamp(NOON + HOUR - 60, timezone.utc))
    former(9)
    clock.advance(HOUR)
    kit.report()

    assert [700, 5] == before
    assert [700, 5, 9, 795] == sent(stripe)
    assert total(kit) == upcoming(api, customer)
    assert not kit.health().get("shadow")


def test_each_request_of_the_hour_in_which_it_ends(make_following_kit, stripe, clock, customer):
    """The middleware's own path, too."""
    end = datetime.fromtimestamp(NOON + HOUR, timezone.utc)
    kit = make_following_kit(shadow=end, identify=lambda exchange: "acme")
    kit.sync()
    for _ in range(2):
        for _ in range(3):
            serve(kit)
        clock.advance(HOUR)
    kit.report()

    assert [3] == sent(stripe)
    assert [(NOON, 3), (NOON + HOUR, 3)] == [(row.window, row.quantity) for row in kit.usage()]


def test_what_counts_once(make_kit, stripe, api, clock):
    """A user whom the former biller has billed this month is not billed again; nor is a key."""
    payer = api.customers.create({}).id
    make_meter(stripe, "seats")
    make_meter(stripe, "calls")
    meters = [Meter("seats", value=unique("user")), Meter("calls")]
    for shadow in (True, False):
        kit = make_kit(*meters, stripe_key=stripe.api_key, stripe_base=stripe.url, shadow=shadow)
        for user in ("ada", "grace", "linus")[: 3 if not shadow else 2]:
            kit.record("seats", payer, user=user)
        kit.record("calls", payer, 5, key="job 1")
        kit.report(include_open=True)
        kit.close()

    assert [1] == sent(stripe)


def test_the_way_back(make_following_kit, stripe, clock, customer, former):
    """From meterkit to the former biller, and to meterkit again."""
    for turn in range(4):
        kit = make_following_kit(shadow=bool(turn % 2))
        kit.sync()
        kit.record("calls", "acme", 10 + turn)
        if turn % 2:
            former(10 + turn)
        kit.report(include_open=True)
        kit.close()

    assert [10, 11, 12, 13] == sent(stripe)


def test_a_company_that_is_linked_later(make_following_kit, stripe, api, clock):
    """After the switch, too: what was counted in shadow mode is not billed."""
    shadow = make_following_kit(shadow=True, customer_ids=False)
    shadow.record("calls", "globex", 7)
    shadow.report()
    (said,) = shadow.health()["attention"]
    assert said.startswith("1 of the companies that were counted in shadow mode, such as 'globex', are not linked")
    shadow.close()
    clock.advance(2 * HOUR)
    kit = make_following_kit(customer_ids=False)
    assert [] == kit.health()["attention"]
    kit.record("calls", "globex", 10)
    clock.advance(HOUR)
    kit.report()
    other = api.customers.create({}).id
    kit.link("globex", other)
    make_meter(stripe, "calls")
    kit.report()

    assert [10] == sent(stripe)
    assert {"counted": 17, "sent": 17, "balanced": True} == books(kit)


def test_what_is_old_goes_with_what_is_not_shadow(make_following_kit, stripe, clock, customer):
    """The books balance all the time."""
    shadow = make_following_kit(shadow=True, keep_days=70)
    shadow.sync()
    shadow.record("calls", "acme", 7)
    shadow.close()
    kit = make_following_kit(keep_days=70)
    kit.record("calls", "acme", 10)
    clock.advance(HOUR)
    kit.report()
    clock.advance(71 * DAY)
    kit.report()

    assert {"balanced": True} == books(kit)
    assert ([], [10]) == (kit.usage(), sent(stripe))


def test_a_biller_with_another_meter(make_kit, stripe, api, clock, customer):
    """Usage of shadow mode that no price of ours bills is not named as unbilled: it would be billed by hand, twice."""
    about = {"stripe_key": stripe.api_key, "stripe_base": stripe.url, "customer_ids": False}
    make_meter(stripe, "queries")
    for shadow in (True, False):
        kit = make_kit(Meter("queries"), shadow=shadow, **about)
        kit.sync()
        kit.record("queries", "acme", 7)
        clock.advance(HOUR)
        kit.report()
        attention = kit.health()["attention"]
        kit.close()
        assert [] == attention if shadow else attention[0].startswith("7 queries of acme")


def test_events_that_wait_at_the_way_back(make_following_kit, stripe, clock, customer):
    """A shadow does not send them; nor are they deleted with what is old of the same hour."""
    billing = make_following_kit(keep_days=70)
    billing.sync()
    billing.record("calls", "acme", 10)
    stripe.fail("500", path="/v1/billing/meter_events", times=10_000)
    billing.report(include_open=True)
    billing.close()
    stripe.heal()
    shadow = make_following_kit(shadow=True, keep_days=70)
    shadow.record("calls", "acme", 7)
    for seconds in (HOUR, 71 * DAY):
        clock.advance(seconds)
        assert ("", 0) == ((summary := shadow.report()).error, summary.sent)

    assert [] == sent(stripe)
    assert [10] == [row.quantity for row in shadow.usage()]
    assert {"counted": 10, "pending": 10, "balanced": True} == books(shadow)


def test_the_preview_of_the_open_hour(make_following_kit, clock, customer):
    """Has what no report has yet."""
    kit = make_following_kit(shadow=True)
    kit.sync()
    kit.record("calls", "acme", 1_500)

    assert Decimal("4200.00") == total(kit)


def test_imports(make_following_kit, stripe, clock, customer, tmp_path):
    """In shadow mode, an import counts and is never sent either."""
    at = datetime.fromtimestamp(clock.now, timezone.utc) - timedelta(hours=3)
    path = tmp_path / "usage.csv"
    path.write_text(f"meter,company,quantity,at\ncalls,acme,40,{at.isoformat()}\n")
    shadow = make_following_kit(shadow=True)
    shadow.sync()
    shadow.backfill(path)
    shadow.report()
    shadow.close()
    kit = make_following_kit()
    kit.report()

    assert ([], 40) == (sent(stripe), books(kit)["sent"])


CALLS = {
    "provision": lambda kit: kit.provision(),
    "subscribe": lambda kit: kit.subscribe("globex"),
    "checkout": lambda kit: kit.checkout_url("globex", success_url="https://shop.test/"),
    "portal": lambda kit: kit.portal_url("acme", return_url="https://shop.test/"),
    "correct": lambda kit: kit.correct("calls", "acme", 1, at=datetime.fromtimestamp(NOON, timezone.utc)),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_writes_is_refused(make_kit, stripe, customer, call):
    """With the cure; a plan of what would be provisioned is not."""
    calls, other = Meter("calls"), Meter("other")
    about = {"stripe_key": stripe.api_key, "stripe_base": stripe.url, "customer_ids": False}
    billing = make_kit(calls, prices=[classical(calls)], **about)
    if call != "provision":
        billing.provision()
    billing.sync()
    billing.close()
    meters = [calls, other] if call == "provision" else [calls]
    kit = make_kit(*meters, prices=[classical(calls)], shadow=True, **about)
    kit.provision(dry_run=True)
    before = writes(stripe)

    said = r"in shadow mode .*( POST /v1/.* was not sent.*leave shadow mode|nothing is reversed)"
    with pytest.raises(ConfigurationError, match=said):
        CALLS[call](kit)
    assert before == writes(stripe)


def test_nobody_is_blocked(make_following_kit, stripe, clock, customer):
    """What would have been is counted; the response is what it was without governance."""
    calls = Meter("calls")
    rules = Governance(quotas=[Quota(calls, limit=3)], unknown="block", rate_limit_headers=True)
    kit = make_following_kit(shadow=True, governance=rules, identify=lambda exchange: "acme", customer_ids=False)
    kit.sync()
    kit.record("calls", "acme", 5)
    kit.process().begin()
    kit.flush()
    exchange = PlainExchange("GET", "/calls")
    exchange.publish(kit)
    refused = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)
    kit.flush()

    assert (None, ()) == (refused, tuple(exchange.added_headers))
    assert [("acme", "shadow:quota", 1)] == [(each.company, each.reason, each.count) for each in kit.stopped()]
    assert {"shadow:quota": 1} == kit.health()["stopped"]


def test_features_of_plans_are_open(make_kit, stripe):
    """As they were before there were plans."""
    kit = make_kit(Meter("calls"), plans=[Plan("pro", features=["export"])], shadow=True, identify=lambda _: None)
    assert kit.can("acme", "export")
    with pytest.raises(UsageError):
        kit.can("acme", "exprot")


def test_nobody_is_notified(make_following_kit, stripe, clock, customer):
    """Neither customers nor the team; the log says what is wrong."""
    told = []
    kit = make_following_kit(
        shadow=True, notify=[Notify.calls(Meter("calls"), every=5, to=told.append), Notify.trouble(to=told.append)]
    )
    kit.sync()
    kit.record("calls", "acme", 7)
    kit.flush()
    dispatcher = kit.process().dispatcher

    assert 0 == dispatcher.evaluate()
    dispatcher.run()
    assert [] == told == kit.notices()


def test_without_a_stripe_key(make_kit, clock, caplog):
    """It is not missed: a file can be compared. Each process says once that it counts in shadow mode."""
    kit = make_kit(shadow=True)
    for _ in range(2):
        kit.record("calls", "cus_acme", 7)
        kit.flush()

    assert ["shadow_mode"] == [record.event for record in caplog.records]
    assert "" == kit.report(include_open=True).error
    with pytest.raises(ConfigurationError, match=r"no Stripe key: .* or compare with a file \(--csv or csv=\)"):
        kit.compare()

    assert ([], True) == (kit.health()["attention"], kit.health()["shadow"])


WRONG = [
    "yes",
    1,
    None,
    datetime(2026, 12, 1),  # noqa: DTZ001 - that is what is wrong
    datetime(2026, 12, 1, 10, 30, tzinfo=timezone.utc),
    1_772_366_400,
]


@pytest.mark.parametrize("shadow", WRONG, ids=repr)
def test_a_wrong_time(shadow):
    """Is refused at once."""
    with pytest.raises(ConfigurationError, match="shadow= must be True, False, or the whole hour from which"):
        MeterKit(meters=[Meter("calls")], shadow=shadow)
