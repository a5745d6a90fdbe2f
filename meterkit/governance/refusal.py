"""
`Refusal` and `Block`: the 402, 403 and 429 responses.

By default a problem as RFC 9457 has it: ``application/problem+json``, with 429 for a quota, 403 for whom nobody knows,
and 402 where paying helps.
"""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from meterkit.core.responses import Response, response
from meterkit.core.text_templates import checked_template, fill
from meterkit.errors import ConfigurationError

Reason: TypeAlias = Literal["overdue", "no_subscription", "quota", "spending_cap", "check", "unknown"]

REASONS: tuple[str, ...] = get_args(Reason)

PROBLEM = "application/problem+json"

STATUSES = {"quota": 429, "unknown": 403}
"""The others are 402."""

TITLES = {
    "overdue": "An invoice is overdue",
    "no_subscription": "There is no active subscription",
    "quota": "The quota is used up",
    "spending_cap": "The spending cap is reached",
    "check": "This request may not pass",
    "unknown": "It is not known whose request this is",
}


@dataclass(frozen=True, slots=True)
class Block:
    """
    Why a request may not pass.

    Attributes:
        reason: One of `REASONS`.
        company: Whose it is; None where nobody has said.
        detail: A sentence for whoever sent it.
        settle_url: Where that can be changed, if that is known.
        meter: Whose quota is used up.
        used: How much is used.
        limit: Of how much.
        amount: What is owed, or spent, in whole currency.
        currency: Of the amount.
        invoice: The number of the invoice that is overdue.
        retry_after: Seconds until it may be otherwise.
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
"""What texts may name."""


@dataclass(frozen=True)
class Refusal:
    """
    How to answer whom does not pass. Texts may have fields, such as ``{company}`` and ``{settle_url}``.

    Attributes:
        status: The HTTP status; by default 429 for a quota, 403 for whom nobody knows, else 402.
        detail: The sentence in the problem.
        body: All of the body: a text, whose fields are escaped as *media_type* asks for; or a function that takes a
            `Block` and answers a text, or what ``json.dumps`` takes. By default the problem.
        media_type: Of the body.
        headers: Further ones.

    Raises:
        ConfigurationError: An attribute is wrong; the message says the cure.
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
            raise ConfigurationError(f"Refusal(status=...) is 400 to 599, not {status!r:.100}")
        if self.detail is not None:
            self.check_text(self.detail, "Refusal(detail=...)")
        if isinstance(self.body, str):
            self.check_text(self.body, "Refusal(body=...)")
        elif self.body is not None and (not callable(self.body) or inspect.iscoroutinefunction(self.body)):
            raise ConfigurationError(f"Refusal(body=...) is a text or a plain function, not {self.body!r:.200}")
        for name, value in {**self.headers, "Content-Type": self.media_type}.items():
            self.check_text(value, f"Refusal(headers=...), {name!r:.50},")
            if not str(name).isascii() or not str(name).replace("-", "").replace("_", "").isalnum():
                raise ConfigurationError(f"Refusal(headers=...) has the name {name!r:.100}, which no header can have")

    @staticmethod
    def check_text(text: Any, what: str) -> None:
        """
        See that *text* has only fields that there are.

        Raises:
            ConfigurationError: It has others.
        """
        if not isinstance(text, str):
            raise ConfigurationError(f"{what} is a text, not {text!r:.200}")
        checked_template(text, what=what, fields=FIELDS)

    def respond(self, block: Block) -> Response:
        """
        What to send for *block*.

        Raises:
            Exception: The function of the user's did.
        """
        status = self.status or STATUSES.get(block.reason, 402)
        values = {**asdict(block), "title": TITLES[block.reason], "status": status}
        if self.detail is not None:
            values["detail"] = fill(self.detail, values)
        headers = [(name, _header(fill(value, values))) for name, value in self.headers.items()]
        if block.retry_after is not None:
            headers.append(("Retry-After", str(block.retry_after)))
        return response(status, self._body(block, values), *headers, media_type=_header(self.media_type))

    def _body(self, block: Block, values: dict[str, object]) -> bytes:
        if self.body is None:
            return _problem(values)
        if isinstance(self.body, str):
            return fill(self.body, values, escape=_escape_for(self.media_type)).encode()
        made = self.body(block)
        return made if isinstance(made, bytes) else (made if isinstance(made, str) else json.dumps(made)).encode()


def _problem(values: Mapping[str, object]) -> bytes:
    """RFC 9457: type, title, status and detail, and members of our own."""
    problem = {"type": "about:blank", **{name: values[name] for name in ("title", "status", "detail")}}
    more = {name: value for name, value in values.items() if name not in problem and value is not None}
    return json.dumps({**problem, **more}).encode()


def _escape_for(media_type: str) -> Callable[[str], str]:
    if "json" in media_type:
        return lambda text: json.dumps(text)[1:-1]
    return html.escape if "html" in media_type or "xml" in media_type else str


def _header(text: str) -> str:
    """*text* as one header may have it: whatever a company is called, it begins no other."""
    return "".join(each if " " <= each <= "~" else "?" for each in text)
