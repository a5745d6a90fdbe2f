"""What the commands about Stripe's meters, prices and subscriptions do. Each answers whether all is well."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any

from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import print_json, tables_for


def provision(arguments: argparse.Namespace) -> bool:
    """Make Stripe match the code."""
    tables = tables_for(arguments, "meterkit.cli.tables.provisioning")
    kit = load_kit(arguments.kit)
    with closing(kit):
        if tables is None:
            plan = kit.provision(dry_run=arguments.dry_run)
        else:
            show_plan = partial(tables.show_plan, dry_run=arguments.dry_run)
            plan = kit.provision(dry_run=arguments.dry_run, on_plan=show_plan, on_step=tables.show_done)
    if tables is None:
        steps: list[dict[str, Any]] = [
            {"kind": step.kind, "what": step.what, "name": step.name, "why": step.why, "choices": step.choices}
            for step in plan.steps
        ]
        print_json({"livemode": plan.livemode, "applied": not arguments.dry_run, "steps": steps})
    return not plan.drift


def import_code(arguments: argparse.Namespace) -> bool:  # noqa: ARG001 - every command takes them
    """Print the code for what an account has."""
    from meterkit.provisioning.code_generator import code_of
    from meterkit.stripe_api.transport import connect

    key = os.environ.get("STRIPE_SECRET_KEY")
    if not key:
        raise CommandError("STRIPE_SECRET_KEY is not set: it says which account to read")
    client, http = connect(key, os.environ.get("METERKIT_STRIPE_BASE") or None)
    try:
        print(code_of(client), end="")
    finally:
        http.close()
    return True


def subscribe(arguments: argparse.Namespace) -> bool:
    """Make a company a customer with a subscription."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.subscribe(
            arguments.company, name=arguments.name, email=arguments.email, days_until_due=arguments.days_until_due
        )
    if arguments.json:
        print_json(asdict(found))
    else:
        how = "has subscribed" if found.is_new else "had subscribed before"
        print(f"{arguments.company} {how}: {found.customer}, {found.subscription}.")
    return True
