"""The figures that the demo must produce."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from meterkit.demo import COMPANIES, Month, traffic

BILLED = {
    "acme": ([(100, "500.00"), (900, "2700.00"), (500, "1000.00")], "4200.00"),
    "globex": ([(80, "400.00")], "400.00"),
}
"""By company: quantity and amount of each line, and the total. 1-100 at $5, 101-1,000 at $3, the rest at $2."""

BOOKS = {"counted": 1_630, "sent": 1_580, "unattributed": 50, "balanced": True}
"""The books; every entry that is not listed is 0."""


def differences(month: Month) -> list[str]:
    """Return a sentence for each figure that is wrong."""
    return [
        f"{name}: expected {_shown(expected)}, got {_shown(actual)}"
        for name, expected, actual in _figures(month)
        if expected != actual
    ]


def as_data(month: Month) -> dict[str, Any]:
    """Return *month* as data for ``json.dumps``."""
    wrong = differences(month)
    return {
        "framework": month.framework,
        "requests": [
            {"company": company, "outcome": outcome, "number": number}
            for (company, outcome), number in month.requests.items()
        ],
        "killed": None if month.kill is None else asdict(month.kill),
        "reported": month.reported,
        "invoices": {
            company: {
                "number": invoice.number,
                "status": invoice.status,
                "lines": [{**asdict(line), "amount": str(line.amount)} for line in invoice.lines],
                "total": str(invoice.total),
            }
            for company, invoice in month.invoices.items()
        },
        "books": {month.meter: month.books},
        "differences": wrong,
        "ok": not wrong,
    }


def _figures(month: Month) -> Iterator[tuple[str, Any, Any]]:
    planned = {(company, str(outcome)): number for (company, outcome), number in traffic.PLAN.items()}
    for company, outcome in {**planned, **month.requests}:
        name = f"requests ({company or 'no company'}, {outcome})"
        yield name, planned.get((company, outcome), 0), month.requests.get((company, outcome), 0)
    yield "workers killed", 1, 0 if month.kill is None else 1
    for column, figure in month.books.items():
        yield f"{column} in the books", BOOKS.get(column, 0), figure
    yield "the report's error", "", month.reported["error"]
    for company in COMPANIES:
        lines, total = BILLED[company]
        invoice = month.invoices[company]
        found = [(line.quantity, str(line.amount)) for line in invoice.lines]
        yield f"the lines of {company}'s invoice", lines, found
        yield f"the total of {company}'s invoice", Decimal(total), invoice.total


def _shown(figure: Any) -> str:
    return f"{figure:,}" if isinstance(figure, int | Decimal) and not isinstance(figure, bool) else repr(figure)
