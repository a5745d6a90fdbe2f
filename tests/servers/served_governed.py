"""An app whose kit has a quota for each company: ``SERVED_QUOTA`` calls a month, exact if ``SERVED_EXACT`` is set."""

from __future__ import annotations

import os

from guard import GUARD

import meterkit.wsgi
from meterkit import Governance, Meter, MeterKit, Quota
from meterkit.governance import governor
from meterkit.ledger import database

database.PATIENCE = governor.READY_SECONDS = GUARD  # or who is slow lets requests pass that it has not looked at
calls = Meter("calls", path="/")
kit = MeterKit(
    customer_ids=True,
    meters=[calls],
    identify=lambda exchange: exchange.headers.get("x-company"),
    flush_interval=0.2,
    governance=Governance(quotas=[Quota(calls, int(os.environ["SERVED_QUOTA"]), exact="SERVED_EXACT" in os.environ)]),
)


def plain(environ, start_response):
    start_response("200 OK", [("Content-Length", "2"), ("X-Worker", str(os.getpid()))])
    return [b"ok"]


wsgi = meterkit.wsgi.MeterMiddleware(plain, kit)
