"""
The header ``Stripe-Signature``: parsed once, for the signature and for its age.

Stripe: ``t=<Unix seconds>,v1=<HMAC-SHA256 of "t.body", in hexadecimal>``, with one ``v1`` for each secret in use.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from meterkit.errors import WebhookError

LONGEST_HEADER = 4096
"""Characters of the header that are looked at. Stripe's has about a hundred, and seventy for each further secret."""

_TIME = re.compile(r"0|[1-9][0-9]{0,11}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signature:
    """
    A header of the right form; whether it fits the body is for `signs` to say.

    Attributes:
        signed_at: When Stripe signed, Unix seconds.
        digests: Signatures of scheme ``v1``, in hexadecimal.
    """

    signed_at: int
    digests: tuple[str, ...]

    def signs(self, body: bytes, secrets: Iterable[str]) -> bool:
        """Return whether *body* was signed, at `signed_at`, with one of *secrets*."""
        signed = b"%d.%b" % (self.signed_at, body)
        expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
        return any(hmac.compare_digest(digest, each) for digest in self.digests for each in expected)


def parse_signature(header: object) -> Signature:
    """
    Return the signature in the value of a ``Stripe-Signature`` header.

    Args:
        header: Value of the header; anything that is not text is refused.

    Raises:
        WebhookError: It does not have the form that Stripe writes: one ``t``, at least one ``v1``, ASCII only.
    """
    if not header:
        raise WebhookError("the request has no Stripe-Signature header, so it is not from Stripe", status=400)
    if not isinstance(header, str):
        raise WebhookError(f"the signature must be the text of the header, not {type(header).__name__}", status=400)
    if len(header) > LONGEST_HEADER or not header.isascii():
        raise WebhookError("the Stripe-Signature header does not have Stripe's form", status=400)
    parts = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    digests = tuple(value for name, _, value in parts if name == "v1" and _DIGEST.fullmatch(value))
    if not all(equals for _, equals, _ in parts) or len(times) != 1 or not _TIME.fullmatch(times[0]) or not digests:
        raise WebhookError("the Stripe-Signature header does not have Stripe's form", status=400)
    return Signature(int(times[0]), digests)
