"""
A credit-score API with Flask. A 200 is billed; 400, 404 and 503 are not.

Requires:    Flask 2.3 or newer
To install:  pip install 'meterkit[flask]' gunicorn
To run:      gunicorn --workers 2 flask_app:app
Then:        curl -H 'X-Api-Key: key-of-acme' --json '{"person": "ada"}' localhost:8000/RetrieveCreditScore
             meterkit usage billing:kit
"""

from __future__ import annotations

from billing import kit
from bureau import BureauDownError, UnknownPersonError, retrieve_score
from flask import Flask, request

import meterkit.flask

app = Flask(__name__)


@app.post("/RetrieveCreditScore")
def retrieve_credit_score():
    """Return the credit score of one person."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("person"), str):
        return {"error": 'send JSON such as {"person": "ada"}'}, 400
    try:
        return {"person": body["person"], "score": retrieve_score(body["person"])}
    except UnknownPersonError:
        return {"error": "no such person"}, 404
    except BureauDownError:
        return {"error": "the bureau does not respond"}, 503


meterkit.flask.init_app(app, kit)
