"""
A credit-score API with FastAPI. A 200 is billed; 404, 422 and 503 are not.

Requires:    FastAPI 0.115 or newer
To install:  pip install 'meterkit[fastapi]' uvicorn
To run:      uvicorn --workers 2 fastapi_app:app
Then:        curl -H 'X-Api-Key: key-of-acme' --json '{"person": "ada"}' localhost:8000/RetrieveCreditScore
             meterkit usage billing:kit
"""

from __future__ import annotations

from billing import kit
from bureau import BureauDownError, UnknownPersonError, retrieve_score
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import meterkit.asgi

app = FastAPI(title="Credit scores")
app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)


class Question(BaseModel):
    """The person whose score is requested."""

    person: str


@app.post("/RetrieveCreditScore")
def retrieve_credit_score(question: Question):
    """Return the credit score of one person."""
    try:
        return {"person": question.person, "score": retrieve_score(question.person)}
    except UnknownPersonError:
        raise HTTPException(404, "no such person") from None
    except BureauDownError:
        raise HTTPException(503, "the bureau does not respond") from None
