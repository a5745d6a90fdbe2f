"""Tables of reconciliations, explanations and actions."""

from __future__ import annotations

from typing import Any

from meterkit.cli.tables.usage import add, money, show, table, text, waiting

__all__ = ["show_actions", "show_corrections", "show_explained", "show_reconciled", "waiting"]


def show_reconciled(rows: list[dict[str, Any]]) -> None:
    """Show both sums for each customer and meter, and the hours in which they differ."""
    if not rows:
        show("Nothing was reported for that month.")
        return
    columns = dict.fromkeys(("company", "customer", "meter"), "left")
    grid = table("", **columns, ledger="right", Stripe="right", waiting="right", rejected="right", agree="left")
    for row in rows:
        add(
            grid,
            ", ".join(row["companies"]),
            row["customer"],
            row["meter"],
            _figure(row["ledger"]),
            "?" if row["stripe"] is None else _figure(row["stripe"]),
            _figure(row["waiting"]),
            _figure(row["rejected"]),
            "yes" if row["agree"] else "NO",
        )
    hours = table("Where they differ", customer="left", meter="left", hour="left", ledger="right", Stripe="right")
    for row in rows:
        for hour in row["hours"]:
            add(hours, row["customer"], row["meter"], hour["hour"], _figure(hour["ledger"]), _figure(hour["stripe"]))
    errors = [text(f"{row['customer']}, {row['meter']}: {row['error']}") for row in rows if row["error"]]
    show(grid, *([hours] if hours.row_count else []), *errors)


def show_corrections(corrections: list[dict[str, Any]], due: list[dict[str, Any]]) -> None:
    """Show what was reversed, and the amounts to credit."""
    if not corrections:
        show("Nothing was reversed yet.")
        return
    columns = dict.fromkeys(("at", "company", "meter", "window"), "left")
    grid = table("Reversed", **columns, quantity="right", reason="left", state="left")
    for each in corrections:
        meter = " ".join(filter(None, (each["meter"], each["dimensions"])))
        place = (each["created_at"], each["company"], meter, each["window"])
        add(grid, *place, f"{each['quantity']:,}", each["reason"], each["state"])
    places = dict.fromkeys(("company", "customer", "meter"), "left")
    to_credit = table(
        "To credit in Stripe, unless you have", **places, quantity="right", invoice="left", amount="right"
    )
    for each in due:
        amount = "?" if each["amount"] is None else f"{each['amount']:,f} {each['currency']}"
        cells = (each[name] for name in ("company", "customer", "meter"))
        add(to_credit, *cells, f"{each['quantity']:,}", each["number"], amount)
    show(grid, *([to_credit] if due else []))


def show_explained(periods: list[dict[str, Any]]) -> None:
    """Show each invoice with its lines, the meter events behind them, and the usage behind those."""
    for period in periods:
        invoice = period["invoice"]
        title = "Not on an invoice yet"
        if invoice is not None:
            title = (
                f"Invoice {invoice['number'] or invoice['id']}, {invoice['status']}, "
                f"{invoice['period_start']} to {invoice['period_end']}"
            )
        lines = [text(title)]
        currency = "" if invoice is None else invoice["currency"]
        lines += [text(f"  {description}: {money(amount, currency)}") for description, _, amount in period["lines"]]
        lines += [text(f"  Stripe did not return its lines: {period['error']}")] if period["error"] else []
        grid = table("", hour="left", user="left", used="right", event="left", sent="right", state="left")
        for event in period["events"]:
            report = event["report"]
            for number, usage in enumerate(event["usage"] or [{"user": None, "quantity": 0}]):
                first = (report["identifier"], report["quantity"], report["state"]) if number == 0 else ("", "", "")
                add(grid, report["window"], usage["user"] or "", usage["quantity"], *first)
            for part in event["by"]:
                told = " ".join(f"{name}={value or 'unknown'}" for name, value in part["values"].items())
                add(grid, "", f"  {told}", part["quantity"], "", "", "")
        for usage in period["unreported"]:
            unreported = usage["quantity"] - usage["reported"]
            add(grid, usage["window"], usage["user"] or "", usage["quantity"], "not reported yet", unreported, "")
        notes = [
            text(f"  {each['quantity']:,} reversed in {each['window']}: {each['reason']}")
            for each in period["corrections"]
        ]
        show(*lines, *([grid] if grid.row_count else []), *notes)


def _figure(value: Any) -> str:
    return f"{value:,f}"


def show_actions(found: list[dict[str, Any]]) -> None:
    """Show what operators did, newest first."""
    if not found:
        show("No actions yet.")
        return
    grid = table("", **dict.fromkeys(("at", "by", "action", "subject", "detail"), "left"))
    for each in found:
        add(grid, each["at"], each["by"] or "(not said)", each["action"], each["subject"], each["detail"])
    show(grid)
