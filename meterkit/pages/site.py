"""Serve the pages below one path: find the page, check who may see it, and answer; whatever fails, with a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from meterkit.core.problems import shown
from meterkit.core.responses import Response, response
from meterkit.errors import LedgerError
from meterkit.metering.exchange import Exchange
from meterkit.metering.recorder import Recorder
from meterkit.pages.config import Pages
from meterkit.pages.rendering import Renderer
from meterkit.pages.request import PageRequest, Route, parsed_query, root_from
from meterkit.pages.security import headers_of_page, is_from_elsewhere, origin_of

HTML = "text/html; charset=utf-8"


class Site:
    """
    Serves the pages of a kit.

    Args:
        pages: Where the pages are, and how they look.
        recorder: Recorder that identifies the company, and collects problems.
        routes: The pages.
        company_of_token: Function that returns the company of a token, or None; for pages whose audience is a token.
        forms_lead_to: Origins to which forms lead besides the page's own.

    Attributes:
        prefix: What the paths of its requests begin with.
    """

    def __init__(
        self,
        pages: Pages,
        *,
        recorder: Recorder,
        routes: Iterable[Route],
        company_of_token: Callable[[str], str | None] = lambda _: None,
        forms_lead_to: Iterable[str] = (),
    ) -> None:
        self.prefix = pages.path
        self._pages = pages
        self._recorder = recorder
        self._routes = {route.path: route for route in routes}
        self._company_of_token = company_of_token
        self._renderer = Renderer(color=pages.color)
        self._forms_lead_to = tuple(forms_lead_to)
        logo = pages.logo or ""
        self._images = () if logo.startswith("/") or not logo else (origin_of(logo),)
        self._has_looked_for_hidden = False

    def serves(self, exchange: Exchange) -> bool:
        """Return whether *exchange* is for one of the pages. Never raises."""
        return self._below(exchange) is not None

    def respond(self, exchange: Exchange, query: str = "") -> Response:
        """Return the response to *exchange*, which has the query string *query*. Reads the ledger; never raises."""
        try:
            self._look_for_hidden(exchange)
            below = self._below(exchange) or ""
            request = PageRequest(
                exchange=exchange,
                method=exchange.method,
                path=below if "//" in below else below.strip("/"),
                parameters=parsed_query(query),
                root=root_from(self.prefix, below),
                render=self._render,
            )
            return self._respond(request)
        except Exception as error:
            self._recorder.problems.internal(error)
            return response(500, b"the page could not be made", media_type="text/plain; charset=utf-8")

    def _respond(self, request: PageRequest) -> Response:
        if request.path.startswith("static/"):
            return self._static(request)
        route = self._routes.get(request.path)
        if route is None:
            return _not_found(request)
        admitted = self._admitted(request, route)
        if isinstance(admitted, Response):
            return admitted
        if request.method == "OPTIONS":  # of a browser, to which what adds CORS headers then answers
            return response(200, b"", ("Allow", ", ".join(route.allowed)))
        if request.method not in route.allowed:
            allow = ("Allow", ", ".join(route.allowed))
            return admitted.error(405, "This cannot be done here", "Go back, and use the buttons of the page.", allow)
        if request.method not in ("GET", "HEAD") and is_from_elsewhere(request.exchange.headers):
            return admitted.error(
                403, "This came from another site", "Open this page itself, and use its buttons; nothing was changed."
            )
        try:
            return route.view(admitted)
        except LedgerError:
            return admitted.error(
                503,
                "Usage is temporarily unavailable",
                "The database of the usage does not respond. Nothing is lost, and requests are served and counted as "
                "usual. Try again in a minute.",
                ("Retry-After", "10"),
            )
        except Exception as error:
            self._recorder.problems.internal(error)
            return admitted.error(500, "This page could not be made", "The cause is in the log of the application.")

    def _admitted(self, request: PageRequest, route: Route) -> PageRequest | Response:
        """Return *request* with the company whose page it is, or the response to who may not see it."""
        if route.audience == "team":
            return request if self._is_team(request.exchange) else _not_found(request)
        if route.audience == "token":
            company = self._company_of_token(request.query.get("token", ""))
            # A browser that is signed in as another company has come by a token that is not meant for it.
            signed_in = self._recorder.identity.early(request.exchange, quiet=True)
            if company is None or signed_in not in (None, company):
                embedded = replace(request, is_embedded=True)
                return embedded.error(403, "This page has expired", "Reload the page that shows it.")
            return replace(request, company=company, is_embedded=True)
        company = self._recorder.identity.early(request.exchange)
        if company is None:
            return request.error(401, "You are not signed in", "Sign in first, and open this page again.")
        return replace(request, company=company)

    def _is_team(self, exchange: Exchange) -> bool:
        """Return whether *exchange* may see the team's pages. Only True will do: a coroutine would be true as well."""
        if self._pages.team is None:
            return False
        try:
            found: object = self._pages.team(exchange)
        except Exception as error:
            self._recorder.problems.note(
                "team_raised",
                f"Pages(team=...) raised {shown(error)}; the team's pages were not shown. Let it return False for a "
                "request that may not see them",
                error=error,
            )
            return False
        if not isinstance(found, bool):
            getattr(found, "close", lambda: None)()  # of a coroutine, which would warn that it was never awaited
            self._recorder.problems.note(
                "team_not_bool",
                f"Pages(team=...) returned {type(found).__name__}, not True or False; the team's pages were not shown. "
                "Wrap what it returns in bool()",
            )
        return found is True

    def _static(self, request: PageRequest) -> Response:
        if request.method not in ("GET", "HEAD"):
            return response(405, b"", ("Allow", "GET, HEAD"))
        return self._renderer.serve(request.path) or _not_found(request)

    def _render(
        self,
        request: PageRequest,
        template: str,
        status: int,
        headers: list[tuple[str, str]],
        values: Mapping[str, Any],
    ) -> Response:
        embedding = self._pages.embedding_origins if request.is_embedded else ()
        route = self._routes.get(request.path)
        audience = None if route is None or status >= 400 else route.audience
        body = self._renderer.html(
            template,
            {
                "vendor": self._pages.name,
                "logo": self._pages.logo,
                "root": request.root,
                "here": request.path,
                "is_embedded": request.is_embedded,
                "navigation": [each for each in self._routes.values() if each.title and each.audience == audience],
                "static": lambda name: self._renderer.address(request.root, name),
                **values,
            },
        )
        security = headers_of_page(
            images=self._images, forms_lead_to=self._forms_lead_to, framed_by=embedding, is_embedded=request.is_embedded
        )
        return response(status, body, *security, *headers, media_type=HTML)

    def _below(self, exchange: Exchange) -> str | None:
        """Return the path below the prefix, as the app routes it or as the client sent it; None if it is not below."""
        target = exchange.target
        for path in (exchange.path,) if isinstance(target, str) else (target[1], exchange.path):
            below = path.removeprefix(self.prefix)
            if len(below) < len(path) and (not below or below.startswith("/")):
                return below
        return None

    def _look_for_hidden(self, exchange: Exchange) -> None:
        """Note routes of the app that are below the prefix, and so never reached; once, where they are known."""
        if self._has_looked_for_hidden:
            return
        self._has_looked_for_hidden = True
        try:
            known = exchange.known_routes() or ()
        except Exception:
            return  # it is not known
        for route in known:
            path = "/" + route.lstrip("/^")
            if path.rstrip("/") == self.prefix or path.startswith(self.prefix + "/"):
                self._recorder.problems.note(
                    "route_hidden",
                    f"the pages at {self.prefix!r:.100} hide the app's route {route!r:.100}, which no request reaches: "
                    "change the path of Pages, or the route",
                )


def _not_found(request: PageRequest) -> Response:
    return request.error(404, "There is no such page", "Check the address.")
