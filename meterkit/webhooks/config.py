"""`Webhook`: the endpoint's path and signing secrets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from meterkit.errors import ConfigurationError, UsageError
from meterkit.project_settings import project_setting

LARGEST_BYTES = 256 * 1024
"""Largest request body, in bytes. Stripe's events have a few thousand; a larger request is not from Stripe."""


@dataclass(frozen=True)
class Webhook:
    """
    The endpoint that Stripe calls when a customer, a subscription or an invoice changes.

    In Stripe, create an endpoint with its URL and these events: ``customer.created``, ``customer.updated``,
    ``customer.deleted``, ``customer.discount.*``, ``customer.subscription.*`` and ``invoice.*``; also
    ``checkout.session.completed`` if Checkout makes your customers. Others do no harm.

    Attributes:
        path: Path that the middleware serves itself, as clients see it, such as ``/stripe/webhook``; None if a view of
            yours calls ``kit.receive()``.
        secret: Signing secret, ``whsec_...``, by default from ``STRIPE_WEBHOOK_SECRET``; several while one replaces
            another, in a list or separated by commas.
        tolerance: Seconds for which a signature is valid. Stripe signs each attempt anew.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    path: str | None
    _: KW_ONLY
    secret: str | Iterable[str] | None = field(default=None, repr=False)
    tolerance: float = 300.0

    def __post_init__(self) -> None:
        if self.path is not None and (
            not isinstance(self.path, str) or not self.path.startswith("/") or set(self.path) & set("?#*{<")
        ):
            raise ConfigurationError(
                f"Webhook(path) must be one path such as '/stripe/webhook', not {self.path!r:.200}"
            )
        secret = self.secret or project_setting("WEBHOOK_SECRET") or os.environ.get("STRIPE_WEBHOOK_SECRET")
        object.__setattr__(self, "secret", secrets_of(secret))
        if isinstance(self.tolerance, bool) or not isinstance(self.tolerance, int | float) or self.tolerance <= 0:
            raise ConfigurationError(
                f"Webhook(tolerance=...) must be a positive number of seconds, not {self.tolerance!r}"
            )

    @property
    def secrets(self) -> tuple[str, ...]:
        """Signing secrets; any of them may have signed an event."""
        assert isinstance(self.secret, tuple)
        return self.secret


def checked_webhook(webhook: Any) -> Webhook | None:
    """
    Return *webhook*, a `Webhook` or None.

    Raises:
        ConfigurationError: It is neither.
    """
    if webhook is not None and not isinstance(webhook, Webhook):
        raise ConfigurationError(  # what was given is not shown: the likeliest mistake is the secret itself
            "webhook= must be a Webhook, such as Webhook('/stripe/webhook', secret='whsec_...'), not a "
            f"{type(webhook).__name__}"
        )
    return webhook


def check_webhook_url(url: Any, webhook: Webhook | None) -> None:
    """
    Check the URL at which Stripe is to reach the endpoint *webhook*.

    Raises:
        UsageError: It is not a URL, or does not end in the endpoint's path.
    """
    if not isinstance(url, str) or not url.startswith(("https://", "http://")) or set(url) & set(" ?#"):
        raise UsageError(
            f"webhook must be the URL at which Stripe reaches the endpoint, such as "
            f"'https://api.example.com/stripe/webhook', not {url!r:.200}",
            reason="webhook_wrong",
        )
    if webhook is not None and webhook.path is not None and not url.endswith(webhook.path):
        raise UsageError(
            f"the middleware answers Stripe at {webhook.path!r:.100}, and {url!r:.200} leads elsewhere: let it end in "
            "that path",
            reason="webhook_wrong",
        )


def secrets_of(given: Any) -> tuple[str, ...]:
    """
    Return signing secrets, of one or several in a text or a list.

    Raises:
        ConfigurationError: There is none, or one is not a signing secret.
    """
    if not given:
        raise ConfigurationError(
            "no webhook secret: set STRIPE_WEBHOOK_SECRET or pass Webhook(secret=...), the whsec_... that Stripe shows "
            "when you create the endpoint"
        )
    secrets = given.split(",") if isinstance(given, str) else list(given)
    for secret in secrets:
        if not isinstance(secret, str) or not secret.strip().startswith("whsec_"):
            raise ConfigurationError("Webhook(secret=...) must begin with whsec_; this looks like an API key")
    return tuple(secret.strip() for secret in secrets)
