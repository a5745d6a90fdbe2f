"""The sandbox's own endpoints, `/_sandbox/…`: clock, faults and records, for other processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from meterkit.sandbox.protocol.frame import Reply, Request, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterkit.sandbox.platform.webhook_delivery import Webhooks
    from meterkit.sandbox.protocol.frame import Received
    from meterkit.sandbox.state.usage import MeterEvent

PREFIX = "/_sandbox/"
_LOOPBACK = ("127.0.0.1", "localhost")
_FAULT_OPTIONS = ("path", "times", "after", "seconds", "reason")


class Controlled(Protocol):
    """The part of a sandbox that other processes may control."""

    webhooks: Webhooks

    @property
    def now(self) -> int:
        """See `meterkit.sandbox.Sandbox.now`."""

    @property
    def requests(self) -> list[Received]:
        """See `meterkit.sandbox.Sandbox.requests`."""

    @property
    def meter_events(self) -> list[MeterEvent]:
        """See `meterkit.sandbox.Sandbox.meter_events`."""

    def advance(self, *, seconds: int | None = None, to: float | None = None) -> int:
        """See `meterkit.sandbox.Sandbox.advance`."""

    @property
    def fail(self) -> Callable[..., object]:
        """See `meterkit.sandbox.Sandbox.fail`."""

    def heal(self) -> None:
        """See `meterkit.sandbox.Sandbox.heal`."""

    def payments(self, customer: str, outcome: Any) -> None:
        """See `meterkit.sandbox.Sandbox.payments`."""

    def discount(self, customer: str, coupon: str) -> None:
        """See `meterkit.sandbox.Sandbox.discount`."""

    def dispute(self, payment_intent: str, *, amount: int | None = None, inquiry: bool = False) -> str:
        """See `meterkit.sandbox.Sandbox.dispute`."""


class Control:
    """Serves `/_sandbox/…`. No key is needed; requests that are not addressed to the loopback are refused."""

    def __init__(self, sandbox: Controlled) -> None:
        self._sandbox = sandbox
        self._routes: dict[tuple[str, str], Callable[[dict[str, Any]], Any]] = {
            ("GET", "clock"): self._clock,
            ("POST", "advance"): self._advance,
            ("POST", "faults"): self._fail,
            ("DELETE", "faults"): self._heal,
            ("GET", "requests"): self._requests,
            ("GET", "meter_events"): self._meter_events,
            ("POST", "webhooks"): self._send_to,
            ("POST", "deliver"): self._deliver,
            ("GET", "deliveries"): self._deliveries,
            ("POST", "payments"): self._payments,
            ("POST", "discounts"): self._discount,
            ("POST", "disputes"): self._dispute,
        }

    def respond(self, request: Request) -> Reply:
        """Return the response: 200 with JSON, 400 with the error, or 404 for an unknown endpoint."""
        # No web page may use this: neither from another origin, nor through a host name that resolves to the loopback.
        if "origin" in request.headers or request.headers.get("host", "").partition(":")[0] not in _LOOPBACK:
            return json_reply(
                403, {"error": "Requests must be addressed to 127.0.0.1 or localhost, and not come from a web page."}
            )
        run = self._routes.get((request.method, request.path.removeprefix(PREFIX)))
        if run is None:
            available = ", ".join(f"{method} {PREFIX}{name}" for method, name in self._routes)
            return json_reply(
                404, {"error": f"Unknown endpoint: {request.method} {request.path}; available: {available}."}
            )
        try:
            return json_reply(200, run(_object(request.body)))
        except KeyError as error:
            return json_reply(400, {"error": f"The field {error} is missing."})
        except (TypeError, ValueError) as error:
            return json_reply(400, {"error": str(error)})

    def _clock(self, _: dict[str, Any]) -> Any:
        return {"now": self._sandbox.now}

    def _advance(self, body: dict[str, Any]) -> Any:
        return {"now": self._sandbox.advance(seconds=body.get("seconds"), to=body.get("to"))}

    def _fail(self, body: dict[str, Any]) -> Any:
        options = {name: body[name] for name in _FAULT_OPTIONS if name in body}
        unknown = sorted(set(body) - {"kind", *_FAULT_OPTIONS})
        if unknown or "kind" not in body:
            wrong = f"unknown: {', '.join(unknown)}" if unknown else "kind is missing"
            raise ValueError(f"A fault has the fields kind, {', '.join(_FAULT_OPTIONS)}; {wrong}.")
        self._sandbox.fail(body["kind"], **options)
        return {"planned": body}

    def _heal(self, _: dict[str, Any]) -> Any:
        self._sandbox.heal()
        return {"planned": None}

    def _requests(self, _: dict[str, Any]) -> Any:
        return [
            {"method": each.method, "path": each.path, "params": each.params, "status": each.status}
            for each in self._sandbox.requests
        ]

    def _meter_events(self, _: dict[str, Any]) -> Any:
        return [{**vars(event), "value": str(event.value)} for event in self._sandbox.meter_events]

    def _send_to(self, body: dict[str, Any]) -> Any:
        endpoint = self._sandbox.webhooks.send_to(**body)
        return {"id": endpoint.id, "secret": endpoint.secret}

    def _deliver(self, _: dict[str, Any]) -> Any:
        return [vars(each) for each in self._sandbox.webhooks.deliver()]

    def _deliveries(self, _: dict[str, Any]) -> Any:
        return [vars(each) for each in self._sandbox.webhooks.delivered]

    def _payments(self, body: dict[str, Any]) -> Any:
        self._sandbox.payments(body["customer"], body["outcome"])
        return {"planned": body}

    def _discount(self, body: dict[str, Any]) -> Any:
        self._sandbox.discount(body["customer"], body["coupon"])
        return {"planned": body}

    def _dispute(self, body: dict[str, Any]) -> Any:
        return {"id": self._sandbox.dispute(**{"payment_intent": body["payment_intent"], **body})}


def _object(body: bytes) -> dict[str, Any]:
    value = json.loads(body or b"{}")
    if not isinstance(value, dict):
        raise TypeError("The body must be a JSON object.")
    return value
