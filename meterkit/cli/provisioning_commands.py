"""Commands about Stripe's meters, prices and subscriptions. Each returns False if something needs attention."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any

from meterkit.cli.arguments import Commands, add_command, add_json, add_kit
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import print_json, say, tables_for


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    command = add_command(commands, "provision", provision, "make Stripe's meters and prices match the code")
    add_kit(command)
    command.add_argument("--webhook", metavar="URL", help="also make the webhook endpoint with this address")
    command.add_argument("--dry-run", action="store_true", help="only show the plan")
    add_json(command)

    add_command(commands, "import", import_code, "print the code for the meters and prices of a Stripe account")

    command = add_command(commands, "subscribe", subscribe, "create a company's Stripe customer and subscription")
    add_kit(command)
    command.add_argument("company", metavar="COMPANY", help="company id, as the application knows it")
    command.add_argument("--plan", metavar="PLAN", help="name of the plan (required if the kit has plans)")
    command.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="KEY",
        help="lookup key of a price, instead of a plan; repeat it for several (default: all prices of the kit)",
    )
    command.add_argument(
        "--currency", metavar="CODE", help="currency of the plan (default: the customer's, or the plan's own)"
    )
    command.add_argument("--name", metavar="TEXT", help="the customer's name, as it appears on invoices")
    command.add_argument("--email", metavar="ADDRESS", help="the address that invoices are sent to")
    command.add_argument(
        "--days-until-due",
        type=int,
        metavar="N",
        help="send invoices, due after N days (default: charge the payment method on file)",
    )
    add_json(command)

    command = add_command(commands, "move", move, "move subscriptions to another plan or price")
    add_kit(command)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--plan", metavar="PLAN", help="move from this plan, in any version")
    source.add_argument("--price", metavar="KEY", help="move from this price, by its lookup key or id")
    command.add_argument("--to", required=True, metavar="NEW", help="name of the new plan, or key or id of the price")
    command.add_argument("--company", metavar="COMPANY", help="only the subscriptions that pay for this company")
    command.add_argument("--dry-run", action="store_true", help="only show what would be moved")
    add_json(command)


def provision(arguments: argparse.Namespace) -> bool:
    """Make Stripe's meters, products and prices match the code."""
    tables = tables_for(arguments, "meterkit.cli.tables.provisioning")
    if arguments.webhook is not None:  # the secret is not known before the endpoint is made
        os.environ.setdefault("STRIPE_WEBHOOK_SECRET", "whsec_of_an_endpoint_to_be_made")
    kit = load_kit(arguments.kit)
    about: Any = {"webhook": arguments.webhook, "dry_run": arguments.dry_run}
    with closing(kit):
        if tables is None:
            plan = kit.provision(**about)
        else:
            show_plan = partial(tables.show_plan, dry_run=arguments.dry_run)
            plan = kit.provision(**about, on_plan=show_plan, on_step=tables.show_done)
    if tables is None:
        steps: list[dict[str, Any]] = [
            {"kind": step.kind, "what": step.what, "name": step.name, "why": step.why, "choices": step.choices}
            for step in plan.steps
        ]
        found: dict[str, Any] = {"livemode": plan.livemode, "applied": not arguments.dry_run, "steps": steps}
        if arguments.webhook is not None:
            found["webhook_secret"] = plan.webhook_secret
        print_json(found)
    elif plan.webhook_secret is not None:
        say(f"The endpoint's secret, which is shown only now:\nSTRIPE_WEBHOOK_SECRET={plan.webhook_secret}")
    return not plan.drift


def import_code(arguments: argparse.Namespace) -> bool:  # noqa: ARG001 - every command gets them
    """Print the code for the meters and prices of a Stripe account."""
    from meterkit.provisioning.code_generator import code_of
    from meterkit.stripe_api.transport import connect

    key = os.environ.get("STRIPE_SECRET_KEY")
    if not key:
        raise CommandError("no Stripe key: set STRIPE_SECRET_KEY to a key of the account to import")
    client, http = connect(key, os.environ.get("METERKIT_STRIPE_BASE") or None, reads_only=lambda: True)
    try:
        print(code_of(client), end="")
    finally:
        http.close()
    return True


def subscribe(arguments: argparse.Namespace) -> bool:
    """Create the Stripe customer and the subscription of a company, if they do not exist."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.subscribe(
            arguments.company,
            plan=arguments.plan,
            prices=arguments.price,
            currency=arguments.currency,
            name=arguments.name,
            email=arguments.email,
            days_until_due=arguments.days_until_due,
        )
    if arguments.json:
        print_json(asdict(found))
    else:
        how = "is subscribed" if found.is_new else "was already subscribed"
        if found.added:
            how = f"has a subscription, to which {', '.join(found.added)} was added"
        say(f"{arguments.company} {how}: customer {found.customer}, subscription {found.subscription}.")
    return True


def move(arguments: argparse.Namespace) -> bool:
    """Move subscriptions to another plan or price."""
    tables = tables_for(arguments, "meterkit.cli.tables.provisioning")
    kit = load_kit(arguments.kit)
    with closing(kit):
        moves = kit.move(
            plan=arguments.plan,
            price=arguments.price,
            to=arguments.to,
            company=arguments.company,
            dry_run=arguments.dry_run,
            on_plan=None if tables is None else tables.show_moves,
            on_move=None if tables is None else tables.show_moved,
        )
    if tables is None:
        print_json([{name: value for name, value in asdict(each).items() if name != "items"} for each in moves])
    elif not arguments.dry_run:
        tables.show_left(moves)
    return not any(each.state == "left" for each in moves)
