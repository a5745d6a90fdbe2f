"""The kit of the workers that `kills_of_workers` forks, in a module of its own: their flusher's process imports it."""

from __future__ import annotations

import os

from guard import GUARD

from meterkit import Governance, Meter, MeterKit, Quota, Wallet
from meterkit.flusher import child
from meterkit.governance import governor
from meterkit.ledger import database

database.PATIENCE = governor.READY_SECONDS = GUARD  # or who is slow lets requests pass that it has not looked at
child.FIRST_WAIT_SECONDS = child.LONGEST_WAIT_SECONDS = 0.01  # it is killed again and again
child.IMPORT_SECONDS = GUARD

is_prepaid = "KILLS_WALLET" in os.environ
calls = Meter("calls", billable=not is_prepaid)
kit = MeterKit(
    meters=[calls],
    identify=lambda _: "acme",
    flush_interval=0.02,
    wallets=[Wallet("credits", unit="credits", spends={calls: "0.5"})] if is_prepaid else [],
    governance=None if is_prepaid else Governance(quotas=[Quota(calls, int(os.environ["KILLS_QUOTA"]), exact=True)]),
)
