"""
Make Stripe's meters, products and prices match the code.

First a plan, then its steps, one after the other. Each can be repeated: existing objects are found again, a meter by
its event name, a product by its id, a price by its lookup key; and until they can be found, Stripe recognises the
request by its Idempotency-Key. What Stripe cannot change is drift: the plan names it, with the choices that are left,
and it is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import stripe

from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.plan import Fee
from meterkit.pricing.price import Price
from meterkit.provisioning.fees import FeePlanner
from meterkit.provisioning.prices import PricePlanner
from meterkit.provisioning.steps import ProvisioningPlan, Step
from meterkit.provisioning.webhook_endpoint import webhook_step
from meterkit.provisioning.writer import CatalogWriter, lookup_key_of
from meterkit.stripe_api.outcomes import naming_failures
from meterkit.stripe_api.transport import PAGE_SIZE
from meterkit.wallets.pack import Pack

REQUIRED = {"formula": "sum", "event_time_window": None}
"""
Required settings of a meter. Several meter events of one hour must add up: any other formula, or a window in which only
the last event counts, would lose usage.
"""


class Provisioner:
    """
    Compares the code with an account, and makes the account match.

    Args:
        client: Client of stripe-python.
        livemode: Whether the key is for live mode.
    """

    def __init__(self, client: stripe.StripeClient, *, livemode: bool) -> None:
        self._client = client
        self._livemode = livemode
        self._writes = CatalogWriter(client)

    def plan(
        self,
        meters: Iterable[Meter],
        prices: Iterable[Price],
        *,
        fees: Iterable[Fee] = (),
        packs: Iterable[tuple[str, Pack]] = (),
        webhook: str | None = None,
    ) -> ProvisioningPlan:
        """
        Return what would be done, without doing it.

        Args:
            meters: Meters to provision.
            prices: Metered prices to provision.
            fees: Fees of plans to provision.
            packs: Packs of wallets to provision, each with the name of its wallet.
            webhook: URL of the webhook endpoint to provision; None for none.

        Raises:
            StripeFailedError: Stripe failed or refused.
            ConfigurationError: Two prices have the same lookup key.
        """
        prices = list(prices)
        _check_keys(prices)
        with naming_failures():
            existing: dict[str, list[Any]] = {}
            for found in self._client.v1.billing.meters.list({"limit": PAGE_SIZE}).auto_paging_iter():
                existing.setdefault(found.event_name, []).append(found)
            names = {found.id: name for name, of_name in existing.items() for found in of_name}
            planner = PricePlanner(self._client, self._writes, names)
            steps: list[Step] = []
            for meter in (each for each in meters if each.billable):
                own = [price for price in prices if price.meter.name == meter.name]
                steps += self._plan(meter, own, existing.get(meter.event_name, []), planner)
            steps += FeePlanner(self._client, self._writes).steps(fees)
            packs = list(packs)
            steps += FeePlanner(self._client, self._writes).packs(packs)
            plan = ProvisioningPlan(self._livemode, steps)
            if webhook is not None:
                remember = partial(setattr, plan, "webhook_secret")
                steps.append(webhook_step(self._client, webhook, remember, reversals=bool(packs)))
            return plan

    def apply(self, plan: ProvisioningPlan, *, done: Callable[[Step], object] | None = None) -> None:
        """
        Take the steps of *plan*, except drift.

        Args:
            plan: ProvisioningPlan to apply, created just before.
            done: Function that is called after each step.

        Raises:
            StripeFailedError: Stripe failed or refused; completed steps stay, and another run continues.
        """
        for step in plan.changes:
            assert step.act is not None
            with naming_failures(f"{step.kind} {step.what} {step.name}"):
                step.act()
            if done is not None:
                done(step)

    def _plan(self, meter: Meter, prices: list[Price], found: list[Any], planner: PricePlanner) -> list[Step]:
        """Return all steps for *meter*; if any of them is drift, only those that change nothing."""
        step = self._plan_meter(meter, found)
        if step.kind == "drift" or not prices:
            return [step]
        steps = [step, *planner.steps(meter, prices)]
        if any(each.kind == "drift" for each in steps):
            return [each for each in steps if each.act is None]
        return steps

    def _plan_meter(self, meter: Meter, found: list[Any]) -> Step:
        name = meter.event_name
        # Of several with one event name, at most one is active. Inactive ones that do not fit are ignored.
        fitting = [each for each in found if not flaws_of(each, meter)]
        known = next((each for each in found if each.status == "active"), next(iter(fitting), None))
        if known is None:
            self._writes.meters.pop(name, None)
            choices = ("if Stripe says that the name is taken, give the meter another event_name= in the code",)
            return Step(
                "create", "meter", name, "", choices if found else (), act=lambda: self._writes.create_meter(meter)
            )
        flaws = flaws_of(known, meter)
        if flaws:
            keys = keys_of(known)
            own = f"customer_key={keys[0]!r}, value_key={keys[1]!r}"
            same = (f"give the meter {own} in the code",) if flaws_of(known, None) == [] else ()
            return Step(
                "drift",
                "meter",
                name,
                f"{known.id}: {'; '.join(flaws)}; Stripe cannot change that",
                (
                    *same,
                    "give the meter another event_name= in the code",
                    f"deactivate {known.id} in Stripe, if nobody uses it",
                ),
            )
        self._writes.meters[name] = known.id
        if known.status != "active":
            return Step("change", "meter", name, "it is inactive", act=lambda: self._writes.reactivate(known.id))
        return Step("unchanged", "meter", name)


def keys_of(meter: Any) -> tuple[str, str]:
    """Return the keys of the customer and of the quantity in the events of a Stripe meter."""
    return str(meter.customer_mapping.event_payload_key), str(meter.value_settings.event_payload_key)


def flaws_of(meter: Any, wanted: Meter | None) -> list[str]:
    """
    Return which settings of a Stripe meter differ from those that are required.

    Args:
        meter: Meter in Stripe.
        wanted: Meter in the code, whose keys are required; None allows any.
    """
    required: dict[str, Any] = dict(REQUIRED)
    settings = {"formula": meter.default_aggregation.formula, "event_time_window": meter.event_time_window}
    if wanted is not None:
        required |= {"customer key": wanted.customer_key, "value key": wanted.value_key}
        settings["customer key"], settings["value key"] = keys_of(meter)
    return [
        f"{name} is {value!r}, not {required[name]!r}" for name, value in settings.items() if value != required[name]
    ]


def _check_keys(prices: list[Price]) -> None:
    keys = [lookup_key_of(price) for price in prices]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigurationError(f"two prices have the lookup key {key!r}: give one of them another lookup_key=")
