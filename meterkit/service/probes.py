"""What operators and their programs ask: metrics, health, liveness and readiness."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meterkit.core.responses import Response, json_response, response
from meterkit.core.threads import in_thread
from meterkit.service.calls import Call
from meterkit.service.problems import RequestError
from meterkit.service.routes import Route

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Probes:
    """
    Shows how a kit is.

    Args:
        kit: Kit that is shown.
    """

    def __init__(self, kit: MeterKit) -> None:
        self._kit = kit
        self._exposition: Callable[[], bytes] | None = None

    @property
    def routes(self) -> list[Route]:
        """The routes of this module."""
        return [
            Route("/metrics", self._metrics, methods=("GET",), scope="health", operations=_METRICS),
            Route("/health", self._health, methods=("GET",), scope="health", operations=_HEALTH),
            Route("/livez", self._live, methods=("GET",), operations=_LIVE),
            Route("/readyz", self._ready, methods=("GET",), operations=_READY),
        ]

    async def _metrics(self, _call: Call) -> Response:
        if self._exposition is None:
            self._exposition = _exposition_of(self._kit)
        return response(200, await in_thread(self._exposition), media_type=METRICS_TYPE)

    async def _health(self, _call: Call) -> Response:
        return response(200, json.dumps(await in_thread(self._kit.health)).encode())

    async def _live(self, _call: Call) -> Response:
        return json_response(200, {"ok": True})

    async def _ready(self, _call: Call) -> Response:
        why = await in_thread(lambda: why_not_ready(self._kit))
        if why is not None:
            raise RequestError(503, why, type="not_ready", retry_after=1)
        return json_response(200, {"ok": True})


def why_not_ready(kit: MeterKit) -> str | None:
    """Return why *kit* should not be sent requests yet; None if it can be."""
    runtime = kit.process(counting=True)
    if runtime.journal.in_memory:
        found = kit.recorder.problems.as_dict().get("journal_in_memory", {})
        return str(found.get("message", "The journal is in memory only, so a kill would lose what is counted."))
    if kit.governor is not None:
        kit.governor.begin()
        if not kit.governor.is_informed:
            return "The billing accounts have not been read from the ledger yet; see /health if this lasts."
    return None


def _exposition_of(kit: MeterKit) -> Callable[[], bytes]:
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError:
        raise RequestError(
            501, "Install the client library of Prometheus: pip install 'meterkit[prometheus]'.", type="no_prometheus"
        ) from None
    from meterkit.metrics import PrometheusCollector

    registry = CollectorRegistry()
    registry.register(PrometheusCollector(kit))
    return lambda: generate_latest(registry)


def _json(summary: str, operation_id: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "responses": {"200": {"description": "Yes.", "content": {"application/json": {"schema": schema}}}},
    }


_OK = {"type": "object", "required": ["ok"], "properties": {"ok": {"const": True}}}

_METRICS = {
    "get": {
        "operationId": "metrics",
        "summary": "Metrics for Prometheus",
        "responses": {"200": {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    }
}

_HEALTH = {
    "get": _json(
        "What needs attention, and the cure",
        "health",
        {
            "type": "object",
            "required": ["ok", "attention", "books", "problems"],
            "properties": {"ok": {"type": "boolean"}, "attention": {"type": "array", "items": {"type": "string"}}},
        },
    )
}

_LIVE = {"get": _json("Whether the process answers", "live", _OK)}

_READY: dict[str, Any] = {"get": _json("Whether usage can be counted, and accounts are known", "ready", _OK)}
_READY["get"]["responses"]["503"] = {"$ref": "#/components/responses/Problem"}
