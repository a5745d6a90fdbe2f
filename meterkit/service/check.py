"""``/v1/check``: whether a company is allowed, for gateways and for apps. From memory: no ledger, no Stripe."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from meterkit.core.responses import Response, response
from meterkit.core.usage_key import both_of
from meterkit.core.validation import MAX_ID_LENGTH, checked_subject_id
from meterkit.errors import ConfigurationError, UsageError
from meterkit.governance.refusal import PROBLEM, PROBLEM_SCHEMA
from meterkit.service.calls import Call
from meterkit.service.forwarded import ForwardedExchange, exchange_for
from meterkit.service.problems import RequestError
from meterkit.service.routes import Route

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

PATH = "/v1/check"

COMPANY, PLAN = "X-Meterkit-Company", "X-Meterkit-Plan"
"""Response headers with whose request it is, for the gateway to hand on to the app; empty if that is not known."""


PARAMETERS = [
    {
        "name": "company",
        "in": "query",
        "description": "Company id. Without it, the header that the service is configured for, or the kit's identify=, "
        "names the company.",
        "schema": {"type": "string", "maxLength": MAX_ID_LENGTH},
    },
    {
        "name": "meter",
        "in": "query",
        "description": "Meters whose quotas apply. Without it: those that the original request may count for, or all "
        "if it is not known.",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
    *(
        {
            "name": name,
            "in": "header",
            "description": about,
            "schema": {"type": "string"},
        }
        for name, about in {
            "X-Original-URI": "Path and query of the request that is asked about.",
            "X-Original-Method": "Its method.",
            "X-Forwarded-Uri": "The same, of gateways that call it that.",
            "X-Forwarded-Method": "Its method.",
        }.items()
    ),
]

OWN_QUERY = (
    "This query is the one of the original request, so it may be the client who names the company: have the gateway "
    "replace it. In Caddy, that is uri /v1/check? with a question mark."
)

HANDED_ON = {
    COMPANY: {
        "description": "Company id, percent-encoded if it is not printable ASCII; empty if it is not known.",
        "schema": {"type": "string"},
    },
    PLAN: {
        "description": "Name of its plan, likewise; not there if the kit has no plans.",
        "schema": {"type": "string"},
    },
}

_REFUSED = {
    "description": "The request is blocked: respond this to the client.",
    "headers": {
        **HANDED_ON,
        "X-Meterkit-Body": {
            "description": "The body once more, for gateways that hand on headers only; if it has at most 2,000 bytes.",
            "schema": {"type": "string"},
        },
        "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}},
    },
    "content": {PROBLEM: {"schema": PROBLEM_SCHEMA}},
}

OPERATION: dict[str, Any] = {
    "operationId": "check",
    "summary": "Ask whether a request, or a company, is allowed",
    "description": "With any method: gateways use the original one. Below this path, the rest is the path of the "
    "original request.",
    "parameters": PARAMETERS,
    "responses": {
        "200": {
            "description": "It is allowed.",
            "headers": HANDED_ON,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["allowed", "company"],
                        "properties": {
                            "allowed": {"const": True},
                            "company": {"type": ["string", "null"]},
                        },
                    }
                }
            },
        },
        "400": {"$ref": "#/components/responses/Problem"},
        "402": _REFUSED,
        "403": _REFUSED,
        "429": _REFUSED,
    },
}


class Check:
    """
    Decides about a request that another server serves.

    Args:
        kit: Kit whose governance decides.
        company_header: Request header that names the company, which the gateway must set; None to use the kit's
            ``identify=``.

    Raises:
        ConfigurationError: *company_header* is not the name of a header.
    """

    def __init__(self, kit: MeterKit, *, company_header: str | None) -> None:
        if company_header is not None and not _is_name(company_header):
            raise ConfigurationError(
                f"Service(company_header=...) must be the name of a header, such as 'X-Company', not "
                f"{company_header!r:.100}"
            )
        self._header = company_header
        self._kit = kit
        self._owner = SimpleNamespace(recorder=kit.recorder)

    @property
    def route(self) -> Route:
        """The route of the check."""
        return Route(PATH, self.respond, scope="check", below=True, copies_body=True, operations={"get": OPERATION})

    async def respond(self, call: Call) -> Response:
        """
        Return 200 for a request that is allowed, and for another one what the middleware would respond.

        Raises:
            RequestError: The question is wrong (status 400).
        """
        below = call.path[len(PATH) :]
        query = {} if below else call.query  # below, it is the client's
        meters = self._meters(query.get("meter"))
        exchange, has_path = exchange_for(call.scope, below, self._owner)
        try:
            if ("company" in query or "meter" in query) and exchange.native["query_string"] == call.scope[
                "query_string"
            ]:
                raise RequestError(400, OWN_QUERY, type="query_of_client")
            await self._name(exchange, query.get("company"))
            refused = self._decide(exchange, meters, has_path=has_path)
            return self._allowed(exchange) if refused is None else self._with_company(exchange, refused)
        finally:
            self._kit.recorder.refuse(exchange)

    def _meters(self, names: list[str] | None) -> frozenset[str] | None:
        if names is None:
            return None
        for name in names:
            if name not in self._kit.meters:
                known = ", ".join(self._kit.meters)
                raise RequestError(400, f"There is no meter {name!r:.120}, only {known}.", type="meter_unknown")
        return frozenset(names)

    async def _name(self, exchange: ForwardedExchange, in_query: list[str] | None) -> None:
        """Set whose request it is, if the gateway says so; otherwise, ``identify=`` will."""
        identity = self._kit.recorder.identity
        if in_query is not None:
            company = in_query[0] if len(in_query) == 1 else None
            if company is None:
                raise RequestError(400, "Name one company.", type="company_wrong")
        elif self._header is not None:
            company = _decoded(exchange.headers.get(self._header, ""))
        else:
            if identity.asks is not None:
                await identity.asks.ask(exchange)
            return
        try:
            exchange.identified = checked_subject_id(company, "company") if company else ""
        except UsageError as error:
            raise RequestError(400, f"{error}.", type="company_wrong") from None

    def _decide(self, exchange: ForwardedExchange, meters: frozenset[str] | None, *, has_path: bool) -> Response | None:
        governor = self._kit.governor
        refused = None if governor is None else governor.check_ahead(exchange, meters=meters, has_path=has_path)
        if exchange.identified is None:  # exempt, or nobody decides
            self._kit.recorder.identity.early(exchange, quiet=True)
        return refused

    def _allowed(self, exchange: ForwardedExchange) -> Response:
        company = _company_of(exchange)
        body = {"allowed": True, "company": company}
        allowed = response(200, json.dumps(body).encode(), *exchange.added_headers)
        return self._with_company(exchange, allowed)

    def _with_company(self, exchange: ForwardedExchange, found: Response) -> Response:
        company = _company_of(exchange)
        plan = None if company is None else self._kit.known_plan(company)
        found.headers.append((COMPANY, _encoded(company or "")))
        if self._kit.plans:
            found.headers.append((PLAN, _encoded("" if plan is None else plan.name)))
        return found


def _company_of(exchange: ForwardedExchange) -> str | None:
    return None if exchange.identified is None else both_of(exchange.identified)[0] or None


_PLAIN = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


def _encoded(text: str) -> str:
    """Return *text* as a header value: what is not printable ASCII, and the percent sign, is percent-encoded."""
    return quote(text, safe=_PLAIN, errors="replace")


def _decoded(value: str) -> str:
    """Return the value of a header, which is UTF-8 if it is no ASCII."""
    return value if value.isascii() else value.encode("latin-1").decode("utf-8", "replace")


def _is_name(header: str) -> bool:
    return isinstance(header, str) and header.isascii() and header.replace("-", "").replace("_", "").isalnum()
