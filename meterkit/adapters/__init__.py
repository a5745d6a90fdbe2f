"""The parts of `meterkit.wsgi`, `meterkit.asgi`, `meterkit.flask` and `meterkit.django` that are not public."""
