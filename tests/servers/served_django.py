"""The same app as Django serves it under ASGI, which knows no lifespan; whoever has to wait for its end is patient."""

from __future__ import annotations

import os
import socket

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from guard import GUARD

from meterkit import Meter, MeterKit
from meterkit.ledger import database
from meterkit.runtime import exit_hooks, process

database.PATIENCE = database.HURRY = process.STOP_SECONDS = exit_hooks.LAST_SECONDS = GUARD
kit = MeterKit(
    meters=[Meter("calls", path="/")],
    identify=lambda exchange: exchange.headers.get("x-company"),
    customer_ids=True,
    flush_interval=3600.0,  # what is counted is in the journal alone, until the end
)


async def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"ok", headers={"X-Worker": str(os.getpid())})


urlpatterns = [path("", view)]
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", METERKIT=kit, LOGGING_CONFIG=None,
    MIDDLEWARE=["meterkit.django.MeterMiddleware"],
)  # fmt: skip
django.setup()
asgi = get_asgi_application()

if "SERVED_SAYS_UP" in os.environ:
    host, _, port = os.environ["SERVED_GATE"].rpartition(":")
    socket.create_connection((host, int(port))).close()
