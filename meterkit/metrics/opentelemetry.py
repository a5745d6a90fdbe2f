"""The metrics as observable instruments of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider

from meterkit.metrics.figures import FIGURES, Figure, safe_samples
from meterkit.metrics.ledger_figures import LedgerReader

if TYPE_CHECKING:
    from meterkit.kit import MeterKit


def instrument(
    kit: MeterKit | Mapping[str, MeterKit], meter_provider: MeterProvider | None = None, *, max_age: float = 10.0
) -> None:
    """
    Create observable instruments for the metrics of a kit. Call it once in each process that exports metrics.

    Args:
        kit: Kit whose metrics are shown; or several by a name, which becomes the attribute ``meterkit.kit``.
        meter_provider: Provider of the meter ``meterkit``; by default the global one.
        max_age: Seconds for which figures of the ledger are shown again.
    """
    kits = kit if isinstance(kit, Mapping) else {"": kit}
    named = isinstance(kit, Mapping)
    observed: list[tuple[dict[str, str], MeterKit, LedgerReader]] = [
        ({"meterkit.kit": name} if named else {}, each, LedgerReader(each, max_age=max_age))
        for name, each in kits.items()
    ]
    meter = (meter_provider or get_meter_provider()).get_meter("meterkit", version("meterkit"))
    for figure in FIGURES:
        create: Any = meter.create_observable_counter if figure.kind == "counter" else meter.create_observable_gauge
        create(figure.name, callbacks=[_observe(figure, observed)], unit=figure.unit, description=figure.description)


def _observe(
    figure: Figure, observed: list[tuple[dict[str, str], MeterKit, LedgerReader]]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for name, kit, reader in observed:
            ledger = None if figure.of_ledger is None else reader.figures()
            for labels, value in safe_samples(figure, kit, ledger):
                pairs = zip(figure.labels, labels, strict=True)
                yield Observation(value, {**name, **{f"meterkit.{label}": each for label, each in pairs}})

    return observe
