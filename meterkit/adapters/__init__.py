"""What the public adapters `meterkit.wsgi`, `meterkit.asgi`, `meterkit.flask` and `meterkit.django` share."""
