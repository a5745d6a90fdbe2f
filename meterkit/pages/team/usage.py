"""Usage over time: by meter, by the companies that use most, or by plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from meterkit.core.periods import DAY, Period, month_of, parse_month
from meterkit.errors import UsageError
from meterkit.ledger import schema
from meterkit.ledger.dimensions.reading import OfValues, grouped, highest, month_by_values, of_all
from meterkit.ledger.schema.quantities import loaded
from meterkit.pages.team.kept import Answer, Kept, KeptByKey
from meterkit.pages.team.operations import notes_of
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.tables import Cell, Day, Field, Link, Table, TeamPage

MONTHS = ("1", "3", "12")
"""Numbers of months to choose from."""

LONGEST_BY_DAY = 3
"""Most months that are shown by day."""

MOST_VALUES = 1000
"""Combinations of values that are shown: those that are used most."""

SHOWN = 10
"""Companies that have a column of their own."""


class PlanQuery(NamedTuple):
    """
    Which usage of plans is added up.

    Attributes:
        plan: Name of the plan whose usage is added up by meter; empty for all plans, of one meter.
        meter: Name of that meter; empty for all meters of one plan.
        months: Begins of calendar months, Unix seconds.
    """

    plan: str
    meter: str
    months: tuple[int, ...]


def usage_page(
    sources: Sources,
    names: Kept[Mapping[str, str]],
    of_plans: KeptByKey[PlanQuery, dict[str, dict[int, int]]],
    query: Mapping[str, str],
) -> TeamPage:
    """
    Return the page of usage over time.

    Args:
        sources: What it reads.
        names: Plans of all companies that are on one.
        of_plans: Usage of plans by month, as `usage_of_plans` adds it up.
        query: ``months`` (1, 3 or 12) until ``month`` (2026-03), ``meter``, ``company``, ``plan``, and ``by``: meter,
            company or plan.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    until = _month(query.get("month", ""), sources.now)
    months = int(query["months"]) if query.get("months") in MONTHS else 1
    by = query.get("by", "")
    company, plan = query.get("company", "").strip(), query.get("plan", "")
    plans = sources.kit_plans
    if plan not in plans:
        plan = ""
    by = by if by in ("company", "plan") else "meter"
    notes: list[str] = []
    if company and by != "meter":
        by = "meter"
        notes.append("Of one company, usage is shown by meter.")
    with_meter = by != "meter" or query.get("meter") in sources.meters
    meter = query.get("meter", "") if query.get("meter") in sources.meters else next(iter(sources.meters))
    if (plan or by == "plan") and months > LONGEST_BY_DAY:
        months = LONGEST_BY_DAY
        notes.append(f"Usage by plan is shown for at most {LONGEST_BY_DAY} months.")
    periods = _months(until, months)
    span = Period(periods[0].start, periods[-1].end)
    is_by_month = months > LONGEST_BY_DAY or by == "plan" or bool(plan)
    if by == "plan" or (plan and by == "meter"):
        one = PlanQuery("", meter, ()) if by == "plan" else PlanQuery(plan, "", ())
        answer = of_plans.get(one._replace(months=tuple(each.start for each in periods)))
        series = answer.value or {}
        notes += ["Each company counts for the plan that it is on now.", *notes_of(answer)]
    elif by == "company":
        named: Answer[Mapping[str, str]] = names.get() if plan else Answer({}, 0, is_old=False)
        companies = [] if named.value is None else _most(sources, meter, until, plan, named.value)
        series = _by_company(sources, meter, span, companies)
        notes += notes_of(named)
        notes.append(f"The {SHOWN} companies that have used most {meter} in {Day(until.start, is_month=True)}.")
    else:
        series = _by_meter(sources, span, company)
    if with_meter and by == "meter":
        series = {name: quantities for name, quantities in series.items() if name == meter}
    known = {"month": Day(until.start, is_month=True).iso, "months": str(months)}
    return TeamPage(
        title="Usage",
        tables=[
            _table(series, periods if is_by_month else _days(span, sources.now), span, is_by_month=is_by_month, by=by),
            *([_values(sources, meter, periods, company)] if with_meter and sources.meters[meter].by else []),
        ],
        fields=[
            Field("by", "Show by", by, _choices(("meter", "company", "plan") if plans else ("meter", "company"))),
            Field("meter", "Meter", meter if with_meter else "", [("", "all"), *_choices(sources.meters)]),
            *([Field("plan", "Plan", plan, [("", "all"), *_choices(plans)])] if plans else []),
            Field("company", "Company id", company),
            Field("months", "Months", known["months"], _choices(MONTHS)),
            Field("month", "Until the month", known["month"]),
        ],
        notes=[*notes, "All days are in UTC. The last few seconds are not counted yet."],
    )


def daily(sources: Sources, company: str, days: int) -> Table:
    """Return the usage of *company* in the last *days*, by meter."""
    end = sources.now - sources.now % DAY + DAY
    span = Period(end - days * DAY, end)
    return _table(_by_meter(sources, span, company), _days(span, sources.now), span, is_by_month=False, by="meter")


def by_meter(sources: Sources, days: int) -> Table:
    """Return the usage of the last *days*, by meter."""
    return daily(sources, "", days)


def _table(
    series: Mapping[str, Mapping[int, int]], steps: Iterable[Period], span: Period, *, is_by_month: bool, by: str
) -> Table:
    names = list(series)
    rows: list[list[Cell]] = []
    for step in steps:
        sums = (
            [sum(of[day] for day in of if step.start <= day < step.end) for of in series.values()]
            if is_by_month
            else [of.get(step.start, 0) for of in series.values()]
        )
        rows.append([Day(step.start, is_month=is_by_month), *sums])
    if not any(any(row[1:]) for row in rows):
        rows = []
    return Table(
        id="usage",
        title=f"By {by}, {Day(span.start)} to {Day(span.end - DAY)}",
        columns=["month" if is_by_month else "day", *names],
        rows=rows,
        empty="There is no such usage.",
        has_chart=True,
    )


def _values(sources: Sources, meter: str, months: Sequence[Period], company: str) -> Table:
    """Return the usage of *meter* in *months* by the values of its dimensions; of one company, or of all and nobody."""
    names = sources.meters[meter].dimensions
    with sources.database().snapshot() as connection:
        if company:
            found = [
                each
                for month in months
                for each in month_by_values(connection, month.start, meter=meter, company=company)
            ]
        else:
            sums = of_all(connection, meter, months)
            found = [OfValues(meter, "", dimensions, quantity) for dimensions, quantity in sums.items()]
    shown, (number, rest) = highest(((values, quantity) for *_, values, quantity in grouped(found, names)), MOST_VALUES)
    rows: list[list[Cell]] = [[*(value or "unknown" for value in values), quantity] for values, quantity in shown]
    return Table(
        id="values",
        title=f"{meter} by {' and '.join(names)}, {Day(months[0].start)} to {Day(months[-1].end - DAY)}",
        columns=[*names, "used"],
        rows=rows,
        note=f"{number:,} more combinations have used {rest:,}." if number else "",
        empty="There is no such usage.",
    )


def _by_meter(sources: Sources, span: Period, company: str) -> dict[str, dict[int, int]]:
    """Return the quantities by meter and day; of one company, or of all and of nobody."""
    table = schema.totals if company else schema.meter_totals
    query = sa.select(table.c.meter, table.c.day, table.c.quantity)
    with sources.database().snapshot() as connection:
        meters = [*sources.meters]
        meters += [each for each in connection.scalars(sa.select(schema.counted.c.meter)) if each not in meters]
        query = query.where(table.c.meter.in_(meters), table.c.day >= span.start, table.c.day < span.end)
        if company:
            query = query.where(schema.totals.c.company == company)
        found: dict[str, dict[int, int]] = {meter: {} for meter in meters}
        for meter, day, quantity in connection.execute(query):
            found[meter][day] = quantity
    return {meter: of for meter, of in found.items() if of or meter in sources.meters}


def _most(sources: Sources, meter: str, month: Period, plan: str, names: Mapping[str, str]) -> list[str]:
    """Return the companies that have used most of *meter* in a *month*, of those on *plan* if that is not empty."""
    table = schema.month_totals
    query = sa.select(table.c.company).where(table.c.month == month.start, table.c.meter == meter)
    query = query.order_by(table.c.quantity.desc(), table.c.company)
    with sources.database().snapshot() as connection:
        if not plan:
            return list(connection.scalars(query.limit(SHOWN)))
        chosen = (each for each in connection.scalars(query) if names.get(each, sources.default_plan) == plan)
        return list(islice(chosen, SHOWN))


def _by_company(sources: Sources, meter: str, span: Period, companies: list[str]) -> dict[str, dict[int, int]]:
    """Return the quantities by company and day, in the order of *companies*."""
    totals = schema.totals
    query = sa.select(totals.c.company, totals.c.day, totals.c.quantity)
    query = query.where(totals.c.company.in_(companies), totals.c.meter == meter)
    query = query.where(totals.c.day >= span.start, totals.c.day < span.end)
    found: dict[str, dict[int, int]] = {company: {} for company in companies}
    with sources.database().snapshot() as connection:
        for company, day, quantity in connection.execute(query):
            found[company][day] = quantity
    return found


def usage_of_plans(sources: Sources, wanted: PlanQuery) -> dict[str, dict[int, int]]:
    """
    Add up usage by plan, or that of a plan by meter, and by month. Reads a row for each company.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    names, default = sources.plan_names(), sources.default_plan
    meters = [wanted.meter] if wanted.meter else [*sources.meters]
    found: dict[str, dict[int, int]] = {meter: {} for meter in meters} if wanted.plan else {}
    table = schema.month_totals
    # The type of quantities would take twice as long.
    columns = table.c.month, table.c.meter, table.c.company, sa.type_coerce(table.c.quantity, sa.BigInteger)
    query = sa.select(*columns).where(table.c.month.in_(wanted.months), table.c.meter.in_(meters))
    with sources.database().snapshot() as connection:
        for month, meter, company, quantity in connection.execute(query):
            plan = names.get(company, default)
            if not wanted.plan or plan == wanted.plan:
                sums = found.setdefault(meter if wanted.plan else plan or "(no plan)", {})
                sums[month] = sums.get(month, 0) + (loaded(quantity) or 0)
    return found if wanted.plan else dict(sorted(found.items()))


def _month(text: str, now: int) -> Period:
    try:
        found = parse_month(text or None, now)
    except (UsageError, OverflowError):
        return month_of(now)
    return found if 0 <= found.start <= now else month_of(now)


def _months(until: Period, number: int) -> list[Period]:
    months = [until]
    while len(months) < number:
        months.insert(0, month_of(months[0].start - 1))
    return months


def _days(span: Period, now: int) -> list[Period]:
    end = min(span.end, now - now % DAY + DAY)
    return [Period(day, day + DAY) for day in range(span.start, end, DAY)]


def _choices(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(value, value) for value in values]


def link_to_usage(company: str) -> Link:
    """Return a link to the usage of *company* over time."""
    return Link("usage over time", "usage", {"company": company, "months": "12"})
