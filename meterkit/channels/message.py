"""E-mail messages: the subject, text part and HTML part of a notice."""

from __future__ import annotations

import hashlib
import html
import inspect
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, parseaddr
from typing import Any, TypeAlias

from meterkit.core.text_templates import checked_template, fill, is_text
from meterkit.errors import ConfigurationError
from meterkit.notices.notice import FIELDS, Notice

Text: TypeAlias = "str | Callable[[Notice], str]"
To: TypeAlias = "str | Iterable[str] | Callable[[Notice], str | Iterable[str] | None]"

NAMES = (*FIELDS, "key", "kind", "company", "title", "text", "created_at")
"""Fields that texts may contain."""

MOMENTS = frozenset(("created_at", "due_at", "period_start", "period_end", "since"))


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


class EmailTemplate:
    """
    Composes e-mails from notices.

    Args:
        to: Recipient addresses; or a function that takes a `Notice` and returns them, or None for no e-mail.
        sender: Address in ``From``, or None.
        reply_to: Address in ``Reply-To``, or None.
        subject: Text with fields such as ``{title}``, or a function that takes a `Notice` and returns the subject.
        text: Text with fields, or a function that takes a `Notice` and returns the plain part.
        html: HTML with fields, which are escaped, or a function that takes a `Notice` and returns the HTML part.

    Raises:
        ConfigurationError: An address is not valid, or a text contains an unknown field.
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
        for optional, what in ((sender, "sender="), (reply_to, "reply_to=")):
            if optional is not None:
                check_address(optional, what)
        self._sender, self._reply_to = sender, reply_to
        self._subject = _checked(subject or _default_subject, "subject=")
        self._text = _checked(text or TEXT, "text=")
        self._html = _checked(html or HTML, "html=")

    def recipients(self, notice: Notice) -> list[str]:
        """
        Return the addresses that *notice* is sent to; an empty list for no e-mail.

        Raises:
            ConfigurationError: The application's ``to=`` function returned something that is not an address.
        """
        found = self._to(notice) if callable(self._to) else self._to
        addresses = [] if found is None else _several(found)
        for address in addresses:
            check_address(address, "to=")
        return addresses

    def compose(self, notice: Notice, to: list[str], *, default_sender: str = "") -> EmailMessage:
        """
        Return the e-mail; its ``Message-ID`` is derived from the notice's key, so duplicates can be detected.

        Args:
            notice: Notice to tell.
            to: Recipients.
            default_sender: Address whose domain the ``Message-ID`` has if no sender was given.
        """
        message = EmailMessage()
        message["Subject"] = self.subject(notice)
        if self._sender is not None:
            message["From"] = self._sender
        message["To"] = ", ".join(to)
        if self._reply_to is not None:
            message["Reply-To"] = self._reply_to
        digest = hashlib.sha256(notice.key.encode()).hexdigest()[:32]
        domain = parseaddr(self._sender or default_sender)[1].rpartition("@")[2] or "localhost"
        message["Message-ID"] = f"<{digest}@{domain}>"
        message["Date"] = format_datetime(datetime.fromtimestamp(notice.created_at, timezone.utc))
        message["Auto-Submitted"] = "auto-generated"
        message["X-Meterkit-Notice"] = digest
        message.set_content(self.text(notice))
        message.add_alternative(self.html(notice), subtype="html")
        return message

    def subject(self, notice: Notice) -> str:
        """
        Return the subject, in one line, and without encoded words (RFC 2047).

        Pythons before CVE-2024-6923 was mended decode such a word, and write the line break in it: a company's name
        could add headers.
        """
        return " ".join(_filled(self._subject, notice, values_of(notice)).split()).replace("=?", "= ?")

    def text(self, notice: Notice) -> str:
        """Return the plain part."""
        rows = "\n".join(f"{name}: {value}" for name, value in _rows(notice))
        return _filled(self._text, notice, {**values_of(notice), "table": rows})

    def html(self, notice: Notice) -> str:
        """Return the HTML part."""
        rows = "\n".join(
            f'<tr><th style="text-align: left; padding-right: 1rem">{html.escape(name)}</th>'
            f"<td>{html.escape(value)}</td></tr>"
            for name, value in _rows(notice)
        )
        values = {name: html.escape(str(value)) for name, value in values_of(notice).items() if value is not None}
        return _filled(self._html, notice, {**values, "table": rows})


def values_of(notice: Notice) -> dict[str, Any]:
    """Return the values of the fields in texts, with times in readable form; the company's id in place of no name."""
    values = {
        "name": notice.company,
        **notice.fields,
        **{name: getattr(notice, name) for name in NAMES if name not in FIELDS},
    }
    return {name: _readable(name, value) for name, value in values.items()}


def _default_subject(notice: Notice) -> str:
    name = notice.fields.get("name")
    return notice.title if not name or name == notice.company else f"{notice.title} ({name})"


def check_address(address: Any, what: str) -> None:
    """
    Check that *address* is one e-mail address, such as ``Name <user@example.com>``; *what* names it in errors.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(address, str) or not _is_one_address(address):
        raise ConfigurationError(
            f"{what} must be an e-mail address such as 'billing@example.com', not {address!r:.200}"
        )


def _is_one_address(address: str) -> bool:
    found = getaddresses([address])
    plain = found[0][1]
    if len(found) != 1 or plain.count("@") != 1 or not address.isprintable() or " " in plain or "=?" in address:
        return False
    try:  # as the header will be read again, by a parser with other rules
        header: Any = policy.default.header_factory("To", address)
        return [each.addr_spec for each in header.addresses] == [plain]
    except Exception:  # it has faults of its own
        return False


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
    if is_text(text):
        return checked_template(text, what=what, fields=(*NAMES, "table"))
    if not callable(text) or inspect.iscoroutinefunction(text):
        raise ConfigurationError(f"{what} must be a text, or a plain function that takes a Notice, not {text!r:.200}")
    return text  # type: ignore[no-any-return]


def _filled(text: Text, notice: Notice, values: dict[str, Any]) -> str:
    return str(text(notice)) if callable(text) else fill(text, values)
