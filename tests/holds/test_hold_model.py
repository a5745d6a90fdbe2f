"""
Whatever is held, used, settled, flushed and closed, in any order: no unit is held twice, and none is lost.

``METERKIT_TEST_EXAMPLES`` makes it a long run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from contextvars import Context, copy_context
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_clock import Clock
from governed import rest
from guard import GUARD
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from meterkit import Governance, Hold, InsufficientBalanceError, Meter, MeterKit, Quota

EXAMPLES = int(os.environ.get("METERKIT_TEST_EXAMPLES", "3"))

PAGES = Meter("pages", http=False)
LIMIT = 100
KITS = st.integers(0, 1)
COMPANIES = st.sampled_from(["acme", "globex"])
QUANTITIES = st.integers(0, 60)


@dataclass
class Held:
    """A hold, as the model sees it."""

    hold: Hold
    kit: int
    company: str
    context: Context
    quantity: int
    used: int = 0

    @property
    def kept(self):
        return max(0, self.quantity - self.used)


class Holds(RuleBasedStateMachine):
    """Two kits with one ledger, each as in a process of its own."""

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="meterkit-holds-"))
        self.clock = Clock()
        self.kits = [self._kit() for _ in range(2)]
        self.held: list[Held] = []
        self.used: Counter[str] = Counter()

    def _kit(self):
        kit = MeterKit(
            meters=[PAGES],
            identify=lambda exchange: None,
            governance=Governance(quotas=[Quota(PAGES, LIMIT, exact=True)]),
            data_dir=self.directory,
            flush_interval=3600,
            clock=self.clock,
            flusher="thread",
        )
        self._look(kit)
        return kit

    @staticmethod
    def _look(kit):
        kit.governor.begin()
        assert kit.governor.ready.wait(GUARD)

    def _left(self, company):
        """What nobody has."""
        return LIMIT - self.used[company] - sum(each.kept for each in self.held if each.company == company)

    def _give_back(self):
        """Each process gives back what it has drawn ahead, as it does with every flush or two."""
        for kit in self.kits:
            rest(kit)
        for _ in range(2):
            for kit in self.kits:
                kit.flush()

    @rule(kit=KITS, company=COMPANIES, quantity=QUANTITIES)
    def hold(self, kit, company, quantity):
        self._give_back()
        context, left = copy_context(), self._left(company)
        hold = self.kits[kit].hold(company, quantity)
        try:
            context.run(hold.__enter__)
        except InsufficientBalanceError:
            assert quantity > left
            return
        assert quantity <= left or quantity == 0
        self.held.append(Held(hold, kit, company, context, quantity))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0), quantity=QUANTITIES)
    def more(self, which, quantity):
        self._give_back()
        held = self.held[which % len(self.held)]
        left = self._left(held.company)
        grown = held.hold.more(quantity)
        assert grown is (quantity <= left) or quantity == 0
        if grown:
            held.quantity += quantity

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0), quantity=QUANTITIES)
    def record(self, which, quantity):
        held = self.held[which % len(self.held)]
        quantity = min(quantity, held.kept)
        held.context.run(self.kits[held.kit].record, PAGES, held.company, quantity)
        held.used += quantity
        self.used[held.company] += quantity

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0), part=st.integers(0, 100))
    def settle(self, which, part):
        held = self.held.pop(which % len(self.held))
        more = held.kept * part // 100
        held.hold.settle(held.used + more)
        self.used[held.company] += more
        held.context.run(held.hold.__exit__, None, None, None)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0))
    def release(self, which):
        held = self.held.pop(which % len(self.held))
        held.context.run(held.hold.__exit__, None, None, None)

    @rule(kit=KITS)
    def flush(self, kit):
        self.kits[kit].flush()

    @precondition(lambda self: not self.held)
    @rule(kit=KITS)
    def close(self, kit):
        """The end of a process, and a new one."""
        self.kits[kit].close()
        self.kits[kit] = self._kit()

    @invariant()
    def what_is_held_is_what_was_taken(self):
        assert [each.kept for each in self.held] == [each.hold.quantity for each in self.held]

    def teardown(self):
        try:
            while self.held:
                self.release(0)
            self._give_back()
            counted: Counter[str] = Counter()
            for row in self.kits[0].usage():
                counted[row.company] += row.quantity
            assert +self.used == +counted
            for company in ("acme", "globex"):
                for kit in self.kits:
                    left = self._left(company)
                    with kit.hold(company, left):
                        pass
                    with pytest.raises(InsufficientBalanceError), kit.hold(company, left + 1):
                        pass
                    self._give_back()
        finally:
            for kit in self.kits:
                kit.close()
            shutil.rmtree(self.directory)


@pytest.mark.long
def test_no_unit_is_held_twice_and_none_is_lost():
    """Two processes, as far as one can be two."""
    run_state_machine_as_test(
        Holds,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
