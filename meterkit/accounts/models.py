"""Customers, subscriptions and invoices, as Stripe last described them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Customer:
    """
    A Stripe customer.

    Attributes:
        id: Customer id, ``cus_...``.
        name: Name in Stripe, or empty.
        company: Company id in the customer's metadata, or None.
        deleted: Whether it was deleted in Stripe.
        checked_at: Time at which this was read from Stripe, Unix seconds.
        discounts: Discount of the customer, which counts where a subscription has none; as those of a `Subscription`.
    """

    id: str
    name: str
    company: str | None
    deleted: bool
    checked_at: int
    discounts: str = "[]"


@dataclass(frozen=True, slots=True)
class Item:
    """
    One price of a subscription.

    Attributes:
        id: Subscription item id, ``si_...``.
        subscription: Id of the subscription.
        customer: Id of the customer who pays.
        event_name: Event name of the price's meter, or None for a price without a meter.
        quantity: Quantity of a licensed price, or None for a metered one.
        period_start: Unix second at which the billing period begins.
        period_end: Unix second at which the billing period ends and the next begins.
        price: Price in Stripe, as JSON, with its amounts in the subscription's currency if Stripe has them.
        meter: Id of the price's meter, or None for a price without a meter.
        since: Unix second from which the item has this price and quantity.
    """

    id: str
    subscription: str
    customer: str
    event_name: str | None
    quantity: int | None
    period_start: int
    period_end: int
    price: str
    meter: str | None = None
    since: int = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    A Stripe subscription.

    Attributes:
        id: Subscription id, ``sub_...``.
        customer: Id of the customer who pays.
        status: Status in Stripe: ``active``, ``past_due``, ``canceled``, ...
        created: Time of creation, Unix seconds.
        ended_at: Time at which it ended, Unix seconds, or None while it has not.
        cancel_at: Time at which it is scheduled to end, Unix seconds, or None.
        checked_at: Time at which this was read from Stripe, Unix seconds.
        items: Prices of the subscription.
        currency: Three-letter currency code, lower case; empty if a former version has read the subscription.
        billing_mode: ``flexible`` or ``classic``: how changes within a period are billed; or empty, likewise.
        anchor: Unix second that all billing periods are counted from, or None if it is not known.
        trial_start: Unix second at which the trial began, or None.
        trial_end: Unix second at which the trial ends or ended, or None.
        pause: What becomes of invoices while collection is paused: ``void``, ``keep_as_draft`` or
            ``mark_uncollectible``; None while it is not.
        resumes_at: Unix second at which the pause ends, or None if that is not scheduled.
        discounts: Discounts of the subscription and its items, as JSON: a list of objects with ``item``, ``start``,
            ``end``, ``duration``, ``percent_off``, ``amount_off``, ``currency`` and ``products``.
        threshold: Amount in the currency's minor unit at which Stripe invoices before the period ends, or None.
        company: Company id in the subscription's metadata, or None.
        started_at: Unix second from which it bills: before *created* if it was backdated; None if a former version has
            read it.
        cancel_reason: Why it was canceled, such as ``payment_failed``, or None.
    """

    id: str
    customer: str
    status: str
    created: int
    ended_at: int | None
    cancel_at: int | None
    checked_at: int
    items: tuple[Item, ...]
    currency: str = ""
    billing_mode: str = ""
    anchor: int | None = None
    trial_start: int | None = None
    trial_end: int | None = None
    pause: str | None = None
    resumes_at: int | None = None
    discounts: str = "[]"
    threshold: int | None = None
    company: str | None = None
    started_at: int | None = None
    cancel_reason: str | None = None


@dataclass(frozen=True, slots=True)
class PastSubscription:
    """
    A subscription as it was after an event.

    Attributes:
        at: Unix second of the event.
        state: Subscription as it was then, as far as the event says; the rest is as it is now.
        before: Price id by item id, as it was before the event; None if the event did not change the items.
    """

    at: int
    state: Subscription
    before: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Proration:
    """
    An invoice item that Stripe has made because an item of a subscription was changed.

    Attributes:
        item: Subscription item id, ``si_...``.
        price: Id of the price that it bills: that from before the change.
        at: Unix second of the change.
    """

    item: str
    price: str
    at: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """
    A Stripe invoice.

    Attributes:
        id: Invoice id, ``in_...``.
        customer: Id of the customer who pays.
        subscription: Id of the subscription, or None for a one-off invoice.
        number: Invoice number as the customer sees it, or None for a draft.
        status: ``draft``, ``open``, ``paid``, ``uncollectible`` or ``void``.
        billing_reason: Why it was created: ``subscription_cycle``, ...
        collection_method: ``charge_automatically`` or ``send_invoice``.
        currency: Three-letter currency code, lower case.
        total: Total amount in the currency's minor unit.
        amount_remaining: Unpaid amount in the currency's minor unit.
        attempts: Number of payment attempts.
        created: Time of creation, Unix seconds.
        period_start: Unix second at which the billed period begins.
        period_end: Unix second at which the billed period ends.
        due_at: Due date, Unix seconds, or None if it is charged automatically.
        next_attempt_at: Time of the next payment attempt, Unix seconds, or None.
        finalized_at: Time at which it was finalised, Unix seconds, or None for a draft.
        url: URL of the page on which it can be paid, or None for a draft.
        checked_at: Time at which this was read from Stripe, Unix seconds.
        lines: Lines of the invoice, as JSON: a list of objects with ``price``, ``item``, ``quantity``, ``amount`` in
            the minor unit before discounts, ``start``, ``end``, ``proration``, and ``report``: identifier of the late
            report that an invoice item bills.
    """

    id: str
    customer: str
    subscription: str | None
    number: str | None
    status: str
    billing_reason: str | None
    collection_method: str
    currency: str
    total: int
    amount_remaining: int
    attempts: int
    created: int
    period_start: int
    period_end: int
    due_at: int | None
    next_attempt_at: int | None
    finalized_at: int | None
    url: str | None
    checked_at: int
    lines: str = "[]"


@dataclass(frozen=True, slots=True)
class Checkout:
    """
    A completed Checkout session that says which company has paid.

    Attributes:
        customer: Id of the customer who paid in it.
        company: Company id that the application gave the session.
    """

    customer: str
    company: str


@dataclass(frozen=True, slots=True)
class StripeMeter:
    """
    A meter of the Stripe account.

    Attributes:
        id: Meter id, ``mtr_...``.
        event_name: Event name of the meter; that of a deactivated one can be another's.
        deactivated_at: Unix second from which it counts nothing, or None.
    """

    id: str
    event_name: str
    deactivated_at: int | None


StripeObject: TypeAlias = "Customer | Subscription | Invoice | Checkout | StripeMeter"
