"""
Flask. `init_app` puts the WSGI middleware around an app; everything else is `meterkit.wsgi`.

It takes the kit, or finds it by ``app.config["METERKIT_KIT"]``, and adds the commands ``flask meterkit ...``.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from flask import Flask, current_app, request
from flask import Response as FlaskResponse

from meterkit.core.problems import shown
from meterkit.core.responses import Response
from meterkit.core.validation import SubjectId
from meterkit.errors import ConfigurationError, MeterKitError
from meterkit.governance.refusal import InsufficientBalanceError
from meterkit.metering.exchange import Identity
from meterkit.metering.recorder import MARK, recorder_of
from meterkit.project_settings import KEYS, settings_of_app
from meterkit.runtime.settings import without_effect
from meterkit.wsgi import MeterMiddleware, WSGIExchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from meterkit.kit import MeterKit

__all__ = ["MeterMiddleware", "WSGIExchange", "govern", "init_app"]

_EXTENSION = "meterkit"

_PREFIX = "METERKIT_"


def init_app(app: Flask, kit: MeterKit | None = None) -> None:
    """
    Meter *app*. Calling this again with the same kit has no effect.

    Responses of the kit's own, such as a 402 or the customer page, pass through the app's ``after_request`` functions,
    which add CORS headers for example. The kit is in ``app.extensions["meterkit"]``, and its commands are
    ``flask meterkit ...``.

    Args:
        app: Flask app to meter.
        kit: Kit that counts the app's usage. By default, ``app.config["METERKIT_KIT"]`` is its dotted path, such as
            ``"billing.kit"``; a module that is imported for that takes ``METERKIT_DATA_DIR``, ``METERKIT_LEDGER``,
            ``METERKIT_STRIPE_KEY``, ``METERKIT_STRIPE_BASE`` and ``METERKIT_WEBHOOK_SECRET`` from the config, too.

    Raises:
        ConfigurationError: *app* is not a Flask app, *kit* is not a MeterKit, *app* already has another kit, or its
            config is wrong or has no effect.
    """
    if not isinstance(app, Flask):
        raise ConfigurationError(
            f"init_app(app, kit) needs a Flask app, not {app!r:.200}; for other WSGI apps, use meterkit.wsgi"
        )
    given = _given(app.config)
    if kit is None:
        kit = _named(given)
    recorder_of(kit)
    _check_effect(given, kit)
    installed = app.extensions.get(_EXTENSION)
    if installed is None:
        app.wsgi_app = _FlaskMiddleware(app, kit)  # type: ignore[method-assign]  # as Flask's docs say
        app.extensions[_EXTENSION] = kit
        # A handler of the app's own, registered before or later, takes precedence.
        app.error_handler_spec[None][None].setdefault(InsufficientBalanceError, _refuse)
        _add_commands(app, kit)
    elif installed is not kit:
        raise ConfigurationError("this Flask app already has another kit: use a single kit with the meters of both")


def _refuse(error: InsufficientBalanceError) -> FlaskResponse:
    """Error handler: respond as to a blocked request."""
    exchange = request.environ.get(MARK)
    if not isinstance(exchange, WSGIExchange) or exchange.closed:
        raise error
    response = exchange.owner.refusal_of(error, exchange)
    assert response is not None
    return current_app.response_class(response.body, response.status, response.headers)


def govern(company: SubjectId | None = None, user: SubjectId | None = None) -> FlaskResponse | None:
    """
    Decide about the current request, now that it is known whose it is. Never raises.

    For a ``before_request`` function or a view. If the company was known before the app ran, that decision stands.

    Args:
        company: Company id that the app has authenticated, which then also pays, as with `meterkit.identify`; None to
            call the kit's ``identify=`` again.
        user: Id of the user within *company*; None if there is none.

    Returns:
        The response to send instead of the view's, which is not billed; None if the request is allowed.
    """
    exchange = request.environ.get(MARK)
    if not isinstance(exchange, WSGIExchange) or exchange.closed:
        return None
    who = None
    if company is not None:
        with exchange.touch():
            who = exchange.identity = Identity(company, user)
    blocked = exchange.owner.decide_again(exchange, who)
    return None if blocked is None else current_app.response_class(blocked.body, blocked.status, blocked.headers)


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what *config* says, by the keys of `meterkit.project_settings`."""
    given = {name.removeprefix(_PREFIX): value for name, value in config.items() if name.startswith(_PREFIX)}
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        known = ", ".join(_PREFIX + key for key in KEYS)
        raise ConfigurationError(
            f"app.config has {_PREFIX + unknown[0]!r:.100}, which is no setting of meterkit; these are {known}, and "
            "what else a kit takes is an argument of MeterKit()"
        )
    return given


def _named(given: Mapping[str, Any]) -> MeterKit:
    """Import the kit that ``METERKIT_KIT`` names."""
    cure = f'set app.config["{_PREFIX}KIT"] to the dotted path of your kit, such as "billing.kit"'
    path = given.get("KIT")
    if path is None:
        raise ConfigurationError(f"there is no kit: pass it as init_app(app, kit), or {cure}")
    if not isinstance(path, str):
        kit: MeterKit = path
        return kit
    try:
        with settings_of_app(given):
            found: MeterKit = pkgutil.resolve_name(path)
    except ConfigurationError:  # of the kit itself
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{_PREFIX}KIT = {path!r:.200}: {error}; {cure}") from error
    return found


def _check_effect(given: Mapping[str, Any], kit: MeterKit) -> None:
    missed = without_effect(given, kit._settings, kit.webhook)  # noqa: SLF001 - what it was built with
    if missed is not None:
        key, argument = missed
        raise ConfigurationError(
            f"app.config has {_PREFIX + key!r}, but the kit was built without it: MeterKit() itself has {argument}, "
            "which wins; or its module was imported before init_app(app). Say it in one of them, name the kit by "
            f"{_PREFIX}KIT, and import what imports it after init_app(app)"
        )


def _add_commands(app: Flask, kit: MeterKit) -> None:
    """Add ``flask meterkit``, which hands its arguments over to the parser of the command line."""
    settings = {"ignore_unknown_options": True, "allow_interspersed_args": False}

    @app.cli.command("meterkit", context_settings=settings, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        """Show usage and health, report to Stripe, provision prices, and more."""
        sys.exit(_run(arguments, kit))


def _run(arguments: Sequence[str], kit: MeterKit) -> int:
    from meterkit import cli
    from meterkit.cli.arguments import ProjectParser

    class KitParser(ProjectParser):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.find_kit = lambda: kit

    parser = argparse.ArgumentParser(prog="flask meterkit", epilog=f"Exit codes: {cli.EXIT_CODES}")
    cli.add_commands(parser.add_subparsers(metavar="command", required=True, parser_class=KitParser))
    parsed = parser.parse_args(arguments)
    try:
        return cli.exit_code(lambda: parsed.run(parsed))
    except MeterKitError as error:
        click.echo(f"meterkit: {cli.one_line(error)}", err=True)
        return cli.exit_code_of(error)


class _FlaskMiddleware(MeterMiddleware):
    """
    The middleware around a Flask app, whose own responses the app finishes.

    Args:
        app: Flask app to meter.
        kit: Kit that counts the app's usage.
    """

    def __init__(self, app: Flask, kit: MeterKit) -> None:
        super().__init__(app.wsgi_app, kit)
        self._flask = app

    def _respond(self, response: Response, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        flask = self._flask
        try:
            made = flask.response_class(response.body, response.status, response.headers)
            # Neither a view nor a before_request function runs; those after it may count on what these have set.
            with flask.request_context(environ):
                made = flask.process_response(made)
        except Exception as error:
            self.recorder.problems.note(
                "after_request_raised",
                f"an after_request function of the Flask app raised {shown(error)} for a response of meterkit's own, "
                "which was sent without it. It must not rely on what a before_request function has set",
                error=error,
            )
            return super()._respond(response, environ, start_response)
        return made(environ, start_response)
