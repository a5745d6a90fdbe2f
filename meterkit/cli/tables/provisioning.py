"""The plan of a provisioning as a table, for people."""

from __future__ import annotations

from rich.text import Text

from meterkit.cli.tables.usage import add, show, table
from meterkit.provisioning.plan import Plan, Step


def show_plan(plan: Plan, *, dry_run: bool) -> None:
    """What is there, what will be done, and what has to be decided."""
    mode = "LIVE MODE" if plan.livemode else "test mode"
    made = table(f"Stripe, {mode}", **dict.fromkeys(("step", "object", "name", "why"), "left"))
    for step in plan.steps:
        add(made, step.kind, step.what, step.name, step.why)
    choices = [f"{step.what} {step.name}: {choice}" for step in plan.steps for choice in step.choices]
    said = []
    if choices:
        said.append(Text("\n".join(["To decide:", *(f"* {each}" for each in choices)])))
    if plan.drift:
        said.append(Text("What has drifted is not touched, nor what hangs on it."))
    if not plan.changes:
        said.append(Text("There is nothing to do." if not plan.drift else "There is nothing else to do."))
    elif dry_run:
        said.append(Text(f"{len(plan.changes)} steps would be taken; this was a dry run."))
    show(made, *said)


def show_done(step: Step) -> None:
    """One step is taken."""
    print(f"done: {step.kind} {step.what} {step.name}", flush=True)
