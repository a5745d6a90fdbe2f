"""The sandbox itself: a Stripe account behind an HTTP server, with a clock and faults that tests command."""

from __future__ import annotations

import threading
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from meterkit.sandbox import cycle
from meterkit.sandbox.control import PREFIX, Control
from meterkit.sandbox.faults import Fault, Kind, Reason
from meterkit.sandbox.gateway import Gateway
from meterkit.sandbox.metering.webhook_delivery import Webhooks
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
    from meterkit.sandbox.state.switches import AfterRetries, Concurrency, End, RateLimit, Refusal, Rounding, Scope
    from meterkit.sandbox.state.usage import MeterEvent


class Sandbox:
    """
    A pocket Stripe on the loopback.

    Args:
        port: TCP port; 0 for any free one.
        api_key: The only key that is let in; None: `sk_test_sandbox`, with `livemode` `sk_live_sandbox`.
        now: The clock. None: real time. A datetime with a time zone, or unix seconds: time stands still there until
            it is advanced. A callable: asked for unix seconds each time.
        livemode: What objects say in `livemode`.
        rate_limit: Requests per second of sandbox time; "stripe" for Stripe's own numbers; None for no limit.
        event_lag: Seconds until summaries and previews see a meter event.
        invoice_grace: Seconds between a cycle's draft invoice and its finalisation, 0 to 72 hours.
        identifier_scope: Within what a meter event's identifier is unique. Unverified.
        duplicate_window: Seconds for which an identifier is remembered. Stripe promises at least 24 hours.
        rejected_consumes_identifier: Whether a refused event uses its identifier up. Unverified.
        unknown_customer: A v1 event for no customer is refused ("sync", observed), or accepted and dropped ("async").
        bad_payload: The same for a payload without customer or value, or with a bad value. Unverified.
        exponents: Whether a value may be written `1e-7`. Unverified.
        concurrency: What two calls in flight for the same customer and meter get. Unverified for v1; 409 in v2.
        inactive_frees_name: Whether a deactivated meter's event name may be taken by a new one. Unverified.
        summary_end: Whether a summary's end bound belongs to it. Stripe's documentation says both.
        empty_buckets: Whether hourly and daily summaries list hours and days without usage. Unverified.
        rounding: How half a cent is rounded. Both fit what was observed.
        after_retries: What becomes of a subscription when the last retry of a payment has failed, as an account may
            set it.

    Attributes:
        webhooks: Where events go, and what was delivered.

    Raises:
        ValueError: A switch out of bounds, or a datetime without a time zone.

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
        after_retries: AfterRetries = "canceled",
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
            after_retries=after_retries,
        )
        self.api_key = api_key or ("sk_live_sandbox" if self.switches.livemode else "sk_test_sandbox")
        self._port = port
        self._account = Account(Clock(now), self.switches)
        self.webhooks = Webhooks(self._account)
        self._gateway = Gateway(self._account, self.api_key)
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
        Where it listens, `http://127.0.0.1:PORT`: what Stripe's libraries call the API's base address.

        Raises:
            RuntimeError: It is not running.

        """
        if self._server is None:
            raise RuntimeError("The sandbox is not running: use it in a with statement, or call start().")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """
        Listen and answer in background threads.

        Raises:
            OSError: The port is taken.
            RuntimeError: It is running already.

        """
        if self._server is not None:
            raise RuntimeError("The sandbox is running already.")
        self._stopped.clear()
        self._server = Server(self._port, self._answer)
        self._server.start()

    def stop(self) -> None:
        """End all connections, threads and held requests; objects stay. Without effect when it is not running."""
        server, self._server = self._server, None
        self.webhooks.stop()
        if server is not None:
            self._gateway.faults.clear()
            server.stop()
        self._stopped.set()

    def serve_forever(self) -> None:
        """Start, unless that has been done, and stay until `stop()` or Ctrl-C."""
        if self._server is None:
            self.start()
        try:
            with suppress(KeyboardInterrupt):
                self._stopped.wait()
        finally:
            self.stop()

    @property
    def now(self) -> int:
        """Sandbox time, unix seconds."""
        with self._account.lock:
            return self._account.now

    def advance(self, *, seconds: int | None = None, to: datetime | float | None = None) -> int:
        """
        Move time forward and run all that falls due on the way, in order: invoices are created and finalised.

        Args:
            seconds: How far; or
            to: until when, a datetime with a time zone or unix seconds.

        Returns:
            The time that it is now, unix seconds.

        Raises:
            ValueError: Not exactly one of both is given, or it would go back.

        """
        if (seconds is None) == (to is None):
            raise ValueError("Say either how many seconds or until when.")
        with self._account.lock:
            step = seconds if seconds is not None else seconds_of(to or 0) - self.now
            if step < 0:
                raise ValueError(f"The clock stands at {self.now} and cannot go back by {-step} seconds.")
            until = self.now + step
        self.webhooks.deliver()
        while self._go(until):
            self.webhooks.deliver()
        return self.now

    def _go(self, until: int) -> bool:
        """Move time to the next thing that is due, and run it; whether there may be more until then."""
        with self._account.lock:
            soon = [cycle.next_due(self._account), self.webhooks.next_due()]
            moment = min([until, *(max(each, self.now) for each in soon if each is not None)])
            more = moment < until or any(each is not None and each <= until for each in soon)
            cycle.settle(self._account, moment)
            self._account.clock.skip(moment - self.now)
            return more

    def payments(self, customer: str, outcome: Literal["succeed", "fail"]) -> None:
        """
        From now on, what is charged to a customer succeeds, or fails.

        Raises:
            ValueError: It is neither.

        """
        if outcome not in ("succeed", "fail"):
            raise ValueError(f"Payments succeed or fail, not {outcome!r}.")
        with self._account.lock:
            self._account.outcomes[customer] = f"{outcome}s"

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
        Plan a fault.

        ================== ==========================================================================================
        500                an API error that the idempotency key remembers; nothing was done
        500_after          the same, but the work was done
        502, 502_after     a proxy's HTML page, before or after the work; the key does not remember it
        reset_before       the connection breaks before the request is looked at
        reset_after        the work is done, then the connection breaks
        timeout_before     no answer, for `seconds` or until `release()`; nothing was done
        timeout_after      the work is done, but no answer comes
        slow               the request is held while it is worked on, then answered
        409                `idempotency_key_in_use`
        429                a limiter's refusal; `reason` names the limiter
        lock_timeout       a 429 that is no limiter's, with `Stripe-Should-Retry: true`
        empty, html        the work is done, but the 200 has an empty body or is a web page
        ================== ==========================================================================================

        Args:
            kind: One of the above.
            path: Which requests it hits; None: all.
            times: How many of them.
            after: How many of them pass unharmed before.
            seconds: For how long requests are held, in real time; None: until `release()` or `stop()`.
            reason: What `Stripe-Rate-Limited-Reason` says.

        Returns:
            The fault: `wait()` for a request to be held, then `release()` it.

        Raises:
            ValueError: There is no such kind or reason, or a number makes no sense.

        """
        return self._gateway.faults.plan(Fault(kind, path, times, after, seconds, reason))

    def heal(self) -> None:
        """Forget all planned faults and release every held request."""
        self._gateway.faults.clear()

    @property
    def requests(self) -> list[Received]:
        """What was received (of very many the last 100,000), in order, whatever was answered."""
        return self._gateway.log

    @property
    def meter_events(self) -> list[MeterEvent]:
        """The accepted meter events, in order."""
        with self._account.lock:
            return list(self._account.usage.events)

    @property
    def adjustments(self) -> list[dict[str, Any]]:
        """The accepted cancellations, in order, with the status that they have by now."""
        with self._account.lock:
            return [
                {
                    **{key: value for key, value in record.items() if not key.startswith("_")},
                    "status": "complete" if record["_effective_at"] <= self.now else "pending",
                }
                for record in self._account.adjustments
            ]

    def usage(self, event_name: str, customer: str) -> Decimal:
        """All that a customer ever used on the meters of that event name, by their formula; 0 if nothing."""
        with self._account.lock:
            return sum(
                (
                    aggregate(meter, self._account.usage.counted(meter, customer, lagging=False))
                    for meter in self._account.all("billing.meter")
                    if meter["event_name"] == event_name
                ),
                Decimal(0),
            )

    def _answer(self, request: Request) -> Reply | Reset:
        if request.path.startswith(PREFIX):
            return self._control.answer(request)
        return self._gateway.answer(request)
