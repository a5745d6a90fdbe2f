"""
Signals for what happens to companies: ``notify=[Notify.overdue(to=SignalChannel())]``.

All have the arguments ``company``, the company id or None, and ``notice``, a `meterkit.Notice`. The sender is
`meterkit.Notice`.
"""

from __future__ import annotations

from django.db import close_old_connections
from django.dispatch import Signal

from meterkit.notices.notice import Notice

__all__ = ["SignalChannel", "company_overdue", "company_recovered", "invoice_paid", "notice_sent"]

notice_sent = Signal()
"""Sent for each notice that reaches the channel, of whatever kind."""

company_overdue = Signal()
"""Sent when a company is overdue; ``notice.fields`` has the ``invoice``, ``amount``, ``currency`` and ``url``."""

company_recovered = Signal()
"""Sent when a company that was overdue no longer is; ``notice.fields`` has the ``invoice``."""

invoice_paid = Signal()
"""Sent when an invoice is paid; ``notice.fields`` has the ``invoice``, ``amount``, ``currency`` and ``customer``."""

_BY_KIND = {"overdue": company_overdue, "recovered": company_recovered, "invoice_paid": invoice_paid}


class ReceiverError(Exception):
    """Receivers of a signal have raised; all are called again later."""


class SignalChannel:
    """
    Sends each notice as signals of Django: that of its kind, and `notice_sent`.

    In a background thread of one process, after the commit of what the notice is about. At least once: if a receiver
    raises, or the process dies, all receivers are called again, at growing intervals for three days. What has been
    seen is told by ``notice.key``.

    Args:
        name: Name of this channel, under which the ledger records deliveries.

    Attributes:
        name: As the argument.
    """

    def __init__(self, *, name: str = "django-signals") -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SignalChannel) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def deliver(self, notice: Notice) -> None:
        """
        Send the signals of *notice*. A receiver that raises does not keep the others from being called.

        Raises:
            ReceiverError: A receiver raised.
        """
        signals = [notice_sent]
        if notice.kind in _BY_KIND:
            signals.insert(0, _BY_KIND[notice.kind])
        close_old_connections()  # the database may have been restarted since the last notice
        try:
            answers = [
                answer
                for signal in signals
                for answer in signal.send_robust(sender=Notice, company=notice.company, notice=notice)
            ]
        finally:
            close_old_connections()
        failed = [(receiver, answer) for receiver, answer in answers if isinstance(answer, Exception)]
        if failed:
            receiver, error = failed[0]
            name = getattr(receiver, "__qualname__", repr(receiver))
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise ReceiverError(f"the receiver {name} raised {type(error).__name__}: {error}{more}") from error
