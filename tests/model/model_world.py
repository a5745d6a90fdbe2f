"""The model's world: hosts with clocks of their own, the processes on them, one ledger, and Stripe."""

from __future__ import annotations

import shutil
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from model_clocks import DAY, HOUR, Clocks
from model_prepaid import Held, Prepaid
from model_process import BY_REGION, METERS, PREPAID
from model_stripe import GONE, Stripe
from model_tally import Tally
from model_zygote import NO_PLAN, Outcome, Process, Zygote

PROCESSES = 3

MAX_HELD = 20 * HOUR
"""A request that arrives more than a day after it was begun is beyond Stripe's memory, and beyond any client's help."""

COMPANIES = ["acme", "daughter", "mover", "invented", "stranger", "cus", None]
"""
Who uses: two with one Stripe customer, one that moves from one customer to another, one whose customer does not exist,
one that nobody links, one whose id is a Stripe customer's, and nobody.
"""

PAYERS = {"acme": "acme", "daughter": "acme", "mover": "mover", "invented": "invented", "cus": "cus"}
"""Whose usage is billed together. The two customers of the one that moves count as one payer."""

REGIONS = ("", "eu", "us")
"""Values of the dimension."""


class World:
    """
    One example of the model.

    Subclass it for another ledger or more hosts.

    Args:
        zygote: From which the processes are forked.

    Attributes:
        hosts: How many there are. Each has a clock, and a journal; the processes are spread over them.
        tally: What was counted.
        prepaid: What was granted and held.
        sound: Nothing has failed so far.
    """

    hosts = 1

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self.directory = Path(tempfile.mkdtemp(prefix="meterkit-model-"))
        self.clocks = Clocks(self.directory / "clocks", self.hosts)
        self.tally = Tally()
        self.prepaid = Prepaid()
        self.sound = True
        self._slots: list[Process | None] = [None] * PROCESSES
        self._held_since: dict[int, float] = {}
        self.stripe: Stripe | None = None

    def ledger(self) -> str | None:
        """The URL of the ledger; None for SQLite in `data_dir`."""
        return None

    def data_dir(self, host: int) -> Path:
        """Where the journal is on *host*."""
        return self.directory / f"host-{host}"

    def end_leases(self) -> None:
        """Called when over a minute has passed, for a ledger that has a clock of its own."""

    def open(self, switches: dict[str, Any]) -> None:
        """Begin with a Stripe account that has some customers and meters."""
        self.stripe = Stripe(now=self.clocks.true, **switches)
        self.stripe.start()
        for name in METERS[:-1]:
            self.stripe.make_meter(name)
        shared, first, second, self.cus = (self.stripe.make_customer() for _ in range(4))
        self.customers = {"acme": [shared], "daughter": [shared], "mover": [first, second], "invented": [GONE]}
        self._payers = {shared: "acme", first: "mover", second: "mover", self.cus: "cus", GONE: "invented"} | PAYERS

    def close(self) -> None:
        """End what is left."""
        for process in self.living():
            process.kill()
        if self.stripe is not None:
            self.stripe.stop()
        shutil.rmtree(self.directory)

    def payer(self, who: str | None) -> str | None:
        """Who pays for a company, or is behind a Stripe customer."""
        return self._payers.get(who, who)

    def living(self) -> list[Process]:
        """The processes that there are."""
        return [process for process in self._slots if process is not None and process.alive]

    def held(self) -> list[int]:
        """Which of them are in the midst of an operation."""
        return sorted(self._held_since)

    def do(self, who: int, command: str, *, plan: tuple[str, str, int] = NO_PLAN, **arguments: object) -> Outcome:
        """Let a process do something; where it was killed, another takes its place."""
        process = self._slots[who]
        if process is None or not process.alive:
            process = self._slots[who] = self._guarded(lambda: self._start(who % self.hosts))
        return self._guarded(lambda: process.do(command, plan=plan, **arguments))

    def do_alone(self, who: int, command: str, *, plan: tuple[str, str, int], **arguments: object) -> Outcome:
        """The same, when it has done what it was held at; and it may be held again."""
        self.go_on(who)
        if plan[0] == "hold":
            self.do(who, "health")  # nobody is held while the ledger is opened, for which others in there would wait
        outcome = self.do(who, command, plan=plan, **arguments)
        if outcome.end == "held":
            self._held_since[who] = self.clocks.true()
        return outcome

    def count(
        self, who: int, meter: str, company: str | None, quantity: int, *, command: str = "record", **more: Any
    ) -> None:
        """Let a process count, and count for ourselves; who is killed amidst it may have counted or not."""
        company = self.cus if company == "cus" else company
        now = int(self.clocks.of_host(who % self.hosts))
        arguments: dict[str, Any] = {"meter": meter, "company": company, "quantity": quantity}
        region = "" if meter == BY_REGION else None
        if company is None:
            command, arguments, quantity = "serve_nobody", {"meter": meter}, 1
        elif command == "record" and region is not None:
            region = REGIONS[quantity % 3]
            arguments["region"] = region or None
        outcome = self.do(who, command, **arguments, **more)
        is_certain = outcome.end == "done"
        self.tally.count(meter, self.payer(company), now - now % HOUR, quantity, certain=is_certain, region=region)

    def grant(self, who: int, company: str, amount: int, *, plan: tuple[str, str, int], **about: Any) -> None:
        """Let a process grant, and again if it was killed."""
        key = f"grant-{len(self.prepaid.grants)}"
        self._again(who, "grant", plan=plan, company=company, amount=amount, key=key, **about)
        self.prepaid.granted[company] += amount
        self.prepaid.grants[key] = company

    def revoke(self, who: int, which: int, *, plan: tuple[str, str, int]) -> None:
        """Let a process take back what is left of a grant, and again if it was killed."""
        grant, company = list(self.prepaid.grants.items())[which % len(self.prepaid.grants)]
        key = f"revocation-{len(self.prepaid.revoked)}"
        amount = self._again(who, "revoke", plan=plan, company=company, grant=grant, key=key).value
        self.prepaid.revoked[key] = company, Decimal(amount)

    def hold(self, who: int, number: int, company: str, quantity: int, *, plan: tuple[str, str, int]) -> None:
        """Let a process hold units, if it can."""
        outcome = self.do_alone(who, "hold_units", plan=plan, number=number, company=company, quantity=quantity)
        process = self._slots[who]
        if outcome.end == "done" and outcome.value and process is not None:
            self.prepaid.hold(Held(number, process, who, company, quantity))

    def more(self, held: Held, quantity: int, *, plan: tuple[str, str, int]) -> None:
        """Let it hold more, if it can."""
        outcome = self.do_alone(held.who, "more", plan=plan, number=held.id, quantity=quantity)
        if outcome.end == "done" and outcome.value:
            held.quantity += quantity

    def settle(self, held: Held, quantity: int | None, *, plan: tuple[str, str, int]) -> None:
        """Let it count what was used of a hold; nothing if None."""
        if quantity is None:
            self.do_alone(held.who, "release", plan=plan, number=held.id)
        else:
            now = int(self.clocks.of_host(held.who % self.hosts))
            outcome = self.do_alone(held.who, "settle", plan=plan, number=held.id, quantity=quantity)
            is_certain = outcome.end == "done"
            self.tally.count(PREPAID, self.payer(held.company), now - now % HOUR, quantity, certain=is_certain)
            self.prepaid.count(held.company, quantity, certain=is_certain)
        if held in self.prepaid.holds():
            self.prepaid.end(held)

    def _again(self, who: int, command: str, *, plan: tuple[str, str, int], **arguments: Any) -> Outcome:
        outcome = self.do_alone(who, command, plan=plan, **arguments)
        return outcome if outcome.end == "done" else self.do(who, command, **arguments)

    def close_process(self, who: int) -> None:
        """End a process as one ends that is asked to."""
        for held in self.prepaid.holds(who):
            self.prepaid.end(held)
        self.do_alone(who, "close", plan=NO_PLAN)

    def go_on(self, who: int) -> None:
        """Let a held process go on, if it is."""
        self._held_since.pop(who, None)
        if (process := self._slots[who]) is not None and process.held:
            self._guarded(process.go_on)

    def kill(self, who: int) -> None:
        """End a process without a word, if it lives."""
        self._held_since.pop(who, None)
        if (process := self._slots[who]) is not None and process.alive:
            process.kill()

    def wait(self, seconds: int) -> None:
        """Let time pass; nothing is held for a day."""
        if seconds > MAX_HELD:
            self.stripe.recover()
        if seconds > 30 * DAY and self.hosts > 1:
            # The others do not remember for ever what is folded: no host is away for 40 days with a dead process's
            # file that the ledger has already. (What it would count twice is too old to be billed.)
            for host in range(self.hosts):
                self.go_on(host)
                self.do(host, "flush")
        if seconds > DAY:
            self._give_back()
        for who, since in list(self._held_since.items()):
            if self.clocks.true() + seconds - since > MAX_HELD:
                self.go_on(who)
        self.clocks.pass_by(seconds)
        if seconds > 60:
            self.end_leases()

    def _give_back(self) -> None:
        """End all holds: what is drawn is forgotten after 40 days, and no process keeps units for so long."""
        for held in self.prepaid.holds():
            self.settle(held, None, plan=NO_PLAN)
        for who, process in enumerate(self._slots):
            if process is not None and process.alive:
                self.do_alone(who, "give_back", plan=NO_PLAN)

    def come_to_rest(self) -> dict[str, Any]:
        """
        End all processes, correct what is wrong, and let others do what is left, until nothing moves.

        Returns:
            The books, as `model_process.Served.books` answers them.
        """
        self.stripe.recover()
        self.stripe.make_meter(METERS[-1])
        for who in range(PROCESSES):
            if who % 2 and who not in self.held() and self._slots[who] is not None:
                self.do(who, "close")
            self.kill(who)
        for host in range(self.hosts):
            self.clocks.set_wrong(host, 0)
        heirs = range(self.hosts)
        for seconds in (HOUR, DAY + 2 * HOUR, DAY):  # the latest that a wrong clock has said, and another day
            self.wait(seconds)
            before, after, rounds = None, self._states(), 0
            while after != before:
                assert rounds < 100, f"it never comes to rest: {before}, {after}"
                for who in heirs:
                    self.do(who, "report", include_open=False)
                before, after, rounds = after, self._states(), rounds + 1
        return self.do(0, "books").value

    def _states(self) -> list[tuple[Any, ...]]:
        books = self.do(0, "books").value
        usage = [(row["quantity"], row["reported"]) for row in books["usage"]]
        return usage + [(report["id"], report["state"]) for report in books["reports"]]

    def _start(self, host: int) -> Process:
        setting = {"data_dir": str(self.data_dir(host)), "ledger": self.ledger()}
        setting |= {"stripe_key": self.stripe.api_key, "stripe_base": self.stripe.url}
        return self._zygote.start(self.clocks, host, **setting)

    def _guarded(self, work: Any) -> Any:
        """Do *work*; if it fails, the example is over, and there is nothing to settle."""
        sound, self.sound = self.sound, False
        result = work()
        self.sound = sound
        return result
