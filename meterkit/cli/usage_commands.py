"""Commands that show, move and report usage, and check its health. Each returns False if something needs attention."""

from __future__ import annotations

import argparse
import signal
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from meterkit.cli.arguments import Commands, add_command, add_json, add_kit, add_month
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, say, tables_for
from meterkit.core.threads import Event
from meterkit.errors import ConfigurationError, LedgerError
from meterkit.kit import MeterKit
from meterkit.margin.command import add_arguments as add_margin_arguments

RETRY_SECONDS = 2.0
"""Seconds that `collect` waits after JetStream or the ledger has failed."""


SHADOW = "In shadow mode, nothing is sent to Stripe, and what is counted is never billed: another program bills."
"""Said beside figures that would look as if nothing had been used."""


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    command = add_command(commands, "usage", usage, "show usage by meter, company and hour")
    add_kit(command)
    command.add_argument("--company", metavar="ID", help="only this company")
    command.add_argument("--meter", metavar="NAME", help="only this meter")
    command.add_argument(
        "--by", metavar="NAMES", help="by the values of these dimensions, joined with commas, such as model,kind"
    )
    add_json(command)

    command = add_command(commands, "flush", flush, "move what dead processes have counted into the ledger")
    add_kit(command)
    add_json(command)

    command = add_command(commands, "report", report, "send the usage of all hours that have ended to Stripe")
    add_kit(command)
    command.add_argument("--open", action="store_true", help="include the hour that is still open")
    add_json(command)

    command = add_command(commands, "margin", margin, "show what is left of a month's revenue when costs are paid")
    add_kit(command)
    add_month(command)
    add_margin_arguments(command)

    _add_shadow(commands)

    command = add_command(
        commands, "collect", collect, "fold what hosts have published to JetStream into the ledger, until SIGTERM"
    )
    add_kit(command)
    command.add_argument(
        "--batch", type=_batch, default=50, metavar="N", help="fold at most N generations at a time (default: 50)"
    )
    command.add_argument("--once", action="store_true", help="stop as soon as nothing waits")

    command = add_command(commands, "tables", tables, "make or upgrade the tables of the ledger")
    add_kit(command)
    command.add_argument("--sql", action="store_true", help="only print the SQL, for a role that may execute it")

    command = add_command(commands, "health", health, "show what needs attention, and where all usage is")
    add_kit(command)
    add_json(command)


def _add_shadow(commands: Commands) -> None:
    command = add_command(commands, "shadow", shadow, "compare a month with what another program has billed")
    add_kit(command)
    add_month(command)
    command.add_argument(
        "--csv",
        metavar="FILE",
        help="CSV file of the other program's figures, with the columns company (or customer), meter, start, quantity "
        "(default: Stripe's own sums)",
    )
    command.add_argument(
        "--by", choices=("hour", "day", "month"), default="hour", help="add usage up over this time (default: hour)"
    )
    command.add_argument(
        "--event-name",
        action="append",
        default=[],
        type=_renamed,
        metavar="METER=NAME",
        help="the other program reports this meter to Stripe under another event name",
    )
    command.add_argument(
        "--tolerance",
        type=_percentage,
        default=Decimal(0),
        metavar="PERCENT",
        help="by how much a customer's usage of a meter may differ (default: 0)",
    )
    add_json(command)


def margin(arguments: argparse.Namespace) -> bool:
    """Show the margin of a month."""
    from meterkit.margin.command import margin as show

    tables = None if arguments.csv else tables_for(arguments, "meterkit.cli.tables.margin")
    return show(partial(load_kit, arguments.kit), arguments, tables=tables, print_json=print_json)


def shadow(arguments: argparse.Namespace) -> bool:
    """Compare a month with what another program has billed."""
    tables = tables_for(arguments, "meterkit.cli.tables.shadow")
    if arguments.csv is not None and not Path(arguments.csv).is_file():
        raise CommandError(f"no such file: {arguments.csv}; give a CSV with the columns company,meter,start,quantity")
    kit = load_kit(arguments.kit)
    about: dict[str, Any] = {"month": arguments.month, "csv": arguments.csv, "by": arguments.by}
    asks: AbstractContextManager[Any] = nullcontext()
    if tables is not None and arguments.csv is None:
        asks = tables.waiting("Querying Stripe")
    with closing(kit), asks:
        found = kit.compare(**about, event_names=dict(arguments.event_name))
    rows = []
    for each in found:
        differences = [{**asdict(one), "start": instant(one.start)} for one in each.differences]
        row = {**asdict(each), "differences": differences, "agree": each.agrees(tolerance=arguments.tolerance)}
        rows.append(row)
    amounts: dict[str, Decimal] = {}
    for each in found:
        if each.amount is not None:
            amounts[each.currency] = amounts.get(each.currency, Decimal(0)) + each.amount
    if tables is None:
        print_json({"compared": rows, "amounts": {currency: f"{each:f}" for currency, each in amounts.items()}})
    else:
        tables.show_compared(rows, amounts)
    return all(row["agree"] for row in rows)


def _renamed(text: str) -> tuple[str, str]:
    meter, sign, event_name = text.partition("=")
    if not (meter and sign and event_name):
        raise argparse.ArgumentTypeError(
            f"must be a meter and an event name, such as calls=api_calls, not {text!r:.60}"
        )
    return meter, event_name


def _percentage(text: str) -> Decimal:
    try:
        found = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or not 0 <= found <= 100:
        raise argparse.ArgumentTypeError(f"must be a percentage from 0 to 100, such as 0.5, not {text!r:.40}")
    return found


def usage(arguments: argparse.Namespace) -> bool:
    """Show usage."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.flush()  # so that usage of processes that were killed is included
        if arguments.by is not None:
            return _usage_by(arguments, kit, tables)
        found = kit.usage(company=arguments.company, meter=arguments.meter)
    if not found and arguments.meter is not None and arguments.meter not in kit.meters:
        raise CommandError(f"this kit has no meter {arguments.meter!r}; choose from {', '.join(kit.meters)}")
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


def _usage_by(arguments: argparse.Namespace, kit: MeterKit, tables: Any) -> bool:
    names = [name.strip() for name in arguments.by.split(",")]
    found = kit.usage(company=arguments.company, meter=arguments.meter, by=names)
    rows = [{**asdict(each), "window": instant(each.window)} for each in found]
    totals: dict[tuple[str, ...], int] = {}
    for each in found:
        key = (each.meter, *each.values.values())
        totals[key] = totals.get(key, 0) + each.quantity
    if tables is None:
        sums = [
            {"meter": key[0], "values": dict(zip(names, key[1:], strict=True)), "quantity": quantity}
            for key, quantity in sorted(totals.items())
        ]
        print_json({"usage": rows, "totals": sums})
    else:
        tables.show_usage_by(names, rows, sorted(totals.items()))
    return True


def flush(arguments: argparse.Namespace) -> bool:
    """Move what dead processes have counted into the ledger."""
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
        print(f"{counted - journal:,} of {counted:,} counted units are in the ledger.")
        if journal:
            print(f"{journal:,} are in the journals of running processes, which flush every few seconds.")
    return True


def report(arguments: argparse.Namespace) -> bool:
    """Report usage to Stripe."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    waiting: AbstractContextManager[Any] = nullcontext() if tables is None else tables.waiting("Reporting to Stripe")
    with closing(kit), waiting:
        summary = asdict(kit.report(include_open=arguments.open))
        is_shadow = kit.process().is_shadow
    if tables is None:
        print_json(summary)
    else:
        tables.show_report(summary)
        if is_shadow:
            say(f"\n{SHADOW}")
    return not any(summary[name] for name in ("rejected", "uncertain", "postponed", "error"))


def health(arguments: argparse.Namespace) -> bool:
    """Show what needs attention, and the books."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.health()
    if tables is None:
        print_json(found)
    else:
        tables.show_health(found)
        if found.get("shadow"):
            say(f"\n{SHADOW}")
    return bool(found["ok"])


def tables(arguments: argparse.Namespace) -> bool:
    """Make or upgrade the tables of the ledger, or print how."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        database = kit.process().database()
        statements = database.script()
        if arguments.sql:
            for statement in ("BEGIN", *statements, "COMMIT") if statements else ():
                print(f"{statement.rstrip(';')};\n")
            return True
        with database.transaction():
            pass
    say(f"The tables of the ledger {database} are {'made' if statements else 'there already'}.")
    return True


def collect(arguments: argparse.Namespace) -> bool:
    """Fold what hosts have published, until Ctrl-C or SIGTERM."""
    kit = load_kit(arguments.kit)
    stop = Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with closing(kit):
        try:
            collector = kit.process().collector(batch=arguments.batch)
        except ConfigurationError as error:
            raise CommandError(str(error)) from None
        with closing(collector):
            if arguments.once:
                collector.prepare()
                folded = 0
                while not stop.is_set():
                    found = collector.collect()
                    folded += found.new
                    if not found.messages:
                        break
                say(f"{folded:,} generations were new to the ledger.")
                return True
            is_ready, failed = False, ""
            while not stop.is_set():
                try:
                    if not is_ready:
                        collector.prepare()
                        is_ready = True
                        say(f"Collecting from the stream {collector.source} into the ledger. Stop: Ctrl-C or SIGTERM")
                    collector.collect()
                    failed = ""
                except LedgerError as error:
                    if str(error) != failed:
                        failed = str(error)
                        say(f"meterkit: {failed}. Trying again")
                    stop.wait(RETRY_SECONDS)
            say("Stopped.")
    return True


def _batch(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) <= 10_000:
        raise argparse.ArgumentTypeError(f"must be 1 to 10,000, not {text!r:.40}")
    return int(text[:6])
