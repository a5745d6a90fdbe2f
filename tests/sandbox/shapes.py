"""What stripe-python declares of an object, against what an object has."""

from __future__ import annotations

import inspect
import typing

import stripe

# What a payment method of every type has; the details of its own type come on top.
OF_EVERY_METHOD = {
    "allow_redisplay", "billing_details", "created", "customer", "customer_account", "id", "livemode", "metadata",
    "object", "type",
}  # fmt: skip

# Left out on purpose: only on demand or only on tombstones, as on Stripe (see expandable fields and `deleted`).
ABSENT = {
    "Capabilities": set(inspect.get_annotations(stripe.Account.Capabilities)),
    "Card": {"description", "iin", "issuer"},
    "Issuer": {"account"},
    "LastPaymentError": set(inspect.get_annotations(stripe.PaymentIntent.LastPaymentError))
    - {"code", "message", "type"},
    "PaymentMethodOptions": set().union(
        *(
            inspect.get_annotations(each.PaymentMethodOptions)
            for each in (stripe.PaymentIntent, stripe.SetupIntent, stripe.checkout.Session)
        )
    ),
    "Restrictions": {"currency_options"},
    "Settings": {"paypay_payments", "treasury"},
    "account": {"company", "deleted", "groups", "individual"},
    "checkout.session": {"line_items"},
    "coupon": {"applies_to", "currency_options", "deleted"},
    "customer": {
        "deleted",
        "invoice_credit_balance",
        "sources",
        "subscriptions",
        "tax",
        "tax_ids",
    },
    "discount": {"deleted"},
    "event": {"deleted"},
    "invoice": {"deleted", "payments", "status_details"},
    "invoiceitem": {"deleted"},
    "payment_method": set(inspect.get_annotations(stripe.PaymentMethod)) - OF_EVERY_METHOD - {"card"},
    "plan": {"deleted", "tiers"},
    "price": {"currency_options", "deleted", "tiers"},
    "product": {"deleted"},
    "subscription": {"managed_payments", "presentment_details", "status_details"},
    "subscription_item": {"deleted"},
    "test_helpers.test_clock": {"deleted"},
    "v2.core.event": {"data"},
    "webhook_endpoint": {"deleted", "secret"},
}
MAPS = {"currency_options", "metadata"}  # stripe-python takes a map for one of its values


def declared(each):
    """What the class of an object says that it has, and the classes that it is one of."""
    lineage = type(each).__mro__
    classes = lineage[: lineage.index(stripe.StripeObject)]
    hints = {name: hint for one in reversed(classes) for name, hint in inspect.get_annotations(one).items()}
    return {name: hint for name, hint in hints.items() if not name.startswith("_") and name.islower()}


def named(each):
    """What an object says that it is; a part of one says nothing."""
    return each.to_dict().get("object", type(each).__name__)


def lacking(each):
    """The attributes that an object's class declares and it lacks, but for the few that Stripe leaves out as well."""
    found = each.to_dict()
    return {name for name in declared(each) if name not in found} - ABSENT.get(named(each), set())


def undeclared(each):
    """The attributes that an object has and its class does not declare."""
    return set(each.to_dict()) - set(declared(each))


def wrong_words(each):
    """The attributes of an object with a word that the class does not list."""
    return {
        name
        for name, hint in declared(each).items()
        if words(hint) and isinstance(getattr(each, name, None), str) and getattr(each, name) not in words(hint)
    }


def differences(objects):
    """Each attribute in which an object, or a part of one, is not as declared: what it is of, its name and why."""
    return {
        (named(each), name, check.__name__)
        for one in objects
        for each in parts(one)
        if declared(each)
        for check in (lacking, undeclared, wrong_words)
        for name in check(each)
    }


def parts(each):
    """An object and all objects within it."""
    if isinstance(each, list):
        for one in each:
            yield from parts(one)
    elif isinstance(each, stripe.StripeObject):
        if named(each) != "list":
            yield each
        for name in set(each.to_dict()) - MAPS:
            yield from parts(each[name])


def words(hint):
    """The words that a type allows, if it is a choice of words."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return set().union(*(words(part) for part in typing.get_args(hint))) if typing.get_args(hint) else set()
