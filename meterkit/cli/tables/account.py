"""Tables of customers, previews and webhook events."""

from __future__ import annotations

from typing import Any

from meterkit.cli.tables.usage import UNLINKED, add, money, show, table, text, waiting

__all__ = ["show_customers", "show_previews", "show_sync", "show_unlinked", "show_webhook_events", "waiting"]


def show_sync(found: dict[str, Any]) -> None:
    """Show how many objects were read from Stripe, and what went wrong."""
    grid = table("Read from Stripe", customers="right", subscriptions="right", invoices="right")
    add(grid, *(found[name] for name in ("customers", "subscriptions", "invoices")))
    problems = [f"Two customers have the company {company!r} in their metadata." for company in found["ambiguous"]]
    show(grid, *(text(each) for each in [*problems, found["error"]] if each))


def show_customers(found: list[dict[str, Any]], *, unlinked: int) -> None:
    """Show each company's Stripe customer, subscriptions, standing and unreported usage."""
    hint = f"Stripe customers that pay for no company: {unlinked}; meterkit customers --unlinked shows them."
    hints = [text(hint)] if unlinked else []
    if not found:
        show("No usage and no linked companies yet.", *hints)
        return
    columns = dict.fromkeys(("company", "customer", "subscription", "standing", "overdue"), "left")
    with_repeated = {"billed more than once": "left"} if any(each["repeated"] for each in found) else {}
    with_plan = {"plan": "left"} if any(each["plan"] for each in found) else {}
    grid = table("", **columns, waiting="right", since="left", unbilled="right", **with_repeated, **with_plan)
    for each in found:
        add(
            grid,
            each["company"] + (f" ({each['name']})" if each["name"] else ""),
            each["customer"] or UNLINKED,
            ", ".join(f"{it['id']} {it['status']} until {it['period_end']}" for it in each["subscriptions"]),
            each["standing"],
            ", ".join(money(amount, currency) for currency, amount in each["overdue"].items()),
            ", ".join(f"{quantity:,} {meter}" for meter, quantity in each["waiting"].items()),
            each["oldest"] or "",
            ", ".join(f"{quantity:,} {meter}" for meter, quantity in each["unbilled"].items()),
            *([", ".join(each["repeated"])] if with_repeated else []),
            *([each["plan"] or ""] if with_plan else []),
        )
    show(grid, *hints)


def show_unlinked(found: list[dict[str, Any]]) -> None:
    """Show the Stripe customers that pay for no company."""
    if not found:
        show("Every known Stripe customer pays for a company. If some are missing, run meterkit sync.")
        return
    grid = table("", **dict.fromkeys(("customer", "name", "subscription"), "left"))
    for each in found:
        subscriptions = (f"{it['id']} {it['status']} until {it['period_end']}" for it in each["subscriptions"])
        add(grid, each["customer"], each["name"], ", ".join(subscriptions))
    show(grid, text("meterkit link COMPANY CUSTOMER links one, and --csv FILE many."))


def show_previews(found: list[dict[str, Any]]) -> None:
    """Show each invoice line by line, and its assumptions."""
    if not found:
        show("No known subscriptions; run meterkit sync.")
        return
    for each in found:
        grid = table(
            f"{each['company']}: {each['subscription']} ({each['status']}), {each['period_start']} to "
            f"{each['period_end']}",
            **dict.fromkeys(("meter", "tier"), "left"),
            quantity="right",
            price="right",
            amount="right",
        )
        for line in each["lines"]:
            price = f"{line['unit_price'].normalize():,f}"
            meter = line["event_name"] or line["price"]
            what = f"{meter}, {line['note']}" if line["note"] else meter
            add(grid, what, line["tier"] or "", line["quantity"], price, line["amount"])
        if each["discount"]:
            add(grid, "discount", "", "", "", f"{-each['discount']:,f}")
        grid.add_section()
        total = "not known" if each["total"] is None else f"{each['total']:,f} {each['currency']}"
        add(grid, "total", "", "", "", total)
        known = ["Assumptions:", *(f"* {assumption}" for assumption in each["assumed"])]
        if each["unknown"]:
            known += ["Why the total is not known:", *(f"* {reason}" for reason in each["unknown"])]
        show(grid, text("\n".join(known)))


def show_webhook_events(found: list[dict[str, Any]]) -> None:
    """Show webhook events, newest first."""
    if not found:
        show("No webhook events yet.")
        return
    grid = table("", received="left", event="left", type="left", about="left", state="left", reason="left")
    for each in found:
        add(grid, each["received_at"], each["id"], each["type"], each["object_id"], each["state"], each["reason"])
    show(grid)
