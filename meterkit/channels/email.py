"""Notices by e-mail, over SMTP; through Django's mail settings see `meterkit.channels.django`."""

from __future__ import annotations

from typing import Any, Literal

from meterkit.channels.message import EmailTemplate, Text, To
from meterkit.channels.targets import fingerprint
from meterkit.errors import ConfigurationError
from meterkit.notices.notice import Notice

PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Email:
    """
    Sends each notice as an e-mail, in text and HTML.

    If the server refuses a recipient, the delivery fails, and the notice is sent to all recipients again, with the same
    ``Message-ID``.

    Args:
        host: Host name of the SMTP server.
        sender: Address in ``From``, such as ``"Acme <billing@example.com>"``.
        to: Recipient addresses; or a function that takes a `Notice` and returns them, or None for no e-mail.
        port: Port of the server; by default 587 for ``starttls``, 465 for ``tls``, 25 for ``none``.
        username: User name, if the server requires authentication.
        password: Password, if the server requires authentication.
        security: ``starttls``, ``tls`` or ``none``; the first two verify the server's certificate.
        timeout: Seconds to wait for each response of the server.
        subject: Text with fields such as ``{title}``, or a function that takes a `Notice` and returns the subject.
        text: Text with fields, or a function that takes a `Notice` and returns the plain part.
        html: HTML with fields, which are escaped, or a function that takes a `Notice` and returns the HTML part.
        reply_to: Address in ``Reply-To``.
        name: Name of this channel; required if two channels would have the same one.
        tls_context: ``ssl.SSLContext`` that replaces the default one.

    Attributes:
        name: Name of this channel, by default derived from the server, the sender and the recipients.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    def __init__(
        self,
        host: str,
        *,
        sender: str,
        to: To,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        security: Literal["starttls", "tls", "none"] = "starttls",
        timeout: float = 10.0,
        subject: Text | None = None,
        text: Text | None = None,
        html: Text | None = None,
        reply_to: str | None = None,
        name: str | None = None,
        tls_context: Any = None,
    ) -> None:
        if security not in PORTS:
            raise ConfigurationError(f"Email(security=...) must be 'starttls', 'tls' or 'none', not {security!r:.100}")
        if not isinstance(host, str) or not host:
            raise ConfigurationError(f"Email(host) must be the name of an SMTP server, not {host!r:.100}")
        self._template = EmailTemplate(to=to, sender=sender, reply_to=reply_to, subject=subject, text=text, html=html)
        self._host = host
        self._port = port or PORTS[security]
        self._credentials = None if username is None else (username, password or "")
        self._security = security
        self._timeout = timeout
        self._tls_context = tls_context
        self.name = name or f"email:{host}:{fingerprint(sender, to)}"

    def __repr__(self) -> str:
        return f"Email({self._host!r}, security={self._security!r})"

    def deliver(self, notice: Notice) -> None:
        """
        Send *notice* to its recipients.

        Raises:
            OSError: The server did not accept it, including ``smtplib.SMTPException`` and ``TimeoutError``.
        """
        import smtplib
        import ssl

        to = self._template.recipients(notice)
        if not to:
            return
        context = self._tls_context or ssl.create_default_context()
        if self._security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
        with server:
            if self._security == "starttls":
                server.starttls(context=context)
            if self._credentials is not None:
                server.login(*self._credentials)
            refused = server.send_message(self._template.compose(notice, to))
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)
