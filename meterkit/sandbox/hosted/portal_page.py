"""The customer portal: a customer's invoices and subscriptions, with what the configuration allows."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

from meterkit.sandbox.billing import cancellation, customers, subscriptions
from meterkit.sandbox.charging import invoice_payments, payment_methods
from meterkit.sandbox.hosted import portal_configurations, portal_sessions
from meterkit.sandbox.hosted.checkout_page import CARD
from meterkit.sandbox.hosted.html import Safe, error, fill, joined, page, redirect
from meterkit.sandbox.invoicing import payments
from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.routes import Call
from meterkit.sandbox.state.money import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meterkit.sandbox.protocol.frame import Reply
    from meterkit.sandbox.state.account import Account, Record

_PORTAL = "{error}\n{subscriptions}\n{card}\n{invoices}\n{back}"
_SECTION = "<h2>{title}</h2>\n{body}"
_SUBSCRIPTION = "<p>{names}, {status}, until {until}{ends}</p>\n{form}"
_DO = """<form method="post"><input type="hidden" name="do" value="{do}"><input type="hidden" name="id" value="{id}">
{fields}<button type="submit">{label}</button></form>"""
_INVOICES = "<table><tr><th>Number</th><th>Date</th><th>Amount</th><th>Status</th></tr>\n{rows}\n</table>\n{forms}"
_INVOICE = "<tr><td>{number}</td><td>{date}</td><td>{amount}</td><td>{status}</td></tr>"
_BACK = '<p><a href="{url}">Back</a></p>'


def show(account: Account, identity: str) -> Reply:
    """Return the page of a session."""
    session = account.get(portal_sessions.KIND, identity)
    return _page(account, session) if portal_sessions.touch(account, session) else _ended()


def submit(account: Account, identity: str, form: Mapping[str, str]) -> Reply:
    """Do what a button says, and show the page again, with what is wrong if anything is."""
    session = account.get(portal_sessions.KIND, identity)
    if not portal_sessions.touch(account, session):
        return _ended()
    try:
        _do(account, session, form)
    except ApiError as problem:
        return _page(account, session, problem.message)
    return redirect(session["url"])


def _do(account: Account, session: Record, form: Mapping[str, str]) -> None:
    features, wanted, identity = _features(account, session), form.get("do", ""), form.get("id", "")
    if wanted in ("cancel", "keep") and features["subscription_cancel"]["enabled"]:
        subscription = _own(account, session, "subscription", identity)
        if wanted == "cancel" and features["subscription_cancel"]["mode"] == "immediately":
            cancellation.cancel(account, Call("", subscription["id"], {}))
        else:
            change = {"cancel_at_period_end": wanted == "cancel"}
            subscriptions.update(account, Call("", subscription["id"], change))
    elif wanted == "pay" and features["invoice_history"]["enabled"]:
        invoice = _own(account, session, "invoice", identity)
        method = _new_card(account, session, form)
        payments.pay(account, Call("", invoice["id"], {"payment_method": method["id"]}))
    elif wanted == "card" and features["payment_method_update"]["enabled"]:
        _new_card(account, session, form)
    else:
        raise invalid("This is not possible here.")


def _new_card(account: Account, session: Record, form: Mapping[str, str]) -> Record:
    """
    Save a card as the customer's default; subscriptions with a payment method of their own get it, too.

    What a test has decided about the customer's payments ends with it: a new card pays by its own number.
    """
    customer = session["customer"]
    card = {"type": "card", "card": {"number": form.get("card_number", "")}}
    method = payment_methods.build(account, card, customer=customer)
    account.outcomes.pop(customer, None)
    settings = {"invoice_settings": {"default_payment_method": method["id"]}}
    customers.update(account, Call("", customer, settings))
    for subscription in _subscriptions(account, customer):
        if subscription["default_payment_method"] is not None:
            change = {"default_payment_method": method["id"]}
            account.change(subscription, "customer.subscription.updated", **change)
    return method


def _own(account: Account, session: Record, kind: str, identity: str) -> Record:
    record = account.get(kind, identity)
    if record["customer"] != session["customer"]:
        raise invalid("This is not possible here.")
    return record


def _features(account: Account, session: Record) -> Record:
    features: Record = account.get(portal_configurations.KIND, session["configuration"])["features"]
    return features


def _subscriptions(account: Account, customer: str) -> list[Record]:
    return [
        each
        for each in account.all("subscription")
        if each["customer"] == customer and each["status"] not in ("canceled", "incomplete_expired")
    ]


def _page(account: Account, session: Record, problem: str | None = None) -> Reply:
    features, customer = _features(account, session), account.get("customer", session["customer"])
    held = [
        _subscription(account, each, features["subscription_cancel"]["enabled"])
        for each in _subscriptions(account, customer["id"])
    ]
    card = Safe("")
    if features["payment_method_update"]["enabled"]:
        card = fill(_SECTION, title="Card", body=_button("card", "", "Save card", card=True))
    invoices = Safe("")
    if features["invoice_history"]["enabled"]:
        invoices = fill(_SECTION, title="Invoices", body=_invoices(account, customer))
    body = fill(
        _PORTAL,
        error=error(problem),
        subscriptions=fill(_SECTION, title="Subscriptions", body=joined(held)),
        card=card,
        invoices=invoices,
        back=fill(_BACK, url=session["return_url"]) if session["return_url"] else Safe(""),
    )
    return page(customer["name"] or customer["email"] or customer["id"], body, status=200 if problem is None else 400)


def _subscription(account: Account, subscription: Record, cancelable: bool) -> Safe:  # noqa: FBT001 - one caller
    items = subscription["items"]["data"]
    names = [account.tables["product"][item["price"]["product"]]["name"] for item in items]
    ends, form = subscription["cancel_at_period_end"], Safe("")
    if cancelable:
        form = (
            _button("keep", subscription["id"], "Don't cancel")
            if ends
            else _button("cancel", subscription["id"], "Cancel subscription")
        )
    return fill(
        _SUBSCRIPTION,
        names=", ".join(names),
        status=subscription["status"],
        until=_date(items[0]["current_period_end"]),
        ends=" (ends then)" if ends else "",
        form=form,
    )


def _invoices(account: Account, customer: Record) -> Safe:
    rows, forms = [], []
    for invoice in reversed(account.all("invoice")):
        if invoice["customer"] != customer["id"] or invoice["status"] == "draft":
            continue
        processing = invoice_payments.is_processing(account, invoice)
        rows.append(
            fill(
                _INVOICE,
                number=invoice["number"],
                date=_date(invoice["created"]),
                amount=shown(Decimal(invoice["total"]), invoice["currency"]),
                status="processing" if processing else invoice["status"],
            )
        )
        if invoice["status"] == "open" and not processing:
            forms.append(_button("pay", invoice["id"], f"Pay {invoice['number']}", card=True))
    return fill(_INVOICES, rows=joined(rows), forms=joined(forms))


def _button(do: str, identity: str, label: str, *, card: bool = False) -> Safe:
    fields = fill(CARD, number="", required=Safe(" required")) if card else Safe("")
    return fill(_DO, do=do, id=identity, label=label, fields=fields)


def _date(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).date().isoformat()


def _ended() -> Reply:
    return page("This session has expired", fill("<p>Ask for a new one.</p>"), status=410)
