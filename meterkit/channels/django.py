"""Notices by e-mail, through Django's own mail settings."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.core.mail import EmailMultiAlternatives

from meterkit.channels.message import EmailTemplate, Text, To
from meterkit.channels.targets import fingerprint
from meterkit.errors import ConfigurationError
from meterkit.notices.notice import Notice

__all__ = ["DjangoEmail"]


class DjangoEmail:
    """
    Sends each notice as an e-mail, through the project's ``MAILERS``; before Django 6.1, its ``EMAIL_...`` settings.

    Args:
        to: Recipient addresses; or a function that takes a `Notice` and returns them, or None for no e-mail.
        sender: Address in ``From``; by default ``DEFAULT_FROM_EMAIL``.
        subject: Text with fields such as ``{title}``, or a function that takes a `Notice` and returns the subject.
        text: Text with fields, or a function that takes a `Notice` and returns the plain part.
        html: HTML with fields, which are escaped, or a function that takes a `Notice` and returns the HTML part.
        reply_to: Address in ``Reply-To``.
        using: Alias of the mailer in ``MAILERS``, since Django 6.1; by default ``default``.
        name: Name of this channel; required if two channels would have the same one.

    Attributes:
        name: Name of this channel, by default derived from the sender and the recipients.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    def __init__(
        self,
        *,
        to: To,
        sender: str | None = None,
        subject: Text | None = None,
        text: Text | None = None,
        html: Text | None = None,
        reply_to: str | None = None,
        using: str | None = None,
        name: str | None = None,
    ) -> None:
        if using is not None and django.VERSION < (6, 1):
            raise ConfigurationError(
                f"DjangoEmail(using={using!r:.100}) needs Django 6.1, which has MAILERS, and this is "
                f"{django.get_version()}: leave it out, or use meterkit.channels.Email for another server"
            )
        self._template = EmailTemplate(to=to, sender=sender, reply_to=reply_to, subject=subject, text=text, html=html)
        self._sender = sender
        self._using = using
        self.name = name or f"django:{fingerprint(sender, to, *([] if using is None else [using]))}"

    def deliver(self, notice: Notice) -> None:
        """
        Send *notice* to its recipients.

        Raises:
            Exception: The project's e-mail backend failed.
        """
        to = self._template.recipients(notice)
        if not to:
            return
        composed = self._template.compose(notice, to, default_sender=settings.DEFAULT_FROM_EMAIL)
        kept = ("Message-ID", "Date", "Auto-Submitted", "X-Meterkit-Notice", "Reply-To")
        headers = {name: str(composed[name]) for name in kept if name in composed}
        message = EmailMultiAlternatives(
            self._template.subject(notice), self._template.text(notice), self._sender, to, headers=headers
        )
        message.attach_alternative(self._template.html(notice), "text/html")
        chosen: Any = {} if self._using is None else {"using": self._using}
        message.send(**chosen)
