"""Checkout sessions: a page on which a customer subscribes, buys something once, or saves a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import subscriptions
from meterkit.sandbox.charging import setup_intents
from meterkit.sandbox.hosted import checkout_items
from meterkit.sandbox.protocol.errors import invalid, missing_parameter
from meterkit.sandbox.protocol.lists import listing, page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Array,
    Boolean,
    Choice,
    Integer,
    Object,
    Rule,
    Span,
    Text,
    Url,
    merged,
    within,
)
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "checkout.session"
PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
LIFETIME = 24 * 3600
SHORTEST_LIFETIME = 30 * 60
_DATA = (
    "billing_cycle_anchor", "billing_mode", "description", "metadata", "proration_behavior", "trial_end",
    "trial_period_days", "trial_settings",
)  # fmt: skip
SUBSCRIPTION_DATA = {name: rule for name, rule in subscriptions.CREATE.items() if name in _DATA}
CREATE: dict[str, Rule] = {
    "allow_promotion_codes": Boolean(),
    "billing_address_collection": Choice(("auto", "required")),
    "cancel_url": Url(),
    "client_reference_id": Text(200),
    "currency": Text(3),
    "customer": Text(),
    "customer_creation": Choice(("always", "if_required")),
    "customer_email": Text(512),
    "discounts": Array(Object({"coupon": Text(), "promotion_code": Text()}), longest=1),
    "expires_at": Integer(),
    "invoice_creation": Object(
        {
            "enabled": Boolean(required=True),
            "invoice_data": Object({"description": Text(1500), "metadata": METADATA}),
        }
    ),
    "line_items": checkout_items.LINE_ITEMS,
    "locale": Text(10),
    "metadata": METADATA,
    "mode": Choice(("payment", "setup", "subscription"), required=True),
    "payment_intent_data": Object(
        {"description": Text(1000), "metadata": METADATA, "setup_future_usage": Choice(("off_session", "on_session"))}
    ),
    "payment_method_collection": Choice(("always", "if_required")),
    "setup_intent_data": Object({"description": Text(1000), "metadata": METADATA}),
    "submit_type": Choice(("auto", "book", "donate", "pay", "subscribe")),
    "subscription_data": Object(SUBSCRIPTION_DATA),
    "success_url": Url(required=True),
    "ui_mode": Choice(("hosted_page",)),
}
LIST: dict[str, Rule] = {
    **PAGE,
    "created": Span(),
    "customer": Text(),
    "customer_details": Object({"email": Text(required=True)}),
    "status": Choice(("complete", "expired", "open")),
    "subscription": Text(),
}
_ONLY = {  # parameter -> the modes that it is for; this sandbox takes no promotion codes for one-off payments
    "allow_promotion_codes": ("subscription",),
    "discounts": ("subscription",),
    "line_items": ("subscription", "payment"),
    "payment_method_collection": ("subscription",),
    "subscription_data": ("subscription",),
    "customer_creation": ("setup", "payment"),
    "invoice_creation": ("payment",),
    "payment_intent_data": ("payment",),
    "setup_intent_data": ("setup",),
}


def create(account: Account, call: Call) -> Record:
    """Create a session; its `url` is a page of this sandbox."""
    params = call.params
    _check(account, params)
    record = _blank(account, params)
    data = params.get("subscription_data", {})
    if params["mode"] == "setup":
        intent = setup_intents.build(account, params.get("customer"), params.get("setup_intent_data", {}))
        record["setup_intent"] = intent["id"]
    elif params["mode"] == "payment":
        items = checkout_items.build(account, params["line_items"])
        record["line_items"] = listing(f"/v1/checkout/sessions/{record['id']}/line_items", items)
        record["invoice_creation"] = {
            "enabled": True,
            "invoice_data": {
                **dict.fromkeys(
                    ("account_tax_ids", "custom_fields", "description", "footer", "issuer", "rendering_options")
                ),
                "metadata": {},
                **params["invoice_creation"].get("invoice_data", {}),
            },
        }
        record["_saves_card"] = "setup_future_usage" in params.get("payment_intent_data", {})
        checkout_items.add_up(record)
    else:
        items = checkout_items.build(account, params["line_items"])
        record["line_items"] = listing(f"/v1/checkout/sessions/{record['id']}/line_items", items)
        record["_subscription"] = {**data, "items": checkout_items.subscription_items(items)}
        record["_subscription"] |= {name: params[name] for name in ("currency", "discounts") if name in params}
        checkout_items.price_up(account, record, record["_subscription"], params.get("customer"))
    return account.add(record)


def retrieve(account: Account, call: Call) -> Record:
    """Return one session."""
    return account.get(KIND, call.id)


def update(account: Account, call: Call) -> Record:
    """Change the metadata."""
    record = account.get(KIND, call.id)
    if "metadata" in call.params:
        record["metadata"] = merged(record["metadata"], call.params["metadata"])
    return record


def expire(account: Account, call: Call) -> Record:
    """End an open session before its time."""
    record = account.get(KIND, call.id)
    if record["status"] != "open":
        raise invalid(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"{record['status']}."
        )
    run_out(account, record)
    return record


def run_out(account: Account, record: Record) -> None:
    """End a session that nobody has completed."""
    record.update(status="expired", url=None)
    account.announce("checkout.session.expired", record)


def list_items(account: Account, call: Call) -> Record:
    """Return the line items of a session, in order."""
    record = account.get(KIND, call.id)
    return page(call, record["line_items"]["data"] if record["line_items"] else [], "line item")


def list_all(account: Account, call: Call) -> Record:
    """Return sessions, newest first."""
    params = call.params
    exact = [key for key in ("customer", "status", "subscription") if key in params]
    email = params.get("customer_details", {}).get("email")
    records = [
        session
        for session in reversed(account.all(KIND))
        if all(session[key] == params[key] for key in exact)
        and (email is None or (session["customer_details"] or {}).get("email") == email)
        and within(session["created"], params.get("created"))
    ]
    return page(call, records, "checkout.session")


def _check(account: Account, params: dict[str, Any]) -> None:
    mode = params["mode"]
    for name, only in _ONLY.items():
        if name in params and mode not in only:
            raise invalid(f"You can only use `{name}` in `{'` or `'.join(only)}` mode.", param=name)
    if mode != "setup" and not params.get("line_items"):
        raise missing_parameter("line_items")
    if mode == "payment" and not params.get("invoice_creation", {}).get("enabled"):
        raise invalid("This sandbox takes one-off payments only with an invoice.", param="invoice_creation[enabled]")
    if mode == "setup" and "currency" not in params:
        raise missing_parameter("currency")
    if "customer" in params and "customer_email" in params:
        raise invalid("You may only specify one of these parameters: customer, customer_email.", param="customer")
    if "allow_promotion_codes" in params and "discounts" in params:
        raise invalid(
            "You may only specify one of these parameters: allow_promotion_codes, discounts.", param="discounts"
        )
    if "customer" in params:
        account.get("customer", params["customer"], param="customer")
    expires = params.get("expires_at", account.now + LIFETIME)
    if not account.now + SHORTEST_LIFETIME <= expires <= account.now + LIFETIME:
        raise invalid(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
            param="expires_at",
        )


def _blank(account: Account, params: dict[str, Any]) -> Record:
    nothing = dict.fromkeys(
        (
            "adaptive_pricing", "after_expiration", "allowed_payment_method_types", "amount_subtotal", "amount_total",
            "branding_settings", "client_secret", "collected_information", "consent", "consent_collection",
            "currency_conversion", "customer_account", "customer_details", "excluded_payment_method_types",
            "integration_identifier", "invoice", "invoice_creation", "line_items", "managed_payments",
            "name_collection", "optional_items", "origin_context", "payment_intent", "payment_link",
            "payment_method_configuration_details", "permissions", "phone_number_collection", "presentment_details",
            "recovered_from", "redirect_on_completion", "return_url", "saved_payment_method_options", "setup_intent",
            "shipping_address_collection", "shipping_cost", "subscription", "tax_id_collection", "total_details",
            "wallet_options",
        )
    )  # fmt: skip
    sent = (
        "allow_promotion_codes", "billing_address_collection", "cancel_url", "client_reference_id", "customer",
        "customer_creation", "customer_email", "locale", "mode", "submit_type", "success_url",
    )  # fmt: skip
    identity = account.new_id(KIND)
    creation = "if_required" if params["mode"] == "setup" else "always"  # an invoice needs a customer
    return {
        **nothing,
        **{name: params.get(name) for name in sent},
        "id": identity,
        "object": KIND,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "created": account.now,
        "currency": params["currency"].lower() if "currency" in params else None,
        "custom_fields": [],
        "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
        "customer_creation": None if "customer" in params else params.get("customer_creation", creation),
        "discounts": [
            {"coupon": each.get("coupon"), "promotion_code": each.get("promotion_code")}
            for each in params.get("discounts", [])
        ],
        "expires_at": params.get("expires_at", account.now + LIFETIME),
        "livemode": account.switches.livemode,
        "metadata": merged({}, params.get("metadata")),
        "payment_method_collection": params.get("payment_method_collection", "always"),
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "no_payment_required",
        "shipping_options": [],
        "status": "open",
        "ui_mode": "hosted_page",
        "url": f"{account.url}/c/pay/{identity}",
        "_subscription": {},
    }


def complete(account: Account, session: Record, *, customer: Record | None, method: Record | None) -> None:
    """Note that a browser has completed the session: what came of it stands in the session by now."""
    details = customer or {}
    session.update(
        customer=customer["id"] if customer is not None else None,
        customer_details={
            "address": details.get("address")
            or dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state")),
            "business_name": None,
            "email": details.get("email") or (method or {}).get("billing_details", {}).get("email"),
            "individual_name": None,
            "name": details.get("name") or (method or {}).get("billing_details", {}).get("name"),
            "phone": details.get("phone"),
            "tax_exempt": "none",
            "tax_ids": [],
        },
        status="complete",
        url=None,
    )
    account.announce("checkout.session.completed", session)


def settle(account: Account) -> None:
    """Note which payments that were under way when their session was completed have come to their end."""
    for session in account.all(KIND):
        if session["status"] != "complete" or session["payment_status"] != "unpaid" or session.get("_failed"):
            continue
        invoice = account.find("invoice", session["invoice"] or "")
        if invoice is not None and invoice["status"] == "paid":
            session["payment_status"] = "paid"
            account.announce("checkout.session.async_payment_succeeded", session)
        elif invoice is not None and invoice.get("_failed"):
            session["_failed"] = True
            account.announce("checkout.session.async_payment_failed", session)


_ONE = "/v1/checkout/sessions/{id}"
ROUTES = [
    Route("POST", "/v1/checkout/sessions", create, CREATE),
    Route("GET", "/v1/checkout/sessions", list_all, LIST),
    Route("GET", _ONE, retrieve),
    Route("POST", _ONE, update, {"metadata": METADATA}),
    Route("GET", f"{_ONE}/line_items", list_items, PAGE),
    Route("POST", f"{_ONE}/expire", expire),
]
