"""The page of a Checkout session: what is bought, a form for name, e-mail and card, and a way back."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from meterkit.sandbox.billing import customers, subscriptions
from meterkit.sandbox.charging import invoice_payments, payment_methods, setup_intents
from meterkit.sandbox.hosted import checkout_items, checkout_sessions
from meterkit.sandbox.hosted.checkout_sessions import KIND, PLACEHOLDER
from meterkit.sandbox.hosted.html import Safe, error, fill, joined, page, redirect
from meterkit.sandbox.invoicing import one_off
from meterkit.sandbox.protocol.errors import ApiError
from meterkit.sandbox.protocol.routes import Call
from meterkit.sandbox.state.money import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meterkit.sandbox.protocol.frame import Reply
    from meterkit.sandbox.state.account import Account, Record

_ITEM = "<tr><td>{name}</td><td>{quantity}</td><td>{amount}</td></tr>"
_ITEMS = """<table>
{items}
<tr><th>To pay now</th><td></td><th>{total}</th></tr>
</table>"""
_FORM = """{items}
{error}
<form method="post">
{email}
<label>Name <input name="name" autocomplete="name" value="{name}"></label>
{card}
{promotion}
<button type="submit">{button}</button>
</form>
{back}"""
_EMAIL = '<label>E-mail <input name="email" type="email" autocomplete="email" value="{email}" required></label>'
_KNOWN_EMAIL = "<p>{email}</p>"
CARD = """<label>Card number
<input name="card_number" inputmode="numeric" autocomplete="off" value="{number}"{required}></label>"""
_PROMOTION = '<label>Promotion code <input name="promotion_code" autocomplete="off" value="{code}"></label>'
_BACK = '<p><a href="{url}">Back</a></p>'


def show(account: Account, identity: str) -> Reply:
    """Return the page of a session."""
    session = account.get(KIND, identity)
    if session["status"] != "open":
        return _ended(session)
    return _form(account, session, {})


def submit(account: Account, identity: str, form: Mapping[str, str]) -> Reply:
    """Complete a session, and send the browser to its `success_url`; or show what is wrong."""
    session = account.get(KIND, identity)
    if session["status"] != "open":
        return _ended(session)
    try:
        _complete(account, session, form)
    except ApiError as problem:
        return _form(account, session, form, problem.message)
    return redirect(session["success_url"].replace(PLACEHOLDER, session["id"]))


def _complete(account: Account, session: Record, form: Mapping[str, str]) -> None:
    customer = None if session["customer"] is None else account.get("customer", session["customer"])
    details = _details(session, customer, form)
    card = form.get("card_number", "").strip()
    if not card and _needs_card(session):
        raise ApiError(400, "Enter the number of your card.")
    if session["mode"] == "subscription":
        _price_up(account, session, form)
    method = None
    if card:
        params = {"type": "card", "card": {"number": card}, "billing_details": details}
        method = payment_methods.build(account, params)
    if session["amount_total"]:
        _check_funds(account, customer, method)
    customer = _customer(account, session, customer, details)
    if method is not None and customer is not None and session.get("_saves_card", True):
        payment_methods.attach(account, Call("", method["id"], {"customer": customer["id"]}))
    if session["mode"] == "setup":
        intent = account.tables[setup_intents.KIND][session["setup_intent"]]
        if method is not None:
            setup_intents.succeed(account, intent, method, None if customer is None else customer["id"])
    elif customer is not None and session["mode"] == "payment":
        _buy(account, session, customer, method)
    elif customer is not None:
        _subscribe(account, session, customer, method)
    checkout_sessions.complete(account, session, customer=customer, method=method)


def _price_up(account: Account, session: Record, form: Mapping[str, str]) -> None:
    """Write what is to be paid into the session, with the promotion code that was entered, if the shop allows one."""
    params, entered = session["_subscription"], form.get("promotion_code", "").strip()
    if entered and session["allow_promotion_codes"]:
        params = {**params, "discounts": [{"promotion_code": _code(account, entered)}]}
    checkout_items.price_up(account, session, params, session["customer"])
    session["_subscription"] = params
    session["discounts"] = [
        {name: each.get(name) for name in ("coupon", "promotion_code")} for each in params.get("discounts", ())
    ]


def _code(account: Account, entered: str) -> str:
    codes = (
        each for each in account.all("promotion_code") if each["active"] and each["code"].lower() == entered.lower()
    )
    code = next(codes, None)
    if code is None:
        raise ApiError(400, "This promotion code is invalid.")
    return str(code["id"])


def _details(session: Record, customer: Record | None, form: Mapping[str, str]) -> Record:
    """Return the e-mail address and the name; an address that is known cannot be changed."""
    known = session["customer_email"] if customer is None else customer["email"]
    email = known or form.get("email", "").strip()
    if "@" not in email:
        raise ApiError(400, "Enter your e-mail address.")
    return {"email": email, "name": form.get("name", "").strip() or None}


def _customer(account: Account, session: Record, customer: Record | None, details: Record) -> Record | None:
    """Return the customer of a completed session, who may be new; None if the shop wants none."""
    if customer is None and session["customer_creation"] == "always":
        # Without the session's metadata: Stripe does not copy it.
        return customers.create(account, Call("/v1/customers", "", details))
    if customer is not None and not customer["email"]:
        customers.update(account, Call("", customer["id"], {"email": details["email"]}))
    return customer


def _subscribe(account: Account, session: Record, customer: Record, method: Record | None) -> None:
    params = {**session["_subscription"], "customer": customer["id"]}
    if method is not None:
        params["default_payment_method"] = method["id"]
    subscription = subscriptions.create(account, Call("/v1/subscriptions", "", params))
    session.update(subscription=subscription["id"], invoice=subscription["latest_invoice"])
    if session["invoice"] is not None and session["amount_total"]:
        invoice = account.tables["invoice"][session["invoice"]]
        session["payment_status"] = "paid" if invoice["status"] == "paid" else "unpaid"


def _buy(account: Account, session: Record, customer: Record, method: Record | None) -> None:
    bought = [(each["price"], each["quantity"], each["description"]) for each in session["line_items"]["data"]]
    metadata = session["invoice_creation"]["invoice_data"]["metadata"]
    about = {"currency": session["currency"], "method": method, "metadata": metadata}
    invoice = one_off.issue(account, customer, bought, **about)
    intent = invoice_payments.intent_of(account, invoice)
    session.update(
        invoice=invoice["id"],
        payment_intent=None if intent is None else intent["id"],
        payment_status="paid" if invoice["status"] == "paid" else "unpaid",
    )


def _check_funds(account: Account, customer: Record | None, method: Record | None) -> None:
    """Raise if the first payment would be declined: Stripe then creates nothing, and the page stays."""
    outcome = payment_methods.outcome_of_customer(account, None if customer is None else customer["id"], method)
    if outcome == payment_methods.FAIL:
        raise ApiError(402, "Your card was declined.", type="card_error", code="card_declined")


def _needs_card(session: Record) -> bool:
    return session["payment_method_collection"] == "always" or bool(session["amount_total"])


def _form(account: Account, session: Record, form: Mapping[str, str], problem: str | None = None) -> Reply:
    customer = None if session["customer"] is None else account.get("customer", session["customer"])
    known = session["customer_email"] if customer is None else customer["email"]
    email = fill(_KNOWN_EMAIL, email=known) if known else fill(_EMAIL, email=form.get("email", ""))
    name = form.get("name", "") if customer is None else customer["name"] or ""
    required = Safe(" required") if _needs_card(session) else Safe("")
    body = fill(
        _FORM,
        items=_items(session),
        error=error(problem),
        email=email,
        name=name,
        card=fill(CARD, number=form.get("card_number", ""), required=required),
        promotion=fill(_PROMOTION, code=form.get("promotion_code", ""))
        if session["allow_promotion_codes"]
        else Safe(""),
        button=_button(session),
        back=fill(_BACK, url=session["cancel_url"]) if session["cancel_url"] else Safe(""),
    )
    title = {"setup": "Save a card", "payment": "Pay"}.get(session["mode"], "Subscribe")
    return page(title, body, status=200 if problem is None else 400)


def _items(session: Record) -> Safe:
    if session["line_items"] is None:
        return Safe("")
    items = [
        fill(
            _ITEM,
            name=item["description"],
            quantity="by usage" if item["quantity"] is None else item["quantity"],
            amount=shown(Decimal(item["amount_total"]), item["currency"]),
        )
        for item in session["line_items"]["data"]
    ]
    return fill(_ITEMS, items=joined(items), total=shown(Decimal(session["amount_total"]), session["currency"]))


def _button(session: Record) -> str:
    if session["mode"] == "setup":
        return "Save card"
    if session["mode"] == "payment":
        return "Pay"
    return "Pay and subscribe" if session["amount_total"] else "Subscribe"


def _ended(session: Record) -> Reply:
    if session["status"] == "complete":
        return page("You're all done here", fill("<p>You have completed this session.</p>"))
    return page("This session has expired", fill("<p>Ask for a new one.</p>"), status=410)
