"""Lines of a log that are counted in shadow mode are never billed by meterkit; those that follow are."""

from __future__ import annotations

from fake_clock import NOON
from log_lines import FORMAT, line, meterkit
from stripe_account import api, make_meter

from meterkit import Meter, MeterKit
from meterkit.sandbox import Sandbox

BILLING = """
from meterkit import Meter, MeterKit

kit = MeterKit(
    meters=[Meter("searches", path="/v1/search")],
    identify=lambda exchange: exchange.headers.get("x-company"),
    customer_ids=True,
    clock=lambda: {clock},
    shadow={shadow},
)
"""


def test_lines_in_shadow_mode(tmp_path, monkeypatch):
    """The command reads on where the one in shadow mode has ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "meterkit"))
    with Sandbox(now=NOON + 2 * 3600) as stripe:
        make_meter(stripe, "searches")
        customer = api(stripe).customers.create({}).id
        log = tmp_path / "access.log"
        for shadow, lines in ((True, 3), (False, 2)):
            with log.open("a") as file:
                file.write(line(customer, at=NOON) * lines)
            (tmp_path / "billing.py").write_text(BILLING.format(clock=NOON + 600, shadow=shadow))
            assert 0 == meterkit("tail", "billing:kit", "access.log", "--once", "--format", FORMAT)[0]
        kit = MeterKit(
            meters=[Meter("searches", path="/v1/search")],
            customer_ids=True,
            stripe_key=stripe.api_key,
            stripe_base=stripe.url,
            clock=lambda: NOON + 2 * 3600,
        )
        kit.report()
        quantities = sorted(row.quantity for row in kit.usage())
        kit.close()

        assert ([2], [2, 3]) == ([each.value for each in stripe.meter_events], quantities)
