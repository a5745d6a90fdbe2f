"""Wiring: what a process does with Stripe when a command asks for it, and no thread by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from meterkit.runtime.settings import Settings, is_live, key_of

if TYPE_CHECKING:
    from meterkit.ledger.database import Database
    from meterkit.pricing.price import Price
    from meterkit.provisioning.subscription import Subscribed
    from meterkit.reporting.explanation import Explained
    from meterkit.reporting.reconciliation import Reconciled
    from meterkit.stripe_api.transport import StripeClient
    from meterkit.webhooks.account_sync import Follower


class Clerk:
    """
    Does what it is asked to.

    Args:
        settings: Of the kit.
        database: Opens the ledger.
        follower: Makes what asks Stripe for customers and subscriptions.
    """

    def __init__(
        self, settings: Settings, *, database: Callable[[], Database], follower: Callable[[], Follower]
    ) -> None:
        self._settings = settings
        self._database = database
        self._follower = follower

    def reconcile(self, *, start: int, end: int) -> list[Reconciled]:
        """
        Compare with Stripe all usage from one whole hour to another, unix seconds.

        Raises:
            LedgerError: The ledger cannot be read.
            ConfigurationError: There is no key.
        """
        from meterkit.outbox.reports import Reports
        from meterkit.reporting.reconciliation import reconcile

        with self.client() as (client, _):
            return reconcile(Reports(self._database()), client, start=start, end=end)

    def explain(self, company: str, meter: str, *, start: int, end: int) -> list[Explained]:
        """
        From invoice lines to meter events to usage; see `meterkit.reporting.explanation.explain`.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.reporting.explanation import explain

        about: Any = {"company": company, "meter": meter, "start": start, "end": end}
        if self._settings.stripe_key is None:
            return explain(self._database(), None, **about)
        with self.client() as (client, _):
            return explain(self._database(), client, **about)

    def subscribe(self, company: str, prices: Iterable[Price], **options: Any) -> Subscribed:
        """
        Make *company* a customer with a subscription; see `meterkit.provisioning.subscription.subscribe`.

        Raises:
            StripeFailedError: Stripe did not answer, or refuses.
            ConfigurationError: There is no key, or Stripe has not the prices yet.
            LedgerError: The ledger failed.
        """
        from meterkit.accounts.accounts import Accounts
        from meterkit.provisioning.subscription import subscribe

        accounts = Accounts(self._database(), clock=self._settings.clock)
        key = self._settings.metadata_key
        with self.client() as (client, _):
            found = subscribe(client, accounts, prices, company=company, metadata_key=key, **options)
        self._follower().look([("customer", found.customer), ("subscription", found.subscription)])
        return found

    @contextmanager
    def client(self) -> Iterator[tuple[StripeClient, bool]]:
        """
        A client of Stripe's for a command, and whether its key is a live one.

        Raises:
            ConfigurationError: There is no key.
        """
        from meterkit.stripe_api.transport import connect

        key = key_of(self._settings)
        client, http = connect(key, self._settings.stripe_base)
        try:
            yield client, bool(is_live(key))
        finally:
            http.close()
