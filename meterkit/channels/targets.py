"""
`fingerprint` (from `email.py`) and `check_url` (from `webhook.py`): today Slack imports from e-mail and from webhooks
"""

from __future__ import annotations

import hashlib

from meterkit.errors import ConfigurationError


def fingerprint(*target: object) -> str:
    """A few characters that tell targets apart, and disclose none; of a function, its name counts."""
    named = [
        f"{each.__module__}.{each.__qualname__}" if callable(each) and hasattr(each, "__qualname__") else each
        for each in target
    ]
    return hashlib.sha256(repr(named).encode()).hexdigest()[:8]


def check_url(url: object, what: str) -> None:
    """
    See that it is an address.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{what} is an address that begins with https://")  # not shown: it may be a secret
