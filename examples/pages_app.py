"""
The pages for customers and for the team, beside the credit-score API, with Flask.

Requires:    Flask 2.3 or newer
To install:  pip install 'meterkit[flask]' gunicorn
To run:      gunicorn --workers 2 pages_app:app
Then:        open http://localhost:8000/login in a browser, as "acme" with the password "key-of-acme",
             or as "team" with the password "open sesame", in a private window
             meterkit usage billing:kit
"""

from __future__ import annotations

import hmac

import billing
from bureau import BureauDownError, UnknownPersonError, retrieve_score
from flask import Flask, redirect, request
from werkzeug.datastructures import Authorization

import meterkit.flask
from meterkit import Exchange, MeterKit, Pages

TEAM_PASSWORD = "open sesame"  # in your application: the accounts of your staff


def password_of(exchange: Exchange, user: str | None = None) -> str:
    """Return the password that a browser has sent, or that of *user*; in your application: look up the session."""
    given = Authorization.from_header(exchange.headers.get("authorization"))
    return "" if given is None or user not in (None, given.username) else given.password or ""


def company_of(exchange: Exchange) -> str | None:
    """Return the company of a program, which sends its key, or of a browser, which sends the key as a password."""
    return billing.company_of(exchange) or billing.API_KEYS.get(password_of(exchange))


def is_team(exchange: Exchange) -> bool:
    """Return whether a browser is that of somebody of the team."""
    return hmac.compare_digest(password_of(exchange, "team").encode(), TEAM_PASSWORD.encode())


kit = MeterKit(
    meters=[billing.credit_scores],
    prices=billing.kit.prices,
    identify=company_of,
    pages=Pages("/billing", team=is_team, name="Credit scores"),
)
app = Flask(__name__)


@app.get("/login")
def login():
    """Have the browser ask for a password, and lead to the pages."""
    if request.authorization is None:
        return "Who are you?", 401, {"WWW-Authenticate": 'Basic realm="Credit scores"'}
    return redirect("/billing/team" if request.authorization.username == "team" else "/billing/")


@app.post("/RetrieveCreditScore")
def retrieve_credit_score():
    """Return the credit score of one person."""
    person = str((request.get_json(silent=True) or {}).get("person"))
    try:
        return {"person": person, "score": retrieve_score(person)}
    except UnknownPersonError:
        return {"error": "no such person"}, 404
    except BureauDownError:
        return {"error": "the bureau does not respond"}, 503


meterkit.flask.init_app(app, kit)
