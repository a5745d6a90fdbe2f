"""Events that come in while another program bills are never billed by meterkit; those that follow are, each once."""

from __future__ import annotations

from served_events import event
from stripe_account import make_meter

HOUR = 3600


def test_events_in_shadow_mode(serve, stripe, customer, clock):
    """One that was counted in shadow mode is not billed when it is sent again after the switch."""
    make_meter(stripe, "tokens")
    about = {"stripe_key": stripe.api_key, "stripe_base": stripe.url, "customer_ids": True}
    shadow = serve(options={**about, "shadow": True})
    assert 202 == shadow.post([event(1, subject=customer), event(2, subject=customer)]).status_code
    shadow.kit.report(include_open=True)
    shadow.kit.close()
    served = serve(options=about)
    assert 202 == served.post([event(2, subject=customer), event(3, tokens=5, subject=customer)]).status_code
    clock.advance(HOUR)
    served.kit.report()

    assert [5] == [each.value for each in stripe.meter_events]
    assert [(customer, None, 5), (customer, None, 6)] == sorted(served.used())
