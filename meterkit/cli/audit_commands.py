"""What the commands that mend and explain usage do. Each answers whether all is well."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, tables_for

MOMENTS = frozenset(
    (
        "window",
        "timestamp",
        "created",
        "period_start",
        "period_end",
        "due_at",
        "finalized_at",
        "attempted_at",
        "unknown_since",
        "compared_at",
        "checked_at",
        "created_at",
        "next_attempt_at",
    )
)
"""Names of unix seconds, which people read as text."""


def backfill(arguments: argparse.Namespace) -> bool:
    """Count the usage in a file."""
    tables = tables_for(arguments)
    path = Path(arguments.file)
    if not path.is_file():
        raise CommandError(f"there is no file {arguments.file}; give a CSV with meter,company,quantity,at")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = asdict(kit.backfill(path) if tables is None else kit.backfill(path, track=tables.track))
    if tables is None:
        print_json(found)
    else:
        again = f" {found['known']:,} had been counted before." if found["known"] else ""
        print(f"{found['counted']:,} of {found['rows']:,} rows counted.{again}")
    return True


def correct(arguments: argparse.Namespace) -> bool:
    """Reverse usage."""
    at = _moment(arguments.at)
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.correct(arguments.meter, arguments.company, arguments.quantity, at=at, reason=arguments.reason)
    if arguments.json:
        print_json(asdict(found))
    elif found.state == "canceling":
        print(f"Stripe has not confirmed that the meter event is canceled, and is asked again: {found.error}")
    elif found.report:
        print(f"{found.quantity:,} reversed: Stripe has canceled the meter event {found.report}.")
    else:
        print(f"{found.quantity:,} reversed. Units already reported to Stripe will be offset in the next report.")
    return found.state == "done"


def retry(arguments: argparse.Namespace) -> bool:
    """Let rejected usage be reported anew."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        number = kit.retry(arguments.identifier)
    if arguments.identifier is not None and not number:
        raise CommandError(f"there is no rejected event {arguments.identifier!r}; see meterkit health")
    if arguments.json:
        print_json({"retried": number})
    else:
        print(f"The usage of {number:,} rejected events goes out with the next report.")
    return True


def decide(arguments: argparse.Namespace) -> bool:
    """Say whether Stripe has an event of which it cannot be told."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        done = kit.decide(arguments.identifier, arrived=arguments.what == "arrived")
    if not done:
        raise CommandError(f"no event {arguments.identifier!r} is uncertain; see meterkit health")
    if arguments.json:
        print_json({"identifier": arguments.identifier, "decided": arguments.what})
    elif arguments.what == "arrived":
        print(f"{arguments.identifier} counts as sent.")
    else:
        print(f"The usage of {arguments.identifier} goes out with the next report, as another event.")
    return True


def reconcile(arguments: argparse.Namespace) -> bool:
    """Compare the ledger with Stripe."""
    tables = tables_for(arguments, "meterkit.cli.tables.audit")
    kit = load_kit(arguments.kit)
    waiting: AbstractContextManager[Any] = nullcontext() if tables is None else tables.waiting("Asking Stripe")
    with closing(kit), waiting:
        found = kit.reconcile(month=arguments.month)
    rows = [{**asdict(each), "agree": each.agree} for each in found]
    for row in rows:
        for hour in row["hours"]:
            hour["hour"] = instant(hour["hour"])
    if tables is None:
        print_json(rows)
    else:
        tables.show_reconciled(rows)
    return all(each.agree for each in found)


def explain(arguments: argparse.Namespace) -> bool:
    """Show where an invoice's line comes from."""
    tables = tables_for(arguments, "meterkit.cli.tables.audit")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.explain(arguments.company, arguments.meter, month=arguments.month)
    if not found:
        raise CommandError(
            f"nothing is known of {arguments.company!r} and {arguments.meter!r} in that month; see meterkit usage"
        )
    periods = [_readable(asdict(each)) for each in found]
    if tables is None:
        print_json(periods)
    else:
        tables.show_explained(periods)
    return not any(each["error"] for each in periods)


def _readable(value: Any, name: str = "") -> Any:
    """Moments as text; and named tuples by name, which `asdict` leaves as they are."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _readable(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    return instant(value) if name in MOMENTS and isinstance(value, int) else value


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise CommandError(f"--at is a time with its zone, such as 2026-03-01T12:00Z, not {text!r}") from None
