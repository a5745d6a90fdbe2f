"""The provisioning plan as a table."""

from __future__ import annotations

from meterkit.cli.output import say
from meterkit.cli.tables.usage import add, show, table, text
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
