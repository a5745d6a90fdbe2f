"""Forecasts, and notices of the pace, on PostgreSQL: the same as on SQLite."""

from __future__ import annotations

import pytest

from meterkit import Governance, Meter, Notify, Price, Quota

CALLS = Meter("calls", path="/calls")
DAY = 86_400
pytestmark = pytest.mark.long


def test_the_same_forecast(make_kit, clock, tmp_path, postgres_url):
    """Of usage, cost and limits; and the same notices."""
    told = []

    def tell(notice):
        told.append((notice.key, notice.title, dict(notice.fields)))

    about = {
        "prices": [Price.per_unit(CALLS, "0.10")],
        "identify": lambda _: None,
        "governance": Governance(quotas=[Quota(CALLS, 2000)], spending_cap="200"),
        "notify": [Notify.pace(to=tell), Notify.pace(to=tell, meter=CALLS, units=1900)],
    }
    kits = [
        make_kit(CALLS, ledger=ledger, data_dir=tmp_path / name, **about)
        for name, ledger in (("sqlite", None), ("postgres", postgres_url))
    ]
    for _ in range(14):
        for kit in kits:
            kit.record("calls", "acme", 100)
        clock.advance(DAY)
    of_kits = []
    for kit in kits:
        kit.flush()
        told.clear()
        dispatcher = kit.process().dispatcher
        dispatcher.evaluate()
        for delivery in kit.notices():
            dispatcher.deliver(delivery.channel)
        of_kits.append((kit.forecast("acme"), sorted(told, key=str)))

    assert of_kits[0] == of_kits[1]
    assert 3049 == of_kits[0][0].usage[0].expected
    assert 3 == len(of_kits[0][1])
