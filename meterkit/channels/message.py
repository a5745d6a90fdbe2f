"""an e-mail message"""

from __future__ import annotations

import hashlib
import html
import inspect
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any, TypeAlias

from meterkit.core.text_templates import checked_template, fill
from meterkit.errors import ConfigurationError
from meterkit.notices.notice import FIELDS, Notice

Text: TypeAlias = "str | Callable[[Notice], str]"
To: TypeAlias = "str | Iterable[str] | Callable[[Notice], str | Iterable[str] | None]"

NAMES = (*FIELDS, "key", "kind", "company", "title", "text", "created_at")
"""What texts may name."""

MOMENTS = frozenset(("created_at", "due_at", "period_start", "period_end"))

SUBJECT = "{title}"

TEXT = """\
{text}

{table}
"""

HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>{title}</title></head>
<body style="font-family: sans-serif; line-height: 1.5; max-width: 36rem; margin: 1rem auto; padding: 0 1rem">
<h1 style="font-size: 1.2rem">{title}</h1>
<p>{text}</p>
<table style="border-collapse: collapse; font-size: .9rem">
{table}
</table>
</body></html>
"""


class Letter:
    """
    Writes e-mails about notices.

    Args:
        to: Addresses; or a function that answers them for a `Notice`, or None for nobody.
        sender: Whose address they are from.
        reply_to: Where answers go.
        subject: A text with fields, such as ``{title}``, or a function of the `Notice`.
        text: The same, for the plain part.
        html: The same, for the part in HTML, in which fields are escaped.

    Raises:
        ConfigurationError: An address is none, or a text has a field that there is not.
    """

    def __init__(
        self,
        *,
        to: To,
        sender: str | None,
        reply_to: str | None,
        subject: Text | None,
        text: Text | None,
        html: Text | None,
    ) -> None:
        self._to = to
        if not callable(to):
            for address in _several(to):
                check_address(address, "to=")
        for given, what in ((sender, "sender="), (reply_to, "reply_to=")):
            if given is not None:
                check_address(given, what)
        self._sender, self._reply_to = sender, reply_to
        self._subject = _checked(subject or SUBJECT, "subject=")
        self._text = _checked(text or TEXT, "text=")
        self._html = _checked(html or HTML, "html=")

    def receivers(self, notice: Notice) -> list[str]:
        """
        To whom *notice* goes; empty for nobody.

        Raises:
            ConfigurationError: The user's function answered something else than addresses.
        """
        found = self._to(notice) if callable(self._to) else self._to
        addresses = [] if found is None else _several(found)
        for address in addresses:
            check_address(address, "to=")
        return addresses

    def write(self, notice: Notice, to: list[str]) -> EmailMessage:
        """The e-mail; its id follows from the notice's key, by which mail programs know a repetition."""
        message = EmailMessage()
        values = values_of(notice)
        message["Subject"] = " ".join(_filled(self._subject, notice, {**values, "table": ""}).split())
        if self._sender is not None:
            message["From"] = self._sender
        message["To"] = ", ".join(to)
        if self._reply_to is not None:
            message["Reply-To"] = self._reply_to
        digest = hashlib.sha256(notice.key.encode()).hexdigest()[:32]
        domain = parseaddr(self._sender or "")[1].rpartition("@")[2] or "localhost"
        message["Message-ID"] = f"<{digest}@{domain}>"
        message["Date"] = format_datetime(datetime.fromtimestamp(notice.created_at, timezone.utc))
        message["Auto-Submitted"] = "auto-generated"
        message["X-Meterkit-Notice"] = digest
        message.set_content(self.text(notice))
        message.add_alternative(self.html(notice), subtype="html")
        return message

    def subject(self, notice: Notice) -> str:
        """One line."""
        return " ".join(_filled(self._subject, notice, values_of(notice)).split())

    def text(self, notice: Notice) -> str:
        """The plain part."""
        rows = "\n".join(f"{name}: {value}" for name, value in _rows(notice))
        return _filled(self._text, notice, {**values_of(notice), "table": rows})

    def html(self, notice: Notice) -> str:
        """The part in HTML."""
        rows = "\n".join(
            f'<tr><th style="text-align: left; padding-right: 1rem">{html.escape(name)}</th>'
            f"<td>{html.escape(value)}</td></tr>"
            for name, value in _rows(notice)
        )
        values = {name: html.escape(str(value)) for name, value in values_of(notice).items() if value is not None}
        return _filled(self._html, notice, {**values, "table": rows})


def values_of(notice: Notice) -> dict[str, Any]:
    """What the fields of a text stand for; moments as people read them."""
    values = {**notice.fields, **{name: getattr(notice, name) for name in NAMES if name not in FIELDS}}
    return {name: _readable(name, value) for name, value in values.items()}


def check_address(address: Any, what: str) -> None:
    """
    See that it is one address, as ``Name <user@example.com>`` or without a name.

    Raises:
        ConfigurationError: It is not.
    """
    plain = parseaddr(address)[1] if isinstance(address, str) else ""
    if not plain or plain.count("@") != 1 or any(each in address for each in "\r\n") or " " in plain:
        raise ConfigurationError(f"{what} is an e-mail address such as 'billing@example.com', not {address!r:.200}")


def _rows(notice: Notice) -> list[tuple[str, str]]:
    about = {"company": notice.company, **notice.fields, "created_at": notice.created_at}
    return [(name.replace("_", " "), str(_readable(name, value))) for name, value in about.items() if value is not None]


def _readable(name: str, value: Any) -> Any:
    if name in MOMENTS and isinstance(value, int):
        return datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return value


def _several(to: Any) -> list[str]:
    return [to] if isinstance(to, str) else list(to)


def _checked(text: Any, what: str) -> Text:
    if isinstance(text, str):
        return checked_template(text, what=what, fields=(*NAMES, "table"))
    if not callable(text) or inspect.iscoroutinefunction(text):
        raise ConfigurationError(f"{what} is a text with fields, or a plain function of a Notice, not {text!r:.200}")
    return text  # type: ignore[no-any-return]


def _filled(text: Text, notice: Notice, values: dict[str, Any]) -> str:
    return fill(text, values) if isinstance(text, str) else str(text(notice))
