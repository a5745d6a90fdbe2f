"""The phases of a schedule: from when to when a subscription has which items, discounts and trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing.subscription_items import chosen_prices
from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.params import (
    METADATA,
    Array,
    Boolean,
    Choice,
    Integer,
    Moment,
    Object,
    Rule,
    Text,
    merged,
)
from meterkit.sandbox.state.periods import boundary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.state.account import Account, Record

NOW = "now"
MOST = 10
_DISCOUNTS = Array(Object({"coupon": Text(), "discount": Text(), "promotion_code": Text()}), nullable=True)
_ITEM = Object({"discounts": _DISCOUNTS, "metadata": METADATA, "price": Text(required=True), "quantity": Integer(0)})
_SHARED: dict[str, Rule] = {
    "billing_cycle_anchor": Choice(("automatic", "phase_start")),
    "collection_method": Choice(("charge_automatically",)),  # this sandbox schedules no invoices that are sent
    "currency": Text(3),
    "default_payment_method": Text(),
    "description": Text(500, nullable=True),
    "discounts": _DISCOUNTS,
    "duration": Object(
        {"interval": Choice(("day", "week", "month", "year"), required=True), "interval_count": Integer(1)}
    ),
    "items": Array(_ITEM, longest=20, shortest=1, required=True),
    "metadata": METADATA,
    "proration_behavior": Choice(("always_invoice", "create_prorations", "none")),
    "trial": Boolean(),
}
CREATE = Array(Object({**_SHARED, "end_date": Integer(0), "trial_end": Integer(0)}), longest=MOST, shortest=1)
UPDATE = Array(
    Object({**_SHARED, "end_date": Moment((NOW,)), "start_date": Moment((NOW,)), "trial_end": Moment((NOW,))}),
    longest=MOST,
    shortest=1,
)


def build(account: Account, sent: Sequence[dict[str, Any]], start: int) -> list[Record]:
    """
    Return the phases of a schedule, one after another.

    Args:
        account: Account of the schedule.
        sent: Parsed parameter `phases`.
        start: Unix second at which the first one begins.

    Raises:
        ApiError: 400 for a phase that ends before it begins, or for a price that cannot be subscribed to.

    """
    made: list[Record] = []
    for place, params in enumerate(sent):
        begins = made[-1]["end_date"] if made else start
        made.append(_build(account, params, f"phases[{place}]", begins))
    return made


def current(schedule: Record, moment: int) -> Record | None:
    """Return the phase that runs at that Unix second."""
    return next((each for each in schedule["phases"] if each["start_date"] <= moment < each["end_date"]), None)


def settings(phase: Record) -> dict[str, Any]:
    """Return what a phase says about a subscription, as parameters of a subscription; without its items."""
    params = phase["_params"]
    found = {
        name: params[name]
        for name in ("default_payment_method", "description", "discounts", "metadata")
        if name in params
    }
    trial_end = phase["end_date"] if params.get("trial") else params.get("trial_end")
    if trial_end not in (None, NOW):
        found["trial_end"] = trial_end
    return found


def _build(account: Account, params: dict[str, Any], name: str, start: int) -> Record:
    try:
        prices = chosen_prices(account, params["items"])
    except ApiError as error:
        param = None if error.param is None else error.param.replace("items[", f"{name}[items][")
        raise invalid(error.message, param=param, code=error.code) from None
    end = _end(account, params, name, start, prices[0])
    if params.get("trial") and "trial_end" in params:
        raise invalid("You may only specify one of `trial`, `trial_end`.", param=f"{name}[trial_end]")
    items = [
        {
            "billing_thresholds": None,
            "discounts": _shown(item.get("discounts")),
            "metadata": merged({}, item.get("metadata")),
            "plan": price["id"],
            "price": price["id"],
            "quantity": None if price["recurring"]["usage_type"] == "metered" else item.get("quantity", 1),
            "tax_rates": [],
        }
        for item, price in zip(params["items"], prices, strict=True)
    ]
    nothing = (
        "application_fee_percent", "automatic_tax", "billing_thresholds", "invoice_settings", "on_behalf_of",
        "transfer_data",
    )  # fmt: skip
    return {
        **dict.fromkeys(nothing),
        "add_invoice_items": [],
        "billing_cycle_anchor": params.get("billing_cycle_anchor"),
        "collection_method": params.get("collection_method"),
        "currency": str(params.get("currency", prices[0]["currency"])).lower(),
        "default_payment_method": params.get("default_payment_method"),
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": _shown(params.get("discounts")),
        "end_date": end,
        "items": items,
        "metadata": merged({}, params.get("metadata")),
        "proration_behavior": params.get("proration_behavior", "create_prorations"),
        "start_date": start,
        "trial": params.get("trial"),
        "trial_end": end if params.get("trial") else params.get("trial_end"),
        "_params": params,
    }


def _end(account: Account, params: dict[str, Any], name: str, start: int, price: Record) -> int:
    if "end_date" in params and "duration" in params:
        raise invalid("You may only specify one of `duration`, `end_date`.", param=f"{name}[end_date]")
    if "end_date" in params:
        end = account.now if params["end_date"] == NOW else int(params["end_date"])
        if end <= start:
            raise invalid("The end date of a phase must be after its start date.", param=f"{name}[end_date]")
        return end
    # Without either, a phase lasts for one period of its first price.
    duration: Record = params["duration"] if "duration" in params else price["recurring"]
    return boundary(start, duration["interval"], duration.get("interval_count", 1), 1)


def _shown(discounts: Sequence[dict[str, Any]] | None) -> list[Record]:
    return [{name: each.get(name) for name in ("coupon", "discount", "promotion_code")} for each in discounts or ()]
