"""Build the optional parts of a kit: governor, dispatcher, pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from meterkit.core.problems import Problems
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Recorder
from meterkit.pricing.plan import Plan
from meterkit.pricing.price import Price
from meterkit.publication.rules import SnapshotRules
from meterkit.runtime.settings import is_live
from meterkit.runtime.supervisor import Supervisor
from meterkit.webhooks.config import Webhook

if TYPE_CHECKING:  # imported by the kits that have such a part
    from sqlalchemy import Connection

    from meterkit.events.counter import EventCounter
    from meterkit.forecast.forecast import Cap
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.governor import Governor
    from meterkit.governance.limits.limit_cache import LimitCache
    from meterkit.governance.policy import Governance
    from meterkit.margin.cost import Cost
    from meterkit.margin.page import MarginPage
    from meterkit.margin.report import MarginReport
    from meterkit.notices.rules import Notify
    from meterkit.pages.config import Pages
    from meterkit.pages.customer_page import CustomerStatements
    from meterkit.pages.request import Route
    from meterkit.pages.served import ServedPage
    from meterkit.pages.site import Site
    from meterkit.webhooks.endpoint import WebhookEndpoint


class Assembly:
    """
    Builds the optional parts of one kit.

    Args:
        supervisor: Supervisor of the kit; its governor and dispatcher are set here.
        recorder: Recorder of the kit.
        meters: Meters of the kit, by name.
        prices: Prices of the kit outside of plans.
        plans: Plans of the kit, by name.
        default_plan: Plan of companies without a subscription, or None.
        governance: Rules of the kit, or None.
        problems: Where problems are reported.
        health: Function that returns what `MeterKit.health` does.
        clock: Function that returns Unix seconds.
        costs: Costs of the kit.
        in_view: Whether the app's views identify the company and ask governance.
        is_published: Whether usage goes through JetStream.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        recorder: Recorder,
        meters: Mapping[str, Meter],
        prices: Iterable[Price],
        plans: Mapping[str, Plan],
        default_plan: Plan | None,
        governance: Governance | None,
        problems: Problems,
        health: Callable[[], dict[str, Any]],
        clock: Callable[[], float],
        costs: tuple[Cost, ...],
        in_view: bool,
        is_published: bool,
    ) -> None:
        self._is_published = is_published
        self._health = health
        self._in_view = in_view
        self._costs = costs
        self._supervisor = supervisor
        self._recorder = recorder
        self._meters = meters
        self._plans = plans
        self._prices = tuple(prices) if default_plan is None else default_plan.prices_in()
        self._governance = governance
        self._default_plan = default_plan
        self._problems = problems
        self._clock = clock
        self._limits: tuple[LimitCache, ...] = ()

    def event_counter(self) -> EventCounter:
        """Build what counts usage events."""
        from meterkit.events.counter import EventCounter
        from meterkit.events.matching import EventMatcher

        return EventCounter(
            matcher=EventMatcher(self._meters.values(), self._problems),
            sink=self._supervisor,
            problems=self._problems,
            clock=self._clock,
            windows=self._supervisor.windows,
        )

    def governor(self) -> Governor | None:
        """
        Build the governor; None without ``governance=`` and limits of plans. Call this first: others share its caches.

        Raises:
            ConfigurationError: ``governance=`` is not valid for this kit.
        """
        plans = self.company_plans()
        governor = self._governor(plans)
        self._supervisor.governor = governor
        self._supervisor.rules = SnapshotRules(
            None if governor is None else governor.governance,
            self._limits if governor is not None else (),
            self._prices,
            self._meters,
            self._plans,
            self._default_plan,
            plans,
            self._problems,
        )
        return governor

    def _governor(self, plans: CompanyPlans | None) -> Governor | None:
        wallets = self._supervisor.settings.wallets
        if self._governance is None and plans is None and not wallets:
            return None
        from meterkit.governance.governor import Governor
        from meterkit.governance.limits.exact_limits import ExactLimits
        from meterkit.governance.limits.limit_cache import LimitCache
        from meterkit.governance.policy import Governance, check_governance, check_published

        about: Any = {"clock": self._clock, "problems": self._problems}
        if self._governance is None and wallets:
            self._governance = Governance()
        if self._governance is not None:
            check_governance(self._governance, self._meters, has_wallets=bool(wallets))
            self._limits = tuple(LimitCache(quota, **about) for quota in self._governance.quotas)
        if plans is not None:
            from meterkit.governance.limits.plan_limits import with_plans

            combined = with_plans(self._governance, self._plans.values(), plans, **about)
            if combined is None:
                return None
            self._governance, limits = combined
            self._limits = tuple(limits)
            check_governance(self._governance, self._meters, has_wallets=bool(wallets))
        assert self._governance is not None
        if self._is_published:
            check_published(self._governance, has_wallets=bool(wallets))
        exact = ExactLimits(
            self._governance.quotas,
            self._limits,
            wallets=wallets.values(),
            meters=self._meters,
            balance=self._balance if wallets else None,
            source=self._supervisor.source,
            **about,
        )
        return Governor(
            self._governance,
            source=self._supervisor.source,
            recorder=self._recorder,
            exact=exact,
            limits=self._limits,
            begin=lambda: self._supervisor.runtime(counting=True).begin(),
            **about,
            in_view=self._in_view,
            is_shadow=self._supervisor.settings.is_shadow,
        )

    def _balance(self, connection: Connection, company: str, wallet: str) -> int:
        return self._supervisor.runtime().balances().left(connection, company, wallet)

    def company_plans(self) -> CompanyPlans | None:
        """Build what knows each company's plan, once; None for a kit without plans."""
        if self._plans and self._supervisor.plans is None:
            from meterkit.governance.company_plans import CompanyPlans

            self._supervisor.plans = CompanyPlans(
                self._plans,
                self._default_plan,
                source=self._supervisor.source,
                read_names=_read_names,
                begin=lambda: self._supervisor.runtime(counting=True),
                database=lambda: self._supervisor.runtime().database(),
                problems=self._problems,
                clock=self._clock,
            )
        return self._supervisor.plans

    def notify(self, rules: Iterable[Notify]) -> tuple[Notify, ...]:
        """
        Check the rules of ``notify=``, and have each process evaluate and deliver them.

        Raises:
            ConfigurationError: A rule is not valid for this kit.
        """
        if rules == ():
            return ()
        from meterkit.notices.rules import checked_notify

        sold = [*self._prices, *(price for plan in self._plans.values() for price in plan.prices_in())]
        checked = checked_notify(rules, self._meters, sold, self._governance, wallets=self._supervisor.settings.wallets)
        if checked:
            from meterkit.notices.dispatcher import Dispatcher

            self._supervisor.dispatcher = partial(
                Dispatcher,
                checked,
                meters=self._meters,
                prices=self._prices,
                limits=self._limits,
                problems=self._problems,
                clock=self._clock,
                is_free=self._supervisor.settings.is_free,
                is_shadow=self._supervisor.settings.is_shadow,
                cap=self._cap(),
            )
        return checked

    def statements(self, plans: CompanyPlans | None) -> CustomerStatements:
        """
        Build what computes the statements of companies.

        Args:
            plans: Plans of the companies, or None: they start the flushes of a process, which may only look.
        """
        from meterkit.pages.customer_page import CustomerStatements

        return CustomerStatements(
            database=lambda: self._supervisor.runtime().database(),
            prices=self._prices,
            meters=self._meters,
            limits=self._limits,
            plans=plans,
            clock=self._clock,
            wallets=self._supervisor.settings.wallets,
            cap=self._cap(),
        )

    def _cap(self) -> Cap | None:
        """Return the spending cap of the kit."""
        if self._governance is None or self._governance.spending_cap is None:
            return None
        from meterkit.forecast.forecast import Cap

        return Cap(Decimal(self._governance.spending_cap), self._governance.currency)

    def checked_pages(self, pages: Any) -> Pages | None:
        """Check that *pages* are `Pages`, or None, for which nothing is imported."""
        if pages is None:
            return None
        from meterkit.pages.config import checked_pages

        return checked_pages(pages)

    def pages(self, pages: Pages | None, *, customer_page: str | None, webhook: Webhook | None) -> ServedPage | None:
        """
        Build what serves the pages and the customer page; None without ``pages=`` and ``customer_page=``.

        Raises:
            ConfigurationError: A path is not a path, or another's.
        """
        if pages is None and customer_page is None:
            return None
        from meterkit.pages.customer_page import CustomerPage, check_path
        from meterkit.pages.served import ServedPages

        statements = self.statements(self.company_plans())
        served: list[ServedPage] = []
        webhook_path = None if webhook is None else webhook.path
        if customer_page is not None:
            check_path(customer_page, webhook_path)
            served.append(CustomerPage(customer_page, recorder=self._recorder, statements=statements))
        if pages is not None:
            from meterkit.pages.config import check_pages

            check_pages(pages, webhook=webhook_path, customer_page=customer_page, plans=self._plans)
            served.append(self._site(pages, statements))
        return served[0] if len(served) == 1 else ServedPages(served)

    def _site(self, pages: Pages, statements: CustomerStatements) -> Site:
        from meterkit.pages.customer_views import CustomerViews
        from meterkit.pages.embed_tokens import EmbedTokens
        from meterkit.pages.security import STRIPE_PAGES, origin_of
        from meterkit.pages.sign_up import SignUp
        from meterkit.pages.site import Site

        settings = self._supervisor.settings
        sign_up = SignUp(
            has_key=settings.stripe_key is not None and not settings.is_shadow(),
            commands=lambda: self._supervisor.runtime().commands(),
            prices=self._prices if not self._plans else (),
            plans=[self._plans[name] for name in pages.plans_on_offer],
            problems=self._problems,
        )
        base = settings.stripe_base
        return Site(
            pages,
            recorder=self._recorder,
            routes=[
                *CustomerViews(statements, sign_up).routes(),
                *sign_up.routes(),
                *self._team_routes(),
            ],
            company_of_token=EmbedTokens(pages.embed_secrets, clock=self._clock).company_of,
            forms_lead_to=STRIPE_PAGES if base is None else (*STRIPE_PAGES, origin_of(base)),
        )

    def team_site(self, pages: Pages) -> Site:
        """Build what serves the pages of the team alone."""
        from meterkit.pages.site import Site

        return Site(pages, recorder=self._recorder, routes=self._team_routes())

    def _team_routes(self) -> list[Route]:
        """Return the pages of the team."""
        from meterkit.pages.team.routes import TeamViews
        from meterkit.pages.team.sources import Sources

        settings = self._supervisor.settings
        sources = Sources(
            database=lambda: self._supervisor.runtime().database(),
            usage=lambda: self._supervisor.runtime().usage(),
            health=self._health,
            statements=self.statements(None),
            meters=self._meters,
            prices=self._prices,
            limits=self._limits,
            snapshot=self._supervisor.source,
            plans=self.company_plans(),
            kit_plans=tuple(self._plans),
            governance=self._governance,
            is_free=settings.is_free,
            is_live=is_live(settings.stripe_key),
            account=settings.stripe_account,
            clock=self._clock,
        )
        return TeamViews(sources, margin=self._margin_page() if self._costs else None).routes()

    def _margin_page(self) -> MarginPage:
        """Return the page of margins."""
        from meterkit.margin.page import Choice, MarginPage

        def compute(choice: Choice) -> MarginReport:
            return self.margin(choice.month, by=choice.by, company=choice.company)

        return MarginPage(compute, self._meters, clock=self._clock)

    def margin(self, month: str | None, *, by: str, company: str | None) -> MarginReport:
        """
        Return the margin of a month; see `meterkit.MeterKit.margin`.

        Raises:
            UsageError: *month* is not a month, or *by* is nothing to show by.
            ConfigurationError: A file of costs cannot be read.
            LedgerError: The ledger cannot be read.
        """
        from meterkit.core.periods import parse_month
        from meterkit.margin.calculation import margin_report

        now = self._clock()
        return margin_report(
            self._supervisor.runtime().database(),
            month=parse_month(month, now),
            now=int(now),
            meters=self._meters,
            costs=self._costs,
            prices=self._prices,
            rates=self._supervisor.settings.rates,
            by=by,
            company=company,
        )

    def webhook_endpoint(
        self, webhook: Webhook | None, *, receive: Callable[[bytes, str | None], bool]
    ) -> WebhookEndpoint | None:
        """Build the webhook endpoint; None if there is no webhook, or a view of the application receives it."""
        path = None if webhook is None else webhook.path
        if path is None:
            return None
        from meterkit.webhooks.endpoint import WebhookEndpoint

        return WebhookEndpoint(path, receive=receive, problems=self._problems)


def _read_names(connection: Connection, companies: Iterable[str] | None) -> dict[str, str]:
    from meterkit.publication.plan_names import plan_names

    return plan_names(connection, companies)
