"""`Webhook`: the endpoint's path and signing secrets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from meterkit.errors import ConfigurationError

LARGEST_BYTES = 16 * 1024 * 1024
"""Of one event. Stripe's have some thousand; whoever sends more is not Stripe."""


@dataclass(frozen=True)
class Webhook:
    """
    The endpoint that Stripe calls when a customer, a subscription or an invoice changes.

    Give Stripe its address, and these events: ``customer.created``, ``customer.updated``, ``customer.deleted``,
    ``customer.subscription.*`` and ``invoice.*``; others do no harm.

    Attributes:
        path: Which path the middleware answers instead of the app, such as ``/stripe/webhook``, as clients see it;
            None if a view of yours calls ``kit.receive()``.
        secret: ``whsec_...``, by default from ``STRIPE_WEBHOOK_SECRET``; several while one replaces another, in a
            list, or with commas between them.
        tolerance: Seconds that a signature is good for. Stripe signs each attempt anew.

    Raises:
        ConfigurationError: It cannot work like this; the message says the cure.
    """

    path: str | None
    _: KW_ONLY
    secret: str | Iterable[str] | None = field(default=None, repr=False)
    tolerance: float = 300.0

    def __post_init__(self) -> None:
        if self.path is not None and (
            not isinstance(self.path, str) or not self.path.startswith("/") or set(self.path) & set("?#*{<")
        ):
            raise ConfigurationError(f"Webhook(path) is one path such as '/stripe/webhook', not {self.path!r:.200}")
        secret = self.secret or os.environ.get("STRIPE_WEBHOOK_SECRET")
        object.__setattr__(self, "secret", _secrets(secret))
        if isinstance(self.tolerance, bool) or not isinstance(self.tolerance, int | float) or self.tolerance <= 0:
            raise ConfigurationError(f"Webhook(tolerance=...) is a positive number of seconds, not {self.tolerance!r}")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Any of them may have signed an event."""
        assert isinstance(self.secret, tuple)
        return self.secret


def checked_webhook(webhook: Any) -> Webhook | None:
    """A `Webhook`, or none."""
    if webhook is not None and not isinstance(webhook, Webhook):
        raise ConfigurationError(
            f"webhook= is a Webhook, such as Webhook('/stripe/webhook', secret='whsec_...'), not {webhook!r:.200}"
        )
    return webhook


def _secrets(given: Any) -> tuple[str, ...]:
    if not given:
        raise ConfigurationError(
            "Webhook(secret=...) is missing, and so is STRIPE_WEBHOOK_SECRET: take the whsec_... that Stripe showed "
            "when the endpoint was made"
        )
    secrets = given.split(",") if isinstance(given, str) else list(given)
    for secret in secrets:
        if not isinstance(secret, str) or not secret.strip().startswith("whsec_"):
            raise ConfigurationError("Webhook(secret=...) begins with whsec_, and is not the API key of the account")
    return tuple(secret.strip() for secret in secrets)
