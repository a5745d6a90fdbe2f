"""The credit balance: what is left of credit grants, and the lines that it pays when an invoice is finalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from meterkit.sandbox.state.account import Account, Record

FAR = 1 << 62  # later than any expiry


def grants_of(account: Account, customer: str) -> list[Record]:
    """Return the grants of a customer, in the order in which they are used."""
    found = [each for each in account.all("billing.credit_grant") if each["customer"] == customer]
    # Stripe: by priority, then what expires first, then promotional before paid, then the oldest.
    return sorted(
        found,
        key=lambda each: (
            each["priority"],
            each["expires_at"] or FAR,
            each["category"] != "promotional",
            each["effective_at"],
            each["created"],
        ),
    )


def left(account: Account, grant: Record) -> int:
    """Return what is left of a grant, in minor units."""
    total = 0
    for each in account.all("billing.credit_balance_transaction"):
        if each["credit_grant"] == grant["id"]:
            total += each["_amount"]
    return total


def covers(grant: Record, price: Record) -> bool:
    """Return whether a grant may pay for usage at a price."""
    scope = grant["applicability_config"]["scope"]
    metered = bool((price["recurring"] or {}).get("meter"))
    return metered and (scope["prices"] is None or price["id"] in [each["id"] for each in scope["prices"]])


def apply(account: Account, invoice: Record, lines: Sequence[Record]) -> int:
    """Pay lines with the customer's credit, after their discounts; return how much that is, in minor units."""
    paid = 0
    for grant in grants_of(account, invoice["customer"]):
        available = left(account, grant) if _usable(account, grant, invoice["currency"]) else 0
        for line in lines:
            if not available or not _pays(account, grant, line):
                continue
            taken = sum(each["amount"] for each in line["pretax_credit_amounts"])
            part = min(available, line["amount"] - taken)
            if part <= 0:
                continue
            used = {"invoice": invoice["id"], "invoice_line_item": line["id"]}
            transaction = debit(account, grant, part, "credits_applied", credits_applied=used)
            line["pretax_credit_amounts"].append(
                {
                    "amount": part,
                    "credit_balance_transaction": transaction["id"],
                    "discount": None,
                    "type": "credit_balance_transaction",
                }
            )
            available -= part
            paid += part
    return paid


def take_back(account: Account, invoice: Record) -> None:
    """Return to its grants what a finalised invoice used, because it is void."""
    for each in account.all("billing.credit_balance_transaction"):
        used = (each["debit"] or {}).get("credits_applied")
        if used and used["invoice"] == invoice["id"]:
            grant = account.tables["billing.credit_grant"][each["credit_grant"]]
            _credit(account, grant, -each["_amount"], "credits_application_invoice_voided", used)


def grant(account: Account, record: Record) -> None:
    """Enter a new grant into the balance."""
    _credit(account, record, record["amount"]["monetary"]["value"], "credits_granted", None)


def expirations(account: Account) -> Iterator[tuple[int, Record]]:
    """Yield each grant that has something to lose, with the Unix second at which it expires."""
    for each in account.all("billing.credit_grant"):
        if each["expires_at"] is not None and not each.get("_expired") and each["voided_at"] is None:
            yield each["expires_at"], each


def expire(account: Account, record: Record) -> None:
    """Remove what is left of a grant that has expired."""
    record["_expired"] = True
    rest = left(account, record)
    if rest:
        debit(account, record, rest, "credits_expired")


def debit(
    account: Account, record: Record, amount: int, kind: str, *, credits_applied: dict[str, str] | None = None
) -> Record:
    """Take an amount off a grant, and return the transaction."""
    entry = {"amount": _money(record, amount), "credits_applied": credits_applied, "type": kind}
    return _transaction(account, record, -amount, "debit", entry)


def balances(account: Account, grants: Sequence[Record]) -> list[Record]:
    """Return the balance of grants by currency: what can be used now, and all that is left."""
    found: dict[str, list[int]] = {}
    for each in grants:
        currency, rest = each["amount"]["monetary"]["currency"], left(account, each)
        sums = found.setdefault(currency, [0, 0])
        sums[0] += rest if _usable(account, each, currency) else 0
        sums[1] += rest
    return [
        {
            "available_balance": {"monetary": {"currency": currency, "value": usable}, "type": "monetary"},
            "ledger_balance": {"monetary": {"currency": currency, "value": whole}, "type": "monetary"},
        }
        for currency, (usable, whole) in found.items()
    ]


def _usable(account: Account, record: Record, currency: str) -> bool:
    return bool(record["effective_at"] <= account.now and record["amount"]["monetary"]["currency"] == currency)


def _pays(account: Account, record: Record, line: Record) -> bool:
    pricing = line["pricing"]  # an invoice item with an amount of its own has none
    return pricing is not None and covers(record, account.tables["price"][pricing["price_details"]["price"]])


def _credit(account: Account, record: Record, amount: int, kind: str, voided: dict[str, str] | None) -> None:
    entry = {"amount": _money(record, amount), "credits_application_invoice_voided": voided, "type": kind}
    _transaction(account, record, amount, "credit", entry)


def _transaction(account: Account, record: Record, amount: int, side: str, entry: dict[str, Any]) -> Record:
    made: Record = {
        "id": account.new_id("billing.credit_balance_transaction"),
        "object": "billing.credit_balance_transaction",
        "created": account.now,
        "credit": None,
        "credit_grant": record["id"],
        "debit": None,
        "effective_at": max(account.now, record["effective_at"]),
        "livemode": account.switches.livemode,
        "test_clock": record["test_clock"],
        "type": side,
        "_amount": amount,
        "_customer": record["customer"],
        side: entry,
    }
    account.announce("billing.credit_balance_transaction.created", account.add(made))
    return made


def _money(record: Record, amount: int) -> Record:
    return {"monetary": {"currency": record["amount"]["monetary"]["currency"], "value": amount}, "type": "monetary"}
