"""The pages of the team, as HTML and CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias
from urllib.parse import urlencode

from meterkit.core.responses import Response, response
from meterkit.pages.request import PageRequest, Route
from meterkit.pages.team.kept import Kept, KeptByKey
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.tables import TeamPage, as_csv

Made: TypeAlias = "Callable[[Mapping[str, str]], TeamPage | None]"
"""Makes a page from the parameters of its address; None if there is no such page."""


class TeamViews:
    """
    The pages of the team.

    Args:
        sources: What they read.
        margin: Makes the page of margins; None for a kit without costs.
    """

    def __init__(self, sources: Sources, *, margin: Made | None = None) -> None:
        from meterkit.pages.team.operations import look_for_waiting
        from meterkit.pages.team.survey import survey
        from meterkit.pages.team.usage import usage_of_plans

        self._sources = sources
        self._margin = margin
        self._surveyed = Kept(lambda: survey(sources), clock=sources.clock)
        self._plans = Kept(sources.plan_names, clock=sources.clock)
        self._of_plans = KeptByKey(partial(usage_of_plans, sources), clock=sources.clock)
        self._waiting = Kept(lambda: look_for_waiting(sources), clock=sources.clock)
        self._health = Kept(sources.health, clock=sources.clock)

    def routes(self) -> list[Route]:
        """Return the pages."""
        pages: list[tuple[str, str, Made]] = [
            ("team", "Overview", self._overview),
            ("team/usage", "Usage", self._usage),
            ("team/companies", "Companies", self._companies),
            ("team/company", "", self._company),
            ("team/invoice", "", self._invoice),
            ("team/hours", "", self._hours),
            ("team/hour", "", self._hour),
            ("team/waiting", "Waiting", self._waiting_page),
            ("team/notices", "Notices", self._notices),
            ("team/health", "Health", self._health_page),
        ]
        if self._margin is not None:
            pages.insert(
                pages.index(("team/waiting", "Waiting", self._waiting_page)), ("team/margin", "Margin", self._margin)
            )
        return [Route(path, partial(_respond, make), "team", title) for path, title, make in pages]

    # Each page is imported when it is first asked for: it needs SQLAlchemy.

    def _overview(self, _query: Mapping[str, str]) -> TeamPage:
        from meterkit.pages.team.overview import overview_page

        return overview_page(self._sources, self._surveyed, self._waiting, self._health)

    def _usage(self, query: Mapping[str, str]) -> TeamPage:
        from meterkit.pages.team.usage import usage_page

        return usage_page(self._sources, self._plans, self._of_plans, query)

    def _companies(self, query: Mapping[str, str]) -> TeamPage:
        from meterkit.pages.team.company_list import companies_page

        return companies_page(self._sources, self._surveyed, self._plans, query)

    def _company(self, query: Mapping[str, str]) -> TeamPage | None:
        from meterkit.pages.team.company import company_page

        return company_page(self._sources, query)

    def _invoice(self, query: Mapping[str, str]) -> TeamPage | None:
        from meterkit.pages.team.invoice_usage import invoice_page

        return invoice_page(self._sources, query)

    def _hours(self, query: Mapping[str, str]) -> TeamPage | None:
        from meterkit.pages.team.invoice_usage import hours_page

        return hours_page(self._sources, query)

    def _hour(self, query: Mapping[str, str]) -> TeamPage | None:
        from meterkit.pages.team.invoice_usage import hour_page

        return hour_page(self._sources, query)

    def _waiting_page(self, query: Mapping[str, str]) -> TeamPage:
        from meterkit.pages.team.operations import waiting_page

        return waiting_page(self._sources, self._waiting, query)

    def _notices(self, query: Mapping[str, str]) -> TeamPage:
        from meterkit.pages.team.operations import notices_page

        return notices_page(self._sources, query)

    def _health_page(self, query: Mapping[str, str]) -> TeamPage:
        from meterkit.pages.team.operations import health_page

        return health_page(self._health, query)


def _respond(make: Made, request: PageRequest) -> Response:
    # No id or name has this character, and a database may refuse it.
    query = {name: value.replace("\x00", "\ufffd") for name, value in request.query.items()}
    page = make(query)
    if page is None:
        return request.error(404, "There is no such page", "Check the address, or search the list of companies.")
    if request.query.get("format") != "csv":
        kept = {name: value for name, value in request.query.items() if name not in ("format", "table")}
        return request.page("team.html", page=page, title=page.title, kept=urlencode(kept))
    wanted = request.query.get("table", "")
    table = next((each for each in page.tables if each.id == wanted), page.tables[0] if page.tables else None)
    if table is None:
        return request.error(404, "There is no such table", "Reload the page in a moment.")
    saved_as = ("Content-Disposition", f'attachment; filename="{table.id}.csv"')
    return response(200, as_csv(table), saved_as, media_type="text/csv; charset=utf-8")
