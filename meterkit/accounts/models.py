"""Customers, subscriptions and invoices, as Stripe last described them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Customer:
    """
    A Stripe customer.

    Attributes:
        id: ``cus_...``.
        name: As Stripe has it, or empty.
        company: Whom its metadata names; None for nobody.
        deleted: It is no more.
        checked_at: When Stripe said so, unix seconds.
    """

    id: str
    name: str
    company: str | None
    deleted: bool
    checked_at: int


@dataclass(frozen=True, slots=True)
class Item:
    """
    One price of a subscription.

    Attributes:
        id: ``si_...``.
        subscription: Whose it is.
        customer: Who pays.
        event_name: Of the price's meter; None for a price without one.
        quantity: Of a licensed price; None for a metered one.
        period_start: Of the billing period, unix seconds.
        period_end: The second in which the next begins.
        price: Stripe's price, as JSON.
    """

    id: str
    subscription: str
    customer: str
    event_name: str | None
    quantity: int | None
    period_start: int
    period_end: int
    price: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    A Stripe subscription.

    Attributes:
        id: ``sub_...``.
        customer: Who pays.
        status: Stripe's word: ``active``, ``past_due``, ``canceled``, ...
        created: Unix seconds, as all that follow.
        ended_at: None while it runs.
        cancel_at: When it will end; None if it goes on.
        checked_at: When Stripe said so.
        items: Its prices.
    """

    id: str
    customer: str
    status: str
    created: int
    ended_at: int | None
    cancel_at: int | None
    checked_at: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Invoice:
    """
    A Stripe invoice. Amounts are in the currency's minor unit, times in unix seconds.

    Attributes:
        id: ``in_...``.
        customer: Who pays.
        subscription: What for; None for a one-off.
        number: As the customer sees it; None while it is a draft.
        status: ``draft``, ``open``, ``paid``, ``uncollectible`` or ``void``.
        billing_reason: ``subscription_cycle``, ...
        collection_method: ``charge_automatically`` or ``send_invoice``.
        currency: Three letters.
        total: What it asks for.
        amount_remaining: What is not paid of it.
        attempts: How often a payment was tried.
        created: When it was made.
        period_start: Of what is billed.
        period_end: The same.
        due_at: By when it is to be paid; None where the card is charged.
        next_attempt_at: When the next payment is tried; None if none is.
        finalized_at: When it became final; None for a draft.
        url: Where it can be paid; None while it is a draft.
        checked_at: When Stripe said so.
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


StripeObject: TypeAlias = "Customer | Subscription | Invoice"
