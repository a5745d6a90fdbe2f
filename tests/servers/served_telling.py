"""
An app whose kit counts users and seats, and writes an e-mail when a customer reaches the next tier.

``/?user=ada&seats=12`` is answered with the process's id in ``X-Worker``.
"""

from __future__ import annotations

import os
from urllib.parse import parse_qs

import meterkit.wsgi
from meterkit import Meter, MeterKit, Notify, Price, Tier, maximum, unique
from meterkit.channels import Email


def asked(exchange, name):
    return parse_qs(exchange.native["QUERY_STRING"]).get(name, [None])[0]


calls = Meter("calls", path="/")
kit = MeterKit(
    customer_ids=True,
    meters=[
        calls,
        Meter("users", path="/", value=unique(lambda exchange: asked(exchange, "user"))),
        Meter("seats", path="/", value=maximum(lambda exchange: int(asked(exchange, "seats")))),
    ],
    prices=[Price.graduated(calls, Tier(up_to=60, unit_price="5"), Tier(unit_price="3"))],
    identify=lambda exchange: exchange.headers.get("x-company"),
    flush_interval=0.1,
    notify=[
        Notify.tier_crossed(
            to=Email(
                "127.0.0.1",
                port=int(os.environ["SERVED_SMTP"]),
                security="none",
                sender="billing@us.example",
                to="customer@acme.example",
            )
        )
    ],
)


def plain(environ, start_response):
    start_response("200 OK", [("Content-Length", "2"), ("X-Worker", str(os.getpid()))])
    return [b"ok"]


wsgi = meterkit.wsgi.MeterMiddleware(plain, kit)
