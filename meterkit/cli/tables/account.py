"""Tables of customers and of webhook events, for people."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from meterkit.cli.tables.usage import add, money, show, table, waiting

__all__ = ["show_customers", "show_previews", "show_sync", "show_webhook_events", "waiting"]


def show_sync(found: dict[str, Any]) -> None:
    """How many objects of Stripe's are up to date now."""
    made = table("Read from Stripe", customers="right", subscriptions="right", invoices="right")
    add(made, *(found[name] for name in ("customers", "subscriptions", "invoices")))
    concerns = [f"The metadata of two customers name the company {company!r}." for company in found["ambiguous"]]
    show(made, *(Text(each) for each in [*concerns, found["error"]] if each))


def show_customers(found: list[dict[str, Any]]) -> None:
    """Each company: who pays, its subscriptions, how it stands, what waits."""
    if not found:
        show("No company has used anything, and none is linked.")
        return
    columns = dict.fromkeys(("company", "customer", "subscription", "standing", "overdue"), "left")
    made = table("", **columns, waiting="right", since="left")
    for each in found:
        add(
            made,
            each["company"] + (f" ({each['name']})" if each["name"] else ""),
            each["customer"] or "waits for kit.link()",
            ", ".join(f"{held['id']} {held['status']} until {held['period_end']}" for held in each["subscriptions"]),
            each["standing"],
            ", ".join(money(amount, currency) for currency, amount in each["overdue"].items()),
            ", ".join(f"{quantity:,} {meter}" for meter, quantity in each["waiting"].items()),
            each["oldest"] or "",
        )
    show(made)


def show_previews(found: list[dict[str, Any]]) -> None:
    """Each invoice line by line, and what it leaves out."""
    if not found:
        show("No subscription is known; see meterkit sync.")
        return
    for each in found:
        made = table(
            f"{each['company']}: {each['subscription']} ({each['status']}), {each['period_start']} to "
            f"{each['period_end']}",
            **dict.fromkeys(("meter", "tier"), "left"),
            quantity="right",
            price="right",
            amount="right",
        )
        for line in each["lines"]:
            price = f"{line['unit_price'].normalize():,f}"
            add(made, line["event_name"] or line["price"], line["tier"] or "", line["quantity"], price, line["amount"])
        made.add_section()
        add(made, "total", "", "", "", f"{each['total']:,f} {each['currency']}")
        show(made, Text("\n".join(["It assumes:", *(f"* {assumed}" for assumed in each["assumed"])])))


def show_webhook_events(found: list[dict[str, Any]]) -> None:
    """What came, newest first."""
    if not found:
        show("No webhook event has come.")
        return
    made = table("", received="left", event="left", type="left", about="left", state="left", reason="left")
    for each in found:
        add(made, each["received_at"], each["id"], each["type"], each["object_id"], each["state"], each["reason"])
    show(made)
