"""
The ways by which notices reach people: ``to=`` of `meterkit.Notify`.

A channel delivers one notice at a time, in a background thread. If it raises, the notice is retried later.
A function that takes a `meterkit.notices.notice.Notice` is a channel, too.
"""

from __future__ import annotations

from meterkit.channels.email import Email
from meterkit.channels.log import Log
from meterkit.channels.slack import Slack
from meterkit.channels.webhook import SignedWebhook

__all__ = ["Email", "Log", "SignedWebhook", "Slack"]
