"""
`Refusal` and `Block`: the 402, 403 and 429 responses.

By default a problem document (RFC 9457, ``application/problem+json``), with 429 for a quota, 403 for an unknown
company or a feature that the plan lacks, and 402 for all else.
"""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, get_args

from meterkit.core.responses import Response, response
from meterkit.core.text_templates import checked_template, fill, is_text
from meterkit.errors import ConfigurationError, MeterKitError

Reason: TypeAlias = Literal[
    "overdue", "no_subscription", "quota", "balance", "spending_cap", "check", "unknown", "feature"
]

REASONS: tuple[str, ...] = get_args(Reason)

PROBLEM = "application/problem+json"

STATUSES = {"quota": 429, "unknown": 403, "feature": 403}
"""HTTP statuses by reason; 402 for the others."""

TITLES = {
    "overdue": "An invoice is overdue",
    "no_subscription": "No active subscription",
    "quota": "The quota is used up",
    "balance": "The balance is used up",
    "spending_cap": "The spending cap has been reached",
    "check": "This request is not allowed",
    "unknown": "No billing account",
    "feature": "The plan does not include this",
}


@dataclass(frozen=True, slots=True)
class Block:
    """
    Why a request is blocked. All but the first three attributes are None if they do not apply.

    Attributes:
        reason: ``overdue``, ``no_subscription``, ``quota``, ``balance``, ``spending_cap``, ``check``, ``unknown`` or
            ``feature``.
        company: Company id, or None if no company was identified.
        detail: Sentence for the client that sent the request.
        settle_url: URL at which the cause can be settled.
        meter: Name of the meter whose quota is used up.
        used: Units used of the quota.
        limit: Units that the quota allows.
        amount: Amount owed or spent, in whole currency; or what is left in the wallet, in its unit.
        currency: Three-letter code of the currency of *amount*, lower case.
        invoice: Number of the overdue invoice.
        retry_after: Seconds after which the request may be allowed.
        feature: Name of the feature that the company's plan lacks.
        wallet: Name of the wallet whose balance is used up.
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
    feature: str | None = None
    wallet: str | None = None


class InsufficientBalanceError(MeterKitError):
    """
    A quota or a wallet has fewer units left than were to be held; nothing was.

    In a request, where the app does not catch it, the client gets the response that a blocked request gets.

    Attributes:
        block: Why, as for a blocked request: a `Block`.
    """

    def __init__(self, block: Block) -> None:
        super().__init__(block.detail)
        self.block = block


FIELDS = (*Block.__dataclass_fields__, "title", "status")
"""Fields that texts may contain."""


@dataclass(frozen=True)
class Refusal:
    """
    How to respond to a blocked request. Texts may contain fields such as ``{company}`` and ``{settle_url}``.

    Attributes:
        status: HTTP status; by default 429 for a quota, 403 for an unknown company or a feature that the plan lacks,
            and 402 for all else.
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

    @classmethod
    def openai(cls, *, status: int | None = None) -> Refusal:
        """
        Return a refusal in the shape that OpenAI's clients, and those of compatible APIs, show.

        Its ``error`` has a ``message``, with the URL at which to pay; a ``type`` and a ``code``, which are
        ``insufficient_quota`` for a quota, a balance and a spending cap, and otherwise ``billing_error`` or
        ``permission_error`` and the reason; and a ``param``, which is null. ``x-should-retry`` keeps clients from
        trying again in vain.

        Args:
            status: HTTP status, as for any `Refusal`.
        """
        return cls(status=status, body=_as_openai, media_type="application/json")

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
        status = self.status_for(block.reason)
        block = self.worded(block)
        values = {**asdict(block), "title": _title(block), "status": status}
        headers = [(name, _header(fill(value, values))) for name, value in self.headers.items()]
        if block.retry_after is not None:
            headers.append(("Retry-After", str(block.retry_after)))
        if self.body is _as_openai and (block.retry_after is None or block.retry_after > WORTH_WAITING):
            headers.append(("x-should-retry", "false"))  # otherwise, OpenAI's clients send a 429 twice more
        return response(status, self._body(block, values), *headers, media_type=_header(self.media_type))

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the body, for OpenAPI; empty if the body is the application's own."""
        if self.body is _as_openai:
            return OPENAI_SCHEMA
        return PROBLEM_SCHEMA if self.body is None else {}

    def status_for(self, reason: str) -> int:
        """Return the HTTP status of the response to a request that is blocked for *reason*."""
        return self.status or STATUSES.get(reason, 402)

    def worded(self, block: Block) -> Block:
        """Return *block* with the sentence of this refusal."""
        if self.detail is None:
            return block
        values = {**asdict(block), "title": _title(block), "status": self.status_for(block.reason)}
        return replace(block, detail=fill(self.detail, values))

    def _body(self, block: Block, values: dict[str, object]) -> bytes:
        if self.body is None:
            return _problem(values)
        if not callable(self.body):
            return fill(self.body, values, escape=_escape_for(self.media_type)).encode()
        made = self.body(block)
        return made if isinstance(made, bytes) else (made if isinstance(made, str) else json.dumps(made)).encode()


WORTH_WAITING = 60
"""Longest time, in seconds, after which OpenAI's clients try again because of a ``Retry-After``."""


def _as_openai(block: Block) -> dict[str, object]:
    message = block.detail if block.settle_url is None else f"{block.detail} See {block.settle_url}"
    kind, code = ("permission_error" if STATUSES.get(block.reason) == 403 else "billing_error"), str(block.reason)
    if block.reason in ("quota", "balance", "spending_cap"):
        kind = code = "insufficient_quota"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


OPENAI_SCHEMA: dict[str, Any] = {
    "title": "OpenAIError",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string", "enum": ["insufficient_quota", "billing_error", "permission_error"]},
                "param": {"type": "null"},
                "code": {"type": "string"},
            },
        }
    },
}
"""JSON Schema of the body of `Refusal.openai`."""


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


_JSON_TYPES = {"str": "string", "int": "integer"}

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "reason"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        **{each.name: {"type": _JSON_TYPES.get(str(each.type).split(" ")[0], "string")} for each in fields(Block)},
        "reason": {"type": "string", "enum": list(REASONS)},
    },
}
"""JSON Schema of the problem document that is the default body of a `Refusal`."""


def _escape_for(media_type: str) -> Callable[[str], str]:
    if "json" in media_type:
        return lambda text: json.dumps(text)[1:-1]
    return html.escape if "html" in media_type or "xml" in media_type else str


def _header(text: str) -> str:
    """Return *text* as a header value: no company id can inject another header."""
    return "".join(each if " " <= each <= "~" else "?" for each in text)
