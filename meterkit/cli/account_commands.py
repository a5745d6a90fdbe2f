"""Commands about companies and their Stripe customers. Each returns False if something needs attention."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from typing import Any

from meterkit.cli.arguments import Commands, add_command, add_json, add_kit, add_limit
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, tables_for


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    command = add_command(
        commands, "customers", customers, "show each company's Stripe customer, subscriptions and standing"
    )
    add_kit(command)
    add_json(command)

    command = add_command(commands, "preview", preview, "preview the next invoices")
    add_kit(command)
    command.add_argument("company", nargs="?", metavar="COMPANY", help="only this company (default: all)")
    add_json(command)

    command = add_command(commands, "sync", sync, "read customers, subscriptions and invoices from Stripe")
    add_kit(command)
    add_json(command)

    command = add_command(commands, "webhook-events", webhook_events, "show the webhook events that Stripe has sent")
    add_kit(command)
    add_limit(command)
    add_json(command)


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
    """Show the standing of each company."""
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
    return not any(
        each["standing"] == "overdue" or (each["waiting"] and not each["customer"]) or each["unbilled"]
        for each in found
    )


def webhook_events(arguments: argparse.Namespace) -> bool:
    """Show the webhook events that Stripe has sent."""
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
    """Preview the next invoices."""
    tables = tables_for(arguments, "meterkit.cli.tables.account")
    kit = load_kit(arguments.kit)
    with closing(kit):
        companies = [arguments.company] if arguments.company else [account.company for account in kit.customers()]
        found = [asdict(each) for company in companies for each in kit.preview(company)]
    if arguments.company and not found:
        raise CommandError(
            f"no known subscription for {arguments.company!r}; see meterkit customers, or run meterkit sync"
        )
    for each in found:
        for name in ("period_start", "period_end"):
            each[name] = instant(each[name])
    if tables is None:
        print_json(found)
    else:
        tables.show_previews(found)
    return True
