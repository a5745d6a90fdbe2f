"""
A credit-score API with Django, in one file. A 200 is billed; 400, 404 and 503 are not.

Requires:    Django 4.2 or newer
To install:  pip install 'meterkit[django]' gunicorn
To run:      gunicorn --workers 2 django_app:app
Then:        curl -H 'X-Api-Key: key-of-acme' --json '{"person": "ada"}' localhost:8000/RetrieveCreditScore
             meterkit usage billing:kit
"""

from __future__ import annotations

import json
import secrets

from bureau import BureauDownError, UnknownPersonError, retrieve_score
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    METERKIT="billing.kit",
    MIDDLEWARE=["meterkit.django.MeterMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
)


@require_POST
def retrieve_credit_score(request: HttpRequest):
    """Return the credit score of one person."""
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("person"), str):
        return JsonResponse({"error": 'send JSON such as {"person": "ada"}'}, status=400)
    try:
        return JsonResponse({"person": body["person"], "score": retrieve_score(body["person"])})
    except UnknownPersonError:
        return JsonResponse({"error": "no such person"}, status=404)
    except BureauDownError:
        return JsonResponse({"error": "the bureau does not respond"}, status=503)


urlpatterns = [path("RetrieveCreditScore", retrieve_credit_score)]

app = get_wsgi_application()
