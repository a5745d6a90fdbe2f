"""
The command line, ``meterkit usage billing:kit``.

Exit codes: 0 all is well · 1 something needs attention, and is named · 2 the command or the configuration is wrong ·
130 interrupted. What goes wrong is one line on stderr, with the cure.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TypeAlias

from meterkit.cli import (
    account_commands,
    audit_commands,
    notice_commands,
    provisioning_commands,
    trial_commands,
    usage_commands,
)
from meterkit.cli.kit_loader import CommandError
from meterkit.errors import ConfigurationError, MeterKitError, UsageError

OK = 0
ATTENTION = 1
WRONG = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
WRONG_ARGUMENTS = ("meter_unknown", "month_wrong", "quantity_not_positive")
"""Reasons of a `UsageError` that are mistakes in the command itself."""

BROKEN_PIPE = 141  # 128 + SIGPIPE


_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: Its words; by default those of the process.

    Returns:
        The exit code.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a customer's name must not stop a table
    try:
        try:
            arguments = parser().parse_args(argv)
            well = arguments.run(arguments)
        finally:
            sys.stdout.flush()  # of --help and --version, too: here a broken pipe is noticed
    except (CommandError, ConfigurationError) as error:
        return _complain(error, WRONG)
    except UsageError as error:
        return _complain(error, WRONG if error.reason in WRONG_ARGUMENTS else ATTENTION)
    except MeterKitError as error:
        return _complain(error, ATTENTION)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not raise again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return OK if well else ATTENTION


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    root = argparse.ArgumentParser(
        prog="meterkit", description="Usage-based billing for Python web APIs.", epilog="Exit codes: " + EXIT_CODES
    )
    root.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = root.add_subparsers(metavar="command", required=True)

    _to_try(verbs)
    _about_stripe(verbs)
    _about_usage(verbs)
    _about_customers(verbs)
    _about_mistakes(verbs)
    _about_telling(verbs)
    return root


def _about_stripe(verbs: _Verbs) -> None:
    """What Stripe has to have."""
    provision = _verb(
        verbs, "provision", provisioning_commands.provision, "make Stripe's meters and prices match the code"
    )
    _kit(provision)
    provision.add_argument("--dry-run", action="store_true", help="only show what would be done")
    _json(provision)

    _verb(verbs, "import", provisioning_commands.import_code, "print the code for the meters and prices of an account")

    subscribe = _verb(
        verbs, "subscribe", provisioning_commands.subscribe, "make a company a customer with a subscription"
    )
    _kit(subscribe)
    subscribe.add_argument("company", metavar="COMPANY", help="as the application knows it")
    subscribe.add_argument("--name", metavar="TEXT", help="the customer's name, for its invoices")
    subscribe.add_argument("--email", metavar="ADDRESS", help="where its invoices go")
    subscribe.add_argument(
        "--days-until-due", type=int, metavar="N", help="send invoices (default: charge what the customer has on file)"
    )
    _json(subscribe)


def _to_try(verbs: _Verbs) -> None:
    """What needs no kit."""
    demo = _verb(verbs, "demo", trial_commands.demo, "bill a month on a pocket Stripe, with a worker killed half-way")
    demo.add_argument(
        "--framework", choices=("flask", "django", "fastapi"), default="flask", help="whose example (default: flask)"
    )
    demo.add_argument("--kill-after", type=int, metavar="N", help="kill the worker after N requests (default: half)")
    _json(demo)

    sandbox = _verb(verbs, "sandbox", trial_commands.sandbox, "serve a pocket Stripe on the loopback until Ctrl-C")
    sandbox.add_argument("--port", type=int, default=12111, metavar="N", help="0 for any free one (default: 12111)")


def _about_usage(verbs: _Verbs) -> None:
    """What a running app does by itself, and what there is to see of it."""
    usage = _verb(verbs, "usage", usage_commands.usage, "show what was used, by whom and when")
    _kit(usage)
    usage.add_argument("--company", metavar="ID", help="only of this company")
    usage.add_argument("--meter", metavar="NAME", help="only of this meter")
    _json(usage)

    flush = _verb(verbs, "flush", usage_commands.flush, "move into the ledger what dead processes have counted")
    _kit(flush)
    _json(flush)

    report = _verb(verbs, "report", usage_commands.report, "send the usage of the hours that have ended to Stripe")
    _kit(report)
    report.add_argument("--open", action="store_true", help="the hour that is still open, too")
    _json(report)

    health = _verb(verbs, "health", usage_commands.health, "show whether all is well, and where all usage is")
    _kit(health)
    _json(health)


def _about_customers(verbs: _Verbs) -> None:
    """Who pays."""
    customers = _verb(
        verbs, "customers", account_commands.customers, "show who pays for each company, and how it stands"
    )
    _kit(customers)
    _json(customers)

    preview = _verb(verbs, "preview", account_commands.preview, "show the next invoices as they stand")
    _kit(preview)
    preview.add_argument("company", nargs="?", metavar="COMPANY", help="whose (default: everybody's)")
    _json(preview)

    sync = _verb(verbs, "sync", account_commands.sync, "read customers, subscriptions and invoices from Stripe")
    _kit(sync)
    _json(sync)

    events = _verb(verbs, "webhook-events", account_commands.webhook_events, "show what Stripe's webhooks told")
    _kit(events)
    events.add_argument(
        "--limit", type=int, default=100, metavar="N", help="so many at most, the newest (default: 100)"
    )
    _json(events)


def _about_mistakes(verbs: _Verbs) -> None:
    """What was missed, and what went wrong."""
    backfill = _verb(verbs, "backfill", audit_commands.backfill, "count usage of the past, from a CSV file")
    _kit(backfill)
    backfill.add_argument("file", metavar="usage.csv", help="with the columns meter,company,quantity,at[,user]")
    _json(backfill)

    reconcile = _verb(verbs, "reconcile", audit_commands.reconcile, "compare a month with what Stripe has added up")
    _kit(reconcile)
    reconcile.add_argument("--month", metavar="YYYY-MM", help="in UTC (default: this month)")
    _json(reconcile)

    explain = _verb(verbs, "explain", audit_commands.explain, "show the usage behind an invoice's lines")
    _kit(explain)
    _place(explain)
    explain.add_argument("--month", metavar="YYYY-MM", help="in UTC (default: this month)")
    _json(explain)

    correct = _verb(verbs, "correct", audit_commands.correct, "take back usage that was counted by mistake")
    _kit(correct)
    _place(correct)
    correct.add_argument("--quantity", type=int, required=True, metavar="N", help="how much was counted too much")
    correct.add_argument("--at", required=True, metavar="TIME", help="when, with its zone: 2026-03-01T12:00Z")
    correct.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the ledger")
    _json(correct)

    retry = _verb(verbs, "retry", audit_commands.retry, "report again what Stripe has rejected")
    _kit(retry)
    retry.add_argument("--identifier", metavar="mk_...", help="only this event (default: all that are rejected)")
    _json(retry)

    decide = _verb(verbs, "decide", audit_commands.decide, "say whether Stripe has an event that is uncertain")
    _kit(decide)
    decide.add_argument("identifier", metavar="mk_...", help="the event, as meterkit health shows it")
    decide.add_argument("what", choices=["arrived", "lost"], help="lost: its usage is reported again")
    _json(decide)


def _about_telling(verbs: _Verbs) -> None:
    """What is told, and what might be."""
    notices = _verb(verbs, "notices", notice_commands.notices, "show what was told to whom")
    _kit(notices)
    notices.add_argument("--company", metavar="ID", help="only about this company")
    notices.add_argument(
        "--limit", type=int, default=100, metavar="N", help="so many at most, the newest (default: 100)"
    )
    _json(notices)

    notify = _verb(verbs, "notify", notice_commands.notify_test, "try the channels of notify=")
    _kit(notify)
    notify.add_argument("--test", action="store_true", required=True, help="send one notice of each kind that is told")
    _json(notify)

    simulate = _verb(verbs, "simulate", account_commands.simulate, "price a month's usage by other prices")
    _kit(simulate)
    simulate.add_argument("--month", metavar="YYYY-MM", help="in UTC (default: this month)")
    simulate.add_argument("--against", metavar="MODULE:KIT", help="the old prices (default: as Stripe has told them)")
    _json(simulate)


EXIT_CODES = "0 all is well, 1 something needs attention, 2 the command or the configuration is wrong, 130 interrupted."


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import meterkit

        print(f"meterkit {meterkit.__version__}")
        parser.exit()


def _verb(verbs: _Verbs, name: str, run: usage_commands.Command, what: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    verb.set_defaults(run=run)
    return verb


def _kit(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("kit", metavar="module:attribute", help="where the kit is, such as billing:kit")


def _place(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("company", metavar="COMPANY", help="whose usage")
    verb.add_argument("meter", metavar="METER", help="the meter's name")


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="data for programs instead of tables for people")


def _complain(error: Exception, code: int) -> int:
    print(f"meterkit: {' '.join(str(error).split())}", file=sys.stderr)
    return code
