"""
A kit as a service over HTTP, for apps in other languages and for gateways.

In reading order: `keys` says who may call, `calls` is one request, `problems` are the responses to mistakes, `routes`
is the table of what there is, and `app` puts them together as `Service`. `check` decides about a company, of a request
that `forwarded` reads from a gateway's headers; `probes` serve metrics, health and readiness. `uvicorn` runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterkit.service.app import Service
    from meterkit.service.keys import Key

__all__ = ["Key", "Service"]

if not TYPE_CHECKING:  # otherwise, type checkers would accept misspelt names

    def __getattr__(name: str) -> object:
        if name == "Service":
            from meterkit.service.app import Service

            return Service
        if name == "Key":
            from meterkit.service.keys import Key

            return Key
        raise AttributeError(f"module 'meterkit.service' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
