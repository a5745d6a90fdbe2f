"""
The table of all metrics: what each is called, and where its values come from. Both exporters read it.

Names follow OpenTelemetry's conventions; Prometheus's names follow from them, by the rules of OpenTelemetry's
specification. No label names a company, a user or a path, so the number of series is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from meterkit.metering.context import outside
from meterkit.metrics.ledger_figures import LedgerFigures

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, in their order, and the figure."""


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One metric.

    Attributes:
        name: Name in OpenTelemetry, such as ``meterkit.webhook.requests``.
        kind: ``counter``, which starts from zero with the process and only grows, or ``gauge``.
        unit: ``s``, a unit in braces such as ``{request}``, or empty.
        labels: Names of the labels.
        description: What the figure is, as a sentence.
        of_process: Function that returns the samples of this process; None for a figure of the ledger.
        of_ledger: Function that returns the samples of a ledger that could be read; None for a figure of the process.
    """

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    labels: tuple[str, ...]
    description: str
    of_process: Callable[[MeterKit], Iterable[Sample]] | None = None
    of_ledger: Callable[[LedgerFigures], Iterable[Sample]] | None = None

    @property
    def prometheus_name(self) -> str:
        """Name in Prometheus, such as ``meterkit_webhook_requests_total``."""
        seconds = "_seconds" if self.unit == "s" else ""
        return self.name.replace(".", "_") + seconds + ("_total" if self.kind == "counter" else "")

    def samples(self, kit: MeterKit, ledger: LedgerFigures | None) -> Iterator[Sample]:
        """Yield the samples; none of the ledger if it could not be read."""
        if self.of_process is not None:
            yield from self.of_process(kit)
        elif self.of_ledger is not None and ledger is not None and (ledger.up or self is LEDGER_UP):
            yield from self.of_ledger(ledger)


def _problems(kit: MeterKit) -> dict[str, tuple[int, int]]:
    return {**outside.ever(), **kit.recorder.problems.ever()}


def _blocked(kit: MeterKit, *, only_warned: bool) -> Iterator[Sample]:
    for reason, number in ({} if kit.governor is None else dict(kit.governor.blocked.total)).items():
        if reason.startswith("warn:") is only_warned:
            yield (reason.removeprefix("warn:"),), number


def _webhook_requests(kit: MeterKit) -> Iterator[Sample]:
    if kit.webhook is not None:
        jobs = kit.process().stripe_jobs
        yield ("received",), jobs.received_webhooks
        yield ("refused",), jobs.refused_webhooks


def _last_report(kit: MeterKit) -> Iterator[Sample]:
    at = kit.process().stripe_jobs.reported_at
    if at is not None:
        yield (), at


def _plain(value: float | None) -> Iterator[Sample]:
    if value is not None:
        yield (), value


def _by_place(books: dict[str, dict[str, int]]) -> Iterator[Sample]:
    for meter, of_meter in books.items():
        for place, quantity in of_meter.items():
            if place not in ("counted", "balanced"):
                yield (meter, place), quantity


def _column(books: dict[str, dict[str, int]], column: str) -> Iterator[Sample]:
    for meter, of_meter in books.items():
        yield (meter,), int(of_meter[column])


def _states(found: dict[str, int]) -> Iterator[Sample]:
    for state, number in found.items():
        yield (state,), number


def _ledger(name: str, unit: str, labels: tuple[str, ...], description: str, of_ledger: Any) -> Figure:
    return Figure(f"meterkit.{name}", "gauge", unit, labels, description, of_ledger=of_ledger)


def _counter(name: str, unit: str, labels: tuple[str, ...], description: str, of_process: Any) -> Figure:
    return Figure(f"meterkit.{name}", "counter", unit, labels, description, of_process=of_process)


LEDGER_UP = _ledger(
    "ledger.up", "", (), "Whether the ledger could be read: 1, or 0.", lambda ledger: _plain(int(ledger.up))
)

FIGURES = (
    LEDGER_UP,
    _ledger(
        "ledger.read_timestamp",
        "s",
        (),
        "Time at which the figures of the ledger were read.",
        lambda ledger: _plain(ledger.read_at),
    ),
    _ledger(
        "attention",
        "{sentence}",
        (),
        "Number of things that kit.health() says need attention.",
        lambda ledger: _plain(ledger.attention),
    ),
    _ledger(
        "usage.counted",
        "{unit}",
        ("meter",),
        "Units ever counted, in the meter's unit; less what was corrected, or deleted because of keep_days=.",
        lambda ledger: _column(ledger.books, "counted"),
    ),
    _ledger(
        "usage.units",
        "{unit}",
        ("meter", "place"),
        "Where the counted units are now, such as unreported, pending, sent or rejected.",
        lambda ledger: _by_place(ledger.books),
    ),
    _ledger(
        "books.balanced",
        "",
        ("meter",),
        "Whether every counted unit is in exactly one place: 1, or 0.",
        lambda ledger: _column(ledger.books, "balanced"),
    ),
    _ledger(
        "unsent.oldest_timestamp",
        "s",
        (),
        "Time at which the oldest meter event was written that Stripe does not have yet; absent if there is none.",
        lambda ledger: _plain(ledger.oldest_unsent),
    ),
    _ledger(
        "webhook.events",
        "{event}",
        ("state",),
        "Stripe's webhook events by state: received (waiting), and of the last seven days applied and ignored.",
        lambda ledger: _states(ledger.webhook_events),
    ),
    _ledger(
        "notices",
        "{notice}",
        ("state",),
        "Notices, one for each channel, by state: waiting, and of the last seven days delivered and given_up.",
        lambda ledger: _states(ledger.notices),
    ),
    _counter(
        "problems",
        "{problem}",
        ("reason",),
        "Problems in this process, by reason.",
        lambda kit: [((reason,), number) for reason, (number, _) in _problems(kit).items()],
    ),
    _counter(
        "uncounted.units",
        "{unit}",
        ("reason",),
        "Units that were not counted in this process because of a problem.",
        lambda kit: [((reason,), units) for reason, (_, units) in _problems(kit).items() if units],
    ),
    _counter(
        "blocked.requests",
        "{request}",
        ("reason",),
        "Requests that this process blocked.",
        lambda kit: _blocked(kit, only_warned=False),
    ),
    _counter(
        "warned.requests",
        "{request}",
        ("reason",),
        "Requests that this process would have blocked, but for a rule that only warns.",
        lambda kit: _blocked(kit, only_warned=True),
    ),
    _counter(
        "unmatched.requests",
        "{request}",
        (),
        "Successful requests to this process that no meter matched.",
        lambda kit: _plain(sum(kit.recorder.evaluator.unmatched.as_dict().values())),
    ),
    _counter(
        "webhook.requests",
        "{request}",
        ("outcome",),
        "Webhook requests to this process: received, or refused because Stripe did not sign them.",
        _webhook_requests,
    ),
    Figure(
        "meterkit.journal.in_memory",
        "gauge",
        "",
        (),
        "Whether this process counts in memory, because it can create no journal file: 1, or 0.",
        of_process=lambda kit: _plain(int(kit.process().journal.in_memory)),
    ),
    Figure(
        "meterkit.flusher.up",
        "gauge",
        "",
        (),
        "Whether a process of this host flushes what is counted in this process's directory: 1, or 0.",
        of_process=lambda kit: _plain(int(kit.process().lock.holder() is not None)),
    ),
    Figure(
        "meterkit.report.last_timestamp",
        "gauge",
        "s",
        (),
        "Time of this process's latest report to Stripe that left nothing behind.",
        of_process=_last_report,
    ),
)
"""All metrics, in the order in which they are shown."""


def safe_samples(figure: Figure, kit: MeterKit, ledger: LedgerFigures | None) -> list[Sample]:
    """Return the samples of *figure*; none if that fails, which must not fail the scrape of the application's own."""
    try:
        return list(figure.samples(kit, ledger))
    except Exception as error:
        kit.recorder.problems.internal(error)
        return []
