"""Error reports: one thin event per meter and ten seconds, with the errors that asynchronous checks found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.metering import thin_events
from meterkit.sandbox.protocol.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterkit.sandbox.state.account import Account, Record
    from meterkit.sandbox.state.usage import MeterEvent

WINDOW = 10  # seconds
SAMPLES = 10  # per code; Stripe documents only that these are samples, not how many it lists


def collect(account: Account, event: MeterEvent, message: str) -> None:
    """Record why an accepted event does not count, until its window is reported."""
    start = account.now // WINDOW * WINDOW
    window = account.reports.setdefault((event.meter, start), {"meter": event.meter, "start": start, "codes": {}})
    code = window["codes"].setdefault(event.error_code, {"count": 0, "samples": []})
    code["count"] += 1
    if len(code["samples"]) < SAMPLES:
        code["samples"].append({"error_message": message, "request": {"identifier": event.identifier}})


def ends(account: Account) -> Iterator[tuple[int, Record]]:
    """Yield the open windows, each with the Unix second at which it is reported."""
    for window in account.reports.values():
        yield window["start"] + WINDOW, window


def report(account: Account, window: Record) -> None:
    """Close a window, and announce `no_meter_found`, or `error_report_triggered` for its meter."""
    meter, start = window["meter"], window["start"]
    del account.reports[meter, start]
    count = sum(code["count"] for code in window["codes"].values())
    data = {
        "developer_message_summary": f"There {'is 1 invalid event' if count == 1 else f'are {count} invalid events'}",
        "reason": {
            "error_count": count,
            "error_types": [
                {"code": name, "error_count": code["count"], "sample_errors": code["samples"]}
                for name, code in sorted(window["codes"].items())
            ],
        },
        "validation_end": rfc3339(start + WINDOW),
        "validation_start": rfc3339(start),
    }
    if not meter:
        thin_events.announce(account, "v1.billing.meter.no_meter_found", data, None)
        return
    related = {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"}
    thin_events.announce(account, "v1.billing.meter.error_report_triggered", data, related)
