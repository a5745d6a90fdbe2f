"""
Plan the products and prices of what has a fixed price: the fees of plans, and the packs of wallets.

A fee or a pack that changes in the code has another lookup key, so the new price stands beside the old one, which its
subscriptions keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import stripe

from meterkit.pricing.plan import Fee
from meterkit.pricing.stripe_price import minor
from meterkit.provisioning.steps import Step
from meterkit.provisioning.writer import CatalogWriter, product_of_pack, product_of_plan
from meterkit.stripe_api.transport import PAGE_SIZE, plain
from meterkit.wallets.pack import Pack, key_of

KEYS = 10
"""Stripe: most lookup keys in one request."""


class FeePlanner:
    """
    Compares the fees of plans with what Stripe has.

    Args:
        client: Client of stripe-python.
        writes: Writer of objects.
    """

    def __init__(self, client: stripe.StripeClient, writes: CatalogWriter) -> None:
        self._v1 = client.v1
        self._writes = writes

    def steps(self, fees: Iterable[Fee]) -> list[Step]:
        """
        Return the steps for the products of the plans and for their fees.

        Raises:
            stripe.StripeError: Stripe failed or refused.
        """
        fees = list(fees)
        known = self._known([fee.lookup_key for fee in fees])
        found: list[Step] = []
        for plan in dict.fromkeys(fee.plan for fee in fees):
            of_plan = [self._fee(fee, known.get(fee.lookup_key)) for fee in fees if fee.plan == plan]
            is_drift = any(step.kind == "drift" for step in of_plan)
            changing = any(step.kind in ("create", "change") for step in of_plan)
            if changing and not is_drift:
                found.append(self._product(product_of_plan(plan), partial(self._writes.create_plan, plan)))
            found += [step for step in of_plan if not is_drift or step.act is None]
        return found

    def packs(self, packs: Iterable[tuple[str, Pack]]) -> list[Step]:
        """
        Return the steps for the products and prices of *packs*, each with the name of its wallet.

        Raises:
            stripe.StripeError: Stripe failed or refused.
        """
        packs = list(packs)
        known = self._known([key_of(wallet, pack) for wallet, pack in packs])
        found: list[Step] = []
        for wallet, pack in packs:
            key = key_of(wallet, pack)
            step = self._pack(wallet, pack, key, known.get(key))
            if step.kind == "create":
                identity = product_of_pack(key)
                found.append(self._product(identity, partial(self._writes.create_named, identity, pack.name)))
            found.append(step)
        return found

    def _pack(self, wallet: str, pack: Pack, key: str, there: Mapping[str, Any] | None) -> Step:
        if there is None:
            return Step("create", "price", key, pack.name, act=lambda: self._writes.create_pack(wallet, pack))
        if not is_pack(there, pack):
            return Step(
                "drift",
                "price",
                key,
                f"{there['id']} has the lookup key, but does not cost {pack.price} {pack.currency}",
                (
                    "give the pack another lookup_key= in the code",
                    f"remove the lookup key from {there['id']} in Stripe",
                ),
            )
        if not there["active"]:
            act = lambda: self._writes.update(there["id"], {"active": True})  # noqa: E731 - as the other steps
            return Step("change", "price", key, "it is archived", act=act)
        return Step("unchanged", "price", key)

    def _known(self, keys: list[str]) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(keys), KEYS):
            listed = self._v1.prices.list({"lookup_keys": keys[start : start + KEYS], "limit": PAGE_SIZE})
            found |= {str(price.lookup_key): plain(price) for price in listed.auto_paging_iter()}
        return found

    def _product(self, identity: str, create: Callable[[], None]) -> Step:
        product = self._writes.product(identity)
        if product is None:
            return Step("create", "product", identity, act=create)
        if not product.active:
            act = lambda: self._writes.unarchive(identity)  # noqa: E731 - as the other steps
            return Step("change", "product", identity, "it is archived", act=act)
        return Step("unchanged", "product", identity)

    def _fee(self, fee: Fee, there: Mapping[str, Any] | None) -> Step:
        key = fee.lookup_key
        if there is None:
            return Step("create", "price", key, act=lambda: self._writes.create_fee(fee))
        if not is_fee(there, fee):
            return Step(
                "drift",
                "price",
                key,
                f"{there['id']} has the lookup key, but is not {fee.amount} {fee.currency} every {fee.interval}",
                (f"remove the lookup key from {there['id']} in Stripe",),
            )
        if not there["active"]:
            act = lambda: self._writes.update(there["id"], {"active": True})  # noqa: E731
            return Step("change", "price", key, "it is archived", act=act)
        return Step("unchanged", "price", key)


def is_fee(known: Mapping[str, Any], fee: Fee) -> bool:
    """Return whether Stripe's price charges *fee*."""
    recurring = known.get("recurring") or {}
    amount = known.get("unit_amount_decimal")
    every = (recurring.get("usage_type"), recurring.get("interval"), recurring.get("interval_count", 1))
    return (
        every == ("licensed", fee.interval, 1)
        and known["currency"] == fee.currency
        and known.get("billing_scheme") == "per_unit"
        and not known.get("transform_quantity")
        and amount is not None
        and Decimal(str(amount)) == Decimal(minor(fee.amount, fee.currency))
    )


def is_pack(known: Mapping[str, Any], pack: Pack) -> bool:
    """Return whether Stripe's price charges what *pack* costs for each; it may be that of a subscription."""
    amount = known.get("unit_amount_decimal")
    return (
        (known.get("recurring") or {}).get("usage_type") != "metered"
        and known["currency"] == pack.currency
        and known.get("billing_scheme") == "per_unit"
        and not known.get("transform_quantity")
        and amount is not None
        and Decimal(str(amount)) == Decimal(minor(pack.price, pack.currency))
    )
