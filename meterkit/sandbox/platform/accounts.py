"""Accounts: the one that the key belongs to, and those connected to it, each a world of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.lists import listing, page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Boolean,
    Choice,
    Object,
    Rule,
    Span,
    Table,
    Text,
    merged,
    within,
)
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import Account

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meterkit.sandbox.state.account import Record

KIND = "account"
_PROFILE = (
    "annual_revenue", "estimated_worker_count", "mcc", "minority_owned_business_designation",
    "monthly_estimated_revenue", "name", "product_description", "specified_commercial_transactions_act_url",
    "support_address", "support_email", "support_phone", "support_url", "url",
)  # fmt: skip
_SHARED: dict[str, Rule] = {
    "business_profile": Object({"name": Text(), "support_email": Text(), "url": Text()}),
    "business_type": Choice(("company", "government_entity", "individual", "non_profit")),
    "capabilities": Table({"requested": Boolean()}),
    "default_currency": Text(3),
    "email": Text(),
    "metadata": METADATA,
}
CREATE: dict[str, Rule] = {
    **_SHARED,
    "controller": Object(
        {
            "fees": Object({"payer": Choice(("account", "application"))}),
            "losses": Object({"payments": Choice(("application", "stripe"))}),
            "requirement_collection": Choice(("application", "stripe")),
            "stripe_dashboard": Object({"type": Choice(("express", "full", "none"))}),
        }
    ),
    "country": Text(2),
    "type": Choice(("custom", "express", "standard")),
}


def acting(account: Account, headers: Mapping[str, str]) -> Account:
    """
    Return the account in which a request acts: the one that `Stripe-Account` or `Stripe-Context` names, or the key's.

    Raises:
        ApiError: 403: the account is not connected.

    """
    named = headers.get("stripe-account") or headers.get("stripe-context") or account.id
    if named == account.id:
        return account
    if named not in account.connected:
        raise ApiError(
            403,
            f"The provided key does not have access to account '{named}' (or that account does not exist). Application "
            "access may have been revoked.",
            code="account_invalid",
            stored=False,
        )
    return account.connected[named]


def create(account: Account, call: Call) -> Record:
    """Connect a new account. It may charge at once: the sandbox does not ask who is behind it."""
    if account.context is not None:
        raise invalid("Only the account of the platform can create connected accounts.")
    if "type" in call.params and "controller" in call.params:
        raise invalid("You may only specify one of these parameters: type, controller.", param="controller")
    world = Account(account.clock, account.switches, platform=account)
    account.connected[world.id] = world
    return account.add(_record(world, call.params))


def current(account: Account, call: Call) -> Record:  # noqa: ARG001 - every endpoint is called like this
    """Return the account in which the request acts."""
    return _own(account)


def retrieve(account: Account, call: Call) -> Record:
    """Return one account: the acting one, or a connected one."""
    return _own(account) if call.id == account.id else account.get(KIND, call.id)


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record, params = account.get(KIND, call.id), call.params
    values: Record = {name: params[name] for name in ("business_type", "default_currency", "email") if name in params}
    if "metadata" in params:
        values["metadata"] = merged(record["metadata"], params["metadata"])
    if "business_profile" in params:
        values["business_profile"] = {**record["business_profile"], **params["business_profile"]}
    if "capabilities" in params:
        values["capabilities"] = {**record["capabilities"], **_capabilities(params["capabilities"])}
    account.connected[record["id"]].change(record, "account.updated", **values)
    return record


def delete(account: Account, call: Call) -> Record:
    """Disconnect an account: requests that name it are refused from now on."""
    record = account.get(KIND, call.id)
    record["deleted"] = True
    del account.connected[record["id"]]
    return {"id": record["id"], "object": KIND, "deleted": True}


def list_all(account: Account, call: Call) -> Record:
    """Return the connected accounts, newest first."""
    created = call.params.get("created")
    records = [record for record in reversed(account.all(KIND)) if within(record["created"], created)]
    return page(call, records, "account")


def _own(account: Account) -> Record:
    if account.platform is not None:
        return account.platform.get(KIND, account.id)
    return _record(account, {})


def _capabilities(sent: dict[str, Any]) -> Record:
    return {name: "active" if each.get("requested") else "inactive" for name, each in sent.items()}


def _record(world: Account, params: dict[str, Any]) -> Record:
    sent = params.get("controller", {})
    nothing_due: Record = {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": [],
        "disabled_reason": None,
        "errors": [],
        "eventually_due": [],
        "past_due": [],
        "pending_verification": [],
    }
    country = params.get("country", "US")
    return {
        "id": world.id,
        "object": KIND,
        "business_profile": {**dict.fromkeys(_PROFILE), **params.get("business_profile", {})},
        "business_type": params.get("business_type"),
        "capabilities": _capabilities(params.get("capabilities", {})),
        "charges_enabled": True,
        "controller": {
            "fees": {"payer": sent.get("fees", {}).get("payer", "account")},
            "is_controller": True,
            "losses": {"payments": sent.get("losses", {}).get("payments", "stripe")},
            "requirement_collection": sent.get("requirement_collection", "stripe"),
            "stripe_dashboard": {"type": sent.get("stripe_dashboard", {}).get("type", "full")},
            "type": "application",
        },
        "country": country,
        "created": world.now,
        "default_currency": params.get("default_currency", "usd"),
        "details_submitted": True,
        "email": params.get("email"),
        "external_accounts": listing(f"/v1/accounts/{world.id}/external_accounts", []),
        "future_requirements": dict(nothing_due),
        "metadata": merged({}, params.get("metadata")),
        "payouts_enabled": True,
        "requirements": nothing_due,
        "settings": _settings(params),
        "tos_acceptance": {"date": None, "ip": None, "service_agreement": None, "user_agent": None},
        "type": "none" if sent else params.get("type", "standard"),
    }


def _settings(params: dict[str, Any]) -> Record:
    names = ("statement_descriptor", "statement_descriptor_kana", "statement_descriptor_kanji")
    prefixes = ("statement_descriptor_prefix_kana", "statement_descriptor_prefix_kanji")
    return {
        "bacs_debit_payments": {"display_name": None, "service_user_number": None},
        "branding": dict.fromkeys(("icon", "logo", "primary_color", "secondary_color")),
        "card_issuing": {"tos_acceptance": {"date": None, "ip": None, "user_agent": None}},
        "card_payments": {
            "decline_on": {"avs_failure": False, "cvc_failure": False},
            **dict.fromkeys(("statement_descriptor_prefix", *prefixes)),
        },
        "dashboard": {"display_name": params.get("business_profile", {}).get("name"), "timezone": "Etc/UTC"},
        "invoices": {"default_account_tax_ids": None, "hosted_payment_method_save": None},
        "payments": dict.fromkeys((*names, *prefixes)),
        "payouts": {
            "debit_negative_balances": True,
            "schedule": {
                "delay_days": 2,
                "interval": "daily",
                **dict.fromkeys(("monthly_anchor", "monthly_payout_days", "weekly_anchor", "weekly_payout_days")),
            },
            "statement_descriptor": None,
        },
        "sepa_debit_payments": {"creditor_id": None},
    }


ROUTES = [
    Route("GET", "/v1/account", current),
    Route("POST", "/v1/accounts", create, CREATE),
    Route("GET", "/v1/accounts", list_all, {**PAGE, "created": Span()}),
    Route("GET", "/v1/accounts/{id}", retrieve),
    Route("POST", "/v1/accounts/{id}", update, _SHARED),
    Route("DELETE", "/v1/accounts/{id}", delete),
]
