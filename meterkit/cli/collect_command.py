"""The command `collect`: fold what hosts have published to JetStream into the ledger."""

from __future__ import annotations

import argparse
import signal
from contextlib import closing
from types import FrameType

from meterkit.cli.arguments import Commands, add_command, add_kit
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import say
from meterkit.core.threads import Event
from meterkit.errors import ConfigurationError, LedgerError

RETRY_SECONDS = 2.0
"""Seconds to wait after JetStream or the ledger has failed."""


def add_parsers(commands: Commands) -> None:
    """Add the command of this module."""
    command = add_command(
        commands, "collect", collect, "fold what hosts have published to JetStream into the ledger, until SIGTERM"
    )
    add_kit(command)
    command.add_argument(
        "--batch", type=_batch, default=50, metavar="N", help="fold at most N generations at a time (default: 50)"
    )
    command.add_argument("--once", action="store_true", help="stop as soon as nothing waits")


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
