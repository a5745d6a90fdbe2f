"""Notices about tiers, thresholds, quotas and single calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from meterkit.core.periods import Period
from meterkit.governance.policy import Quota
from meterkit.notices.notice import Kind, Notice, Value
from meterkit.notices.rules import Notify
from meterkit.pricing.cost import cost_of
from meterkit.pricing.price import Price

MOST_CALLS = 1000
"""Calls that are told in one go; the others follow."""


@dataclass(frozen=True, slots=True)
class CompanyUsage:
    """
    What a company has used.

    Attributes:
        company: Who.
        period: In which billing period.
        used: By meter.
        prices: By which it is billed.
    """

    company: str
    period: Period
    used: Mapping[str, int]
    prices: Iterable[Price]

    def notice(self, kind: Kind, what: str, title: str, text: str, *, now: int, **fields: Value) -> Notice:
        """One that is written once in this period for *what*."""
        return Notice(
            key=f"{kind}:{self.company}:{self.period.start}:{what}",
            kind=kind,
            company=self.company,
            title=title,
            text=text,
            created_at=now,
            fields={**fields, "period_start": self.period.start, "period_end": self.period.end},
        )


def crossed(usage: CompanyUsage, rule: Notify, *, now: int) -> Iterator[Notice]:
    """What *rule* has to tell of tiers and thresholds."""
    for kind in rule.kinds:
        if kind == "threshold":
            yield from _threshold(usage, rule, now)
        elif kind in ("tier_near", "tier_crossed"):
            for price in usage.prices:
                if price.scheme in ("graduated", "volume") and rule.meter in (None, price.meter):
                    yield from _tier(usage, price, rule, now)


def over_quota(usage: CompanyUsage, quota: Quota, limit: int, rule: Notify, *, now: int) -> list[Notice]:
    """What *rule* has to tell of a quota."""
    company, meter = usage.company, quota.meter.name
    used = usage.used[meter]
    about: dict[str, Value] = {"meter": meter, "used": used, "limit": limit}
    what = f"{meter}:{quota.per}:{limit}"
    left = f"{company} has used {used:,} of the {limit:,} {meter} that it may use in this {quota.per}."
    if used >= limit:
        title = f"{company} has used up its quota of {meter}"
        return [usage.notice("quota_reached", what, title, left, now=now, **about)]
    assert rule.share is not None
    if used >= rule.share * limit:
        title = f"{company} has nearly used up its quota of {meter}"
        return [usage.notice("quota_near", what, title, left, now=now, **about)]
    return []


def calls(usage: CompanyUsage, rule: Notify, known: Callable[[list[str]], set[str]], *, now: int) -> Iterator[Notice]:
    """Each n-th call that has not been told of, in their order; the last of them tells how many there were."""
    assert rule.meter is not None
    meter = rule.meter.name
    count = usage.used.get(meter, 0) // rule.every

    def make(number: int) -> Notice:
        used = number * rule.every
        title = f"{usage.company} has used {used:,} {meter}"
        what = f"{meter}:{rule.every}:{number}"
        text = f"{title} in this billing period."
        return usage.notice("calls", what, title, text, now=now, meter=meter, used=used, count=number)

    # They are written in their order, so that the first which is not known is found by halving.
    told, untold = 0, count + 1
    while untold - told > 1:
        middle = (told + untold) // 2
        told, untold = (middle, untold) if known([make(middle).key]) else (told, middle)
    for number in range(told + 1, min(count, told + MOST_CALLS) + 1):
        yield make(number)


def _threshold(usage: CompanyUsage, rule: Notify, now: int) -> Iterator[Notice]:
    who = usage.company
    if rule.units is not None:
        assert rule.meter is not None
        meter = rule.meter.name
        used = usage.used.get(meter, 0)
        if used >= rule.units:
            title = f"{who} has used {rule.units:,} {meter}"
            text = f"{who} has used {used:,} {meter} in this billing period."
            what = f"{meter}:{rule.units}"
            yield usage.notice("threshold", what, title, text, now=now, meter=meter, used=used, limit=rule.units)
    elif rule.amount is not None:
        cost = cost_of(usage.prices, usage.used, rule.currency)
        if cost >= rule.amount:
            unit = rule.currency.upper()
            title = f"{who} has spent {rule.amount} {unit}"
            text = f"The usage of {who} in this billing period costs {cost} {unit} so far."
            about: dict[str, Value] = {"amount": str(cost), "limit": str(rule.amount), "currency": rule.currency}
            yield usage.notice("threshold", f"{rule.currency}:{rule.amount}", title, text, now=now, **about)


def _tier(usage: CompanyUsage, price: Price, rule: Notify, now: int) -> Iterator[Notice]:
    meter = price.meter.name
    used = usage.used.get(meter, 0)
    # Of each tier but the last, the number of the next and the last unit before it.
    ends = [(number, tier.up_to) for number, tier in enumerate(price.tiers, start=2) if tier.up_to is not None]
    reached = [number for number, up_to in ends if used > up_to]
    who = usage.company
    if "tier_crossed" in rule.kinds and reached and rule.tier in (None, reached[-1]):
        number = reached[-1]
        cost = f"{price.tiers[number - 1].unit_price} {price.currency.upper()}"
        title = f"{who} has reached tier {number} of {meter}"
        text = f"{who} has used {used:,} {meter} in this billing period; in tier {number}, a unit costs {cost}."
        about = _about(price, number, used)
        yield usage.notice("tier_crossed", f"{meter}:{price.currency}:{number}", title, text, now=now, **about)
    following = next(((number, up_to) for number, up_to in ends if used <= up_to), None)
    if "tier_near" in rule.kinds and following is not None and rule.tier in (None, following[0]):
        number, up_to = following
        if _is_near(rule, used, up_to):
            title = f"{who} is near tier {number} of {meter}"
            text = f"{who} has used {used:,} {meter} in this billing period; tier {number} begins after {up_to:,}."
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
        "unit_price": str(tier.unit_price),
        "currency": price.currency,
    }
