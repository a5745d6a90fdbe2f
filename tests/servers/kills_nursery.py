"""
Forks reporters, as fast as they can be killed: each counts, flushes and reports without a pause.

Reads ``<now> <companies>`` lines, and answers each with the pid of the one that it forked. The reporters write a byte
for each count that has returned to the descriptor that is the last argument.
"""

from __future__ import annotations

import os
import sys

import httpx
from guard import GUARD

from meterkit import Meter, MeterKit
from meterkit.reporting import worker_pool
from meterkit.stripe_api import retry, transport

data_dir, key, base, acknowledged = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
retry.MAX_WAIT, transport.TIMEOUT = 0.01, httpx.Timeout(GUARD)
worker_pool.MOST_COMPUTING = 1e9  # as with a Stripe that is far away: many requests at a time


def report_for_ever(now: float, companies: list[str]) -> None:
    kit = MeterKit(
        customer_ids=True,
        meters=[Meter("calls")],
        data_dir=data_dir,
        stripe_key=key,
        stripe_base=base,
        clock=lambda: now,
        flush_interval=3600,
        report_interval=3600,
    )
    while True:
        for company in companies:
            kit.record("calls", company)
            os.write(acknowledged, b".")
        kit.report(include_open=True)


for line in sys.stdin:
    moment, who = line.split()
    pid = os.fork()
    if pid == 0:
        report_for_ever(float(moment), who.split(","))
    print(pid, flush=True)
    os.waitpid(pid, 0)
