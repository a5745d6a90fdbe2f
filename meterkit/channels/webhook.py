"""Notices to a webhook of yours, signed according to Standard Webhooks: https://www.standardwebhooks.com."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone

from meterkit.channels.targets import check_url, fingerprint
from meterkit.errors import ConfigurationError
from meterkit.notices.notice import Notice


class SignedWebhook:
    """
    POSTs each notice as JSON: ``{"type": "notice.tier_crossed", "timestamp": ..., "data": {...}}``.

    The header ``webhook-id`` is derived from the notice's key, so it is the same however often the notice is sent.

    Args:
        url: URL of the receiver.
        secret: Signing secret, ``whsec_`` and base64; a list of them while one replaces another.
        timeout: Seconds to wait for each response.
        name: Name of this channel; required if two channels would have the same one.

    Attributes:
        name: Name of this channel, by default derived from the URL, without disclosing it.

    Raises:
        ConfigurationError: An argument is wrong, or the library is missing; the message says how to correct it.
    """

    def __init__(
        self, url: str, *, secret: str | Iterable[str], timeout: float = 10.0, name: str | None = None
    ) -> None:
        try:
            from standardwebhooks import Webhook
        except ImportError:
            raise ConfigurationError("SignedWebhook needs a library: pip install 'meterkit[notices]'") from None
        check_url(url, "SignedWebhook(url)")
        secrets = [secret] if isinstance(secret, str) else list(secret)
        try:
            self._signers = [Webhook(each) for each in secrets]
        except Exception:
            self._signers = []
        if not self._signers:
            raise ConfigurationError(
                "SignedWebhook(secret=...) must be 'whsec_' and base64, such as from: openssl rand -base64 24"
            )
        self._url = url
        self._timeout = timeout
        self.name = name or f"webhook:{fingerprint(url)}"

    def __repr__(self) -> str:
        return f"SignedWebhook({self.name!r})"

    def deliver(self, notice: Notice) -> None:
        """
        Send *notice*.

        Raises:
            PostError: The receiver did not accept it.
        """
        from meterkit.channels.http_post import post

        identity = f"msg_{hashlib.sha256(notice.key.encode()).hexdigest()[:32]}"
        created = datetime.fromtimestamp(notice.created_at, timezone.utc)
        data = {
            "key": notice.key,
            "company": notice.company,
            "title": notice.title,
            "text": notice.text,
            **notice.fields,
        }
        body = json.dumps({"type": f"notice.{notice.kind}", "timestamp": created.isoformat(), "data": data})

        def headers() -> Mapping[str, str]:
            now = datetime.now(timezone.utc)
            return {
                "content-type": "application/json",
                "webhook-id": identity,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": " ".join(signer.sign(identity, now, body) for signer in self._signers),
            }

        post(self._url, content=body.encode(), headers=headers, timeout=self._timeout, to="the webhook")
