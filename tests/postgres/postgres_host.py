"""
A host: one process with a journal of its own, which counts for companies that other hosts count for too.

It is started by `postgres_hosts.Host`, says on its standard output what it does, and stops when its input ends:
``["ready"]``, ``["begun", company, quantity]``, ``["counted", company, quantity]``, ``["trouble", error]``.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading

import httpx

from meterkit import JetStream, LedgerError, Meter, MeterKit
from meterkit.ledger import database
from meterkit.stripe_api import transport


def say(*what):
    """One line, in one piece."""
    os.write(1, json.dumps(what).encode() + b"\n")


def flush(kit):
    """What goes wrong is told and tried again."""
    try:
        kit.flush()
    except LedgerError as error:
        say("trouble", str(error))


def report(kit):
    """The hour that is open, too; answer whether all went out."""
    try:
        summary = kit.report(include_open=True)
    except LedgerError as error:
        say("trouble", str(error))
        return False
    return not summary.postponed and not summary.error


def main(options):
    chance = random.Random(options["seed"])
    # A host that is slow, beside many others, waits.
    database.PATIENCE = database.STATEMENT_SECONDS = transport.LONGEST_SECONDS = options["guard"]
    transport.TIMEOUT = httpx.Timeout(options["guard"])
    if options["jetstream"]:
        options["kit"]["jetstream"] = JetStream(options["jetstream"])
    kit = MeterKit(meters=[Meter("calls")], customer_ids=True, flush_interval=0.01, **options["kit"])
    stopping = threading.Event()
    reporting = threading.Thread(target=lambda: report_until(kit, stopping))
    say("ready")
    sys.stdin.readline()
    threading.Thread(target=lambda: (sys.stdin.read(), stopping.set()), daemon=True).start()
    if options["reports"]:
        reporting.start()
    while not stopping.is_set():
        for company in chance.sample(options["companies"], len(options["companies"])):
            quantity = chance.randint(1, 9)
            say("begun", company, quantity)
            kit.record("calls", company, quantity)
            say("counted", company, quantity)
        flush(kit)
    if options["reports"]:
        reporting.join()
    kit.close()


def report_until(kit, stopping):
    """Again and again, and once more at the end, until that went well."""
    while not stopping.is_set():
        report(kit)
    while not report(kit):
        pass


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
