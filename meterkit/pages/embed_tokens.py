"""Tokens that let whoever has one see the page of one company, for some minutes; signed, so nothing stores them."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from meterkit.core.validation import checked_subject_id
from meterkit.errors import ConfigurationError, UsageError
from meterkit.pages.config import Pages

PURPOSE = b"meterkit embed 1:"
"""What is signed begins with this: a signature that the same secret makes for something else is no token."""

LONGEST_SECONDS = 86_400
"""Longest life of a token, in seconds: it cannot be revoked, and stands in the logs of servers."""

LONGEST_TOKEN = 2_000
"""Most characters of a token: an id has at most 765 bytes."""


class EmbedTokens:
    """
    Makes and reads tokens.

    Args:
        secrets: Secrets; the first signs, and any may have signed.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, secrets: tuple[str, ...], *, clock: Callable[[], float]) -> None:
        self._secrets = secrets
        self._clock = clock

    def make(self, company: Any, expires_in: Any) -> str:
        """
        Return a token; see `meterkit.MeterKit.embed_token`.

        Raises:
            UsageError: *company* is not a company id, or *expires_in* not a number of seconds up to `LONGEST_SECONDS`.
        """
        company = checked_subject_id(company, "company")
        is_number = isinstance(expires_in, int | float) and not isinstance(expires_in, bool)
        if not is_number or not 1 <= expires_in <= LONGEST_SECONDS:
            raise UsageError(
                f"expires_in must be 1 to {LONGEST_SECONDS:,} seconds, not {expires_in!r:.50}", reason="expiry_wrong"
            )
        payload = f"{int(self._clock() + expires_in)}:{company}".encode()
        return f"{_text(payload)}.{_text(_signature(self._secrets[0], payload))}"

    def company_of(self, token: str) -> str | None:
        """Return the company of *token*; None if it is old or forged, in the same time. Never raises."""
        try:
            if len(token) > LONGEST_TOKEN:
                return None
            payload, _, signature = (token + ".").partition(".")
            signed, given = _bytes(payload), _bytes(signature.rstrip("."))
            is_valid = [hmac.compare_digest(_signature(secret, signed), given) for secret in self._secrets]
            if not any(is_valid):
                return None
            expires_at, _, company = signed.decode().partition(":")
            return company if self._clock() < int(expires_at) else None
        except ValueError:  # not Base64, or not text
            return None


def embed_tokens_of(pages: Pages | None, *, clock: Callable[[], float]) -> EmbedTokens:
    """
    Return what makes the tokens for *pages*.

    Raises:
        ConfigurationError: Nobody may embed a page.
    """
    if pages is None or not pages.embed_in:
        raise ConfigurationError(
            "no page may be embedded: pass pages=Pages('/billing', embed_in=['https://app.example.com'], "
            "embed_secret=...), with the origin of the page that has the iframe"
        )
    return EmbedTokens(pages.embed_secrets, clock=clock)


def _signature(secret: str, payload: bytes) -> bytes:
    return hmac.new(secret.encode(), PURPOSE + payload, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """
    Return what *text* encodes.

    Raises:
        ValueError: It is not what `_text` returns: Python ignores what is not Base64, so one token had many spellings.
    """
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _text(data) != text:
        raise ValueError("this is not Base64 as it is written here")
    return data
