"""The commands `demo` and `sandbox`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import signal

from meterkit.cli.arguments import Commands, add_command, add_json
from meterkit.cli.kit_loader import CommandError
from meterkit.cli.output import print_json


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    command = add_command(commands, "demo", demo, "bill a month with the sandbox, and kill a worker on the way")
    command.add_argument(
        "--framework",
        choices=("flask", "django", "fastapi"),
        default="flask",
        help="framework of the example (default: flask)",
    )
    command.add_argument("--kill-after", type=int, metavar="N", help="kill the worker after N requests (default: half)")
    add_json(command)

    command = add_command(
        commands, "sandbox", sandbox, "serve a local Stripe double on the loopback interface until Ctrl-C"
    )
    command.add_argument("--port", type=int, default=12111, metavar="N", help="0 for any free port (default: 12111)")


def demo(arguments: argparse.Namespace) -> bool:
    """Bill a month, with nothing faked but Stripe."""
    from meterkit.demo.server import FRAMEWORKS
    from meterkit.demo.traffic import TOTAL

    kill_after = TOTAL // 2 if arguments.kill_after is None else arguments.kill_after
    if not 1 <= kill_after <= TOTAL:
        raise CommandError(f"--kill-after must be a number of requests from 1 to {TOTAL}, not {kill_after}")
    needed = [arguments.framework, FRAMEWORKS[arguments.framework], *([] if arguments.json else ["rich"])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"the demo needs {' and '.join(missing)}: pip install 'meterkit[demo]'")
    _end_on_sigterm()

    from meterkit.demo import SilentNarrator, bill_a_month
    from meterkit.demo.expectations import as_data, differences

    if arguments.json:
        month = bill_a_month(arguments.framework, SilentNarrator(), kill_after=kill_after)
        print_json(as_data(month))
    else:
        from meterkit.cli.tables.demo import TerminalNarrator, show_month

        month = bill_a_month(arguments.framework, TerminalNarrator(), kill_after=kill_after)
        show_month(month)
    return not differences(month)


def sandbox(arguments: argparse.Namespace) -> bool:
    """Serve the sandbox until Ctrl-C or SIGTERM."""
    from meterkit.sandbox import Sandbox

    _end_on_sigterm()
    stripe = Sandbox(port=arguments.port)
    try:
        stripe.start()
    except (OSError, OverflowError) as error:
        raise CommandError(f"port {arguments.port} is not available ({error}); choose another with --port") from None
    try:
        print(
            f"The sandbox, a local Stripe double, listens on {stripe.url}. It keeps everything in memory. To use it:",
            "",
            f"    export METERKIT_STRIPE_BASE={stripe.url}",
            f"    export STRIPE_SECRET_KEY={stripe.api_key}",
            "",
            f"Advance by 1 h:  curl --json '{{\"seconds\": 3600}}' {stripe.url}/_sandbox/advance",
            "Stop:            Ctrl-C",
            sep="\n",
            flush=True,
        )
        stripe.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        stripe.stop()
    return True


def _end_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C, so that whatever was started is stopped, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
