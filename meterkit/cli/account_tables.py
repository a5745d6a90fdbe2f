"""Faces: tables of customers and of webhook events, for people."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from meterkit.cli.tables import add, show, table, waiting

__all__ = ["show_customers", "show_sync", "show_webhook_events", "waiting"]


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
            ", ".join(f"{amount:,} {currency} (minor units)" for currency, amount in each["overdue"].items()),
            ", ".join(f"{quantity:,} {meter}" for meter, quantity in each["waiting"].items()),
            each["oldest"] or "",
        )
    show(made)


def show_webhook_events(found: list[dict[str, Any]]) -> None:
    """What came, newest first."""
    if not found:
        show("No webhook event has come.")
        return
    made = table("", received="left", event="left", type="left", about="left", state="left", reason="left")
    for each in found:
        add(made, each["received_at"], each["id"], each["type"], each["object_id"], each["state"], each["reason"])
    show(made)
