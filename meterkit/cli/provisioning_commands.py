"""Faces: what the commands about Stripe's meters, prices and subscriptions do. Each answers whether all is well."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from dataclasses import asdict
from typing import Any

from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import print_json, tables_for
from meterkit.core.validation import checked_id


def provision(arguments: argparse.Namespace) -> bool:
    """Make Stripe match the code."""
    from meterkit.provisioning.provisioner import Provisioning

    tables = tables_for(arguments, "meterkit.cli.tables.provisioning")
    kit = load_kit(arguments.kit)
    with closing(kit), kit.process().clerk().client() as (client, livemode):
        provisioning = Provisioning(client, livemode=livemode)
        plan = provisioning.plan(kit.meters.values(), kit.prices)
        if tables is not None:
            tables.show_plan(plan, dry_run=arguments.dry_run)
        if not arguments.dry_run:
            provisioning.apply(plan, done=(lambda _: None) if tables is None else tables.show_done)
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
    about = {name: getattr(arguments, name) for name in ("name", "email") if getattr(arguments, name)}
    company = checked_id(arguments.company, "company")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = (
            kit.process().clerk().subscribe(company, kit.prices, about=about, days_until_due=arguments.days_until_due)
        )
    if arguments.json:
        print_json(asdict(found))
    else:
        how = "has subscribed" if found.is_new else "had subscribed before"
        print(f"{company} {how}: {found.customer}, {found.subscription}.")
    return True
