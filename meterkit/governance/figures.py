"""
What the snapshot says of a company, as governance writes and reads it.

The first value is what may be used of any meter before a request has to be looked at. Then each quota has two values,
in the order of the governance's quotas: what is used, and the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from meterkit.core.periods import BillingCycle, Period, day_of, month_of
from meterkit.snapshot.file_format import BLOCKED, FLAGS_AT, KNOWN, OVERDUE, WARNED, Record
from meterkit.snapshot.past_edges import PAST

if TYPE_CHECKING:  # a kit without governance has figures, too
    from meterkit.governance.policy import Quota
    from meterkit.governance.refusal import Block
    from meterkit.snapshot.reader import SnapshotSource

BLOCKED_BIT = BLOCKED << FLAGS_AT

FIRST_QUOTA = 1
"""Number of the value that says what is used of the first quota."""

_BLOCK, _CYCLE, _METERS = "block", "cycle", "meters"


class CompanyFigures:
    """
    What is known of one company.

    Args:
        record: What the snapshot says of it.
        company: Company id.
    """

    __slots__ = ("_company", "_record")

    def __init__(self, record: Record, company: str) -> None:
        self._record = record
        self._company = company

    @classmethod
    def of(cls, source: SnapshotSource, company: str) -> CompanyFigures | None:
        """Return what the current snapshot of *source* says of *company*, or None before there is one."""
        file = source.current
        return None if file is None else cls(file.record(company), company)

    @property
    def is_known(self) -> bool:
        """Whether Stripe has reported the company."""
        return bool(self._record.flags & KNOWN)

    @property
    def standing(self) -> Literal["good", "overdue", "unknown"]:
        """Standing of the company."""
        return "overdue" if self._record.flags & OVERDUE else "good" if self.is_known else "unknown"

    @property
    def block(self) -> Block | None:
        """Why the company is blocked, whatever it requests, or warned; None if it is not."""
        from meterkit.governance.refusal import Block

        found = self._record.detail.get(_BLOCK) if self._record.flags & BLOCKED else None
        return None if found is None else Block(company=self._company, **found)

    @property
    def is_warned(self) -> bool:
        """Whether `block` is only to be warned about, because not all is known that it depends on."""
        return bool(self._record.flags & WARNED)

    def used(self, number: int) -> int:
        """Return what is used of the quota *number*, in its meter's unit."""
        return self._record.values[FIRST_QUOTA + 2 * number] or 0

    def limit(self, number: int) -> int | None:
        """Return the limit of the quota *number*; None if there is none, or none is known yet."""
        return self._record.values[FIRST_QUOTA + 2 * number + 1]

    def period(self, quota: Quota, now: int) -> Period:
        """Return the period of *quota* that contains *now*, Unix seconds."""
        if quota.per != "period":
            return day_of(now) if quota.per == "day" else month_of(now)
        detail = self._record.detail
        cycle = detail.get(_METERS, {}).get(quota.meter.event_name, detail.get(_CYCLE))
        return month_of(now) if cycle is None else BillingCycle(Period(*cycle[:2]), *cycle[2:]).at(now)

    def used_up(self, quota: Quota, *, limit: int, used: int, now: int) -> Block:
        """
        Return that *quota* is used up.

        Args:
            quota: Quota.
            limit: Its limit, in its meter's unit.
            used: What is used of it, in its meter's unit.
            now: Current time, Unix seconds.
        """
        from meterkit.governance.refusal import Block

        per = {"period": "this billing period", "month": "this month", "day": "today"}[quota.per]
        return Block(
            "quota",
            self._company,
            f"The quota of {limit} {quota.meter.name} for {per} is used up.",
            meter=quota.meter.name,
            used=used,
            limit=limit,
            retry_after=max(1, self.period(quota, now).end - now),
        )


def flags_of(*, is_known: bool, is_overdue: bool, is_blocked: bool, is_warned: bool) -> int:
    """Return the flags that `CompanyFigures` reads."""
    return KNOWN * is_known | OVERDUE * is_overdue | BLOCKED * is_blocked | WARNED * is_warned


def values_of(quotas: Iterable[tuple[int, int | None]], *, is_blocked: bool) -> list[int | None]:
    """
    Return the values that `CompanyFigures` reads.

    Args:
        quotas: What is used of each quota, and its limit or None.
        is_blocked: Whether there is a block, or a warning.
    """
    pairs = list(quotas)
    room = min([limit - used for used, limit in pairs if limit is not None], default=None)
    first = 0 if is_blocked else None if room is None else max(0, room)
    return [first, *(number for pair in pairs for number in pair)]


def detail_of(
    *,
    block: Block | None,
    cycle: BillingCycle | None,
    of_meters: Mapping[str, BillingCycle],
    past: Iterable[int],
) -> dict[str, Any]:
    """
    Return the detail that `CompanyFigures` and `meterkit.snapshot.past_edges` read.

    Args:
        block: Why the company is blocked or warned, or None.
        cycle: Its billing cycle; None if there is none.
        of_meters: Those of meters that differ, by event name.
        past: Boundaries of its billing periods in the last 35 days, Unix seconds.
    """
    detail: dict[str, Any] = {}
    if block is not None:
        about = {name: getattr(block, name) for name in block.__dataclass_fields__ if name != "company"}
        detail[_BLOCK] = {name: value for name, value in about.items() if value is not None}
    if cycle is not None:
        detail[_CYCLE] = _listed(cycle)
    if of_meters:
        detail[_METERS] = {event_name: _listed(each) for event_name, each in sorted(of_meters.items())}
    if edges := list(past):
        detail[PAST] = edges
    return detail


def _listed(cycle: BillingCycle) -> list[Any]:
    return [*cycle.period, *cycle[1:]]
