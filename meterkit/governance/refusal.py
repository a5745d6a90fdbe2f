"""
`Refusal` and `Block`: the 402, 403 and 429 responses.

By default a problem document (RFC 9457, ``application/problem+json``), with 429 for a quota, 403 for an unknown
company, and 402 for all else.
"""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from meterkit.core.responses import Response, response
from meterkit.core.text_templates import checked_template, fill, is_text
from meterkit.errors import ConfigurationError

Reason: TypeAlias = Literal["overdue", "no_subscription", "quota", "spending_cap", "check", "unknown"]

REASONS: tuple[str, ...] = get_args(Reason)

PROBLEM = "application/problem+json"

STATUSES = {"quota": 429, "unknown": 403}
"""HTTP statuses by reason; 402 for the others."""

TITLES = {
    "overdue": "An invoice is overdue",
    "no_subscription": "No active subscription",
    "quota": "The quota is used up",
    "spending_cap": "The spending cap has been reached",
    "check": "This request is not allowed",
    "unknown": "No billing account",
}


@dataclass(frozen=True, slots=True)
class Block:
    """
    Why a request is blocked. All but the first three attributes are None if they do not apply.

    Attributes:
        reason: ``overdue``, ``no_subscription``, ``quota``, ``spending_cap``, ``check`` or ``unknown``.
        company: Company id, or None if no company was identified.
        detail: Sentence for the client that sent the request.
        settle_url: URL at which the cause can be settled.
        meter: Name of the meter whose quota is used up.
        used: Units used of the quota.
        limit: Units that the quota allows.
        amount: Amount owed or spent, in whole currency.
        currency: Three-letter code of the currency of *amount*, lower case.
        invoice: Number of the overdue invoice.
        retry_after: Seconds after which the request may be allowed.
    """

    reason: Reason
    company: str | None
    detail: str
    settle_url: str | None = None
    meter: str | None = None
    used: int | None = None
    limit: int | None = None
    amount: str | None = None
    currency: str | None = None
    invoice: str | None = None
    retry_after: int | None = None


FIELDS = (*Block.__dataclass_fields__, "title", "status")
"""Fields that texts may contain."""


@dataclass(frozen=True)
class Refusal:
    """
    How to respond to a blocked request. Texts may contain fields such as ``{company}`` and ``{settle_url}``.

    Attributes:
        status: HTTP status; by default 429 for a quota, 403 for an unknown company, and 402 for all else.
        detail: Sentence that replaces the problem document's ``detail``.
        body: The whole body: a text, whose fields are escaped as *media_type* requires; or a function that takes a
            `Block` and returns a text, or anything that ``json.dumps`` accepts. By default a problem document.
        media_type: Media type of the body.
        headers: Additional response headers.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    _: KW_ONLY
    status: int | None = None
    detail: str | None = None
    body: str | Callable[[Block], object] | None = None
    media_type: str = PROBLEM
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        status = self.status
        if status is not None and (isinstance(status, bool) or not isinstance(status, int) or not 400 <= status < 600):
            raise ConfigurationError(f"Refusal(status=...) must be 400 to 599, not {status!r:.100}")
        if self.detail is not None:
            self.check_text(self.detail, "Refusal(detail=...)")
        if is_text(self.body):
            self.check_text(self.body, "Refusal(body=...)")
        elif self.body is not None and (not callable(self.body) or inspect.iscoroutinefunction(self.body)):
            raise ConfigurationError(f"Refusal(body=...) must be a text or a plain function, not {self.body!r:.200}")
        for name, value in {**self.headers, "Content-Type": self.media_type}.items():
            self.check_text(value, f"Refusal(headers=...), {name!r:.50},")
            if not str(name).isascii() or not str(name).replace("-", "").replace("_", "").isalnum():
                raise ConfigurationError(f"Refusal(headers=...): {name!r:.100} is not a valid header name")

    @staticmethod
    def check_text(text: Any, what: str) -> None:
        """
        Check that *text* contains only known fields; *what* names it in errors.

        Raises:
            ConfigurationError: It contains others, or is not a text.
        """
        if not is_text(text):
            raise ConfigurationError(f"{what} must be a text, not {text!r:.200}")
        checked_template(text, what=what, fields=FIELDS)

    def respond(self, block: Block) -> Response:
        """
        Return the response for *block*.

        Raises:
            Exception: The application's ``body=`` function raised it.
        """
        status = self.status or STATUSES.get(block.reason, 402)
        values = {**asdict(block), "title": _title(block), "status": status}
        if self.detail is not None:
            values["detail"] = fill(self.detail, values)
        headers = [(name, _header(fill(value, values))) for name, value in self.headers.items()]
        if block.retry_after is not None:
            headers.append(("Retry-After", str(block.retry_after)))
        return response(status, self._body(block, values), *headers, media_type=_header(self.media_type))

    def _body(self, block: Block, values: dict[str, object]) -> bytes:
        if self.body is None:
            return _problem(values)
        if not callable(self.body):
            return fill(self.body, values, escape=_escape_for(self.media_type)).encode()
        made = self.body(block)
        return made if isinstance(made, bytes) else (made if isinstance(made, str) else json.dumps(made)).encode()


def _title(block: Block) -> str:
    if block.reason == "unknown" and block.retry_after is not None:
        return "Billing accounts are still being loaded"
    if block.reason == "unknown" and block.company is None:
        return "No company identified"
    return TITLES[block.reason]


def _problem(values: Mapping[str, object]) -> bytes:
    """Return a problem document (RFC 9457): type, title, status and detail, and the fields of the block."""
    problem = {"type": "about:blank", **{name: values[name] for name in ("title", "status", "detail")}}
    more = {name: value for name, value in values.items() if name not in problem and value is not None}
    return json.dumps({**problem, **more}).encode()


def _escape_for(media_type: str) -> Callable[[str], str]:
    if "json" in media_type:
        return lambda text: json.dumps(text)[1:-1]
    return html.escape if "html" in media_type or "xml" in media_type else str


def _header(text: str) -> str:
    """Return *text* as a header value: no company id can inject another header."""
    return "".join(each if " " <= each <= "~" else "?" for each in text)
