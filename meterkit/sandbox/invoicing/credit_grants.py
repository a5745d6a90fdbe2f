"""Credit grants: prepaid money that pays for metered usage, and its balance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.invoicing import credit_balance
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Array, Choice, Integer, Object, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

MOST = 100  # unused grants of one customer
SCOPE = Object({"price_type": Choice(("metered",)), "prices": Array(Object({"id": Text(required=True)}))})
UPDATE: dict[str, Rule] = {"expires_at": Integer(nullable=True), "metadata": METADATA}
CREATE: dict[str, Rule] = {
    "amount": Object(
        {
            "monetary": Object({"currency": Text(3, required=True), "value": Integer(1, required=True)}),
            "type": Choice(("monetary",), required=True),
        },
        required=True,
    ),
    "applicability_config": Object({"scope": Object(SCOPE.fields, required=True)}, required=True),
    "category": Choice(("paid", "promotional")),
    "customer": Text(required=True),
    "effective_at": Integer(),
    "expires_at": Integer(),
    "metadata": METADATA,
    "name": Text(100),
    "priority": Integer(0, 100),
}
_SUMMARY: dict[str, Rule] = {
    "customer": Text(required=True),
    "filter": Object(
        {
            "applicability_scope": SCOPE,
            "credit_grant": Text(),
            "type": Choice(("applicability_scope", "credit_grant"), required=True),
        },
        required=True,
    ),
}


def create(account: Account, call: Call) -> Record:
    """Grant credit to a customer."""
    params = call.params
    customer = account.get("customer", params["customer"], param="customer")["id"]
    if "monetary" not in params["amount"]:
        raise invalid("`amount[type]=monetary` needs `amount[monetary]`.", param="amount[monetary]")
    _check_scope(account, params["applicability_config"]["scope"], "applicability_config[scope]")
    effective = params.get("effective_at", account.now)
    if params.get("expires_at", effective + 1) <= effective:
        raise invalid("`expires_at` must be after `effective_at`.", param="expires_at")
    unused = [each for each in credit_balance.grants_of(account, customer) if credit_balance.left(account, each)]
    if len(unused) >= MOST:
        raise invalid(f"A customer can have at most {MOST} unused credit grants.")
    scope = params["applicability_config"]["scope"]
    money = params["amount"]["monetary"]
    record: Record = {
        "id": account.new_id("billing.credit_grant"),
        "object": "billing.credit_grant",
        "amount": {
            "monetary": {"currency": money["currency"].lower(), "value": money["value"]},
            "type": "monetary",
        },
        "applicability_config": {
            "scope": {"price_type": scope.get("price_type"), "prices": scope.get("prices")},
        },
        "category": params.get("category", "paid"),
        "created": account.now,
        "customer": customer,
        "customer_account": None,
        "effective_at": effective,
        "expires_at": params.get("expires_at"),
        "livemode": account.switches.livemode,
        "metadata": merged({}, params.get("metadata")),
        "name": params.get("name"),
        "priority": params.get("priority", 50),
        "test_clock": account.tables["customer"][customer]["test_clock"],
        "updated": account.now,
        "voided_at": None,
    }
    account.announce("billing.credit_grant.created", account.add(record))
    credit_balance.grant(account, record)
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one grant."""
    return account.get("billing.credit_grant", call.id)


def update(account: Account, call: Call) -> Record:
    """Change when a grant expires, or its metadata."""
    record = account.get("billing.credit_grant", call.id)
    values = {key: value for key, value in call.params.items() if key in UPDATE}
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if values.get("expires_at") is not None and values["expires_at"] <= account.now:
        raise invalid("`expires_at` must be in the future.", param="expires_at")
    account.change(record, "billing.credit_grant.updated", **values, updated=account.now)
    return record


def expire(account: Account, call: Call) -> Record:
    """End a grant now: what is left of it expires."""
    record = _unspent(account, call)
    account.change(record, "billing.credit_grant.updated", expires_at=account.now, updated=account.now)
    credit_balance.expire(account, record)
    return record


def void(account: Account, call: Call) -> Record:
    """Void a grant of which nothing was used."""
    record = _unspent(account, call)
    if credit_balance.left(account, record) < record["amount"]["monetary"]["value"]:
        raise invalid("You can only void a credit grant that has not been applied to an invoice.")
    credit_balance.debit(account, record, credit_balance.left(account, record), "credits_voided")
    account.change(record, "billing.credit_grant.updated", voided_at=account.now, updated=account.now)
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return grants, newest first."""
    customer = call.params.get("customer")
    records = [each for each in reversed(account.all("billing.credit_grant")) if customer in (None, each["customer"])]
    return page(call, records, "credit grant")


def summary(account: Account, call: Call) -> Record:
    """Return a customer's balance, of one grant or of all that apply to some prices."""
    params, wanted = call.params, call.params["filter"]
    customer = account.get("customer", params["customer"], param="customer")["id"]
    kind = wanted["type"]
    if kind not in wanted:
        raise invalid(f"`filter[type]={kind}` needs `filter[{kind}]`.", param=f"filter[{kind}]")
    grants = credit_balance.grants_of(account, customer)
    if kind == "credit_grant":
        grants = [account.get("billing.credit_grant", wanted["credit_grant"], param="filter[credit_grant]")]
    else:
        _check_scope(account, wanted["applicability_scope"], "filter[applicability_scope]")
        grants = [each for each in grants if _reaches(account, each, wanted["applicability_scope"])]
    return {
        "object": "billing.credit_balance_summary",
        "balances": credit_balance.balances(account, grants),
        "customer": customer,
        "customer_account": None,
        "livemode": account.switches.livemode,
    }


def retrieve_transaction(account: Account, call: Call) -> Record:
    """Return one transaction."""
    return account.get("billing.credit_balance_transaction", call.id)


def list_transactions(account: Account, call: Call) -> Record:
    """Return the transactions of a customer, newest first."""
    params = call.params
    customer = account.get("customer", params["customer"], param="customer")["id"]
    records = [
        each
        for each in reversed(account.all("billing.credit_balance_transaction"))
        if each["_customer"] == customer and params.get("credit_grant") in (None, each["credit_grant"])
    ]
    return page(call, records, "credit balance transaction")


def _unspent(account: Account, call: Call) -> Record:
    record = account.get("billing.credit_grant", call.id)
    ended = record["expires_at"] is not None and record["expires_at"] <= account.now
    if record["voided_at"] is not None or ended:
        raise invalid("This credit grant has been voided or has expired.")
    return record


def _check_scope(account: Account, scope: dict[str, Any], name: str) -> None:
    if ("price_type" in scope) == ("prices" in scope):
        raise invalid("You must pass either `price_type` or `prices`.", param=name)
    for place, each in enumerate(scope.get("prices", ())):
        param = f"{name}[prices][{place}][id]"
        price = account.get("price", each["id"], param=param)
        if not (price["recurring"] or {}).get("meter"):
            raise invalid(f"Credit applies to metered prices only; {price['id']} has no meter.", param=param)


def _reaches(account: Account, grant: Record, scope: dict[str, Any]) -> bool:
    own = grant["applicability_config"]["scope"]["prices"]
    if "price_type" in scope:
        return own is None
    return all(credit_balance.covers(grant, account.tables["price"][each["id"]]) for each in scope["prices"])


_GRANT = "/v1/billing/credit_grants/{id}"
_TRANSACTIONS = "/v1/billing/credit_balance_transactions"
ROUTES = [
    Route("POST", "/v1/billing/credit_grants", create, CREATE),
    Route("GET", "/v1/billing/credit_grants", list_all, {**PAGE, "customer": Text()}),
    Route("GET", _GRANT, retrieve),
    Route("POST", _GRANT, update, UPDATE),
    Route("POST", f"{_GRANT}/expire", expire),
    Route("POST", f"{_GRANT}/void", void),
    Route("GET", "/v1/billing/credit_balance_summary", summary, _SUMMARY),
    Route("GET", _TRANSACTIONS, list_transactions, {**PAGE, "customer": Text(required=True), "credit_grant": Text()}),
    Route("GET", f"{_TRANSACTIONS}/{{id}}", retrieve_transaction),
]
