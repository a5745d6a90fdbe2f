"""Thin events: what Stripe finds wrong with meter events after it has taken them, grouped and told of by an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.moments import rfc3339

if TYPE_CHECKING:
    from meterkit.sandbox.account import Account, Record

WINDOW = 10
"""Seconds of errors that one event tells of: Stripe's own examples show so many."""

MOST_SAMPLES = 10
"""For each code; the count tells of the rest."""

NO_METER = ("no_meter",)
"""Codes of errors that belong to no meter."""


def note(account: Account, meter: str | None, code: str, message: str, identifier: str) -> None:
    """A meter event that was taken is wrong: it counts for nothing, and an event tells of it soon."""
    start = account.now - account.now % WINDOW
    group = account.wrong.setdefault((meter, start), {})
    group.setdefault(code, []).append({"error_message": message, "request": {"identifier": identifier}})


def due(account: Account) -> list[tuple[int, tuple[str | None, int]]]:
    """The groups of errors that are waiting, and when each is told of."""
    return [(start + WINDOW, (meter, start)) for meter, start in account.wrong]


def tell(account: Account, group: tuple[str | None, int]) -> None:
    """Make the event of a group of errors."""
    meter, start = group
    errors = account.wrong.pop(group)
    total = sum(len(samples) for samples in errors.values())
    data = {
        "developer_message_summary": f"There {'is 1 invalid event' if total == 1 else f'are {total} invalid events'}",
        "validation_start": rfc3339(start),
        "validation_end": rfc3339(start + WINDOW),
        "reason": {
            "error_count": total,
            "error_types": [
                {"code": code, "error_count": len(samples), "sample_errors": samples[:MOST_SAMPLES]}
                for code, samples in errors.items()
            ],
        },
    }
    if meter is None:
        announce(account, "v1.billing.meter.no_meter_found", None, data)
    else:
        related = {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"}
        announce(account, "v1.billing.meter.error_report_triggered", related, data)


def announce(account: Account, name: str, related: Record | None, data: dict[str, Any]) -> None:
    """Append a thin event to the account's log; its body tells what it is about, and `data` have to be asked for."""
    event = account.add(
        {
            "id": account.new_id("v2.core.event"),
            "object": "v2.core.event",
            "changes": None,
            "context": None,
            "created": rfc3339(account.now),
            "data": data,
            "livemode": account.switches.livemode,
            "reason": None,
            "related_object": related,
            "snapshot_event": None,
            "type": name,
        }
    )
    if account.on_event is not None:
        account.on_event(event)


def body_of(event: Record) -> Record:
    """What a webhook delivers of a thin event."""
    return {name: value for name, value in event.items() if name not in ("data", "changes")}
