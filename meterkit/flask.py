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
    Meter *app* with *kit*; doing so again changes nothing.

    Raises:
        ConfigurationError: *app* is not a Flask app, *kit* is not a MeterKit, or *app* has another kit already.
    """
    if not isinstance(app, Flask):
        raise ConfigurationError(
            f"init_app(app, kit) takes a Flask app, not {app!r:.200}; see meterkit.wsgi for others"
        )
    installed = app.extensions.get(_EXTENSION)
    if installed is None:
        app.wsgi_app = MeterMiddleware(app.wsgi_app, kit)  # type: ignore[method-assign]  # as Flask's docs say
        app.extensions[_EXTENSION] = kit
    elif installed is not kit:
        raise ConfigurationError("this Flask app has another kit already: use one kit, with the meters of both")
