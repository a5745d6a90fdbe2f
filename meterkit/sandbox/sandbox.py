"""The sandbox itself: a Stripe account behind an HTTP server, with a clock and faults that tests command."""

from __future__ import annotations

import threading
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox import cycle
from meterkit.sandbox.account import Account
from meterkit.sandbox.clock import Clock, seconds_of
from meterkit.sandbox.control import PREFIX, Control
from meterkit.sandbox.faults import Fault, Kind, Reason
from meterkit.sandbox.gateway import Gateway
from meterkit.sandbox.server import Server
from meterkit.sandbox.switches import Switches
from meterkit.sandbox.usage import aggregate

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    from meterkit.sandbox.frame import Received, Reply, Request, Reset
    from meterkit.sandbox.usage import MeterEvent


class Sandbox:
    """
    A pocket Stripe on the loopback.

    Args:
        port: TCP port; 0 for any free one.
        api_key: The only key that is let in; None: `sk_test_sandbox`, with `livemode` `sk_live_sandbox`.
        now: The clock. None: real time. A datetime with a time zone, or unix seconds: time stands still there until
            it is advanced. A callable: asked for unix seconds each time.
        switches: See `Switches`: `livemode`, `rate_limit`, `event_lag`, `invoice_grace`, ...

    Raises:
        ValueError: A switch out of bounds, or a datetime without a time zone.
        TypeError: A switch that there is not.

    """

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str | None = None,
        now: Callable[[], float] | datetime | float | None = None,
        **switches: Any,
    ) -> None:
        self.switches = Switches(**switches)
        self.api_key = api_key or ("sk_live_sandbox" if self.switches.livemode else "sk_test_sandbox")
        self._port = port
        self._account = Account(Clock(now), self.switches)
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
            if step >= 0:
                cycle.settle(self._account, self.now + step)
            self._account.clock.skip(step)
            return self.now

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
        """What was received, in order, whatever was answered."""
        return list(self._gateway.log)

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
