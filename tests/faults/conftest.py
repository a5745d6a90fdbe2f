"""A Stripe account, and apps that are ended with the test."""

from __future__ import annotations

import pytest
from faulty_shop import HOUR, Account, App

from meterkit.sandbox import Sandbox


@pytest.fixture
def account(clock):
    """A Stripe account in the test's process; it goes by the test's clock."""
    with Sandbox(now=clock) as sandbox:
        yield Account(sandbox)


@pytest.fixture
def data_dir(tmp_path):
    """Where the kit keeps its journal and its ledger."""
    return tmp_path / "data"


@pytest.fixture
def start(account, data_dir, clock, tmp_path):
    """A function that starts the app: with the environment of the account, and the variables that it is given."""
    apps = []

    def start(*, wrapper=(), **variables):
        environment = {**account.environment, **{name: str(value) for name, value in variables.items()}}
        log = tmp_path / f"app-{len(apps)}.log"
        apps.append(App(data_dir, clock, log=log, environment=environment, wrapper=wrapper))
        return apps[-1]

    yield start
    for app in apps:
        app.kill()


@pytest.fixture
def settle(account, clock):
    """A function that lets an hour pass and reports: Stripe has to have what was counted, and the books balance."""

    def settle(app, *others, lost=0):
        clock.advance(HOUR)
        app.ask("clock", now=clock.now)
        summary = app.ask("report")
        counted = sum(each.counted for each in (app, *others)) - lost
        assert "" == summary["error"]
        assert counted == account.billed
        assert {"counted": counted, "sent": counted} == app.books()

    return settle
