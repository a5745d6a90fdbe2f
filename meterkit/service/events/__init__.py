"""``POST /v1/events``: `http_binding` reads the events of a request, and `route` has `meterkit.events` count them."""
