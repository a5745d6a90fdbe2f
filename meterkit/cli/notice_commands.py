"""Commands about notices, forecasts, and the simulation of prices. Each returns False if something needs attention."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, get_args

from meterkit.cli.arguments import Commands, add_command, add_json, add_kit, add_limit, add_month
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, say, tables_for
from meterkit.forecast import command as forecasts


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    command = add_command(commands, "notices", notices, "show the notices that were sent")
    add_kit(command)
    command.add_argument("--company", metavar="ID", help="only this company")
    add_limit(command)
    add_json(command)

    command = add_command(commands, "notify", notify_test, "test the channels of notify=")
    add_kit(command)
    command.add_argument("--test", action="store_true", required=True, help="send one test notice of each kind")
    add_json(command)

    command = add_command(
        commands, "forecast", forecast, "show what companies will use and owe, and when a limit is reached"
    )
    add_kit(command)
    forecasts.add_arguments(command)

    command = add_command(commands, "simulate", simulate, "price a month's usage with other prices")
    add_kit(command)
    add_month(command)
    command.add_argument(
        "--against", metavar="MODULE:KIT", help="kit with the old prices (default: prices as Stripe reported them)"
    )
    add_json(command)


def notices(arguments: argparse.Namespace) -> bool:
    """Show the notices that were sent."""
    tables = tables_for(arguments, "meterkit.cli.tables.notice")
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = [asdict(each) for each in kit.notices(limit=arguments.limit, company=arguments.company)]
    well = not any(each["state"] == "given_up" or (each["state"] == "waiting" and each["error"]) for each in found)
    for each in found:
        each["notice"]["created_at"] = instant(each["notice"]["created_at"])
        for name in ("next_attempt_at", "settled_at"):
            each[name] = None if each[name] is None else instant(each[name])
    if tables is None:
        print_json(found)
    else:
        tables.show_notices(found)
    return well


def notify_test(arguments: argparse.Namespace) -> bool:
    """Send one test notice of each kind through every channel that would receive it."""
    from meterkit.notices.notice import Kind, Notice

    kit = load_kit(arguments.kit)
    now = int(kit.clock())
    with closing(kit):
        if not kit.notify:
            raise CommandError("this kit has no notify=, so it sends no notices; add notify= to the kit")
        results: list[dict[str, Any]] = []
        for kind in get_args(Kind):
            channels = {channel.name: channel for rule in kit.notify if kind in rule.kinds for channel in rule.to}
            for channel in channels.values():
                notice = Notice(
                    key=f"test:{kind}:{now}",
                    kind=kind,
                    company="Example & Sons",
                    title=f"Test of {kind}",
                    text="This is a test. Nothing has happened.",
                    created_at=now,
                    fields={"meter": next(iter(kit.meters)), "used": 101, "limit": 100},
                )
                try:
                    channel.deliver(notice)
                    error = ""
                except Exception as failure:
                    error = f"{type(failure).__name__}: {failure}"
                results.append({"kind": kind, "channel": channel.name, "error": error})
    if arguments.json:
        print_json(results)
    else:
        for each in results:
            say(f"{each['kind']} by {each['channel']}: {each['error'] or 'delivered'}")
    return not any(each["error"] for each in results)


def forecast(arguments: argparse.Namespace) -> bool:
    """Show what companies will use and owe."""
    tables = tables_for(arguments, "meterkit.cli.tables.forecast")
    show = print_json if tables is None else tables.show_forecasts
    return forecasts.forecast(partial(load_kit, arguments.kit), arguments, show)


def simulate(arguments: argparse.Namespace) -> bool:
    """Price a month's usage with other prices."""
    tables = tables_for(arguments, "meterkit.cli.tables.notice")
    kit = load_kit(arguments.kit)
    old_kit = None if arguments.against is None else load_kit(arguments.against)
    if not kit.prices and not kit.plans:
        raise CommandError("this kit has no prices=, so there is nothing to simulate; add prices= or plans= to the kit")
    if old_kit is not None and old_kit.plans:
        raise CommandError(
            "--against takes a kit with prices=; leave it out to compare plans with what Stripe has, or see what a "
            "move would change with meterkit move --dry-run"
        )
    old_prices = None if old_kit is None else old_kit.prices
    with closing(kit):
        found = kit.simulate(month=arguments.month, former=old_prices)
    rows = [{**asdict(each), "change": each.change} for each in found]
    if tables is None:
        for row in rows:
            row |= {name: None if row[name] is None else str(row[name]) for name in ("old", "new", "change")}
        print_json(rows)
    else:
        tables.show_simulated(rows)
    return True
