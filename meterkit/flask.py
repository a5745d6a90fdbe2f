"""Flask. `init_app` puts the WSGI middleware around an app; everything else is `meterkit.wsgi`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from meterkit.errors import ConfigurationError
from meterkit.wsgi import MeterMiddleware, WSGIExchange

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

__all__ = ["MeterMiddleware", "WSGIExchange", "init_app"]

_EXTENSION = "meterkit"


def init_app(app: Flask, kit: MeterKit) -> None:
    """
    Meter *app* with *kit*. Calling this again with the same kit has no effect.

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
        app.wsgi_app = MeterMiddleware(app.wsgi_app, kit)  # type: ignore[method-assign]  # as Flask's docs say
        app.extensions[_EXTENSION] = kit
    elif installed is not kit:
        raise ConfigurationError("this Flask app already has another kit: use a single kit with the meters of both")
