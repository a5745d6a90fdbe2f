"""What a process opens when it is first used: the ledger's database and what is kept in it, and JetStream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.errors import ConfigurationError
from meterkit.runtime.settings import Settings, is_live

if TYPE_CHECKING:  # SQLAlchemy is imported by a thread, or by a call that needs it
    from meterkit.accounts.accounts import Accounts
    from meterkit.accounts.inbox import Inbox
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.jetstream.collector import Collector
    from meterkit.jetstream.message import Sender
    from meterkit.jetstream.publisher import JetStreamPublisher
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger
    from meterkit.metering.meter import Meter
    from meterkit.top_ups.agreements import TopUps
    from meterkit.wallets.balances import Balances
    from meterkit.wallets.grants import Grants


class Resources:
    """
    What a process opens when it is first used.

    Args:
        settings: Settings of the kit.
        problems: Where problems are reported.
        meters: Meters of the kit, by name.

    Attributes:
        settings: Settings of the kit.
    """

    def __init__(self, settings: Settings, problems: Problems, *, meters: Mapping[str, Meter]) -> None:
        self.settings = self._settings = settings
        self._problems = problems
        self._meters = meters
        self._opening = threads.rlock()  # re-entrant, because a signal handler may flush or close
        self._database: Database | None = None
        self._usage: UsageByPeriod | None = None
        self._balances: Balances | None = None
        self._jetstream: JetStreamPublisher | None = None

    def ledger(self) -> Ledger:
        """Return the ledger; its database is opened when it is first used."""
        from meterkit.ledger.ledger import Ledger

        return Ledger(self.database(), clock=self._settings.clock)

    def accounts(self) -> Accounts:
        """Return the store of companies and customers; its database is opened when it is first used."""
        from meterkit.accounts.accounts import Accounts

        return Accounts(self.database(), clock=self._settings.clock)

    def inbox(self) -> Inbox:
        """Return the inbox of webhook events; its database is opened when it is first used."""
        from meterkit.accounts.inbox import Inbox

        return Inbox(self.database(), clock=self._settings.clock)

    def balances(self) -> Balances:
        """Return what reads and spends the balances of wallets, in transactions of the ledger."""
        from meterkit.wallets.balances import Balances

        with self._opening:
            if self._balances is None:
                settings = self._settings
                self._balances = Balances(settings.wallets, clock=settings.clock, shadow_until=settings.shadow_until)
            return self._balances

    def grants(self) -> Grants:
        """Return what writes the grants of wallets; its database is opened when it is first used."""
        from meterkit.wallets.grants import Grants

        return Grants(self.database(), self.balances(), clock=self._settings.clock)

    def top_ups(self) -> TopUps:
        """Return the agreements on automatic top-ups; their database is opened when it is first used."""
        from meterkit.top_ups.agreements import TopUps

        return TopUps(self.database(), clock=self._settings.clock)

    def database(self) -> Database:
        """Return the ledger's database; it is opened when it is first used."""
        from meterkit.ledger.database import Database

        with self._opening:
            if self._database is None:
                settings = self._settings
                self._database = Database(
                    settings.ledger,
                    customer_ids=settings.customer_ids,
                    live=is_live(settings.stripe_key),
                    account=settings.stripe_account,
                    raters=settings.rates,
                )
            return self._database

    def usage(self) -> UsageByPeriod:
        """Return the usage in the current periods, which governance and notices share."""
        from meterkit.accounts.period_usage import UsageByPeriod

        database = self.database()
        with self._opening:
            if self._usage is None:
                self._usage = UsageByPeriod(database, {name: each.event_name for name, each in self._meters.items()})
            return self._usage

    def jetstream(self) -> JetStreamPublisher:
        """Return what publishes to JetStream, with ``jetstream=``."""
        from meterkit.jetstream.publisher import JetStreamPublisher

        assert self._settings.jetstream is not None
        with self._opening:
            if self._jetstream is None:
                self._jetstream = JetStreamPublisher(self._settings.jetstream, self._sender())
            return self._jetstream

    def collector(self, *, batch: int) -> Collector:
        """
        Return what folds what hosts have published.

        Args:
            batch: Generations in one transaction at most.

        Raises:
            ConfigurationError: The kit has no ``jetstream=``.
        """
        from meterkit.jetstream.collector import Collector

        settings = self._settings
        if settings.jetstream is None:
            raise ConfigurationError("this kit has no jetstream=, so its hosts publish nothing; add a JetStream")
        return Collector(
            settings.jetstream,
            self.database(),
            sender=self._sender(),
            problems=self._problems,
            clock=settings.clock,
            batch=batch,
        )

    def _sender(self) -> Sender:
        from meterkit.jetstream.message import Sender

        return Sender(is_live(self._settings.stripe_key), self._settings.stripe_account)
