"""Flask. `init_app` puts the WSGI middleware around an app; everything else is `meterkit.wsgi`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

from meterkit.core.problems import shown
from meterkit.core.responses import Response
from meterkit.errors import ConfigurationError
from meterkit.wsgi import MeterMiddleware, WSGIExchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from meterkit.kit import MeterKit

__all__ = ["MeterMiddleware", "WSGIExchange", "init_app"]

_EXTENSION = "meterkit"


def init_app(app: Flask, kit: MeterKit) -> None:
    """
    Meter *app* with *kit*. Calling this again with the same kit has no effect.

    Responses of the kit's own, such as a 402 or the customer page, pass through the app's ``after_request`` functions,
    which add CORS headers for example.

    Args:
        app: Flask app to meter.
        kit: Kit that counts the app's usage.

    Raises:
        ConfigurationError: *app* is not a Flask app, *kit* is not a MeterKit, or *app* already has another kit.
    """
    if not isinstance(app, Flask):
        raise ConfigurationError(
            f"init_app(app, kit) needs a Flask app, not {app!r:.200}; for other WSGI apps, use meterkit.wsgi"
        )
    installed = app.extensions.get(_EXTENSION)
    if installed is None:
        app.wsgi_app = _FlaskMiddleware(app, kit)  # type: ignore[method-assign]  # as Flask's docs say
        app.extensions[_EXTENSION] = kit
    elif installed is not kit:
        raise ConfigurationError("this Flask app already has another kit: use a single kit with the meters of both")


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
