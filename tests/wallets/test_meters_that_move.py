"""A meter that a wallet pays for, then Stripe bills, and then the wallet again: each unit is paid once, and audited."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from wallet_kits import figures

from meterkit import Meter, Price, Wallet

PREPAID = Meter("calls", http=False, billable=False)
BILLED = Meter("calls", http=False)
CREDITS = Wallet("credits", unit="credits", spends={"calls": 1})


def use(kit, quantity, company="acme"):
    """Use some calls, and return what an audit finds."""
    kit.record("calls", company, quantity)
    kit.flush()
    return kit.audit_wallets()


@pytest.fixture
def moved(make_kit):
    """A function that makes kits whose calls are paid by a wallet, billed, or only counted."""
    kinds = {
        "wallet": lambda **options: make_kit(PREPAID, wallets=[CREDITS], **options),
        "billed": lambda **options: make_kit(BILLED, prices=[Price.per_unit(BILLED, "0.1")], **options),
        "counted": lambda **options: make_kit(PREPAID, **options),
    }
    return lambda kind, **options: kinds[kind](**options)


@pytest.mark.parametrize("between", ["billed", "counted"])
def test_a_meter_that_moves_away_and_back(moved, between):
    """What was used in between is spent by nobody, and the books are right at all times."""
    kit = moved("wallet")
    kit.grant("acme", "credits", 100)
    found = use(kit, 10)
    kit.close()
    kit = moved(between)
    found += use(kit, 5) + use(kit, 1, "globex")
    kit.close()
    kit = moved("wallet")
    found += kit.audit_wallets() + use(kit, 20) + use(kit, 2, "globex")

    assert [] == found
    assert {"granted": "100", "spent": "30", "left": "70"} == figures(kit)
    assert {"uncovered": "2"} == figures(kit, "globex")


def test_a_meter_that_another_program_bills_for_a_while(moved, clock):
    """What is counted in shadow mode is spent by nobody, also beside what was spent before."""
    kit = moved("wallet")
    kit.grant("acme", "credits", 100)
    found = use(kit, 10)
    kit.close()
    until = int(clock()) // 3600 * 3600 + 7200
    kit = moved("wallet", shadow=datetime.fromtimestamp(until, timezone.utc))
    found += use(kit, 5)
    clock.advance(7200)
    found += use(kit, 3)

    assert [] == found
    assert {"granted": "100", "spent": "13", "left": "87"} == figures(kit)
