"""Refuse a live Stripe key in a test run."""

from __future__ import annotations

import os
import sys

ALLOWED = "METERKIT_LIVE_IN_TESTS"
"""Environment variable that allows a live Stripe key in a test run; ``1`` to allow it."""

LIVE_REFUSED = (
    "this is a test run and the Stripe key is a live one, so Stripe is not called: use the pytest fixture "
    f"stripe_sandbox or a test key (sk_test_...); to call the live account from a test, set {ALLOWED}=1"
)

SANDBOX_KEY = "sk_live_sandbox"
"""Key of a sandbox in live mode; Stripe has no such key."""

test_runs = 0
"""Number of isolations that are in effect; see `meterkit.runtime.isolation`."""


def refuses(key: str | None) -> bool:
    """Return whether Stripe must not be called with *key*: it is live, and this is a test run."""
    if key is None or "live_" not in key[:16] or key == SANDBOX_KEY:
        return False
    return is_test_run() and os.environ.get(ALLOWED) != "1"


def is_test_run() -> bool:
    """Return whether pytest or Django's test runner runs this process, or started it."""
    return test_runs > 0 or "PYTEST_CURRENT_TEST" in os.environ or is_django_test_run()


def is_django_test_run() -> bool:
    """Return whether Django's test runner runs this process."""
    utils = sys.modules.get("django.test.utils")
    return hasattr(getattr(utils, "_TestState", None), "saved_data")  # as Django's own check for a second set-up
