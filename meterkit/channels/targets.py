"""Fingerprints of channels' targets, and the check of their URLs."""

from __future__ import annotations

import hashlib

from meterkit.errors import ConfigurationError


def fingerprint(*target: object) -> str:
    """Return eight characters that identify *target* without disclosing it; a function is identified by its name."""
    named = [
        f"{each.__module__}.{each.__qualname__}" if callable(each) and hasattr(each, "__qualname__") else each
        for each in target
    ]
    return hashlib.sha256(repr(named).encode()).hexdigest()[:8]


def check_url(url: object, what: str) -> None:
    """
    Check that *url* is an HTTP URL; *what* names it in errors.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{what} must be a URL that begins with https://")  # not shown: it may be a secret
