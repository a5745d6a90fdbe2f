"""
Processes that draw slices of a quota and of a wallet, made by hypothesis: killed, closed, with commits that are lost.

Each process is a journal with its slices, and folds for all that share its directory. After each step, what is drawn of
the ledger is compared with what can have been used.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meterkit.core.problems import Problems
from meterkit.core.usage_key import WALLET
from meterkit.errors import LedgerError
from meterkit.flusher.fold import Folder
from meterkit.journal.journal import Journal
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.slices import rows
from meterkit.slices.slices import Slices
from meterkit.slices.taken import ShortageError

NOW = 1_772_323_200
COMPANIES = ("acme", "globex")
CREDITS = f"{WALLET}credits"
RATES = {"calls": {"calls": 1}, CREDITS: {"images": 3, "tokens": 2}}
LIMITS = {"calls": 60, CREDITS: 400}
METERS = ("calls", "images", "tokens")

processes = st.integers(0, 3)


@dataclass(frozen=True)
class Limit:
    """What is left of a name, by what the ledger has counted."""

    name: str

    def left(self, connection, company):
        return LIMITS[self.name] - used(connection, company, self.name)


def used(connection, company, name):
    """What the ledger has of a name."""
    table = schema.totals
    query = sa.select(table.c.meter, table.c.quantity).where(table.c.company == company)
    return sum(RATES[name].get(row.meter, 0) * row.quantity for row in connection.execute(query))


class Request:
    """In flight until it has no native, as an exchange."""

    native: object = True


class Unreliable(Database):
    """A ledger of which the next commit can be lost, or only the news of it."""

    fails: str | None = None

    @contextmanager
    def transaction(self):
        fails, self.fails = self.fails, None
        with super().transaction() as connection:
            yield connection
            if fails == "before":
                raise LedgerError("the connection broke before the commit")
        if fails == "after":
            raise LedgerError("the connection broke after the commit")


class Edges:
    """No billing periods."""

    @staticmethod
    def placed(cells, *, since):
        return cells


class Process:
    """One process on a host, which is a directory."""

    def __init__(self, host, url):
        self.database = Unreliable(url)
        problems = Problems()
        self.journal = Journal(
            host / "journal",
            problems=problems,
            wake=lambda: None,
            size=4096,
            watched=frozenset(METERS),
            ledger="one",
        )
        self.journal.open(now=NOW)
        self.slices = Slices(
            self.database,
            self.journal,
            sources=lambda _, name: [Limit(name)],
            rates=RATES.__getitem__,
            problems=problems,
            clock=lambda: NOW,
        )
        self.folder = Folder(
            self.journal,
            problems,
            database=lambda: self.database,
            edges=Edges,
            publisher=None,
            clock=lambda: NOW,
        )
        self.requests = []

    def count(self, meter, company, quantity):
        self.journal.count([((meter, meter, company, "", NOW), quantity)], NOW)

    def fold(self):
        self.journal.rotate(now=NOW)
        self.folder.fold_retired()
        self.folder.fold_orphans()

    def kill(self):
        self.journal.abandon()

    def close(self):
        with suppress(LedgerError):
            self.slices.close()
        for _, _, request, _ in self.requests:
            request.native = None
        self.journal.close()


class SlicesMachine(RuleBasedStateMachine):
    """What companies can have used is always in the ledger, and never more than they may, whatever happens."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name)
        self.url = f"sqlite:///{self.path}/ledger.sqlite"
        self.processes = [self.new(number) for number in range(4)]
        self.ledger = Database(self.url)
        self.counted = {}
        self.recorded = {}
        self.passed = 0

    def new(self, number):
        """A process on one of two hosts."""
        return Process(self.path / f"host{number % 2}", self.url)

    def teardown(self):
        """Whoever is left folds all; and then exactly what is left can be used."""
        try:
            self.end_all()
        finally:
            for each in self.processes:
                each.journal.abandon()
            self.directory.cleanup()

    def end_all(self):
        """All end, and one on each host remains."""
        for each in self.processes:
            each.close()
        self.processes = [self.new(0), self.new(1)]
        for each in self.processes:
            each.fold()
        with self.ledger.snapshot() as connection:
            assert [] == connection.execute(schema.slices.select()).all()
        for company in COMPANIES:
            for name, limit in LIMITS.items():
                taken = 0
                for process in self.processes:
                    with suppress(ShortageError):
                        while process.slices.take(company, name, 1):
                            taken += 1
                assert max(0, limit - self.total(company, name)) == taken

    def total(self, company, name):
        """All that was counted."""
        return sum(rate * self.counted.get((company, meter), 0) for meter, rate in RATES[name].items())

    # What happens.

    @rule(
        number=processes,
        company=st.sampled_from(COMPANIES),
        name=st.sampled_from(sorted(LIMITS)),
        quantity=st.integers(1, 12),
    )
    def begin(self, number, company, name, quantity):
        """A request is allowed, or not."""
        process, request = self.processes[number], Request()
        try:
            taken = process.slices.take(company, name, quantity, exchange=request)
        except (ShortageError, LedgerError):
            return
        process.requests.append((company, name, request, taken))
        self.passed += 1

    @rule(number=processes, choice=st.integers(0, 99), part=st.integers(0, 12))
    def end(self, number, choice, part):
        """It is answered: it counts as much as it has taken, or less."""
        process = self.processes[number]
        if not process.requests:
            return
        company, name, request, taken = process.requests.pop(choice % len(process.requests))
        for meter, rate in RATES[name].items():
            quantity = min(part, taken.quantity // rate)
            if quantity:
                self.count(process, meter, company, quantity)
                break
        request.native = None

    def count(self, process, meter, company, quantity):
        """Usage in the journal of a process."""
        process.count(meter, company, quantity)
        self.counted[company, meter] = self.counted.get((company, meter), 0) + quantity

    @rule(number=processes, company=st.sampled_from(COMPANIES), meter=st.sampled_from(METERS))
    def record(self, number, company, meter):
        """Usage for which nobody has asked."""
        self.count(self.processes[number], meter, company, 1)
        for name, rates in RATES.items():
            self.recorded[company, name] = self.recorded.get((company, name), 0) + rates.get(meter, 0)

    @rule(number=processes, choice=st.integers(0, 99), quantity=st.integers(1, 8))
    def more(self, number, choice, quantity):
        """A hold takes more in mid-stream."""
        process = self.processes[number]
        if process.requests:
            with suppress(LedgerError):
                process.requests[choice % len(process.requests)][3].more(quantity)

    @rule(number=processes)
    def flush(self, number):
        """It folds what it finds, and gives back what it does not need."""
        process = self.processes[number]
        with suppress(LedgerError):
            process.fold()
        with suppress(LedgerError):
            process.slices.give_back()

    @rule(number=processes)
    def hand_over(self, number):
        """It leaves what it has counted to another."""
        journal = self.processes[number].journal
        journal.rotate(now=NOW)
        journal.hand_over(journal.retired_ids())

    @rule(number=processes)
    def rotate(self, number):
        """Its current generation is full."""
        self.processes[number].journal.rotate(now=NOW)

    @rule(number=processes)
    def read(self, number):
        """It reads the ledger, and forgets what it has handed over."""
        journal = self.processes[number].journal
        journal.seen(journal.folded())

    @rule(number=processes)
    def kill(self, number):
        """It dies, and another one begins."""
        self.processes[number].kill()
        self.processes[number] = self.new(number)

    @rule(number=processes)
    def close(self, number):
        """It ends."""
        self.processes[number].close()
        self.processes[number] = self.new(number)

    @rule(number=processes, when=st.sampled_from(["before", "after"]))
    def fail(self, number, when):
        """Its next commit fails, or seems to."""
        self.processes[number].database.fails = when

    # What always holds.

    @invariant()
    def nothing_is_overdrawn(self):
        """The ledger's usage and all that is held is no more than the limit, but for what nobody had asked for."""
        with self.ledger.snapshot() as connection:
            for company in COMPANIES:
                for name, limit in LIMITS.items():
                    known = used(connection, company, name) + rows.held(connection, company, name)
                    assert known <= limit + self.recorded.get((company, name), 0)

    @invariant()
    def everything_is_covered(self):
        """The ledger knows of all that was counted, is in flight, or may be used without asking it."""
        with self.ledger.snapshot() as connection:
            for company in COMPANIES:
                for name in LIMITS:
                    known = used(connection, company, name) + rows.held(connection, company, name)
                    taken = [
                        each.quantity
                        for process in self.processes
                        for of, what, _, each in process.requests
                        if (of, what) == (company, name)
                    ]
                    free = [max(0, process.slices.free(company, name)) for process in self.processes]
                    possible = self.total(company, name) + sum(taken) + sum(free)
                    assert known + self.recorded.get((company, name), 0) >= possible
