"""Lead customers to Stripe's pages, to subscribe and to settle."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urljoin, urlsplit

from meterkit.core.problems import Problems
from meterkit.core.responses import Response, response
from meterkit.errors import ConfigurationError, StripeFailedError, UsageError
from meterkit.pages.request import PageRequest, Route
from meterkit.pricing.plan import Plan
from meterkit.pricing.price import Price

if TYPE_CHECKING:
    from meterkit.provisioning.offer import Offer

SESSION = re.compile(r"cs_[A-Za-z0-9_]{1,200}")

PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
"""Stripe: replaced by the session's id in ``success_url``."""


class Commands(Protocol):
    """The operations on Stripe that customers ask for."""

    def checkout_url(
        self, company: str, offer: Offer, *, email: str | None, success_url: str, cancel_url: str | None
    ) -> str:
        """Return the URL of a Checkout session."""

    def settle_checkout(self, company: str, session: str) -> None:
        """Link who has paid in a Checkout session of *company*."""

    def portal_url(self, company: str, *, return_url: str | None, alone: bool) -> str:
        """Return the URL of the customer portal."""


class SignUp:
    """
    Makes sessions of Checkout and the portal for the company of a request.

    Args:
        has_key: Whether the kit has a Stripe key.
        commands: Function that returns the operations on Stripe.
        prices: Prices of a kit without plans: all of them are subscribed to.
        plans: Plans that customers may choose.
        problems: Where problems are reported.

    Attributes:
        plans: Plans that customers may choose; empty without a Stripe key.
        sells_prices: Whether customers may subscribe to the prices of a kit without plans.
        has_key: Whether the kit has a Stripe key.
    """

    def __init__(
        self,
        *,
        has_key: bool,
        commands: Callable[[], Commands],
        prices: Iterable[Price],
        plans: Iterable[Plan],
        problems: Problems,
    ) -> None:
        self.has_key = has_key
        self.plans = tuple(plans) if has_key else ()
        self._prices = tuple(prices)
        self.sells_prices = has_key and bool(self._prices)
        self._commands = commands
        self._problems = problems

    def routes(self) -> list[Route]:
        """Return what the buttons of the customer's page lead to."""
        return [
            Route("checkout", self.checkout, "customer", methods=("POST",)),
            Route("portal", self.portal, "customer", methods=("POST",)),
        ]

    def checkout(self, request: PageRequest) -> Response:
        """Send the browser to Checkout, for the plan in the query string; to the portal if it has a subscription."""
        from meterkit.provisioning.offer import offer_of

        assert request.company is not None
        names = request.values("plan")
        allowed = {plan.name: plan for plan in self.plans}
        is_choice = len(names) == 1 and names[0] in allowed if self.plans else not names and self.sells_prices
        if not is_choice:
            return request.error(404, "There is no such plan", "Go back, and choose one of the plans that are shown.")
        here = page_of(request)
        try:
            offer = offer_of(self._prices, allowed, plan=names[0] if names else None, keys=(), currency=None)
            url = self._commands().checkout_url(
                request.company, offer, email=None, success_url=f"{here}?session={PLACEHOLDER}", cancel_url=here
            )
        except UsageError as error:
            if error.reason == "subscription_exists":
                return self.portal(request)
            return self._failed(request, error)
        except (StripeFailedError, ConfigurationError) as error:
            return self._failed(request, error)
        return _see(url)

    def portal(self, request: PageRequest) -> Response:
        """Send the browser to Stripe's customer portal."""
        assert request.company is not None
        try:
            url = self._commands().portal_url(request.company, return_url=page_of(request), alone=True)
        except UsageError as error:
            texts = {
                "customer_unknown": ("There is no subscription yet", "Choose a plan first."),
                "customer_shared": (
                    "Your usage is billed to another account",
                    "Whoever pays for it can change the subscription.",
                ),
            }
            found = texts.get(error.reason)
            return self._failed(request, error) if found is None else request.error(409, *found)
        except (StripeFailedError, ConfigurationError) as error:
            return self._failed(request, error)
        return _see(url)

    def settle(self, request: PageRequest) -> Response | None:
        """
        Link the company that comes back from Checkout, before the webhook does, and return a redirect to its page.

        None for a request that does not come from there.
        """
        session = request.query.get("session")
        if session is None:
            return None
        assert request.company is not None
        if SESSION.fullmatch(session):
            with suppress(StripeFailedError, ConfigurationError):  # then the webhook will
                self._commands().settle_checkout(request.company, session)
        return _see(request.root)

    def _failed(self, request: PageRequest, error: Exception) -> Response:
        self._problems.note(
            "sign_up_failed",
            f"a customer could not be sent to Stripe's page: {error}",
            error=None if isinstance(error, StripeFailedError) else error,
        )
        return request.error(
            503,
            "The payment page cannot be opened now",
            "Nothing was changed or paid. Try again in a minute.",
            ("Retry-After", "10"),
        )


def page_of(request: PageRequest) -> str:
    """
    Return the absolute URL of the first page as the browser knows it.

    Only the browser knows it where a proxy in front has changed the host or the path, and it says so in ``Origin`` and
    ``Referer``. `is_from_elsewhere` has found that it is the host of this page.
    """
    headers = request.exchange.headers
    seen = urlsplit(headers.get("referer", ""))
    origin = headers.get("origin", "")
    if not origin.startswith(("https://", "http://")):
        origin = f"{seen.scheme}://{seen.netloc}" if seen.netloc else f"https://{headers.get('host', '')}"
    path = quote(urljoin(request.exchange.path, request.root))
    behind_proxy = seen.path.rstrip("/") + "/"
    if f"{seen.scheme}://{seen.netloc}" == origin and behind_proxy.endswith(path):
        path = behind_proxy
    return origin + path


def _see(url: str) -> Response:
    return response(303, b"", ("Location", url), ("Referrer-Policy", "no-referrer"), media_type="text/plain")
