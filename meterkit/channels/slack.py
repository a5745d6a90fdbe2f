"""Notices to a Slack channel, through an incoming webhook."""

from __future__ import annotations

import json

from meterkit.channels.message import NAMES, values_of
from meterkit.channels.targets import check_url, fingerprint
from meterkit.core.text_templates import checked_template, fill
from meterkit.notices.notice import Notice

TEXT = "*{title}*\n{text}"


class Slack:
    """
    Posts each notice to a Slack channel.

    Args:
        url: URL of the incoming webhook; it is a secret.
        text: Text with fields such as ``{title}``, in Slack's own markup.
        timeout: Seconds to wait for each response.
        name: Name of this channel; required if two channels would have the same one.

    Attributes:
        name: Name of this channel, by default derived from the URL, without disclosing it.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    def __init__(self, url: str, *, text: str = TEXT, timeout: float = 10.0, name: str | None = None) -> None:
        check_url(url, "Slack(url)")
        self._url = url
        self._text = checked_template(text, what="Slack(text=...)", fields=NAMES)
        self._timeout = timeout
        self.name = name or f"slack:{fingerprint(url)}"

    def __repr__(self) -> str:
        return f"Slack({self.name!r})"

    def deliver(self, notice: Notice) -> None:
        """
        Post *notice*.

        Raises:
            PostError: Slack did not accept it.
        """
        from meterkit.channels.http_post import post

        text = fill(self._text, values_of(notice), escape=_escape)
        headers = {"content-type": "application/json"}
        body = json.dumps({"text": text}).encode()
        post(self._url, content=body, headers=lambda: headers, timeout=self._timeout, to="Slack")


def _escape(text: str) -> str:
    """Escape the three characters that are special in Slack's markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
