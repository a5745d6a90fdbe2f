"""Notices by e-mail, through Django's own mail settings."""

from __future__ import annotations

from django.core.mail import EmailMultiAlternatives

from meterkit.channels.message import Letter, Text, To
from meterkit.channels.targets import fingerprint
from meterkit.notices.notice import Notice

__all__ = ["DjangoEmail"]


class DjangoEmail:
    """
    Sends each notice as an e-mail, by the project's ``EMAIL_BACKEND`` and ``EMAIL_...`` settings.

    Args:
        to: Addresses; or a function that answers them for a `Notice`, or None for nobody.
        sender: Whose address they are from; by default ``DEFAULT_FROM_EMAIL``.
        subject: A text with fields such as ``{title}``, or a function of the `Notice`.
        text: The same, for the plain part.
        html: The same, for the part in HTML, in which fields are escaped.
        reply_to: Where answers go.
        name: Of this channel, where two would have the same.

    Attributes:
        name: By default it follows from the sender, and from whom it writes to.

    Raises:
        ConfigurationError: An argument is wrong; the message says the cure.
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
        name: str | None = None,
    ) -> None:
        self._letter = Letter(to=to, sender=sender, reply_to=reply_to, subject=subject, text=text, html=html)
        self._sender = sender
        self.name = name or f"django:{fingerprint(sender, to)}"

    def deliver(self, notice: Notice) -> None:
        """
        Send it.

        Raises:
            Exception: The project's backend did not take it.
        """
        to = self._letter.receivers(notice)
        if not to:
            return
        written = self._letter.write(notice, to)
        kept = ("Message-ID", "Date", "Auto-Submitted", "X-Meterkit-Notice", "Reply-To")
        headers = {name: str(written[name]) for name in kept if name in written}
        message = EmailMultiAlternatives(
            self._letter.subject(notice), self._letter.text(notice), self._sender, to, headers=headers
        )
        message.attach_alternative(self._letter.html(notice), "text/html")
        message.send()
