"""The command ``tail``: its arguments, and what it does with a kit."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from meterkit.access_logs.counter import LineCounter, by_field, countable
from meterkit.access_logs.files import find
from meterkit.access_logs.formats.named import AUTO, BY_NAME, Format, format_named
from meterkit.core.problems import log_event
from meterkit.core.threads import Event
from meterkit.errors import ConfigurationError, LedgerError
from meterkit.metering.identification import IdentityResolver

if TYPE_CHECKING:  # SQLAlchemy is imported by the command alone
    from meterkit.access_logs.check import Checked
    from meterkit.kit import MeterKit

POLL_SECONDS = 1.0
"""Seconds between two looks at the files."""

RETRY_SECONDS = 2.0
"""Seconds until the next attempt after the ledger has failed."""

SHOWN_PATHS = 10
"""Number of paths that `--check` lists for which no meter is meant."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, after the kit."""
    command.add_argument("files", nargs="+", metavar="FILE", help="access log, or a pattern in quotes: 'logs/*.gz'")
    command.add_argument(
        "--format",
        action="append",
        default=[],
        metavar="NAME",
        help=f"format of the lines: {AUTO} (default), {', '.join(BY_NAME)}, or nginx's log_format or Apache's "
        "LogFormat in single quotes; several if it has changed",
    )
    command.add_argument(
        "--company-field", metavar="NAME", help="field of the log that names the company, instead of identify="
    )
    command.add_argument("--user-field", metavar="NAME", help="field of the log that names the user of the company")
    command.add_argument(
        "--meter", action="append", default=[], metavar="NAME", help="count only this meter; can be repeated"
    )
    command.add_argument(
        "--since", type=_moment, default=0, metavar="TIME", help="count only lines from this time on: 2026-03-01T00:00Z"
    )
    command.add_argument(
        "--source", default="", metavar="NAME", help="name of this host, if several have logs at the same path"
    )
    command.add_argument("--once", action="store_true", help="read to the end, and stop")
    command.add_argument("--check", action="store_true", help="only show what the files would count")
    command.add_argument("--json", action="store_true", help="with --check: print JSON")


def tail(load: Callable[[], MeterKit], arguments: argparse.Namespace, says: Callable[[str], object]) -> bool:
    """
    Count log files until SIGTERM, or once, or only show what they would count.

    Args:
        load: Function that imports the kit.
        arguments: Arguments as `add_arguments` describes them.
        says: Prints a line.

    Returns:
        False if lines could not be counted.

    Raises:
        ConfigurationError: The arguments are wrong, or the kit cannot count a log.
        LedgerError: The ledger failed, with ``--once``.
    """
    formats = _formats(arguments.format)
    stop = Event()
    _stop_at_signals(stop)
    with closing(load()) as kit:
        counted, why = countable(kit.meters.values(), arguments.meter)
        recorder = kit.recorder
        about: Any = {"problems": recorder.problems, "shadow_until": recorder.shadow_until}
        counter = LineCounter(counted, identity=_identity(kit, arguments), **about)
        for each in why:
            log_event("log_meter_uncountable", f"not counted from access logs: {each}")
        if arguments.check:
            from meterkit.access_logs.check import check

            checked = check(arguments.files, counter=counter, formats=formats, since=arguments.since, clock=kit.clock)
            return _show(checked, counter, why, says, as_json=arguments.json)
        names = [meter.name for meter in counted]
        return _tail(kit, arguments, counter, formats=formats, stop=stop, says=says, names=names)


def _tail(
    kit: MeterKit,
    arguments: argparse.Namespace,
    counter: LineCounter,
    *,
    formats: list[Format] | None,
    stop: Event,
    says: Callable[[str], object],
    names: list[str],
) -> bool:
    from meterkit.access_logs.tail import Tail

    missing = [each for each in arguments.files if not find(each)]
    if missing and arguments.once:
        raise ConfigurationError(f"there is no file {missing[0]}")
    following = Tail(
        kit.process().database(),
        arguments.files,
        counter=counter,
        formats=formats,
        source=arguments.source,
        since=arguments.since,
        follows=not arguments.once,
        problems=kit.recorder.problems,
        clock=kit.clock,
        stops=stop.is_set,
        says=says,
        settle=kit.process().balances().settle,
    )
    with closing(following):
        if arguments.once:
            total = 0
            while (lines := following.poll()) and not stop.is_set():
                total += lines
            says(f"{total:,} lines were new.")
            return not (following.has_unreadable or following.is_shared)
        waits = f" {', '.join(missing)} does not exist yet." if missing else ""
        says(f"Counting {', '.join(names)} from {', '.join(arguments.files)}.{waits} Stop: Ctrl-C or SIGTERM")
        failed = ""
        while not stop.is_set():
            try:
                lines = following.poll()
                failed = ""
            except LedgerError as error:
                if str(error) != failed:
                    failed = str(error)
                    says(f"meterkit: {failed}. Trying again; what is in the logs is counted then")
                stop.wait(RETRY_SECONDS)
                continue
            if not lines:
                stop.wait(POLL_SECONDS)
        says("Stopped.")
    return True


def _formats(names: list[str]) -> list[Format] | None:
    chosen = [name for name in names if name != AUTO]
    if not chosen:
        return None
    if len(chosen) < len(names):
        raise ConfigurationError(f"--format {AUTO} finds the format out: leave the others out, or it")
    return [format_named(name) for name in chosen]


def _identity(kit: MeterKit, arguments: argparse.Namespace) -> IdentityResolver:
    if arguments.company_field:
        return IdentityResolver(by_field(arguments.company_field, arguments.user_field), kit.recorder.problems)
    if arguments.user_field:
        raise ConfigurationError("--user-field needs --company-field; without them, identify= returns both")
    if not kit.recorder.identity.is_set:
        raise ConfigurationError(
            "nothing says which company a line belongs to: pass --company-field with the field of the log that names "
            "it, or give the kit an identify= that reads exchange.fields"
        )
    return kit.recorder.identity


def _show(
    checked: list[Checked], counter: LineCounter, why: list[str], says: Callable[[str], object], *, as_json: bool
) -> bool:
    problems = counter.problems.as_dict()
    unmatched = counter.unmatched()
    if as_json:
        files = [
            {
                **asdict(each),
                "usage": [
                    {"meter": meter, "company": company or None, "quantity": quantity}
                    for (meter, company), quantity in sorted(each.usage.items())
                ],
            }
            for each in checked
        ]
        about: dict[str, Any] = {"files": files, "unmatched": unmatched, "uncountable": why, "problems": problems}
        says(json.dumps(about, indent=2))
    else:
        for each in checked:
            _show_file(each, says)
        if unmatched:
            shown = [f"{name} {number:,}" for name, number in list(unmatched.items())[:SHOWN_PATHS]]
            says(f"No meter is for these successes: {', '.join(shown)}")
        for problem in problems.values():
            says(f"{problem['message']} ({problem['count']:,} times)")
        says("Nothing was counted: this was only a check.")
    return not any(each.uncounted for each in checked)


def _show_file(checked: Checked, says: Callable[[str], object]) -> None:
    says(f"{checked.path}: format {checked.format or 'unknown'}, {checked.lines:,} lines")
    for (meter, company), quantity in sorted(checked.usage.items()):
        says(f"  {meter}  {company or '(no company)'}  {quantity:,}")
    if checked.uncounted:
        says(f"  lines that do not count: {checked.uncounted:,}")
        for error in checked.errors:
            says(f"    {error}")


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise argparse.ArgumentTypeError(
            f"must be a time with a time zone, such as 2026-03-01T00:00Z, not {text!r:.40}"
        )
    return int(moment.timestamp())


def _stop_at_signals(stop: Event) -> None:
    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
