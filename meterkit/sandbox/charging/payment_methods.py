"""Payment methods: cards by Stripe's test numbers, and bank debits, whose payments take days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import ApiError, invalid, missing_parameter
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Choice, Integer, Object, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "payment_method"
TYPES = ("card", "sepa_debit", "us_bank_account")

SUCCEED, FAIL, PROCESS, MISSING = "succeed", "fail", "process", "missing"
OUTCOMES = (SUCCEED, FAIL, PROCESS, MISSING)
"""What becomes of a payment; one that processes is under way until a test decides. What has no method fails."""

DECLINED = ("4000000000000002", "4000000000009995")
_FAILING = ("4000000000000341",)  # can be attached, and fails when it is charged
_AUTHENTICATED = "4000002760003184"  # fails whenever the customer is not there to authenticate the payment
_BRANDS = {"3": "amex", "4": "visa", "5": "mastercard", "6": "discover"}

# Stripe's test objects, each of which becomes a new payment method when it is used.
_CARDS = {
    "visa": "4242424242424242",
    "mastercard": "5555555555554444",
    "amex": "378282246310005",
    "authenticationRequired": "4000002760003184",
    "chargeCustomerFail": "4000000000000341",
    "chargeDeclined": "4000000000000002",
}
_TEST_METHODS: dict[str, dict[str, Any]] = {
    **{f"pm_card_{name}": {"type": "card", "card": {"number": number}} for name, number in _CARDS.items()},
    "pm_sepaDebit": {"type": "sepa_debit", "sepa_debit": {"iban": "DE89370400440532013000"}},
    "pm_usBankAccount": {
        "type": "us_bank_account",
        "us_bank_account": {"account_number": "000123456789", "routing_number": "110000000"},
    },
}

_ADDRESS = Object(dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), Text()))
_DETAILS = Object(
    {"address": _ADDRESS, "email": Text(nullable=True), "name": Text(nullable=True), "phone": Text(nullable=True)}
)
CREATE: dict[str, Rule] = {
    "billing_details": _DETAILS,
    "card": Object(
        {"cvc": Text(4), "exp_month": Integer(1, 12), "exp_year": Integer(), "number": Text(), "token": Text()}
    ),
    "metadata": METADATA,
    "sepa_debit": Object({"iban": Text(required=True)}),
    "type": Choice(TYPES, required=True),
    "us_bank_account": Object(
        {
            "account_holder_type": Choice(("company", "individual")),
            "account_number": Text(required=True),
            "account_type": Choice(("checking", "savings")),
            "routing_number": Text(required=True),
        }
    ),
}
UPDATE: dict[str, Rule] = {"billing_details": _DETAILS, "metadata": METADATA}


def create(account: Account, call: Call) -> Record:
    """Create a payment method that belongs to nobody yet."""
    return build(account, call.params)


def build(account: Account, params: dict[str, Any], *, customer: str | None = None) -> Record:
    """
    Store a new payment method, and return it.

    Raises:
        ApiError: 400 without the details of its type; 402 for a card that is declined at once.

    """
    kind = params["type"]
    if kind not in params:
        raise missing_parameter(kind)
    shown, outcome = {"card": _card, "sepa_debit": _sepa, "us_bank_account": _us_bank}[kind](params[kind])
    given = params.get("billing_details", {})
    record = account.add(
        {
            "id": account.new_id(KIND),
            "object": KIND,
            "allow_redisplay": "unspecified",
            "billing_details": {
                "address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
                | given.get("address", {}),
                "email": given.get("email"),
                "name": given.get("name"),
                "phone": given.get("phone"),
                "tax_id": None,
            },
            kind: shown,
            "created": account.now,
            "customer": customer,
            "customer_account": None,
            "livemode": account.switches.livemode,
            "metadata": merged({}, params.get("metadata")),
            "type": kind,
            "_outcome": outcome,
        }
    )
    if customer is not None:
        account.announce("payment_method.attached", record)
    return record


def named(account: Account, identity: str, *, param: str = "payment_method", customer: str | None = None) -> Record:
    """
    Return the payment method with that id; one of Stripe's test ids, such as `pm_card_visa`, becomes a new one.

    Raises:
        ApiError: 404 or 400 if there is none, or if it is not the customer's.

    """
    if identity in _TEST_METHODS:
        return build(account, _TEST_METHODS[identity], customer=customer)
    record = account.get(KIND, identity, param=param)
    if customer is not None and record["customer"] != customer:
        raise invalid(
            f"The customer does not have a payment method with the ID {identity}. The payment method must be attached "
            "to the customer.",
            param=param,
            code="resource_missing",
        )
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one payment method."""
    return account.get(KIND, call.id)


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record = account.get(KIND, call.id)
    values: Record = {}
    if "metadata" in call.params:
        values["metadata"] = merged(record["metadata"], call.params["metadata"])
    if "billing_details" in call.params:
        values["billing_details"] = {**record["billing_details"], **call.params["billing_details"]}
    account.change(record, "payment_method.updated", **values)
    return record


def attach(account: Account, call: Call) -> Record:
    """Give a payment method to a customer."""
    customer = account.get("customer", call.params["customer"], param="customer")["id"]
    record = named(account, call.id, param="id")
    if record["customer"] not in (None, customer):
        raise invalid("The payment method you provided has already been attached to a customer.")
    if record["customer"] is None:
        record["customer"] = customer
        account.announce("payment_method.attached", record)
    return record


def detach(account: Account, call: Call) -> Record:
    """Take a payment method from its customer; it cannot be used again."""
    record = account.get(KIND, call.id)
    if record["customer"] is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    customer = account.tables["customer"][record["customer"]]
    if customer["invoice_settings"]["default_payment_method"] == record["id"]:
        settings = {**customer["invoice_settings"], "default_payment_method": None}
        account.change(customer, "customer.updated", invoice_settings=settings)
    account.change(record, "payment_method.detached", customer=None)
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return the payment methods of a customer, newest first."""
    customer = call.params.get("customer")
    return _listed(account, call, customer)


def list_of_customer(account: Account, call: Call) -> Record:
    """Return the payment methods of the customer in the path, newest first."""
    return _listed(account, call, account.get("customer", call.id)["id"])


def charged(account: Account, invoice: Record) -> Record | None:
    """Return the payment method that an invoice is charged to: its own, its subscription's or its customer's."""
    subscription = account.find("subscription", invoice["_subscription"]) if invoice["_subscription"] else None
    customer = account.tables["customer"][invoice["customer"]]
    for identity in (
        invoice["default_payment_method"],
        subscription["default_payment_method"] if subscription is not None else None,
        customer["invoice_settings"]["default_payment_method"],
    ):
        if identity is not None:
            return account.find(KIND, identity)
    return None


def outcome_of(account: Account, invoice: Record, method: Record | None = None) -> str:
    """
    Return what becomes of a payment of an invoice: one of `OUTCOMES`.

    What was decided about the payment method counts first, then what was decided about the customer, then what the
    payment method does by itself. Without a payment method, payments succeed.
    """
    return outcome_of_customer(account, invoice["customer"], method or charged(account, invoice))


def outcome_of_customer(account: Account, customer: str | None, method: Record | None) -> str:
    """Return what becomes of a customer's payment with that payment method: see `outcome_of`."""
    if method is not None and method["id"] in account.outcomes:
        return account.outcomes[method["id"]]
    if customer in account.outcomes:
        return account.outcomes[customer]
    return SUCCEED if method is None else str(method["_outcome"])


def decline(account: Account, invoice: Record, method: Record | None) -> ApiError:
    """Return the error for a payment of an invoice that has failed."""
    method = method or charged(account, invoice)
    if outcome_of(account, invoice, method) == MISSING:
        return invalid(
            "This customer has no attached payment source or default payment method. Please consider adding a default "
            "payment method."
        )
    if method is not None and method.get("card", {}).get("last4") == _AUTHENTICATED[-4:]:
        message = "Your card was declined. This transaction requires authentication."
        return ApiError(402, message, type="card_error", code="authentication_required")
    return ApiError(402, "Your card was declined.", type="card_error", code="card_declined")


def _listed(account: Account, call: Call, customer: str | None) -> Record:
    records = [
        method
        for method in reversed(account.all(KIND))
        if method["customer"] is not None
        and customer in (None, method["customer"])
        and call.params.get("type") in (None, method["type"])
    ]
    return page(call, records, "payment method")


def _card(params: dict[str, Any]) -> tuple[Record, str]:
    token = params.get("token", "").removeprefix("tok_")
    number = _CARDS.get(token, "") if token else params.get("number", "").replace(" ", "")
    if not (number.isascii() and number.isdigit() and 12 <= len(number) <= 19):
        raise ApiError(
            402, "Your card number is incorrect.", type="card_error", code="incorrect_number", param="number"
        )
    if number in DECLINED:
        raise ApiError(402, "Your card was declined.", type="card_error", code="card_declined")
    brand = _BRANDS.get(number[0], "unknown")
    shown: Record = {
        "brand": brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": brand,
        "exp_month": params.get("exp_month", 12),
        "exp_year": params.get("exp_year", 2040),
        "fingerprint": fresh_id("", 16),
        "funding": "credit",
        "generated_from": None,
        "last4": number[-4:],
        "networks": {"available": [brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
    return shown, FAIL if number in (*_FAILING, _AUTHENTICATED) else SUCCEED


def _sepa(params: dict[str, Any]) -> tuple[Record, str]:
    iban = params["iban"].replace(" ", "")
    shown: Record = {
        "bank_code": iban[4:12],
        "branch_code": "",
        "country": iban[:2],
        "fingerprint": fresh_id("", 16),
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": iban[-4:],
    }
    return shown, PROCESS


def _us_bank(params: dict[str, Any]) -> tuple[Record, str]:
    shown: Record = {
        "account_holder_type": params.get("account_holder_type", "individual"),
        "account_type": params.get("account_type", "checking"),
        "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": None,
        "fingerprint": fresh_id("", 16),
        "last4": params["account_number"][-4:],
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "routing_number": params["routing_number"],
        "status_details": None,
    }
    return shown, PROCESS


_LIST: dict[str, Rule] = {**PAGE, "type": Choice(TYPES)}
ROUTES = [
    Route("POST", "/v1/payment_methods", create, CREATE),
    Route("GET", "/v1/payment_methods", list_all, {**_LIST, "customer": Text()}),
    Route("GET", "/v1/payment_methods/{id}", retrieve),
    Route("POST", "/v1/payment_methods/{id}", update, UPDATE),
    Route("POST", "/v1/payment_methods/{id}/attach", attach, {"customer": Text(required=True)}),
    Route("POST", "/v1/payment_methods/{id}/detach", detach),
    Route("GET", "/v1/customers/{id}/payment_methods", list_of_customer, _LIST),
]
