"""The gateway: handles every request in Stripe's order: key, limits, faults, idempotency, parameters, operation."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from meterkit.sandbox import cycle
from meterkit.sandbox.billing import customers, invoice_previews, item_changes, subscription_items, subscriptions
from meterkit.sandbox.catalog import coupons, prices, products, promotion_codes
from meterkit.sandbox.charging import (
    disputes,
    invoice_payments,
    payment_intents,
    payment_methods,
    refunds,
    setup_intents,
)
from meterkit.sandbox.faults import Fault, Faults
from meterkit.sandbox.hosted import checkout_sessions, portal_configurations, portal_sessions
from meterkit.sandbox.invoicing import (
    balances,
    credit_grants,
    discounts,
    invoice_items,
    invoices,
    one_off,
    payments,
)
from meterkit.sandbox.metering import (
    alerts,
    event_log,
    event_summaries,
    meter_events,
    meter_events_v2,
    meters,
    thin_events,
)
from meterkit.sandbox.platform import accounts, event_destinations, test_clocks, webhook_endpoints
from meterkit.sandbox.protocol.errors import ApiError, malformed, server_error, unauthorized
from meterkit.sandbox.protocol.form_encoding import decode, plain
from meterkit.sandbox.protocol.frame import API_VERSION, Received, Reply, Request, Reset, is_v2, json_reply
from meterkit.sandbox.protocol.idempotency import Keys
from meterkit.sandbox.protocol.rate_limits import Limiter
from meterkit.sandbox.protocol.rendering import render
from meterkit.sandbox.protocol.routes import Call, Route, locate
from meterkit.sandbox.scheduling import schedules
from meterkit.sandbox.state.account import NO_REQUEST, fresh_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meterkit.sandbox.state.account import Account, Record

    Sent = Mapping[str, Any]

logger = logging.getLogger("meterkit.sandbox")

ROUTES = [
    *customers.ROUTES,
    *products.ROUTES,
    *prices.ROUTES,
    *coupons.ROUTES,
    *promotion_codes.ROUTES,
    *meters.ROUTES,
    *alerts.ROUTES,
    *event_summaries.ROUTES,
    *meter_events.ROUTES,
    *subscriptions.ROUTES,
    *subscription_items.ROUTES,
    *item_changes.ROUTES,
    *schedules.ROUTES,
    *invoices.ROUTES,
    *one_off.ROUTES,
    *invoice_items.ROUTES,
    *discounts.ROUTES,
    *balances.ROUTES,
    *credit_grants.ROUTES,
    *payments.ROUTES,
    *payment_methods.ROUTES,
    *payment_intents.ROUTES,
    *invoice_payments.ROUTES,
    *refunds.ROUTES,
    *disputes.ROUTES,
    *setup_intents.ROUTES,
    *checkout_sessions.ROUTES,
    *portal_configurations.ROUTES,
    *portal_sessions.ROUTES,
    *invoice_previews.ROUTES,
    *event_log.ROUTES,
    *alerts.ROUTES,
    *meter_events_v2.ROUTES,
    *thin_events.ROUTES,
    *webhook_endpoints.ROUTES,
    *event_destinations.ROUTES,
    *accounts.ROUTES,
    *test_clocks.ROUTES,
]
METERED = (meter_events.EVENTS, meter_events_v2.EVENTS)  # one call at a time for each customer and meter
EVENT_ROUTES = (*METERED, meter_events_v2.STREAM)
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
LOG_LENGTH = 100_000  # requests; a sandbox may run for weeks
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.\w+)?", re.ASCII)
_NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth "
    "(e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or "
    "we can help at https://support.stripe.com/."
)


class Gateway:
    """Responds to requests; called by many threads at once."""

    def __init__(self, account: Account, api_key: str) -> None:
        self.account = account
        self.faults = Faults()
        self._log: deque[Received] = deque(maxlen=LOG_LENGTH)
        self._api_key = api_key
        self._keys: dict[str, Keys] = {}  # by account
        self._limiter = Limiter(account)
        self._log_lock = threading.Lock()

    @property
    def log(self) -> list[Received]:
        """Requests so far, oldest first."""
        with self._log_lock:
            return list(self._log)

    def respond(self, request: Request) -> Reply | Reset:
        """Return the response to one request, or `Reset` to break its connection."""
        request_id = fresh_id("req_")
        entry = Received(request.method, request.path, {}, request.headers, request_id=request_id)
        with self._log_lock:
            self._log.append(entry)
        try:
            outcome = self._handle(request, entry)
        except ApiError as error:
            outcome = _refusal(error, entry)
        except Exception:
            logger.exception("The sandbox failed at %s %s; this is a bug in the sandbox.", request.method, request.path)
            outcome = _refusal(server_error(), entry)
        if isinstance(outcome, Reply):
            outcome = self._framed(request, outcome, request_id)
            entry.status = outcome.status
        return outcome

    def _handle(self, request: Request, entry: Received) -> Reply | Reset:
        world = self._authenticate(request)
        _check_frame(request)
        sent = _sent(request, entry)
        with self.account.lock:
            self._limiter.admit(request.path)
        fault = self.faults.take(request.path)
        if fault is None:
            return self._remembered(world, request, entry, sent, None)
        refusal = fault.refusal(request.headers.get("idempotency-key", ""))
        if refusal is not None:
            raise refusal
        reply = Reply(200, b"") if fault.early else self._remembered(world, request, entry, sent, fault)
        if fault.holds and fault.kind != "slow":
            fault.hold()
        return Reset() if fault.breaks else fault.spoil(reply)

    def _authenticate(self, request: Request) -> Account:
        """Return the account in which the request acts."""
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        key = credentials.strip()
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).decode().partition(":")[0]
            except ValueError:
                key = ""
        if not key or scheme.lower() not in ("basic", "bearer"):
            raise unauthorized(_NO_KEY)
        if request.path == meter_events_v2.STREAM.path:  # the stream takes a session's token instead of a key
            with self.account.lock:
                for world in self.account.worlds:
                    if meter_events_v2.check_token(world, key):
                        return world
        elif key == self._api_key:
            with self.account.lock:
                return accounts.acting(self.account, request.headers)
        raise unauthorized(f"Invalid API Key provided: {key[:8]}{'*' * max(len(key) - 12, 0)}{key[-4:]}")

    def _remembered(self, world: Account, request: Request, entry: Received, sent: Sent, fault: Fault | None) -> Reply:
        """Replay the response stored for the idempotency key, or carry out the request and store its response."""
        key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
        if not key:
            return self._attempt(world, entry, sent, fault)[0]
        with self.account.lock:
            keys = self._keys.setdefault(world.id, Keys(world.clock))
            stored = keys.begin(key, request.path, json.dumps(entry.params, sort_keys=True), entry.request_id)
        if stored is not None:
            reply, original = stored
            headers = {**reply.headers, "Idempotent-Replayed": "true", "Original-Request": original}
            return Reply(reply.status, reply.body, headers)
        kept = None
        try:
            reply, kept = self._attempt(world, entry, sent, fault)
        finally:
            with self.account.lock:
                if kept is not None:
                    keys.finish(key, kept)
                else:
                    keys.abandon(key)
        return reply

    def _attempt(self, world: Account, entry: Received, sent: Sent, fault: Fault | None) -> tuple[Reply, Reply | None]:
        """
        Carry out the request.

        Returns:
            The response, and the one to store for an idempotency key, or None. v1 stores the response of every request
            that began to execute; v2 stores successes only, and attempts a failed request again.

        """
        only_success = is_v2(entry.path)
        try:
            done = self._execute(world, entry, sent, fault)
        except ApiError as error:
            reply = _refusal(error, entry)
            return reply, reply if error.stored and not only_success else None
        if fault is not None and fault.kind == "500_after":
            reply = _refusal(server_error(), entry)
            return reply, done if only_success else reply
        return done, done

    def _execute(self, world: Account, entry: Received, sent: Sent, fault: Fault | None) -> Reply:
        """Find the endpoint, read the parameters, and run the operation."""
        route, identity = locate(ROUTES, entry.method, entry.path)
        call = Call(entry.path, identity, route.read(sent))
        with self.account.lock:
            slot = meter_events.slot(world, call) if route in METERED else None
        kind = None if fault is None else fault.kind
        with self._limiter.alone(slot, v2=is_v2(entry.path)):
            if fault is not None and kind == "slow":
                fault.hold()
            if kind == "500":
                raise server_error()
            return json_reply(200, self._run(world, route, call, entry))

    def _run(self, world: Account, route: Route, call: Call, entry: Received) -> Record:
        """Bring the account up to date, and run the endpoint."""
        with self.account.lock:
            cycle.run_due(self.account, self.account.now)
            if route not in EVENT_ROUTES:  # there may be thousands of events, and none reads a draft
                cycle.update_drafts(world)
            world.origin = {
                "id": entry.request_id,
                "idempotency_key": entry.headers.get("idempotency-key"),
            }
            try:
                with world.at(test_clocks.of_call(world, call)):
                    return render(world, route.run(world, call), call.params.get("expand", ()))
            finally:
                world.origin = NO_REQUEST

    def _framed(self, request: Request, reply: Reply, request_id: str) -> Reply:
        """Return the response with the headers that all responses have."""
        version = request.headers.get("stripe-version", API_VERSION)
        headers = {
            "Date": formatdate(self.account.now, usegmt=True),
            "Request-Id": request_id,
            "Stripe-Version": version,
        }
        key = request.headers.get("idempotency-key")
        if request.method == "POST" and key:
            headers |= {"Idempotency-Key": key, "Original-Request": request_id}
        return Reply(reply.status, reply.body, {**headers, **reply.headers})


def _check_frame(request: Request) -> None:
    version = request.headers.get("stripe-version", API_VERSION)
    if not _VERSION.fullmatch(version):
        raise malformed(f"Invalid Stripe API version: {version}")
    expected = JSON if is_v2(request.path) else FORM
    if request.body and not request.headers.get("content-type", FORM).startswith(expected):
        raise malformed(
            f"Invalid request (check that your POST content type is {expected}). "
            "If you have questions, we can help at https://support.stripe.com/."
        )


def _sent(request: Request, entry: Received) -> Sent:
    """Return the parameters for the endpoint, and store them in readable form in the log."""
    if not is_v2(request.path) or not request.body:
        form = decode(request.form)
        entry.params = plain(form)
        return form
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise malformed("Invalid request: the body must be a JSON object.")
    entry.params = body
    return body


def _refusal(error: ApiError, entry: Received) -> Reply:
    body = error.body_v2() if is_v2(entry.path) else error.body(entry.request_id)
    return json_reply(error.status, body, error.headers)
