"""Configurations of the customer portal: what a customer may do there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Array, Boolean, Choice, Object, Rule, Text, Url, merged
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "billing_portal.configuration"
_ENABLED = Boolean(required=True)
_REASONS = (
    "customer_service", "low_quality", "missing_features", "other", "switched_service", "too_complex", "too_expensive",
    "unused",
)  # fmt: skip
FEATURES = Object(
    {
        # The sandbox's pages show invoices, take cards and cancel subscriptions; the other features must stay off.
        "customer_update": Object({"allowed_updates": Array(Text()), "enabled": Boolean(required=True)}),
        "invoice_history": Object({"enabled": _ENABLED}),
        "payment_method_update": Object({"enabled": _ENABLED}),
        "subscription_cancel": Object(
            {
                "cancellation_reason": Object({"enabled": _ENABLED, "options": Array(Choice(_REASONS), required=True)}),
                "enabled": _ENABLED,
                "mode": Choice(("at_period_end", "immediately")),
                "proration_behavior": Choice(("none",)),
            }
        ),
        "subscription_update": Object({"enabled": _ENABLED}),
    }
)
_PROFILE = Object({"headline": Text(60, nullable=True), "privacy_policy_url": Url(), "terms_of_service_url": Url()})
_SHARED: dict[str, Rule] = {
    "business_profile": _PROFILE,
    "default_return_url": Url(nullable=True),
    "metadata": METADATA,
    "name": Text(nullable=True),
}
CREATE: dict[str, Rule] = {**_SHARED, "features": Object(FEATURES.fields, required=True)}
UPDATE: dict[str, Rule] = {**_SHARED, "active": Boolean(), "features": FEATURES}
_ALL_ON: dict[str, Any] = {
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {"enabled": True},
}


def create(account: Account, call: Call) -> Record:
    """Create a configuration."""
    return _build(account, call.params, is_default=False)


def default(account: Account) -> Record:
    """Return the default configuration, as if it had been saved in the Dashboard: all that the pages can do is on."""
    for record in account.all(KIND):
        if record["is_default"]:
            return record
    return _build(account, {"features": _ALL_ON}, is_default=True)


def retrieve(account: Account, call: Call) -> Record:
    """Return one configuration."""
    return account.get(KIND, call.id)


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record, params = account.get(KIND, call.id), call.params
    values: Record = {name: params[name] for name in ("active", "default_return_url", "name") if name in params}
    if record["is_default"] and values.get("active") is False:
        raise invalid("You cannot deactivate the default configuration.", param="active")
    if "metadata" in params:
        values["metadata"] = merged(record["metadata"], params["metadata"])
    if "business_profile" in params:
        values["business_profile"] = {**record["business_profile"], **params["business_profile"]}
    if "features" in params:
        sent = params["features"]
        values["features"] = {name: {**old, **sent.get(name, {})} for name, old in record["features"].items()}
    account.change(record, "billing_portal.configuration.updated", **values, updated=account.now)
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return configurations, newest first."""
    exact = [key for key in ("active", "is_default") if key in call.params]
    records = [
        record for record in reversed(account.all(KIND)) if all(record[key] == call.params[key] for key in exact)
    ]
    return page(call, records, "billing portal configuration")


def _build(account: Account, params: dict[str, Any], *, is_default: bool) -> Record:
    profile = params.get("business_profile", {})
    record = account.add(
        {
            "id": account.new_id(KIND),
            "object": KIND,
            "active": True,
            "application": None,
            "business_profile": {
                "headline": profile.get("headline"),
                "privacy_policy_url": profile.get("privacy_policy_url"),
                "terms_of_service_url": profile.get("terms_of_service_url"),
            },
            "created": account.now,
            "default_return_url": params.get("default_return_url"),
            "features": _features(params["features"]),
            "is_default": is_default,
            "livemode": account.switches.livemode,
            "login_page": {"enabled": False, "url": None},
            "metadata": merged({}, params.get("metadata")),
            "name": params.get("name"),
            "updated": account.now,
        }
    )
    account.announce("billing_portal.configuration.created", record)
    return record


def _features(sent: dict[str, Any]) -> Record:
    for name in ("customer_update", "subscription_update"):
        if sent.get(name, {}).get("enabled"):
            raise invalid(f"This sandbox's portal has no `{name}`.", param=f"features[{name}][enabled]")
    cancel = sent.get("subscription_cancel", {})
    reason = cancel.get("cancellation_reason", {})
    return {
        "customer_update": {"allowed_updates": [], "enabled": False, **sent.get("customer_update", {})},
        "invoice_history": sent.get("invoice_history", {"enabled": False}),
        "payment_method_update": {
            "enabled": sent.get("payment_method_update", {}).get("enabled", False),
            "payment_method_configuration": None,
        },
        "subscription_cancel": {
            "cancellation_reason": {
                "enabled": reason.get("enabled", False),
                "feedback_options": None,
                "options": reason.get("options", list(_REASONS)),
            },
            "enabled": cancel.get("enabled", False),
            "mode": cancel.get("mode", "at_period_end"),
            "proration_behavior": "none",
        },
        "subscription_pause": {
            "duration": {"interval_options": [], "type": "indefinite"},
            "enabled": False,
        },
        "subscription_update": {
            "billing_cycle_anchor": None,
            "default_allowed_updates": [],
            "enabled": False,
            "products": None,
            "proration_behavior": "none",
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
        },
    }


_ALL = "/v1/billing_portal/configurations"
ROUTES = [
    Route("POST", _ALL, create, CREATE),
    Route("GET", _ALL, list_all, {**PAGE, "active": Boolean(), "is_default": Boolean()}),
    Route("GET", f"{_ALL}/{{id}}", retrieve),
    Route("POST", f"{_ALL}/{{id}}", update, UPDATE),
]
