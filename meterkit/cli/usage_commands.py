"""Faces: what each command does. Each answers whether all is well."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from datetime import datetime, timezone
from types import ModuleType
from typing import Any, TypeAlias

from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.errors import LedgerError

Command: TypeAlias = Callable[[argparse.Namespace], bool]


def demo(arguments: argparse.Namespace) -> bool:
    """Bill a month."""
    from meterkit.demo.server import FRAMEWORKS
    from meterkit.demo.traffic import TOTAL

    kill_after = TOTAL // 2 if arguments.kill_after is None else arguments.kill_after
    if not 1 <= kill_after <= TOTAL:
        raise CommandError(f"--kill-after is a number of requests from 1 to {TOTAL}, not {kill_after}")
    needed = [arguments.framework, FRAMEWORKS[arguments.framework], *([] if arguments.json else ["rich"])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"the demo needs {' and '.join(missing)}: pip install 'meterkit[demo]'")
    _end_on_sigterm()

    from meterkit.demo import Silence, bill_a_month
    from meterkit.demo.expectations import as_data, differences

    if arguments.json:
        month = bill_a_month(arguments.framework, Silence(), kill_after=kill_after)
        print_json(as_data(month))
    else:
        from meterkit.cli.tables.demo import Teller, show_month

        month = bill_a_month(arguments.framework, Teller(), kill_after=kill_after)
        show_month(month)
    return not differences(month)


def sandbox(arguments: argparse.Namespace) -> bool:
    """Serve a pocket Stripe."""
    from meterkit.sandbox import Sandbox

    _end_on_sigterm()
    stripe = Sandbox(port=arguments.port)
    try:
        stripe.start()
    except (OSError, OverflowError) as error:
        raise CommandError(f"port {arguments.port} cannot be had ({error}); choose another with --port") from None
    try:
        print(
            f"A pocket Stripe listens on {stripe.url}, and forgets everything when it stops. To use it:",
            "",
            f"    export METERKIT_STRIPE_BASE={stripe.url}",
            f"    export STRIPE_SECRET_KEY={stripe.api_key}",
            "",
            f"An hour later:  curl --json '{{\"seconds\": 3600}}' {stripe.url}/_sandbox/advance",
            "To stop it:     Ctrl-C",
            sep="\n",
            flush=True,
        )
        stripe.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        stripe.stop()
    return True


def usage(arguments: argparse.Namespace) -> bool:
    """Show what was used."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.flush()  # so that it does not matter which process came to an end, and how
        found = kit.usage(company=arguments.company, meter=arguments.meter)
    if not found and arguments.meter is not None and arguments.meter not in kit.meters:
        raise CommandError(f"this kit has no meter {arguments.meter!r}, only {', '.join(kit.meters)}")
    rows = [{**asdict(each), "window": instant(each.window)} for each in found]
    totals: dict[str, dict[str, int]] = {}
    for each in found:
        total = totals.setdefault(each.meter, {"quantity": 0, "reported": 0})
        total["quantity"] += each.quantity
        total["reported"] += each.reported
    if tables is None:
        print_json({"usage": rows, "totals": totals})
    else:
        tables.show_usage(rows, totals)
    return True


def flush(arguments: argparse.Namespace) -> bool:
    """Move into the ledger what dead processes have counted."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.flush()
        found = kit.health()
    books = found["books"]
    if books is None:
        raise LedgerError(found["attention"][0])
    counted = sum(of_meter["counted"] for of_meter in books.values())
    journal = sum(of_meter["journal"] for of_meter in books.values())
    if arguments.json:
        print_json({"counted": counted, "ledger": counted - journal, "journal": journal})
    else:
        print(f"{counted - journal:,} of {counted:,} counted are in the ledger.")
        if journal:
            print(f"{journal:,} are in the journals of running processes, which flush every few seconds.")
    return True


def report(arguments: argparse.Namespace) -> bool:
    """Send usage to Stripe."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    waiting: AbstractContextManager[Any] = nullcontext() if tables is None else tables.waiting("Reporting to Stripe")
    with closing(kit), waiting:
        summary = asdict(kit.report(include_open=arguments.open))
    if tables is None:
        print_json(summary)
    else:
        tables.show_report(summary)
    return not any(summary[name] for name in ("rejected", "uncertain", "postponed", "error"))


def health(arguments: argparse.Namespace) -> bool:
    """Show whether all is well."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.health()
    if tables is None:
        print_json(found)
    else:
        tables.show_health(found)
    return bool(found["ok"])


def instant(moment: int) -> str:
    """A moment to the minute, such as ``2026-03-01T10:00Z``."""
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


def tables_for(arguments: argparse.Namespace, module: str = "meterkit.cli.tables.usage") -> ModuleType | None:
    """What renders for people; None where data is asked for."""
    if arguments.json:
        return None
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise CommandError("tables need rich: pip install 'meterkit[cli]', or ask for --json") from None


def print_json(data: Any) -> None:
    """On stdout, and nothing else there."""
    json.dump(data, sys.stdout, indent=2, default=_exact)
    print()


def _exact(value: Any) -> int | str:
    """A decimal: whole ones are numbers, others text, so that no reader makes a float of them."""
    return int(value) if value == value.to_integral_value() else f"{value:f}"


def _end_on_sigterm() -> None:
    """Take SIGTERM as Ctrl-C, so that what was started is stopped as well."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
