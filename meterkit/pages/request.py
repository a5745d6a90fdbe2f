"""A request for a page, and the table of pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, quote

from meterkit.core.responses import Response
from meterkit.metering.exchange import Exchange

Audience: TypeAlias = Literal["customer", "team", "token"]
"""Who may see a page: the company that ``identify=`` returns, whom ``team=`` lets in, or who has a token."""

DEEPEST = 16
"""Most slashes below the prefix for which links are right: no page is as deep, and each would be in every link."""

MOST_FIELDS = 100
"""Most parameters of a query string that are read."""


@dataclass(frozen=True)
class PageRequest:
    """
    A request for a page.

    Attributes:
        exchange: Exchange of the request.
        method: HTTP method, upper case.
        path: Path below the prefix, without slashes at its ends: empty for the first page.
        parameters: Names and values of the query string, in order.
        root: Relative address of the first page, which ends in a slash: links are ``root + path``. No proxy or mount
            in front needs to be known for it. Parameters, such as company ids, belong in the query string: a slash in
            one would make `root` wrong.
        render: Function ``(request, template, status, headers, values)`` that renders a template.
        company: Company whose page this is; None for the team's.
        is_embedded: Whether the page is shown in an iframe of the vendor's.
    """

    exchange: Exchange
    method: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    root: str
    render: Callable[[PageRequest, str, int, list[tuple[str, str]], Mapping[str, Any]], Response]
    company: str | None = None
    is_embedded: bool = False

    @cached_property
    def query(self) -> Mapping[str, str]:
        """Parameters of the query string by name; of a repeated one, the last."""
        return dict(self.parameters)

    def values(self, name: str) -> list[str]:
        """Return all values of the parameter *name*, in order."""
        return [value for each, value in self.parameters if each == name]

    def page(self, template: str, *headers: tuple[str, str], status: int = 200, **values: Any) -> Response:
        """
        Return a page.

        Args:
            template: Name of the template in ``meterkit/pages/templates``.
            *headers: More headers, besides those of every page.
            status: HTTP status.
            **values: Values of the template.
        """
        return self.render(self, template, status, list(headers), values)

    def error(self, status: int, title: str, text: str, *headers: tuple[str, str]) -> Response:
        """Return an error page: *title* says what is wrong, *text* what to do."""
        return self.page("error.html", *headers, status=status, title=title, text=text)


@dataclass(frozen=True)
class Route:
    """
    One page.

    Attributes:
        path: Path below the prefix, without slashes at its ends, such as ``team/companies``.
        view: Function that returns the response.
        audience: Who may see it.
        title: Text of its link in the navigation of its audience; empty for a page that is not in it.
        methods: HTTP methods that it responds to; a GET also responds to HEAD.
    """

    path: str
    view: Callable[[PageRequest], Response]
    audience: Audience
    title: str = ""
    methods: tuple[str, ...] = ("GET",)

    @property
    def allowed(self) -> tuple[str, ...]:
        """All methods that it responds to."""
        return (*self.methods, *(("HEAD",) if "GET" in self.methods else ()), "OPTIONS")


def parsed_query(query: str) -> tuple[tuple[str, str], ...]:
    """Return the parameters of a query string, in order; none if there are too many."""
    try:
        return tuple(parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="replace"))
    except ValueError:
        return ()


def root_from(prefix: str, below: str) -> str:
    """
    Return the relative address of the first page.

    Args:
        prefix: Path of the pages, such as ``/billing``.
        below: Path of the request below it, as it was sent: empty, or beginning with a slash.
    """
    if not below:
        return f"./{quote(prefix.rpartition('/')[2])}/"
    depth = below.count("/") - 1
    return "../" * depth if 0 < depth <= DEEPEST else "./"
