"""Good standing has one definition, which the operator, the customer, governance and notices all ask."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fake_clock import NOON
from plain_exchange import PlainExchange

from meterkit import Governance, Meter, Notify
from meterkit.accounts.models import Customer, Invoice, Subscription

DAY = 24 * 3600
CUSTOMER = Customer(id="cus_1", name="Acme", company=None, deleted=False, checked_at=NOON)
SUBSCRIPTION = Subscription("sub_1", "cus_1", "active", NOON, None, None, NOON, ())
INVOICE = Invoice(
    id="in_1",
    customer="cus_1",
    subscription=None,
    number="A-1",
    status="open",
    billing_reason=None,
    collection_method="send_invoice",
    currency="usd",
    total=700,
    amount_remaining=700,
    attempts=0,
    created=NOON - DAY,
    period_start=NOON - DAY,
    period_end=NOON,
    due_at=None,
    next_attempt_at=None,
    finalized_at=NOON - DAY,
    url=None,
    checked_at=NOON,
)
UNDER_WAY = replace(INVOICE, subscription="sub_1", collection_method="charge_automatically", attempts=1)

STATES = {
    "nothing is known": ([], "unknown"),
    "a customer": ([CUSTOMER], "good"),
    "a subscription": ([SUBSCRIPTION], "good"),
    "only a subscription that has ended": ([replace(SUBSCRIPTION, status="canceled", ended_at=NOON)], "good"),
    "past due, and its invoice is not known yet": ([replace(SUBSCRIPTION, status="past_due")], "good"),
    "an invoice that is not due yet": ([CUSTOMER, replace(INVOICE, due_at=NOON + 1)], "good"),
    "an invoice that is due this second": ([CUSTOMER, replace(INVOICE, due_at=NOON)], "overdue"),
    "an invoice that was due yesterday": ([CUSTOMER, replace(INVOICE, due_at=NOON - DAY)], "overdue"),
    "a charge that has not been tried": ([CUSTOMER, INVOICE], "good"),
    "a charge that is under way": ([CUSTOMER, UNDER_WAY, SUBSCRIPTION], "good"),
    "a charge that is under way, of no subscription": ([CUSTOMER, replace(INVOICE, attempts=1)], "good"),
    "a charge under way, and its subscription has ended": (
        [UNDER_WAY, replace(SUBSCRIPTION, status="canceled", ended_at=NOON, cancel_reason="cancellation_requested")],
        "good",
    ),
    "a charge that has failed, and is tried again": (
        [CUSTOMER, replace(INVOICE, attempts=1, next_attempt_at=NOON + 1)],
        "overdue",
    ),
    "a charge that has not been tried, and will be": ([CUSTOMER, replace(INVOICE, next_attempt_at=NOON + 1)], "good"),
    "a charge that has failed, by its subscription": ([UNDER_WAY, replace(SUBSCRIPTION, status="past_due")], "overdue"),
    "a charge that was given up": ([UNDER_WAY, replace(SUBSCRIPTION, status="unpaid")], "overdue"),
    "a charge that was given up with its subscription": (
        [UNDER_WAY, replace(SUBSCRIPTION, status="canceled", ended_at=NOON, cancel_reason="payment_failed")],
        "overdue",
    ),
    "an invoice that was paid late": ([CUSTOMER, replace(INVOICE, due_at=NOON - DAY, status="paid")], "good"),
}


class Mailbox:
    """A channel that keeps what it is given."""

    name = "mailbox"

    def __init__(self):
        self.kinds = []

    def deliver(self, notice):
        self.kinds.append(notice.kind)


@pytest.fixture
def seen():
    """What governance says of the company, at each of its requests."""
    return []


@pytest.fixture
def mailbox():
    return Mailbox()


@pytest.fixture
def kit(make_kit, clock, seen, mailbox):
    """A kit that blocks who is overdue, tells it, and has a customer page; acme is linked."""
    clock.now = NOON
    kit = make_kit(
        Meter("calls", path="/calls"),
        identify=lambda exchange: exchange.headers.get("x-company"),
        governance=Governance(overdue_days=0, check=lambda _, known: seen.append(known.standing)),
        notify=[Notify.overdue(to=mailbox)],
        customer_page="/billing/usage",
    )
    kit.link("acme", "cus_1")
    return kit


def status_of(kit):
    """What a request of acme is answered with."""
    exchange = PlainExchange("GET", "/calls", headers={"x-company": "acme"})
    exchange.publish(kit)
    response = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)
    return 200 if response is None else response.status


@pytest.mark.parametrize(("objects", "standing"), STATES.values(), ids=STATES)
def test_all_agree(kit, seen, mailbox, objects, standing):
    """The operator's list, the customer's own page, the check, the block and the notice say the same."""
    process = kit.process()
    with process.database().transaction() as connection:
        for each in objects:
            process.accounts().put(connection, each)
    kit.governor.begin()
    kit.flush()
    exchange = PlainExchange("GET", "/billing/usage", headers={"x-company": "acme"})
    exchange.publish(kit)
    page = json.loads(kit.page.respond(exchange).body)
    kit.recorder.refuse(exchange)
    status = status_of(kit)
    process.dispatcher.evaluate()
    process.dispatcher.deliver("mailbox")

    assert [standing] == [account.standing for account in kit.customers()]
    assert standing == page["standing"]
    assert (402 if standing == "overdue" else 200) == status
    assert ([] if standing == "overdue" else [standing]) == seen
    assert (["overdue"] if standing == "overdue" else []) == mailbox.kinds
    assert ([{"usd": 700}] if standing == "overdue" else [{}]) == [account.overdue for account in kit.customers()]
