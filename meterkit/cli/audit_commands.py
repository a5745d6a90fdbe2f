"""Commands that add, correct, compare and explain usage. Each returns False if something needs attention."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from meterkit.cli.arguments import (
    Commands,
    add_by,
    add_command,
    add_company_and_meter,
    add_json,
    add_kit,
    add_limit,
    add_month,
)
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, say, tables_for
from meterkit.rating import command as rating

TIMES = frozenset(
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
"""Names of fields that hold Unix seconds, and are printed as text."""


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_backfill(commands)

    command = add_command(commands, "reconcile", reconcile, "compare a month in the ledger with Stripe's sums")
    add_kit(command)
    add_month(command)
    add_json(command)

    _add_rerate(commands)

    command = add_command(commands, "explain", explain, "show the usage behind the lines of an invoice")
    add_kit(command)
    add_company_and_meter(command)
    add_month(command)
    add_json(command)

    command = add_command(commands, "correct", correct, "reverse usage that was counted by mistake")
    add_kit(command)
    add_company_and_meter(command)
    command.add_argument("--quantity", type=int, required=True, metavar="N", help="how many units to reverse")
    command.add_argument(
        "--at", required=True, metavar="TIME", help="when they were used, with a time zone: 2026-03-01T12:00Z"
    )
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the ledger")
    command.add_argument(
        "--dimension",
        action="append",
        default=[],
        type=_dimension,
        metavar="NAME=VALUE",
        help="a value of the usage, of a meter with by=; repeat it for each dimension",
    )
    add_by(command)
    add_json(command)

    command = add_command(commands, "corrections", corrections, "show what was reversed, and what is to be credited")
    add_kit(command)
    add_json(command)

    command = add_command(commands, "retry", retry, "report rejected usage again")
    add_kit(command)
    command.add_argument("--identifier", metavar="mk_...", help="only this event (default: all rejected events)")
    add_by(command)
    add_json(command)

    command = add_command(commands, "decide", decide, "record whether Stripe has an uncertain event")
    add_kit(command)
    command.add_argument("identifier", metavar="mk_...", help="identifier of the event, as meterkit health shows it")
    command.add_argument(
        "decision", choices=["arrived", "lost"], help="arrived: mark it as sent; lost: report its usage again"
    )
    add_by(command)
    add_json(command)

    command = add_command(commands, "forget-user", forget_user, "remove a user's id from the ledger")
    add_kit(command)
    command.add_argument("company", metavar="COMPANY", help="company id, as the application knows it")
    command.add_argument("user", metavar="USER", help="id of the user within the company")
    add_by(command)
    add_json(command)

    command = add_command(
        commands, "forget-mode", forget_mode, "delete what Stripe's test or live mode told, before the other is used"
    )
    add_kit(command)
    add_by(command)
    add_json(command)

    command = add_command(commands, "actions", actions, "show who linked, corrected, retried, decided and forgot what")
    add_kit(command)
    add_limit(command)
    add_json(command)


def _add_rerate(commands: Commands) -> None:
    command = add_command(commands, "rerate", rerate, "rate a month's usage again, and bill the difference")
    add_kit(command)
    add_month(command)
    rating.add_arguments(command)
    add_by(command)
    add_json(command)


def _add_backfill(commands: Commands) -> None:
    command = add_command(commands, "backfill", backfill, "record past usage from a CSV file")
    add_kit(command)
    command.add_argument(
        "file", metavar="usage.csv", help="CSV file with the columns meter,company,quantity,at and, optionally, user"
    )
    command.add_argument(
        "--already-reported",
        action="store_true",
        help="another program has reported this usage to Stripe: count it, and never send it",
    )
    add_json(command)


def backfill(arguments: argparse.Namespace) -> bool:
    """Record past usage from a CSV file."""
    tables = tables_for(arguments)
    path = Path(arguments.file)
    if not path.is_file():
        raise CommandError(f"no such file: {arguments.file}; give a CSV with the columns meter,company,quantity,at")
    kit = load_kit(arguments.kit)
    with closing(kit):
        how: dict[str, Any] = {} if tables is None else {"track": tables.track}
        found = asdict(kit.backfill(path, already_reported=arguments.already_reported, **how))
    if tables is None:
        print_json(found)
    else:
        known = f" {found['known']:,} had been recorded before." if found["known"] else ""
        say(f"{found['counted']:,} of {found['rows']:,} rows recorded.{known}")
    return True


def correct(arguments: argparse.Namespace) -> bool:
    """Reverse usage that was counted by mistake."""
    at = _time_of(arguments.at)
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.correct(
            arguments.meter,
            arguments.company,
            arguments.quantity,
            at=at,
            reason=arguments.reason,
            by=arguments.by,
            dimensions=dict(arguments.dimension) or None,
        )
    if arguments.json:
        print_json(asdict(found))
    elif found.state == "canceling":
        say(f"Stripe has not confirmed that the meter event is cancelled; the next report asks again: {found.error}")
    elif found.report:
        say(f"{found.quantity:,} reversed: Stripe has cancelled the meter event {found.report}.")
    else:
        say(f"{found.quantity:,} reversed. Units already reported to Stripe will be offset in the next report.")
    return found.state == "done"


def _dimension(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"must be a dimension and its value, such as model=small, not {text!r:.60}")
    return name, value


def corrections(arguments: argparse.Namespace) -> bool:
    """Show what was reversed, and what is to be credited for it."""
    tables = tables_for(arguments, "meterkit.cli.tables.audit")
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.flush()
        reversed_ = [asdict(each) for each in kit.corrections()]
        due = [asdict(each) for each in kit.credits_due()]
    for each in reversed_:
        for name in ("window", "created_at"):
            each[name] = instant(each[name])
    if tables is None:
        print_json({"corrections": reversed_, "credits": due})
    else:
        tables.show_corrections(reversed_, due)
    return not any(each["state"] == "canceling" for each in reversed_)


def retry(arguments: argparse.Namespace) -> bool:
    """Report rejected usage again."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        number = kit.retry(arguments.identifier, by=arguments.by)
    if arguments.identifier is not None and not number:
        raise CommandError(f"no rejected event {arguments.identifier!r}; see meterkit health")
    if arguments.json:
        print_json({"retried": number})
    else:
        say(f"The usage of {number:,} rejected events will be sent with the next report.")
    return True


def decide(arguments: argparse.Namespace) -> bool:
    """Record whether Stripe has an uncertain event."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        done = kit.decide(arguments.identifier, arrived=arguments.decision == "arrived", by=arguments.by)
    if not done:
        raise CommandError(f"no uncertain event {arguments.identifier!r}; see meterkit health")
    if arguments.json:
        print_json({"identifier": arguments.identifier, "decided": arguments.decision})
    elif arguments.decision == "arrived":
        say(f"{arguments.identifier} is marked as sent.")
    else:
        say(f"The usage of {arguments.identifier} will be sent with the next report, under a new identifier.")
    return True


def forget_user(arguments: argparse.Namespace) -> bool:
    """Remove a user's id from the ledger."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        number = kit.forget_user(arguments.company, arguments.user, by=arguments.by)
    if arguments.json:
        print_json({"rows": number})
    else:
        say(f"{number:,} rows named this user; none do now. What is billed has not changed.")
    return True


def forget_mode(arguments: argparse.Namespace) -> bool:
    """Delete what Stripe's test or live mode told."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        mode = kit.forget_mode(by=arguments.by)
    if arguments.json:
        print_json({"forgotten": mode})
    elif mode is None:
        say("The ledger belongs to no mode yet; nothing was deleted.")
    else:
        say(f"What the {mode} mode told is deleted. Usage is kept, and the next key decides where it goes.")
    return True


def actions(arguments: argparse.Namespace) -> bool:
    """Show who did what."""
    tables = tables_for(arguments, "meterkit.cli.tables.audit")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = [{**asdict(each), "at": instant(each.at)} for each in kit.actions(limit=arguments.limit)]
    if tables is None:
        print_json(found)
    else:
        tables.show_actions(found)
    return True


def reconcile(arguments: argparse.Namespace) -> bool:
    """Compare the ledger with Stripe's sums."""
    tables = tables_for(arguments, "meterkit.cli.tables.audit")
    kit = load_kit(arguments.kit)
    waiting: AbstractContextManager[Any] = nullcontext() if tables is None else tables.waiting("Querying Stripe")
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


def rerate(arguments: argparse.Namespace) -> bool:
    """Rate a month's usage again."""
    return rating.rerate(partial(load_kit, arguments.kit), arguments, say)


def explain(arguments: argparse.Namespace) -> bool:
    """Show the usage behind the lines of an invoice."""
    tables = tables_for(arguments, "meterkit.cli.tables.audit")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.explain(arguments.company, arguments.meter, month=arguments.month)
    if not found:
        raise CommandError(
            f"no usage of {arguments.meter!r} by {arguments.company!r} in that month; see meterkit usage"
        )
    periods = [_readable(asdict(each)) for each in found]
    if tables is None:
        print_json(periods)
    else:
        tables.show_explained(periods)
    return not any(each["error"] for each in periods)


def _readable(value: Any, name: str = "") -> Any:
    """Return *value* with times as text, and named tuples, which `asdict` does not convert, as dicts."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _readable(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    return instant(value) if name in TIMES and isinstance(value, int) else value


def _time_of(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise CommandError(f"--at must be a time with a time zone, such as 2026-03-01T12:00Z, not {text!r}") from None
