"""Commands about companies and their Stripe customers. Each returns False if something needs attention."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from meterkit.cli.arguments import Commands, add_by, add_command, add_json, add_kit, add_limit
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, say, tables_for
from meterkit.kit import MeterKit
from meterkit.wallets import command as wallets

LINK_COLUMNS = ("company", "customer")
"""Columns of a file of links; others are ignored."""

WRONG_SHOWN = 10
"""Number of wrong lines that the error about such a file lists."""


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    command = add_command(
        commands, "customers", customers, "show each company's Stripe customer, subscriptions and standing"
    )
    add_kit(command)
    command.add_argument("--unlinked", action="store_true", help="show the Stripe customers that pay for no company")
    add_json(command)

    command = add_command(commands, "link", link, "set the Stripe customer that pays for a company")
    add_kit(command)
    command.add_argument("company", nargs="?", metavar="COMPANY", help="company id, as the application knows it")
    command.add_argument("customer", nargs="?", metavar="CUSTOMER", help="Stripe customer id, such as cus_...")
    command.add_argument("--csv", type=Path, metavar="FILE", help="link many: a file with the columns company,customer")
    add_by(command)
    add_json(command)

    command = add_command(commands, "refresh", refresh, "ask for a company's limits anew, after its plan has changed")
    add_kit(command)
    command.add_argument("company", metavar="COMPANY", help="company id, as the application knows it")
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

    command = add_command(commands, "wallet", wallet, "grant prepaid amounts, take them back, and show balances")
    wallets.add_arguments(command, kit=add_kit, by=add_by, limit=add_limit, as_json=add_json)


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


def refresh(arguments: argparse.Namespace) -> bool:
    """Have governance look at a company anew."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.refresh(arguments.company)
    if arguments.json:
        print_json({"company": arguments.company})
    else:
        say(f"Each process looks at {arguments.company} anew with its next flush.")
    return True


def customers(arguments: argparse.Namespace) -> bool:
    """Show the standing of each company."""
    tables = tables_for(arguments, "meterkit.cli.tables.account")
    kit = load_kit(arguments.kit)
    if arguments.unlinked:
        return _unlinked(kit, tables)
    with closing(kit):
        kit.flush()
        unlinked = len(kit.unlinked_customers())
        found = [asdict(account) for account in kit.customers()]
    for each in found:
        each["subscriptions"] = _named(each["subscriptions"])
        each["oldest"] = None if each["oldest"] is None else instant(each["oldest"])
    if tables is None:
        print_json(found)
    else:
        tables.show_customers(found, unlinked=unlinked)
    return not any(
        each["standing"] == "overdue"
        or (each["waiting"] and not each["customer"])
        or each["unbilled"]
        or each["repeated"]
        for each in found
    )


def _unlinked(kit: MeterKit, tables: Any) -> bool:
    with closing(kit):
        found = [asdict(each) for each in kit.unlinked_customers()]
    for each in found:
        each["subscriptions"] = _named(each["subscriptions"])
    if tables is None:
        print_json(found)
    else:
        tables.show_unlinked(found)
    return True


def wallet(arguments: argparse.Namespace) -> bool:
    """Grant prepaid amounts, take them back, and show balances and their movements."""
    return wallets.run(partial(load_kit, arguments.kit), arguments, say)


def _named(subscriptions: Iterable[tuple[str, str, int]]) -> list[dict[str, str]]:
    return [{"id": identity, "status": status, "period_end": instant(end)} for identity, status, end in subscriptions]


def link(arguments: argparse.Namespace) -> bool:
    """Set the Stripe customers that pay for companies."""
    one = arguments.company is not None and arguments.customer is not None
    if one is (arguments.csv is not None) or (arguments.csv is not None and arguments.company is not None):
        raise CommandError("give a COMPANY and a CUSTOMER, or --csv FILE")
    links = {arguments.company: arguments.customer} if one else _links_in(arguments.csv)
    kit = load_kit(arguments.kit)
    with closing(kit):
        linked = kit.link_all(links, by=arguments.by)
    if arguments.json:
        print_json({"links": len(links), "linked": linked})
    else:
        say(f"linked: {linked}, linked before: {len(links) - linked}")
    return True


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


def _links_in(path: Path) -> dict[str, str]:
    """
    Return the customer of each company in a CSV file with the columns ``company,customer``.

    Raises:
        CommandError: The file cannot be read, has no such columns, lacks a value, or links a company twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as UTF-8: {error}") from None
    reader = csv.DictReader(io.StringIO(text), strict=True)
    found: dict[str, tuple[str, int]] = {}
    wrong: list[str] = []
    try:
        if not set(LINK_COLUMNS) <= set(reader.fieldnames or ()):
            raise CommandError(f"{path} must begin with a line that names its columns: company,customer")
        for row in reader:
            company, customer = ((row[name] or "").strip() for name in LINK_COLUMNS)
            if not company or not customer:
                wrong.append(f"line {reader.line_num} lacks a {'customer' if company else 'company'}")
            elif company in found:
                first = found[company][1]
                wrong.append(f"line {reader.line_num} links {company!r:.60} again, after line {first}")
            else:
                found[company] = customer, reader.line_num
    except csv.Error as error:
        raise CommandError(f"{path}, line {reader.line_num}: {error}") from None
    if wrong:
        more = f"; and {len(wrong) - WRONG_SHOWN} more" if len(wrong) > WRONG_SHOWN else ""
        raise CommandError(
            f"{path}: {'; '.join(wrong[:WRONG_SHOWN])}{more}. Nothing was linked: keep one line for each company"
        )
    return {company: customer for company, (customer, _) in found.items()}
