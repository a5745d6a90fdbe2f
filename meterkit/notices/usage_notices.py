"""Notices about tiers, thresholds, quotas and single calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from meterkit.core.periods import Period
from meterkit.governance.policy import Quota
from meterkit.notices.notice import Kind, Notice, Value
from meterkit.notices.rules import Notify
from meterkit.pricing.price import Price, digits

MAX_CALLS = 1000
"""Notices of single calls that are created at once; the others follow."""

PERIODS = {"period": "this billing period", "month": "this month", "day": "today"}


@dataclass(frozen=True, slots=True)
class CompanyUsage:
    """
    Usage of one company in one period.

    Attributes:
        company: Company id.
        period: Period of the usage.
        used: Quantity by meter name, in the meter's unit.
        prices: Prices by which the company is billed.
        costs: Cost of the usage by currency; None if it cannot be told.
    """

    company: str
    period: Period
    used: Mapping[str, int]
    prices: Iterable[Price]
    costs: Mapping[str, Decimal | None] = field(default_factory=dict)

    def key(self, kind: Kind, subject: str) -> str:
        """Return the key of the notice of that *kind* and *subject* in this period."""
        return f"{kind}:{self.company}:{self.period.start}:{subject}"

    def notice(self, kind: Kind, subject: str, title: str, text: str, *, now: int, **fields: Value) -> Notice:
        """Return a notice that is written once in this period for its *kind* and *subject*."""
        return Notice(
            key=self.key(kind, subject),
            kind=kind,
            company=self.company,
            title=title,
            text=text,
            created_at=now,
            fields={**fields, "period_start": self.period.start, "period_end": self.period.end},
        )


def crossed(usage: CompanyUsage, rule: Notify, *, now: int) -> Iterator[Notice]:
    """Yield the notices about tiers and thresholds that are due under *rule*."""
    for kind in rule.kinds:
        if kind == "threshold":
            yield from _threshold(usage, rule, now)
        elif kind in ("tier_near", "tier_crossed"):
            for price in usage.prices:
                if price.scheme in ("graduated", "volume") and rule.meter in (None, price.meter):
                    yield from _tier(usage, price, rule, now)


def over_quota(usage: CompanyUsage, quota: Quota, limit: int, rule: Notify, *, now: int) -> list[Notice]:
    """Return the notice about a quota that is due under *rule*, if any."""
    company, meter = usage.company, quota.meter.name
    used = usage.used[meter]
    about: dict[str, Value] = {"meter": meter, "used": used, "limit": limit}
    subject = f"{meter}:{quota.per}:{limit}"
    text = f"{company} has used {used:,} of its quota of {limit:,} {meter} for {PERIODS[quota.per]}."
    if used >= limit:
        title = f"{company} has used up its quota of {meter}"
        return [usage.notice("quota_reached", subject, title, text, now=now, **about)]
    assert rule.share is not None
    if used >= rule.share * limit:
        title = f"{company} has nearly used up its quota of {meter}"
        return [usage.notice("quota_near", subject, title, text, now=now, **about)]
    return []


def calls(usage: CompanyUsage, rule: Notify, known: Callable[[list[str]], set[str]], *, now: int) -> Iterator[Notice]:
    """Yield a notice for every n-th call that has none yet, in order."""
    assert rule.meter is not None
    meter = rule.meter.name
    count = usage.used.get(meter, 0) // rule.every

    def make(number: int) -> Notice:
        used = number * rule.every
        title = f"{usage.company} has used {used:,} {meter}"
        subject = f"{meter}:{rule.every}:{number}"
        text = f"{title} in this billing period."
        return usage.notice("calls", subject, title, text, now=now, meter=meter, used=used, count=number)

    # Notices are written in order, so bisection finds the first that is not.
    written, unwritten = 0, count + 1
    while unwritten - written > 1:
        middle = (written + unwritten) // 2
        written, unwritten = (middle, unwritten) if known([make(middle).key]) else (written, middle)
    for number in range(written + 1, min(count, written + MAX_CALLS) + 1):
        yield make(number)


def _threshold(usage: CompanyUsage, rule: Notify, now: int) -> Iterator[Notice]:
    company = usage.company
    if rule.units is not None:
        assert rule.meter is not None
        meter = rule.meter.name
        used = usage.used.get(meter, 0)
        if used >= rule.units:
            title = f"{company} has used {rule.units:,} {meter}"
            text = f"{company} has used {used:,} {meter} in this billing period."
            subject = f"{meter}:{rule.units}"
            yield usage.notice("threshold", subject, title, text, now=now, meter=meter, used=used, limit=rule.units)
    elif rule.amount is not None:
        cost = usage.costs[rule.currency]
        if cost is not None and cost >= rule.amount:
            unit, limit = rule.currency.upper(), digits(rule.amount)
            title = f"{company} has spent {limit} {unit}"
            text = f"The usage of {company} in this billing period costs {digits(cost)} {unit} so far."
            about: dict[str, Value] = {"amount": digits(cost), "limit": limit, "currency": rule.currency}
            yield usage.notice("threshold", f"{rule.currency}:{rule.amount}", title, text, now=now, **about)


def _tier(usage: CompanyUsage, price: Price, rule: Notify, now: int) -> Iterator[Notice]:
    meter = price.meter.name
    used = usage.used.get(meter, 0)
    # For each tier but the last: its last unit, and the number of the next tier.
    ends = [(number, tier.up_to) for number, tier in enumerate(price.tiers, start=2) if tier.up_to is not None]
    reached = [number for number, up_to in ends if used > up_to]
    company = usage.company
    if "tier_crossed" in rule.kinds and reached and rule.tier in (None, reached[-1]):
        number = reached[-1]
        cost = f"{digits(price.tiers[number - 1].unit_price)} {price.currency.upper()}"
        title = f"{company} has reached tier {number} of {meter}"
        text = f"{company} has used {used:,} {meter} in this billing period; in tier {number}, a unit costs {cost}."
        about = _about(price, number, used)
        yield usage.notice("tier_crossed", f"{meter}:{price.currency}:{number}", title, text, now=now, **about)
    following = next(((number, up_to) for number, up_to in ends if used <= up_to), None)
    if "tier_near" in rule.kinds and following is not None and rule.tier in (None, following[0]):
        number, up_to = following
        if _is_near(rule, used, up_to):
            title = f"{company} is near tier {number} of {meter}"
            text = f"{company} has used {used:,} {meter} in this billing period; tier {number} begins after {up_to:,}."
            about = {**_about(price, number, used), "limit": up_to}
            yield usage.notice("tier_near", f"{meter}:{price.currency}:{number}", title, text, now=now, **about)


def _is_near(rule: Notify, used: int, up_to: int) -> bool:
    if rule.units is not None:
        return up_to - used <= rule.units
    return used >= (rule.share or Decimal(1)) * up_to


def _about(price: Price, number: int, used: int) -> dict[str, Value]:
    tier = price.tiers[number - 1]
    return {
        "meter": price.meter.name,
        "used": used,
        "tier": number,
        "unit_price": digits(tier.unit_price),
        "currency": price.currency,
    }
