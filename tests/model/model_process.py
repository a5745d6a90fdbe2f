"""
One process of the model: a kit that does what it is told, and can be held or killed between any two writes.

Run as a script it is the process from which the others are forked: it has imported everything, and has no threads.
"""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from multiprocessing import reduction
from multiprocessing.connection import Connection
from queue import SimpleQueue

import httpx
from guard import GUARD
from held import time_out_when_held
from model_clocks import Clocks
from sqlalchemy.engine.default import DefaultDialect

from meterkit import Hold, InsufficientBalanceError, Meter, MeterKit, Wallet
from meterkit.core import threads
from meterkit.errors import LedgerError
from meterkit.flusher import flusher
from meterkit.governance import governor
from meterkit.ledger import database
from meterkit.outbox.outbox import Outbox
from meterkit.reporting import worker_pool
from meterkit.runtime import process
from meterkit.stripe_api import retry, transport
from meterkit.wsgi import MeterMiddleware

METERS = ("calls", "egress", "later")
BY_REGION = "egress"
"""The meter that has a dimension."""
BY = {"by": {"region": lambda _: None}}
PREPAID = "prompts"
"""The meter that a wallet pays for."""
STEPS = [f"{when} {what}" for what in ("commit", "request", "removal", "rename") for when in ("before", "after")]
"""Where an operation can be interrupted: around all that other processes, or Stripe, can see."""

NEVER = 7 * 24 * 3600
"""Seconds between two flushes of the background thread: it is the model that flushes."""


@dataclass
class Plan:
    """
    Where an operation is to be interrupted.

    Attributes:
        ending: ``crash``: the process is killed there. ``hold``: it stops there until it is told to go on.
        step: Of `STEPS`; "" for nowhere.
        time: At the first, second... time that the operation passes that step.
        passed: The steps so far.
    """

    ending: str
    step: str
    time: int
    passed: list[str] = field(default_factory=list)


_here = threading.local()


class Served:
    """What runs in the process."""

    def __init__(self, connection: Connection, setting: dict[str, object]) -> None:
        self._connection = connection
        self._outcomes: SimpleQueue[tuple[str, object]] = SimpleQueue()
        self._goes_on: SimpleQueue[None] = SimpleQueue()
        self._holds: dict[int, Hold] = {}
        clocks = Clocks(pathlib.Path(str(setting.pop("clocks"))))
        self.kit = MeterKit(
            customer_ids=True,
            meters=[
                *(Meter(name, path=f"/{name}", **(BY if name == BY_REGION else {})) for name in METERS),
                Meter(PREPAID, http=False, billable=False),
            ],
            wallets=[Wallet("credits", unit="credits", spends={PREPAID: "0.5"})],
            identify=lambda _: None,
            clock=clocks.asked_on(int(str(setting.pop("host")))),
            flush_interval=NEVER,
            **setting,  # type: ignore[arg-type]
        )

    def serve(self) -> None:
        """Do what the test says, each operation in a thread of its own, because one may be held meanwhile."""
        while True:
            command, arguments, plan = self._connection.recv()
            if command == "go_on":
                self._goes_on.put(None)
            else:
                threading.Thread(target=self._operate, args=(command, arguments, plan)).start()
            self._connection.send(self._outcomes.get())

    def _operate(self, command: str, arguments: dict[str, object], plan: tuple[str, str, int]) -> None:
        _here.served, _here.plan = self, Plan(*plan)
        try:
            outcome = "done", getattr(self, command)(**arguments)
        except BaseException:
            outcome = "failed", traceback.format_exc()
        self._outcomes.put(outcome)

    def hold(self, step: str) -> None:
        """Say that the operation is held, and wait until it may go on."""
        self._outcomes.put(("held", step))
        self._goes_on.get()

    def record(
        self, meter: str, company: str, quantity: int, user: str | None = None, region: str | None = None
    ) -> None:
        """Count."""
        self.kit.record(meter, company, quantity, user=user, dimensions=None if region is None else {"region": region})

    def grant(self, company: str, amount: int, key: str, *, lasts: int | None, priority: int) -> None:
        """Grant, once for each key."""
        expires = None if lasts is None else datetime.fromtimestamp(self.kit.clock() + lasts, timezone.utc)
        self.kit.grant(company, "credits", amount, key=key, expires=expires, priority=priority)

    def revoke(self, company: str, grant: str, key: str) -> str:
        """Take back what is left of a grant."""
        return str(self.kit.revoke(company, "credits", grant, key=key))

    def hold_units(self, number: int, company: str, quantity: int) -> bool:
        """Hold units of the wallet's meter, if there are so many."""
        if self.kit.governor.exact.slices is None:
            self.flush()  # otherwise, the background thread does
        hold = self.kit.hold(company, quantity, meter=PREPAID)
        try:
            hold.__enter__()
        except InsufficientBalanceError:
            return False
        self._holds[number] = hold
        return True

    def more(self, number: int, quantity: int) -> bool:
        """Hold more."""
        return self._holds[number].more(quantity)

    def settle(self, number: int, quantity: int) -> None:
        """Count what was used."""
        hold = self._holds.pop(number)
        hold.settle(quantity)
        hold.__exit__(None, None, None)

    def release(self, number: int) -> None:
        """Count nothing."""
        self._holds.pop(number).__exit__(None, None, None)

    def give_back(self) -> None:
        """What the background thread does with what is not needed, if it is not used from one flush to the next."""
        if self.kit.governor.exact.slices is not None:
            for _ in range(2):
                self.kit.governor.exact.slices.give_back()

    def serve_nobody(self, meter: str) -> None:
        """Serve a request of which nobody says who pays."""

        def app(_environ, start_response):
            start_response("200 OK", [])
            return [b"ok"]

        MeterMiddleware(app, self.kit)({"REQUEST_METHOD": "GET", "PATH_INFO": f"/{meter}"}, lambda *_: None)

    def flush(self) -> None:
        """From the journal to the ledger; what is held while another folds it stays there."""
        try:
            self.kit.flush()
        except LedgerError:
            if not self.kit.process().journal.waiting():
                raise

    def tick(self) -> None:
        """What the background thread does every few seconds: flush for all, or hand over to the one that does."""
        self.kit.process()._tick(is_last=False)

    def report(self, *, include_open: bool) -> dict[str, object]:
        """To Stripe."""
        self.flush()
        return asdict(self.kit.process().stripe_jobs.report(include_open=include_open))

    def link(self, company: str, customer: str) -> None:
        """Say who pays for a company."""
        self.kit.link(company, customer)

    def close(self) -> None:
        """End as a process ends that is asked to; a later count begins anew."""
        for number in list(self._holds):
            self.release(number)
        self.kit.close()

    def health(self) -> dict[str, object]:
        """What the user sees."""
        return {**self.kit.health(), "mistakes": self.kit.audit_wallets()}

    def prepaid(self, companies: list[str]) -> dict[str, object]:
        """The balances, and usage by region."""
        names = ("granted", "spent", "expired", "revoked", "held", "left", "uncovered")
        balances = {company: self.kit.balance(company, "credits") for company in companies}
        by_region: dict[str, int] = {}
        for row in self.kit.usage(meter=BY_REGION, by="region"):
            by_region[row.values["region"]] = by_region.get(row.values["region"], 0) + row.quantity
        found = {company: {name: str(getattr(each, name)) for name in names} for company, each in balances.items()}
        return {"balances": found, "by_region": by_region}

    def books(self) -> dict[str, list[dict[str, object]]]:
        """All rows of usage and all reports."""
        reports = Outbox(self.kit.process().database(), clock=self.kit.clock).reports()
        return {"usage": [asdict(row) for row in self.kit.usage()], "reports": [each._asdict() for each in reports]}

    def fork(self, meter: str, company: str, quantity: int, *, flush: bool) -> None:
        """Let a child count, which ends without a word; sometimes it flushes before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads, which is the thing under test
            child = os.fork()
        if child == 0:
            status = 1
            try:
                self.kit.record(meter, company, quantity)
                if flush:
                    self.kit.flush()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0, "the forked child failed"

    def steps_of(self, operation: str, **arguments: object) -> list[str]:
        """Do *operation*, and answer the steps on its way."""
        getattr(self, operation)(**arguments)
        return list(_here.plan.passed)


def step(name: str) -> None:
    """A write has been done, or is about to be: the place where a plan takes effect."""
    plan = getattr(_here, "plan", None)
    if plan is None:
        return
    plan.passed.append(name)
    if name != plan.step or plan.passed.count(name) != plan.time:
        return
    if plan.ending == "hold":
        _here.served.hold(name)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


class PlannedWorker(threads.DaemonThread):
    """A thread that an operation starts, which is interrupted where that is."""

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        mine = dict(vars(_here))

        def planned() -> None:
            vars(_here).update(mine)
            work()

        super().__init__(planned, name=name)


def put_steps_around(owner: type, method: str, name: str) -> None:
    """Let *method* of *owner*, which changes what others see, be a step before and a step after."""
    original = getattr(owner, method)

    def stepping(*args: object, **kwargs: object) -> object:
        step(f"before {name}")
        try:
            return original(*args, **kwargs)
        finally:
            step(f"after {name}")

    setattr(owner, method, stepping)


def main(control: Connection, held: pathlib.Path) -> None:
    """Fork a process for each connection that is handed in, and wait for each that has ended."""
    put_steps_around(pathlib.Path, "rename", "rename")
    put_steps_around(pathlib.Path, "unlink", "removal")
    put_steps_around(DefaultDialect, "do_commit", "commit")
    put_steps_around(transport.HTTPXClient, "request", "request")
    worker_pool.DaemonThread = PlannedWorker  # type: ignore[misc]
    worker_pool.MOST_COMPUTING = 1e9  # as with a Stripe that is far away: many requests at a time
    # The same tries as ever, with shorter waits between them; an answer that is held never comes, any other does.
    retry.MAX_WAIT, transport.TIMEOUT = 0.001, httpx.Timeout(GUARD)
    database.PATIENCE = governor.READY_SECONDS = GUARD
    flusher.Flusher.start_jobs = lambda _: None  # type: ignore[method-assign] # it is the model that reports
    process.HANDED_OVER_SECONDS = 0.01  # who folds it may be held
    time_out_when_held(held)
    logging.disable()  # what is wrong is asked for
    while True:
        setting = control.recv()
        if isinstance(setting, int):
            control.send(os.waitpid(setting, 0)[1])
            continue
        handle = reduction.recv_handle(control)
        pid = os.fork()
        if pid == 0:
            control.close()
            Served(Connection(handle), setting).serve()
        os.close(handle)
        control.send(pid)


if __name__ == "__main__":
    try:
        main(Connection(int(sys.argv[1])), pathlib.Path(sys.argv[2]))
    except EOFError:
        os._exit(0)  # the test is over, or whoever commands this process is gone
