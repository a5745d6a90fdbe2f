"""What meterkit has counted, beside what another program has billed: Stripe's own sums, or a file."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from fake_clock import NOON
from stripe_account import api, make_meter

from meterkit import ConfigurationError, Meter, Plan, Price, Tier, UsageError

HOUR, DAY = 3600, 24 * 3600

CALLS = Meter("calls")
CLASSICAL = Price.graduated(
    CALLS, Tier(up_to=100, unit_price="5.00"), Tier(up_to=1_000, unit_price="3.00"), Tier(unit_price="2.00")
)


@pytest.fixture
def kit(make_kit, stripe):
    """A kit in shadow mode."""
    return make_kit(CALLS, prices=[CLASSICAL], stripe_key=stripe.api_key, stripe_base=stripe.url, shadow=True)


@pytest.fixture
def globex(stripe):
    """Another customer."""
    return api(stripe).customers.create({"name": "Globex"}).id


@pytest.fixture
def former(stripe, clock):
    """A function by which the present biller reports."""

    def report(customer, quantity, event_name="calls"):
        payload = {"stripe_customer_id": customer, "value": str(quantity)}
        event = {"event_name": event_name, "payload": payload, "timestamp": int(clock.now)}
        api(stripe).billing.meter_events.create(event)

    return report


@pytest.fixture
def lived(kit, former, clock, customer, globex):
    """Two days, of which the former biller has lost an hour of one customer, and doubled an event of the other."""
    for hour in range(48):
        kit.record("calls", customer, 10)
        kit.record("calls", globex, 3)
        if hour != 5:
            former(customer, 10)
        for _ in range(1 + (hour == 40)):
            former(globex, 3)
        clock.advance(HOUR)
    return kit


def figures(found):
    return [
        (each.companies, each.counted, each.billed, [(one.start, one.counted, one.billed) for one in each.differences])
        for each in found
    ]


def test_equal_sums(kit, former, clock, customer):
    """Nothing differs; the open hour is not compared."""
    for _ in range(30):
        kit.record("calls", customer, 10)
        former(customer, 10)
        clock.advance(HOUR)
    kit.record("calls", customer, 7)

    (found,) = kit.compare()
    assert (300, 300, (), Decimal(0), "usd") == (
        found.counted,
        found.billed,
        found.differences,
        found.amount,
        found.currency,
    )
    assert found.agrees()


def test_faults_of_the_former_biller(lived, customer, globex):
    """A lost hour and a doubled event, and what they cost, the dearest first."""
    found = lived.compare()

    assert figures(found) == [
        ((customer,), 480, 470, [(NOON + 5 * HOUR, 10, 0)]),
        ((globex,), 144, 147, [(NOON + 40 * HOUR, 3, 6)]),
    ]
    assert [Decimal(30), Decimal(-9)] == [each.amount for each in found]
    assert [False, False] == [each.agrees() for each in found]
    assert [(False, True), (False, True)] == [(each.agrees(tolerance=2), each.agrees(tolerance=3)) for each in found]


@pytest.mark.parametrize("by", ["day", "month"])
def test_by_day_and_month(lived, customer, globex, by):
    """The same sums; longer intervals."""
    midnight = NOON - 12 * HOUR
    first, second = {"day": (midnight, midnight + 2 * DAY), "month": (midnight, midnight)}[by]
    of_first = {"day": (120, 110), "month": (480, 470)}[by]
    of_second = {"day": (36, 39), "month": (144, 147)}[by]

    assert figures(lived.compare(by=by)) == [
        ((customer,), 480, 470, [(first, *of_first)]),
        ((globex,), 144, 147, [(second, *of_second)]),
    ]


def test_after_the_switch(lived, make_kit, stripe, former, clock, customer):
    """What meterkit has billed itself is in Stripe's sums, too."""
    lived.close()
    kit = make_kit(CALLS, prices=[CLASSICAL], stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.record("calls", customer, 20)
    clock.advance(HOUR)
    kit.report()

    assert [(500, 490), (144, 147)] == [(each.counted, each.billed) for each in kit.compare()]


def test_another_event_name(kit, stripe, former, clock, customer):
    """The former biller has a meter of its own."""
    make_meter(stripe, "api_calls")
    kit.record("calls", customer, 10)
    former(customer, 9, "api_calls")
    clock.advance(HOUR)

    assert [(10, 0)] == [(each.counted, each.billed) for each in kit.compare()]
    assert [(10, 9)] == [(each.counted, each.billed) for each in kit.compare(event_names={"calls": "api_calls"})]


def test_customers_that_only_one_side_knows(make_kit, stripe, former, clock, customer, globex):
    """One who is linked and has used nothing here; one who pays for two companies; one who is linked to none."""
    about = {"stripe_key": stripe.api_key, "stripe_base": stripe.url, "customer_ids": False}
    kit = make_kit(CALLS, prices=[CLASSICAL], shadow=True, **about)
    unknown = api(stripe).customers.create({"name": "Initech"}).id
    kit.sync()
    kit.link_all({"globex": globex, "acme": customer, "acme labs": customer})
    kit.record("calls", "acme", 10)
    kit.record("calls", "acme labs", 5)
    kit.record("calls", "hooli", 2)
    for each, quantity in ((customer, 15), (globex, 4), (unknown, 1)):
        former(each, quantity)
    clock.advance(HOUR)

    found = {(each.companies, each.customer, each.counted, each.billed) for each in kit.compare()}
    assert found == {
        (("acme", "acme labs"), customer, 15, 15),
        (("hooli",), None, 2, 0),
        (("globex",), globex, 0, 4),
        ((), unknown, 0, 1),
    }


def test_when_stripe_fails(kit, stripe, former, clock, customer):
    """It is said, and nothing is taken to be equal."""
    kit.record("calls", customer, 10)
    former(customer, 10)
    clock.advance(HOUR)
    kit.flush()
    meter = api(stripe).billing.meters.list().data[0].id
    stripe.fail("500", path=f"/v1/billing/meters/{meter}/event_summaries", times=20)

    (found,) = kit.compare()
    assert (None, None, False) == (found.billed, found.amount, found.agrees(tolerance=100))
    assert found.error


def test_the_prices_of_plans(make_kit, stripe, former, clock, customer):
    """Each company's own."""
    plans = [Plan("pro", prices=[Price.per_unit(CALLS, "0.50")])]
    kit = make_kit(
        CALLS, plans=plans, default_plan="pro", stripe_key=stripe.api_key, stripe_base=stripe.url, shadow=True
    )
    kit.record("calls", customer, 10)
    former(customer, 4)
    clock.advance(HOUR)

    assert [(Decimal("3.00"), "usd")] == [(each.amount, each.currency) for each in kit.compare()]


@pytest.fixture
def counted(make_kit, clock):
    """A kit without a key, with some usage."""
    kit = make_kit(CALLS, prices=[CLASSICAL], shadow=True)
    kit.link_all({"acme": "cus_acme", "globex": "cus_globex"})
    for company, quantity in (("acme", 10), ("globex", 3)):
        kit.record("calls", company, quantity)
    clock.advance(HOUR)
    return kit


@pytest.fixture
def write(tmp_path):
    """A function that writes a CSV file."""

    def write(*lines):
        path = tmp_path / "former.csv"
        path.write_text("\n".join([*lines, ""]))
        return path

    return write


STARTS = ["2026-03-01T12:00:00Z", "2026-03-01T13:00+01:00", str(NOON), "2026-03-01 12:59:59+00:00"]


@pytest.mark.parametrize("start", STARTS)
def test_a_file_of_companies(counted, write, start):
    """Rows of the same hour are added up."""
    path = write("company,meter,start,quantity", f"acme,calls,{start},4", f"acme,calls,{start},6.5")

    assert figures(counted.compare(csv=path)) == [
        (("globex",), 3, 0, [(NOON, 3, 0)]),
        (("acme",), 10, Decimal("10.5"), [(NOON, 10, Decimal("10.5"))]),
    ]


def test_a_file_of_customers(counted, write):
    """The columns may be in any order."""
    path = write("quantity,customer,start,meter", f"10,cus_acme,{NOON},calls", f"3,cus_globex,{NOON},calls")

    found = counted.compare(csv=path)
    assert all(each.agrees() for each in found)
    assert [(("acme",), "cus_acme"), (("globex",), "cus_globex")] == [(e.companies, e.customer) for e in found]


def test_what_is_not_compared_yet(counted, write):
    """Rows of the open hour and of other months."""
    rows = [f"acme,calls,{NOON},10", f"acme,calls,{NOON + HOUR},99", f"acme,calls,{NOON - 9 * DAY},99"]
    path = write("company,meter,start,quantity", *rows, f"globex,calls,{NOON},3")

    assert all(each.agrees() for each in counted.compare(csv=path))


FILES = {
    "": "it names: nothing",
    "company,meter,quantity\na,calls,1": "must name the columns company .* it names: company, meter, quantity",
    "company,customer,meter,start,quantity\n": "must name the columns",
    "company;meter;start;quantity\n": "separated by commas",
    f"company,meter,start,quantity\nacme,calls,{NOON}": "line 2: it has more or fewer columns",
    f"company,meter,start,quantity\nacme,calls,{NOON},1,2": "line 2: it has more or fewer columns",
    f"company,meter,start,quantity\nacme,cals,{NOON},1": "line 2: unknown meter 'cals'; available: calls",
    "company,meter,start,quantity\nacme,calls,2026-03-01T12:00,1": "line 2: start must be a time with a time zone",
    "company,meter,start,quantity\nacme,calls,yesterday,1": "line 2: start must be a time with a time zone",
    f"company,meter,start,quantity\nacme,calls,{NOON},1e400": "line 2: quantity must be a number of at most 15",
    f"company,meter,start,quantity\nacme,calls,{NOON},NaN": "line 2: quantity must be a number",
    f"company,meter,start,quantity\n,calls,{NOON},1": "line 2: ",
    f'company,meter,start,quantity\n"acme,calls,{NOON},1': "the file is not CSV in UTF-8",
    "company,meter,start,quantity\nacme,calls,2025-03-01T12:00Z,1": "none of the 1 rows .* is of 2026-03.*--month",
    "company,meter,start,quantity\n" + f"acme,calls,{NOON},x\n" * 30: "and 20 more",
}


@pytest.mark.parametrize("text", FILES, ids=FILES.values())
def test_a_file_that_is_wrong(counted, write, text):
    """The line and the cure are named."""
    with pytest.raises(UsageError, match=FILES[text]):
        counted.compare(csv=write(text))


def test_a_file_that_is_binary(counted, tmp_path):
    """Is named as such."""
    path = tmp_path / "former.csv"
    path.write_bytes(b"\xff\xfe\x00company")
    with pytest.raises(UsageError, match="not CSV in UTF-8"):
        counted.compare(csv=path)


def test_what_is_asked_wrongly(counted, clock):
    """With the cure."""
    with pytest.raises(UsageError, match="by= must be 'hour', 'day' or 'month'"):
        counted.compare(by="week")
    with pytest.raises(UsageError, match="this kit has no meter 'cals', only calls"):
        counted.compare(event_names={"cals": "x"})
    with pytest.raises(UsageError, match="has not begun"):
        counted.compare(month="2027-01")
    with pytest.raises(ConfigurationError, match="no Stripe key"):
        counted.compare()


def test_an_earlier_month(counted, write, clock):
    """All of its hours."""
    clock.advance(40 * DAY)
    at = datetime.fromtimestamp(NOON, timezone.utc).isoformat()
    path = write("company,meter,start,quantity", f"acme,calls,{at},10", f"globex,calls,{at},3")

    assert all(each.agrees() for each in counted.compare(csv=path, month="2026-03"))
