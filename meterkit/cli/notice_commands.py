"""What the commands about notices, and about prices that might be, do. Each answers whether all is well."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from typing import Any, get_args

from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, tables_for


def notices(arguments: argparse.Namespace) -> bool:
    """Show what was told to whom."""
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
    """Tell one notice of each kind through every channel that would get it, now."""
    from meterkit.notices.notice import Kind, Notice

    kit = load_kit(arguments.kit)
    now = int(kit.clock())
    with closing(kit):
        if not kit.notify:
            raise CommandError("this kit has no notify=, so nobody is told anything")
        results: list[dict[str, Any]] = []
        for kind in get_args(Kind):
            channels = {channel.name: channel for rule in kit.notify if kind in rule.kinds for channel in rule.to}
            for channel in channels.values():
                notice = Notice(
                    key=f"test:{kind}:{now}",
                    kind=kind,
                    company="Example & Sons",
                    title=f"A test of {kind}",
                    text="This is a test: nothing has happened.",
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
            print(f"{each['kind']} by {each['channel']}: {each['error'] or 'delivered'}")
    return not any(each["error"] for each in results)
