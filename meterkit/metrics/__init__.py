"""
Metrics of a kit, for Prometheus and for OpenTelemetry.

Neither library is imported with this module, but with the name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterkit.metrics.opentelemetry import instrument
    from meterkit.metrics.prometheus import PrometheusCollector

__all__ = ["PrometheusCollector", "instrument"]

if not TYPE_CHECKING:  # otherwise, type checkers would accept misspelt names

    def __getattr__(name: str) -> object:
        if name == "PrometheusCollector":
            from meterkit.metrics.prometheus import PrometheusCollector

            return PrometheusCollector
        if name == "instrument":
            from meterkit.metrics.opentelemetry import instrument

            return instrument
        raise AttributeError(f"module 'meterkit.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
