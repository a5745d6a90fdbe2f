"""`Sandbox`: a Stripe account behind an HTTP server, with a clock and faults that tests control."""

from __future__ import annotations

import threading
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from meterkit.sandbox import cycle
from meterkit.sandbox.browser import PAGES, Browser
from meterkit.sandbox.charging import disputes
from meterkit.sandbox.charging.payment_methods import OUTCOMES
from meterkit.sandbox.control import PREFIX, Control
from meterkit.sandbox.faults import Fault, Kind, Reason
from meterkit.sandbox.gateway import Gateway
from meterkit.sandbox.hosted import checkout_sessions
from meterkit.sandbox.invoicing.discounts import give
from meterkit.sandbox.invoicing.payments import decide
from meterkit.sandbox.platform.webhook_delivery import Webhooks
from meterkit.sandbox.protocol.errors import ApiError
from meterkit.sandbox.server import Server
from meterkit.sandbox.state.account import Account
from meterkit.sandbox.state.clock import Clock, seconds_of
from meterkit.sandbox.state.switches import Switches
from meterkit.sandbox.state.usage import aggregate

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    from meterkit.sandbox.protocol.frame import Received, Reply, Request, Reset
    from meterkit.sandbox.state.switches import (
        AfterRetries,
        ClockTimestamps,
        Concurrency,
        End,
        LastDigit,
        RateLimit,
        Refusal,
        Rounding,
        Scope,
    )
    from meterkit.sandbox.state.usage import MeterEvent


class Sandbox:
    """
    A local Stripe double on the loopback interface.

    Args:
        port: TCP port; 0 for any free port.
        api_key: The only API key that is accepted; by default `sk_test_sandbox`, or `sk_live_sandbox` with `livemode`.
        now: The clock. None: real time. A datetime with a time zone, or Unix seconds: time stands still there until
            it is advanced. A callable that returns Unix seconds: called each time.
        livemode: Value of `livemode` in objects.
        rate_limit: Requests per second of sandbox time; "stripe" for Stripe's own limits; None for no limit.
        event_lag: Seconds until summaries and previews include a meter event.
        invoice_grace: Seconds between a cycle's draft invoice and its finalisation, 0 to 72 hours.
        identifier_scope: Scope in which a meter event's identifier is unique. Unverified.
        duplicate_window: Seconds for which an identifier is remembered. Stripe promises at least 24 hours.
        rejected_consumes_identifier: Whether a refused event uses up its identifier. Unverified.
        unknown_customer: Whether a v1 event for an unknown customer is refused ("sync", observed), or accepted and
            dropped ("async").
        bad_payload: Whether a payload without customer or value, or with a bad value, is refused ("sync"), or
            accepted and dropped ("async"). Unverified.
        exponents: Whether a value may be written `1e-7`. Unverified.
        concurrency: Error of a second call in flight for the same customer and meter. Unverified for v1; 409 in v2.
        inactive_frees_name: Whether a new meter may use the event name of a deactivated one. Unverified.
        summary_end: Whether the end bound of a summary is included. Stripe's documentation says both.
        empty_buckets: Whether hourly and daily summaries list hours and days without usage. Unverified.
        rounding: How half a cent is rounded. Both fit what was observed.
        last_digit: Where the last digit of an amount in a currency with three decimals, which must be 0, is rounded:
            in each line, in the total, or not at all ("kept"). Unverified.
        minimum_charge: Whether a sum that is too small to be charged waits in the customer's balance.
        after_retries: Status of a subscription after the last retry of a payment has failed; a setting of the account.
        test_clock_timestamps: Whether meter events of a customer with a test clock are stamped and checked by the
            clock's time ("frozen") or by the sandbox's ("real"). Unverified.

    Attributes:
        webhooks: Webhook endpoints, and what was delivered to them.

    Raises:
        ValueError: A switch is out of bounds, or a datetime has no time zone.

    """

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str | None = None,
        now: Callable[[], float] | datetime | float | None = None,
        livemode: bool = False,
        rate_limit: RateLimit = None,
        event_lag: int = 0,
        invoice_grace: int = 3600,
        identifier_scope: Scope = "account",
        duplicate_window: int = 24 * 3600,
        rejected_consumes_identifier: bool = False,
        unknown_customer: Refusal = "sync",
        bad_payload: Refusal = "sync",
        exponents: bool = False,
        concurrency: Concurrency = "endpoint-concurrency",
        inactive_frees_name: bool = True,
        summary_end: End = "exclusive",
        empty_buckets: bool = False,
        rounding: Rounding = "half_up",
        last_digit: LastDigit = "lines",
        minimum_charge: bool = True,
        after_retries: AfterRetries = "canceled",
        test_clock_timestamps: ClockTimestamps = "frozen",
    ) -> None:
        self.switches = Switches(
            livemode=livemode,
            rate_limit=rate_limit,
            event_lag=event_lag,
            invoice_grace=invoice_grace,
            identifier_scope=identifier_scope,
            duplicate_window=duplicate_window,
            rejected_consumes_identifier=rejected_consumes_identifier,
            unknown_customer=unknown_customer,
            bad_payload=bad_payload,
            exponents=exponents,
            concurrency=concurrency,
            inactive_frees_name=inactive_frees_name,
            summary_end=summary_end,
            empty_buckets=empty_buckets,
            rounding=rounding,
            last_digit=last_digit,
            minimum_charge=minimum_charge,
            after_retries=after_retries,
            test_clock_timestamps=test_clock_timestamps,
        )
        self.api_key = api_key or ("sk_live_sandbox" if self.switches.livemode else "sk_test_sandbox")
        self._port = port
        self._account = Account(Clock(now), self.switches, key=self.api_key)
        self.webhooks = Webhooks(self._account)
        self._gateway = Gateway(self._account, self.api_key)
        self._browser = Browser(self._account)
        self._control = Control(self)
        self._server: Server | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> Sandbox:  # noqa: PYI034 - typing.Self needs Python 3.11
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """
        Base address for Stripe's libraries: ``http://127.0.0.1:PORT``.

        Raises:
            RuntimeError: The sandbox is not running.

        """
        if self._server is None:
            raise RuntimeError("The sandbox is not running: use it in a with statement, or call start().")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """
        Listen and respond in background threads.

        Raises:
            OSError: The port is in use.
            RuntimeError: The sandbox is running already.

        """
        if self._server is not None:
            raise RuntimeError("The sandbox is running already.")
        self._stopped.clear()
        self.webhooks.start()
        self._server = Server(self._port, self._respond)
        with self._account.lock:
            for account in self._account.worlds:
                account.url = self.url
        self._server.start()

    def stop(self) -> None:
        """End all connections, threads and held requests; keep the objects. Does nothing if it is not running."""
        server, self._server = self._server, None
        self.webhooks.stop()
        if server is not None:
            self._gateway.faults.clear()
            server.stop()
        self._stopped.set()

    def serve_forever(self) -> None:
        """Start if necessary, and block until `stop()` or Ctrl-C."""
        if self._server is None:
            self.start()
        try:
            with suppress(KeyboardInterrupt):
                self._stopped.wait()
        finally:
            self.stop()

    @property
    def now(self) -> int:
        """Sandbox time in Unix seconds."""
        with self._account.lock:
            return self._account.now

    def advance(self, *, seconds: int | None = None, to: datetime | float | None = None) -> int:
        """
        Move time forward, and run whatever is due on the way, in order: invoices are created and finalised.

        Args:
            seconds: Number of seconds to advance by.
            to: Time to advance to: a datetime with a time zone, or Unix seconds.

        Returns:
            Sandbox time after that, in Unix seconds.

        Raises:
            ValueError: Not exactly one of the two is given, or the time lies in the past.

        """
        if (seconds is None) == (to is None):
            raise ValueError("Give either seconds= or to=.")
        with self._account.lock:
            step = seconds if seconds is not None else seconds_of(to or 0) - self.now
            if step < 0:
                raise ValueError(f"The clock is at {self.now} and cannot go back by {-step} seconds.")
            until = self.now + step
        self.webhooks.deliver()
        while self._advance_to_next(until):
            self.webhooks.deliver()
        return self.now

    def _advance_to_next(self, until: int) -> bool:
        """Advance to the next thing that is due, and run it; return whether more may be due by *until*."""
        with self._account.lock:
            due = [cycle.next_due(self._account), self.webhooks.next_due()]
            moment = min([until, *(max(each, self.now) for each in due if each is not None)])
            more = moment < until or any(each is not None and each <= until for each in due)
            cycle.run_due(self._account, moment)
            self._account.clock.skip(moment - self.now)
            return more

    def payments(self, customer: str, outcome: Literal["succeed", "fail", "process", "missing"]) -> None:
        """
        Decide what becomes of a customer's payments from now on, and of those that are under way.

        Args:
            customer: Id of a customer, or of a payment method; what is decided about the payment method counts first.
            outcome: "succeed", "fail", or "process" for payments that are under way, as bank debits are for days, until
                another call decides, or "missing", which leaves the customer without a payment method.

        Raises:
            ValueError: *outcome* is none of these.

        """
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome must be 'succeed', 'fail', 'process' or 'missing', not {outcome!r}.")
        with self._account.lock:
            for account in self._account.worlds:
                account.outcomes[customer] = outcome
                decide(account)
                checkout_sessions.settle(account)

    def discount(self, customer: str, coupon: str) -> None:
        """
        Give a customer a coupon, as the Dashboard can: for invoices of subscriptions without a discount of their own.

        Raises:
            ValueError: There is no such customer, or the coupon cannot be redeemed.

        """
        with self._account.lock:
            try:
                give(self._account, self._account.get("customer", customer), coupon)
            except ApiError as error:
                raise ValueError(error.message) from None

    def dispute(self, payment_intent: str, *, amount: int | None = None, inquiry: bool = False) -> str:
        """
        Dispute a payment, as its bank does, and return the id of the dispute.

        It is decided by evidence whose `uncategorized_text` is ``winning_evidence`` or ``losing_evidence``, as in
        Stripe's test mode, or lost when it is closed by the API.

        Args:
            payment_intent: Id of the payment intent that has taken the money.
            amount: Disputed amount in the currency's minor unit; None for all of it.
            inquiry: Whether the bank only asks, and takes no money yet.

        Raises:
            ValueError: There is no such payment, it has not succeeded or is disputed already, or the amount is wrong.

        """
        with self._account.lock:
            try:
                return str(disputes.open_one(self._account, payment_intent, amount=amount, inquiry=inquiry)["id"])
            except ApiError as error:
                raise ValueError(error.message) from None

    def fail(
        self,
        kind: Kind,
        *,
        path: str | None = "/v1/billing/meter_events",
        times: int = 1,
        after: int = 0,
        seconds: float | None = None,
        reason: Reason = "endpoint-rate",
    ) -> Fault:
        """
        Schedule a fault.

        ================== ==========================================================================================
        500                an API error that the idempotency key remembers; the operation is not carried out
        500_after          an API error that the idempotency key remembers; the operation is carried out
        502, 502_after     a proxy's HTML page, before or after the operation; the key does not remember it
        reset_before       the connection breaks before the request is read
        reset_after        the operation is carried out, then the connection breaks
        timeout_before     no response, for `seconds` or until `release()`; the operation is not carried out
        timeout_after      the operation is carried out, but there is no response
        slow               the request is held before the operation, then gets a response
        409                `idempotency_key_in_use`
        429                a rate limiter's refusal; `reason` names the limiter
        lock_timeout       a 429 that does not come from a rate limiter, with `Stripe-Should-Retry: true`
        empty, html        the operation is carried out, but the 200 has an empty body or is a web page
        ================== ==========================================================================================

        Args:
            kind: Kind of fault, from the table above.
            path: Path of the requests that are affected; None for all requests.
            times: Number of requests that are affected.
            after: Number of matching requests that get through before.
            seconds: Real-time seconds for which requests are held; None: until `release()` or `stop()`.
            reason: Value of the header `Stripe-Rate-Limited-Reason`.

        Returns:
            The fault: `wait()` until it holds a request, then `release()` it.

        Raises:
            ValueError: The kind or reason is unknown, or a number is out of range.

        """
        return self._gateway.faults.plan(Fault(kind, path, times, after, seconds, reason))

    def heal(self) -> None:
        """Cancel all faults, and release every held request."""
        self._gateway.faults.clear()

    @property
    def requests(self) -> list[Received]:
        """Requests received (at most the last 100,000), in order, whatever the response."""
        return self._gateway.log

    @property
    def meter_events(self) -> list[MeterEvent]:
        """Accepted meter events, in order."""
        with self._account.lock:
            events = [event for account in self._account.worlds for event in account.usage.events]
        return sorted(events, key=lambda event: event.received_at)

    @property
    def adjustments(self) -> list[dict[str, Any]]:
        """Accepted cancellations, in order, with their current status."""
        with self._account.lock:
            return [
                {
                    **{key: value for key, value in record.items() if not key.startswith("_")},
                    "status": "complete" if record["_effective_at"] <= self.now else "pending",
                }
                for account in self._account.worlds
                for record in account.adjustments
            ]

    def usage(self, event_name: str, customer: str) -> Decimal:
        """Return a customer's total usage on the meters with that event name, by their formula."""
        with self._account.lock:
            return sum(
                (
                    aggregate(meter, account.usage.counted(meter, customer, lagging=False))
                    for account in self._account.worlds
                    for meter in account.all("billing.meter")
                    if meter["event_name"] == event_name
                ),
                Decimal(0),
            )

    def _respond(self, request: Request) -> Reply | Reset:
        if request.path.startswith(PREFIX):
            return self._control.respond(request)
        if request.path.startswith(PAGES):
            return self._browser.respond(request)
        return self._gateway.respond(request)
