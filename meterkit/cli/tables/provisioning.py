"""The provisioning plan, and moves of subscriptions, as tables."""

from __future__ import annotations

from meterkit.cli.output import say
from meterkit.cli.tables.usage import add, show, table, text
from meterkit.provisioning.move import Move
from meterkit.provisioning.steps import ProvisioningPlan, Step


def show_plan(plan: ProvisioningPlan, *, dry_run: bool) -> None:
    """Show what exists, what will be done, and what you need to decide."""
    mode = "LIVE MODE" if plan.livemode else "test mode"
    grid = table(f"Stripe, {mode}", **dict.fromkeys(("step", "object", "name", "why"), "left"))
    for step in plan.steps:
        add(grid, step.kind, step.what, step.name, step.why)
    choices = [f"{step.what} {step.name}: {choice}" for step in plan.steps for choice in step.choices]
    remarks = []
    if choices:
        remarks.append(text("\n".join(["Please decide:", *(f"* {each}" for each in choices)])))
    if plan.drift:
        remarks.append(text("Objects that have drifted, and those that depend on them, are left unchanged."))
    if not plan.changes:
        remarks.append(text("Nothing to do." if not plan.drift else "Nothing else to do."))
    elif dry_run:
        remarks.append(text(f"Dry run; steps that would be executed: {len(plan.changes)}."))
    show(grid, *remarks)


def show_done(step: Step) -> None:
    """Report that a step is done."""
    say(f"done: {step.kind} {step.what} {step.name}")


def show_moves(moves: list[Move]) -> None:
    """Show each subscription with its old and new prices, and what the last full month costs at both."""
    if not moves:
        show("Nothing to move.")
        return
    left = dict.fromkeys(("company", "subscription", "leaves", "takes"), "left")
    grid = table("Last full month, at the old and the new prices", **left, old="right", new="right", why="left")
    for each in moves:
        add(
            grid,
            ", ".join(each.companies) or each.customer,
            each.subscription,
            "\n".join(each.leaves),
            "\n".join(each.takes),
            "" if each.old is None else f"{each.old:,f} {each.currency}",
            "" if each.new is None else f"{each.new:,f} {each.currency}",
            each.why,
        )
    show(grid)


def show_moved(move: Move) -> None:
    """Report that a subscription was moved."""
    say(f"moved: {move.subscription} of {', '.join(move.companies) or move.customer}")


def show_left(moves: list[Move]) -> None:
    """Report which subscriptions were left where they are, and why."""
    for each in moves:
        if each.state == "left":
            say(f"left: {each.subscription} of {', '.join(each.companies) or each.customer}: {each.why}")
