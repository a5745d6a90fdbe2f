"""The metrics as a collector of `prometheus_client`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meterkit.metrics.figures import FIGURES, Figure, safe_samples
from meterkit.metrics.ledger_figures import LedgerReader

if TYPE_CHECKING:
    from meterkit.kit import MeterKit


class PrometheusCollector(Collector):
    """
    Metrics of a kit, for ``prometheus_client``: ``REGISTRY.register(PrometheusCollector(kit))``.

    A scrape reads this process's counters from memory. The ledger is read in a thread, at most once in *max_age*
    seconds and less often if that takes long; a scrape waits two seconds for it at most, and not in an event loop.

    Args:
        kit: Kit whose metrics are shown; or several by a name, which becomes the label ``kit``.
        max_age: Seconds for which figures of the ledger are shown again.
    """

    def __init__(self, kit: MeterKit | Mapping[str, MeterKit], *, max_age: float = 10.0) -> None:
        named = isinstance(kit, Mapping)
        kits = kit if isinstance(kit, Mapping) else {"": kit}
        self._labels = ("kit",) if named else ()
        self._kits = [
            ((name,) if named else (), each, LedgerReader(each, max_age=max_age)) for name, each in kits.items()
        ]

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without values, to register them without reading the ledger."""
        for figure in FIGURES:
            yield self._family(figure)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Never raises: ``meterkit_ledger_up`` is 0 if the ledger cannot be read."""
        ledgers = [reader.figures() for _, _, reader in self._kits]
        for figure in FIGURES:
            family = self._family(figure)
            for (name, kit, _), ledger in zip(self._kits, ledgers, strict=True):
                for labels, value in safe_samples(figure, kit, ledger):
                    family.add_metric([*name, *labels], value)
            yield family

    def _family(self, figure: Figure) -> CounterMetricFamily | GaugeMetricFamily:
        family = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        return family(figure.prometheus_name, figure.description, labels=[*self._labels, *figure.labels])
