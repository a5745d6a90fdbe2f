"""Notices by e-mail, over SMTP; through Django's mail settings see `meterkit.channels.django`."""

from __future__ import annotations

from typing import Any, Literal

from meterkit.channels.message import Letter, Text, To
from meterkit.channels.targets import fingerprint
from meterkit.errors import ConfigurationError
from meterkit.notices.notice import Notice

PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Email:
    """
    Sends each notice as an e-mail, in text and HTML.

    A receiver that the server refuses is an error, and the notice is sent again, to all of them: it has the same
    ``Message-ID`` each time.

    Args:
        host: The SMTP server's name.
        sender: Whose address the e-mails are from, such as ``"Acme <billing@example.com>"``.
        to: Addresses; or a function that answers them for a `Notice`, or None for nobody: so customers can be written
            to.
        port: By default 587 for ``starttls``, 465 for ``tls``, 25 for ``none``.
        username: If the server wants one.
        password: The same.
        security: ``starttls`` and ``tls`` check the server's certificate.
        timeout: Seconds that the server may take for an answer.
        subject: A text with fields such as ``{title}``, or a function of the `Notice`.
        text: The same, for the plain part.
        html: The same, for the part in HTML, in which fields are escaped.
        reply_to: Where answers go.
        name: Of this channel, where two would have the same.
        tls_context: An ``ssl.SSLContext`` of your own.

    Attributes:
        name: By default it follows from the server and the sender, and from whom it writes to.

    Raises:
        ConfigurationError: An argument is wrong; the message says the cure.
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
            raise ConfigurationError(f"Email(security=...) is 'starttls', 'tls' or 'none', not {security!r:.100}")
        if not isinstance(host, str) or not host:
            raise ConfigurationError(f"Email(host) is the name of an SMTP server, not {host!r:.100}")
        self._letter = Letter(to=to, sender=sender, reply_to=reply_to, subject=subject, text=text, html=html)
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
        Send it.

        Raises:
            OSError: The server did not take it; among these are ``smtplib.SMTPException`` and ``TimeoutError``.
        """
        import smtplib
        import ssl

        to = self._letter.receivers(notice)
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
            refused = server.send_message(self._letter.write(notice, to))
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)
