"""
The model: processes that count, flush, report, fork, are held and are killed, while Stripe and the clocks go wrong.

Some companies pay ahead, for work that holds what it may use.
Whatever happens, the books balance and nobody is billed more than was counted; and when all has come to rest,
everything that was counted is billed, or listed with its reason.
"""

from __future__ import annotations

from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_clocks import DAY, HOUR
from model_prepaid import COMPANIES as PAYING_AHEAD
from model_process import METERS, STEPS
from model_stripe import GONE, KINDS, LOST, UNVERIFIED
from model_tally import Settlement
from model_world import COMPANIES, PROCESSES, World
from model_zygote import NO_PLAN

processes = st.integers(0, PROCESSES - 1)
counts = st.tuples(
    st.sampled_from(METERS),
    st.sampled_from(COMPANIES),
    st.one_of(st.integers(1, 9), st.just(999_999_999_999_999)),
)
# What is seen first by others is what matters most, and most of what is seen is committed.
crashed_at = st.sampled_from([*STEPS, "after commit", "after commit", "after request"])
# Nobody is held with a transaction open: others would merely wait for it.
held_at = crashed_at.filter(lambda step: step != "before commit")
times = st.one_of(st.integers(1, 3), st.integers(1, 12))
crashes = st.tuples(st.just("crash"), crashed_at, times)
holds = st.tuples(st.just("hold"), held_at, times)
interruptions = st.one_of(st.just(NO_PLAN), crashes, crashes, holds)
faults = st.tuples(st.sampled_from(KINDS), st.sampled_from([1, 2, 4, 8]), st.integers(0, 3), st.booleans())

prepaying = st.sampled_from(PAYING_AHEAD)
units = st.integers(1, 40)

Plan = tuple[str, str, int]
Count = tuple[str, "str | None", int]


class Model(RuleBasedStateMachine):
    """
    The rules, and what is true in every state.

    Args:
        world: A fresh one.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self._asked = self._number = 0

    @initialize(
        switches=st.fixed_dictionaries({name: st.sampled_from(of) for name, of in UNVERIFIED.items()}),
        what=st.lists(counts, min_size=1, max_size=5),
    )
    def begin(self, switches: dict[str, Any], what: list[Count]) -> None:
        """
        Stripe may behave in any of the ways that nobody outside knows.

        Some companies are linked and have counts, and one has paid.
        """
        self.world.open(switches)
        for company in ("acme", "mover", "invented"):
            self.world.do(0, "link", company=company, customer=self.world.customers[company][0])
        self.count(0, what)
        self.world.grant(0, PAYING_AHEAD[0], 10, plan=NO_PLAN, lasts=None, priority=1)

    @rule(who=processes, what=st.lists(counts, min_size=1, max_size=3))
    def count(self, who: int, what: list[Count]) -> None:
        """A process counts, also while its own flush or report is held."""
        for meter, company, quantity in what:
            self.world.count(who, meter, company, quantity)

    @rule(who=processes, what=counts, plan=crashes)
    def count_first(self, who: int, what: Count, plan: Plan) -> None:
        """A new process counts, and may be killed while it makes its journal."""
        self.world.kill(who)
        self.world.count(who, *what, plan=plan)

    @rule(who=processes, what=counts, flush=st.booleans())
    def fork(self, who: int, what: Count, flush: bool) -> None:
        """A forked child counts, and ends without a word."""
        meter, company, quantity = what
        if company is not None:
            self.world.count(who, meter, company, quantity, command="fork", flush=flush)

    @rule(who=processes, what=st.lists(counts, max_size=2), plan=interruptions)
    def flush(self, who: int, what: list[Count], plan: Plan) -> None:
        """From the journal to the ledger, also what dead processes left."""
        self.count(who, what)
        self.world.do_alone(who, "flush", plan=plan)

    @rule(who=processes, what=st.lists(counts, max_size=2), plan=interruptions)
    def tick(self, who: int, what: list[Count], plan: Plan) -> None:
        """The background thread's turn: the first flushes for all on its host from then on, the others hand over."""
        self.count(who, what)
        self.world.do_alone(who, "tick", plan=plan)

    @rule(who=processes, what=st.lists(counts, max_size=2), plan=interruptions, include_open=st.booleans())
    def report(self, who: int, what: list[Count], plan: Plan, include_open: bool) -> None:
        """From the ledger to Stripe."""
        self.count(who, what)
        self.world.do_alone(who, "report", plan=plan, include_open=include_open)

    @rule(who=processes, kind=st.sampled_from(LOST), silence=st.sampled_from([61, 23 * HOUR, 25 * HOUR, 36 * DAY]))
    def report_and_hear_nothing(self, who: int, kind: str, silence: int) -> None:
        """All answers are lost; and then there is silence."""
        self.world.wait(HOUR)
        self.world.stripe.fail(kind, times=99)
        self.world.do_alone(who, "report", plan=NO_PLAN, include_open=False)
        self.world.stripe.recover()
        self.world.wait(silence)

    @rule(who=processes, plan=interruptions, faults=st.lists(faults, min_size=1, max_size=3))
    def report_to_a_sick_stripe(self, who: int, plan: Plan, faults: list[tuple[Any, ...]]) -> None:
        """At the end of the hour, while something is wrong with Stripe, or on the way there."""
        self.world.wait(HOUR)
        for kind, times, after, everywhere in faults:
            slow = kind == "slow" or kind.startswith("timeout")  # takes real time
            path = None if everywhere else "/v1/billing/meter_events"
            self.world.stripe.fail(kind, times=1 if slow else times, after=after, path=path)
        self.world.do_alone(who, "report", plan=plan, include_open=False)

    @rule(
        who=processes,
        company=prepaying,
        amount=st.integers(1, 30),
        lasts=st.sampled_from([None, None, HOUR, 2 * DAY]),
        priority=st.integers(0, 2),
        plan=st.one_of(st.just(NO_PLAN), crashes),
    )
    def grant(self, who: int, company: str, amount: int, lasts: int | None, priority: int, plan: Plan) -> None:
        """Somebody pays ahead."""
        self.world.grant(who, company, amount, plan=plan, lasts=lasts, priority=priority)

    @precondition(lambda self: self.world.prepaid.grants)
    @rule(who=processes, which=st.integers(0, 9), plan=st.one_of(st.just(NO_PLAN), crashes))
    def revoke(self, who: int, which: int, plan: Plan) -> None:
        """What is left of a grant is taken back."""
        self.world.revoke(who, which, plan=plan)

    @rule(
        who=processes,
        company=prepaying,
        what=st.lists(units, min_size=1, max_size=PROCESSES),
        plan=st.one_of(st.just(NO_PLAN), crashes),
    )
    def hold(self, who: int, company: str, what: list[int], plan: Plan) -> None:
        """Work begins of which the usage is known at its end, in one process or in several."""
        for number, quantity in enumerate(what):
            self._number += 1
            self.world.hold((who + number) % PROCESSES, self._number, company, quantity, plan=plan)

    @precondition(lambda self: self.world.prepaid.holds())
    @rule(which=st.integers(0, 9), quantity=units, plan=st.one_of(st.just(NO_PLAN), crashes))
    def more(self, which: int, quantity: int, plan: Plan) -> None:
        """It takes more."""
        holds = self.world.prepaid.holds()
        self.world.more(holds[which % len(holds)], quantity, plan=plan)

    @precondition(lambda self: self.world.prepaid.holds())
    @rule(which=st.integers(0, 9), part=st.sampled_from([None, 0, 50, 100, 100]))
    def settle(self, which: int, part: int | None) -> None:
        """It ends, and has used some percent of what it holds; or fails, and counts nothing."""
        holds = self.world.prepaid.holds()
        held = holds[which % len(holds)]
        self.world.settle(held, None if part is None else held.quantity * part // 100, plan=NO_PLAN)

    @precondition(lambda self: self.world.held())
    @rule(which=processes)
    def go_on(self, which: int) -> None:
        """A held operation goes on, whoever may have taken its lease meanwhile."""
        held = self.world.held()
        self.world.go_on(held[which % len(held)])

    @rule(who=processes, orderly=st.booleans())
    def end(self, who: int, orderly: bool) -> None:
        """The end of a process: by its exit hooks, or without a word."""
        if orderly:
            self.world.close_process(who)
        else:
            self.world.kill(who)

    @rule(
        link=st.tuples(processes, st.sampled_from(["daughter", "mover"]), st.booleans()),
        recovery=st.sampled_from(["", "stripe", "meter"]),
    )
    def mend(self, link: tuple[int, str, bool], recovery: str) -> None:
        """Say who pays, or say it anew; Stripe does what it was held at, and the meter is made that was forgotten."""
        who, company, last = link
        self.world.do(who, "link", company=company, customer=self.world.customers[company][-1 if last else 0])
        if recovery:
            self.world.stripe.recover()
        if recovery == "meter":
            self.world.stripe.make_meter(METERS[-1])

    @rule(
        seconds=st.sampled_from([61, HOUR, 23 * HOUR, 25 * HOUR, 36 * DAY]),
        host=processes,
        # Further off, one story is known to end badly: what-can-be-lost.md names it, and test_model_windows.py holds
        # it, beside steps of a day in all others.
        wrong=st.sampled_from([0, -DAY, -HOUR, 9 * 60, HOUR, DAY + HOUR]),
    )
    def wait(self, seconds: int, host: int, wrong: int) -> None:
        """Nothing happens for some time; and then the clock of a host is wrong, or is corrected."""
        self.world.wait(seconds)
        self.world.clocks.set_wrong(host % self.world.hosts, wrong)

    @invariant()
    def the_books_balance(self) -> None:
        """A process, each time another one, says so; and that as much was counted as was, wherever it is now."""
        living = self.world.living()
        self._asked += 1
        if living:
            self._look_at_the_books(living[self._asked % len(living)].ask("health"))

    def _look_at_the_books(self, health: dict[str, Any]) -> None:
        self._check(health["books"] is not None, f"the ledger cannot be read: {health}")
        self._check(not health["mistakes"], f"the wallets' books: {health['mistakes']}")
        for meter, books in health["books"].items():
            least, most = self.world.tally.of_meter(meter)
            self._check(books["balanced"], f"{meter} does not balance: {books}")
            seen = books["counted"] if self.world.hosts == 1 else least  # no host sees another's journal
            self._check(least <= seen <= most, f"{meter} was counted {least} to {most} times, in the books {books}")

    @invariant()
    def nobody_is_billed_more_than_was_counted(self) -> None:
        """In any hour, on any meter."""
        for key, quantity in self.world.stripe.billed(self.world.payer).items():
            most = self.world.tally.most[key]
            self._check(quantity <= most, f"{key} was counted {most} times at most, and is billed {quantity}")

    def teardown(self) -> None:
        """Let all come to rest, and settle."""
        try:
            if self.world.sound:
                self._settle(self.world.come_to_rest())
        finally:
            self.world.close()

    def _settle(self, books: dict[str, Any]) -> None:
        note(f"counted, at most: {self.world.tally.most}\nreports: {books['reports']}")
        settlement = Settlement(self.world.stripe.billed(self.world.payer), books, self.world.payer)
        if self.world.stripe.switches.unknown_customer == "async":
            settlement.drop(GONE)  # Stripe took it, and tells nobody but a webhook that it is of no use
        differences = settlement.differences(self.world.tally)
        self._check(not differences, "\n".join(differences))
        waiting = [report for report in books["reports"] if report["state"] == "pending"]
        self._check(not waiting, f"still to be sent: {waiting}")
        known = " ".join(event.identifier for event in self.world.stripe.meter_events)
        wrong = [each for each in books["reports"] if each["state"] == "rejected" and each["identifier"] in known]
        self._check(not wrong, f"rejected, and Stripe has it: {wrong}")
        self._look_at_what_is_shown(books)
        self._look_at_wallets(self.world.do(0, "prepaid", companies=list(PAYING_AHEAD)).value)

    def _look_at_wallets(self, found: dict[str, Any]) -> None:
        differences = self.world.prepaid.differences(found["balances"])
        differences += self.world.tally.differences_by_region(found["by_region"])
        self._check(not differences, "\n".join(differences))

    def _look_at_what_is_shown(self, books: dict[str, Any]) -> None:
        health = self.world.living()[0].ask("health")
        self._look_at_the_books(health)
        for meter, of_meter in health["books"].items():
            left = of_meter["journal"] + of_meter["unreported"] + of_meter["pending"]
            self._check(left == 0, f"{meter} is at rest, and yet {of_meter}")
        refused = [each["identifier"] for each in books["reports"] if each["state"] in ("rejected", "uncertain")]
        shown = [each["identifier"] for each in health["refused"]]
        self._check(set(shown) <= set(refused), f"shown without need: {shown}, {refused}")
        self._check(len(shown) == min(20, len(refused)), f"not shown: {refused}, only {shown}")

    def _check(self, holds: bool, message: str) -> None:
        self.world.sound = self.world.sound and holds
        assert holds, message
