"""What the commands about Stripe's customers do. Each answers whether all is well."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from typing import Any

from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, tables_for


def sync(arguments: argparse.Namespace) -> bool:
    """Read customers, subscriptions and invoices from Stripe."""
    tables = tables_for(arguments, "meterkit.cli.tables.account")
    kit = load_kit(arguments.kit)
    waiting: AbstractContextManager[Any] = nullcontext() if tables is None else tables.waiting("Reading from Stripe")
    with closing(kit), waiting:
        found = asdict(kit.sync())
    del found["closing"]
    if tables is None:
        print_json(found)
    else:
        tables.show_sync(found)
    return not found["error"] and not found["ambiguous"]


def customers(arguments: argparse.Namespace) -> bool:
    """Show how each company stands."""
    tables = tables_for(arguments, "meterkit.cli.tables.account")
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.flush()
        found = [asdict(account) for account in kit.customers()]
    for each in found:
        each["subscriptions"] = [
            {"id": identity, "status": status, "period_end": instant(end)}
            for identity, status, end in each["subscriptions"]
        ]
        each["oldest"] = None if each["oldest"] is None else instant(each["oldest"])
    if tables is None:
        print_json(found)
    else:
        tables.show_customers(found)
    return not any(each["standing"] == "overdue" or (each["waiting"] and not each["customer"]) for each in found)


def webhook_events(arguments: argparse.Namespace) -> bool:
    """Show what came from Stripe."""
    tables = tables_for(arguments, "meterkit.cli.tables.account")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = [asdict(event) for event in kit.webhook_events(limit=arguments.limit)]
    well = not any(each["state"] == "received" and each["reason"] for each in found)
    for each in found:
        for name in ("created", "received_at", "settled_at"):
            each[name] = None if each[name] is None else instant(each[name])
    if tables is None:
        print_json(found)
    else:
        tables.show_webhook_events(found)
    return well


def preview(arguments: argparse.Namespace) -> bool:
    """Show the next invoices as they stand."""
    tables = tables_for(arguments, "meterkit.cli.tables.account")
    kit = load_kit(arguments.kit)
    with closing(kit):
        companies = [arguments.company] if arguments.company else [account.company for account in kit.customers()]
        found = [asdict(each) for company in companies for each in kit.preview(company)]
    if arguments.company and not found:
        raise CommandError(
            f"no subscription is known that pays for {arguments.company!r}: see meterkit customers, and meterkit sync"
        )
    for each in found:
        for name in ("period_start", "period_end"):
            each[name] = instant(each[name])
    if tables is None:
        print_json(found)
    else:
        tables.show_previews(found)
    return True


def simulate(arguments: argparse.Namespace) -> bool:
    """Price a month by other prices."""
    tables = tables_for(arguments, "meterkit.cli.tables.notice")
    kit = load_kit(arguments.kit)
    former = None if arguments.against is None else load_kit(arguments.against).prices
    if not kit.prices:
        raise CommandError("the kit has no prices=, so there is nothing to simulate")
    with closing(kit):
        found = kit.simulate(month=arguments.month, former=former)
    rows = [{**asdict(each), "change": each.change} for each in found]
    if tables is None:
        for row in rows:
            row |= {name: None if row[name] is None else str(row[name]) for name in ("old", "new", "change")}
        print_json(rows)
    else:
        tables.show_simulated(rows)
    return True
