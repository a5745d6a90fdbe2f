"""A company becomes a customer with a subscription, once."""

from __future__ import annotations

import itertools

import pytest
from test_provisioner import GRADUATED

from meterkit.accounts.accounts import Accounts
from meterkit.ledger.database import Database
from meterkit.provisioning.offer import Offer
from meterkit.provisioning.subscription import subscribe
from meterkit.provisioning.writer import lookup_key_of


@pytest.fixture
def begin(client, provision, tmp_path):
    """A function that subscribes acme from an empty ledger, as after a run that broke off before it kept anything."""
    provision(GRADUATED)
    numbers = itertools.count()

    def begin(**about):
        accounts = Accounts(Database(f"sqlite:///{tmp_path}/{next(numbers)}.sqlite"), clock=lambda: 1_772_366_400)
        return subscribe(
            client,
            accounts,
            Offer((lookup_key_of(GRADUATED),)),
            company="acme",
            metadata_key="company",
            about=about,
            days_until_due=30,
        )

    return begin


def test_a_run_that_was_broken_off_is_continued(begin, api):
    """With another name even: there is one customer, which keeps its name, and one subscription."""
    first, second = begin(name="Acme"), begin(name="Acme & Sons")

    assert (True, False) == (first.is_new, second.is_new)
    assert [(first.customer, "Acme", "acme")] == [
        (each.id, each.name, each.metadata["company"]) for each in api.customers.list().data
    ]
    assert [first.subscription] == [each.id for each in api.subscriptions.list().data]


def test_a_customer_that_was_deleted_is_not_believed(begin, api):
    """Stripe repeats for a day that it made it."""
    gone = begin().customer
    api.customers.delete(gone)
    customer = begin().customer

    assert customer != gone
    assert [customer] == [each.id for each in api.customers.list().data]


def test_a_subscription_that_was_canceled_is_not_believed(begin, api):
    """Nor does it keep the company from subscribing again."""
    api.subscriptions.cancel(begin().subscription)
    again = begin()

    assert again.is_new
    assert [again.subscription] == [each.id for each in api.subscriptions.list().data]
