"""The customer balance: what a customer owes or has in credit, apart from open invoices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Integer, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

# Stripe: the smallest sum that it charges, in minor units; of other currencies, it converts one of these.
MINIMUM = {
    "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250, "eur": 50, "gbp": 30,
    "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "pln": 200,
    "ron": 200, "sek": 300, "sgd": 50, "thb": 1000, "usd": 50,
}  # fmt: skip
UPDATE: dict[str, Rule] = {"description": Text(350, nullable=True), "metadata": METADATA}
CREATE: dict[str, Rule] = {**UPDATE, "amount": Integer(required=True), "currency": Text(3, required=True)}


def settle(account: Account, invoice: Record) -> None:
    """Write into a draft what is due of it, after the customer's balance and the minimum charge."""
    customer = account.tables["customer"][invoice["customer"]]
    if invoice["currency"] != customer["currency"]:  # of a subscription that has ended; the balance is in another one
        due = max(invoice["total"], 0)
        invoice.update(starting_balance=0, amount_due=due, amount_remaining=due, _ending_balance=0)
        return
    start: int = customer["balance"]
    due = invoice["total"] + start
    automatic = invoice["collection_method"] == "charge_automatically"
    if due <= 0 or (automatic and due < _minimum(account, invoice["currency"])):
        invoice.update(starting_balance=start, amount_due=0, amount_remaining=0, _ending_balance=due)
    else:
        invoice.update(starting_balance=start, amount_due=due, amount_remaining=due, _ending_balance=0)


def finalize(account: Account, invoice: Record) -> None:
    """Change the customer's balance by what the invoice takes from it or leaves to it."""
    start, end = invoice["starting_balance"], invoice["_ending_balance"]
    invoice["ending_balance"] = end
    kind = "invoice_too_small" if end > max(start, 0) else "applied_to_invoice"
    if end != start:
        add(account, invoice["customer"], end - start, invoice["currency"], kind, invoice=invoice["id"])


def take_back(account: Account, invoice: Record) -> None:
    """Undo what a finalised invoice did to the balance, because it is void."""
    change = invoice["starting_balance"] - (invoice["ending_balance"] or 0)
    if change:
        currency = invoice["currency"]
        add(account, invoice["customer"], change, currency, "unapplied_from_invoice", invoice=invoice["id"])


def add(
    account: Account,
    customer: str,
    amount: int,
    currency: str,
    kind: str,
    *,
    invoice: str | None = None,
    description: str | None = None,
) -> Record:
    """
    Change a customer's balance, and return the transaction; a positive amount is owed by the customer.

    Raises:
        ApiError: 400 if the customer has another currency.

    """
    owner = account.tables["customer"][customer]
    if owner["currency"] not in (None, currency):
        raise invalid(f"The customer's currency is {owner['currency']}.", param="currency")
    record: Record = {
        "id": account.new_id("customer_balance_transaction"),
        "object": "customer_balance_transaction",
        "amount": amount,
        "checkout_session": None,
        "created": account.now,
        "credit_note": None,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "description": description,
        "ending_balance": owner["balance"] + amount,
        "invoice": invoice,
        "livemode": account.switches.livemode,
        "metadata": {},
        "type": kind,
    }
    account.add(record)
    account.change(owner, "customer.updated", balance=record["ending_balance"], currency=currency)
    return record


def create(account: Account, call: Call) -> Record:
    """Adjust a customer's balance."""
    params = call.params
    customer = account.get("customer", call.id)["id"]
    record = add(
        account,
        customer,
        params["amount"],
        params["currency"].lower(),
        "adjustment",
        description=params.get("description"),
    )
    record["metadata"] = merged({}, params.get("metadata"))
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one transaction."""
    return account.get("customer_balance_transaction", call.id)


def update(account: Account, call: Call) -> Record:
    """Change the description or the metadata of a transaction."""
    record = account.get("customer_balance_transaction", call.id)
    if "metadata" in call.params:
        record["metadata"] = merged(record["metadata"], call.params["metadata"])
    record["description"] = call.params.get("description", record["description"])
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return the transactions of a customer, newest first."""
    customer = account.get("customer", call.id)["id"]
    records = [
        each
        for each in reversed(account.all("customer_balance_transaction"))
        if each["customer"] == customer and call.params.get("invoice") in (None, each["invoice"])
    ]
    return page(call, records, "customer balance transaction")


def _minimum(account: Account, currency: str) -> int:
    return MINIMUM.get(currency, 0) if account.switches.minimum_charge else 0


_ALL = "/v1/customers/{id}/balance_transactions"
ROUTES = [
    Route("POST", _ALL, create, CREATE),
    Route("GET", _ALL, list_all, {**PAGE, "invoice": Text()}),
    Route("GET", f"{_ALL}/{{id}}", retrieve),
    Route("POST", f"{_ALL}/{{id}}", update, UPDATE),
]
