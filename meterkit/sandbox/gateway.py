"""The gateway: what every request passes, in Stripe's order: key, limits, faults, idempotency, parameters, work."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from meterkit.sandbox import (
    alerts,
    customers,
    cycle,
    events,
    invoiceitems,
    invoices,
    items,
    meter_events,
    meters,
    payments,
    previews,
    prices,
    products,
    subscriptions,
    summaries,
    v2,
)
from meterkit.sandbox.account import NOBODY, fresh_id
from meterkit.sandbox.errors import ApiError, malformed, server_error, unauthorized
from meterkit.sandbox.faults import Fault, Faults
from meterkit.sandbox.form import decode, plain
from meterkit.sandbox.frame import API_VERSION, Received, Reply, Request, Reset, json_reply
from meterkit.sandbox.idempotency import Keys
from meterkit.sandbox.limits import Limiter
from meterkit.sandbox.rendering import render
from meterkit.sandbox.routes import Call, Route, locate

if TYPE_CHECKING:
    from meterkit.sandbox.account import Account, Record
    from meterkit.sandbox.form import Node

logger = logging.getLogger("meterkit.sandbox")

ROUTES = [
    *customers.ROUTES,
    *products.ROUTES,
    *prices.ROUTES,
    *meters.ROUTES,
    *alerts.ROUTES,
    *summaries.ROUTES,
    *meter_events.ROUTES,
    *subscriptions.ROUTES,
    *items.ROUTES,
    *invoices.ROUTES,
    *invoiceitems.ROUTES,
    *payments.ROUTES,
    *previews.ROUTES,
    *events.ROUTES,
    *v2.ROUTES,
]
FORM = "application/x-www-form-urlencoded"
_IN_THOUSANDS = (meter_events.EVENTS, *v2.ROUTES)
LOG_LENGTH = 100_000  # requests; a sandbox may run for weeks
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.\w+)?", re.ASCII)
_NO_KEY = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth "
    "(e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or "
    "we can help at https://support.stripe.com/."
)


class Gateway:
    """Answers requests; called by many threads at once."""

    def __init__(self, account: Account, api_key: str) -> None:
        self.account = account
        self.faults = Faults()
        self._log: deque[Received] = deque(maxlen=LOG_LENGTH)
        self._api_key = api_key
        self._keys = Keys(account.clock)
        self._limiter = Limiter(account)
        self._log_lock = threading.Lock()

    @property
    def log(self) -> list[Received]:
        """The requests so far, oldest first."""
        with self._log_lock:
            return list(self._log)

    def answer(self, request: Request) -> Reply | Reset:
        """The answer to one request, or the order to break its connection."""
        request_id = fresh_id("req_")
        entry = Received(request.method, request.path, {}, request.headers, request_id=request_id)
        with self._log_lock:
            self._log.append(entry)
        try:
            outcome = self._pass(request, entry)
        except ApiError as error:
            outcome = _refusal(error, request_id)
        except Exception:
            logger.exception("The sandbox failed at %s %s; this is a bug in it.", request.method, request.path)
            outcome = _refusal(server_error(), request_id)
        if isinstance(outcome, Reply):
            outcome = self._framed(request, outcome, request_id)
            entry.status = outcome.status
        return outcome

    def _pass(self, request: Request, entry: Received) -> Reply | Reset:
        self._authenticate(request)
        _check_frame(request)
        form, entry.params = _parameters(request)
        with self.account.lock:
            self._limiter.admit(request.path)
        fault = self.faults.strike(request.path)
        if fault is None:
            return self._remembered(request, entry, form, None)
        refusal = fault.refusal(request.headers.get("idempotency-key", ""))
        if refusal is not None:
            raise refusal
        reply = Reply(200, b"") if fault.early else self._remembered(request, entry, form, fault)
        if fault.holds and fault.kind != "slow":
            fault.hold()
        return Reset() if fault.breaks else fault.spoil(reply)

    def _authenticate(self, request: Request) -> None:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        key = credentials.strip()
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).decode().partition(":")[0]
            except ValueError:
                key = ""
        if not key or scheme.lower() not in ("basic", "bearer"):
            raise unauthorized(_NO_KEY)
        if request.path == v2.STREAM_PATH or key in self.account.sessions:
            with self.account.lock:
                v2.admit(self.account, request.path, key)
            return
        if key != self._api_key:
            raise unauthorized(f"Invalid API Key provided: {key[:8]}{'*' * max(len(key) - 12, 0)}{key[-4:]}")

    def _remembered(self, request: Request, entry: Received, form: dict[str, Node], fault: Fault | None) -> Reply:
        """Answer from the idempotency key's memory, or work and remember."""
        key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
        if not key:
            try:
                return self._worked(request, entry, form, fault)
            except ApiError as error:
                return _refusal(error, entry.request_id)
        with self.account.lock:
            stored = self._keys.begin(key, request.path, json.dumps(entry.params, sort_keys=True), entry.request_id)
        if stored is not None:
            reply, original = stored
            headers = {**reply.headers, "Idempotent-Replayed": "true", "Original-Request": original}
            return Reply(reply.status, reply.body, headers)
        finished = False
        try:
            reply = self._worked(request, entry, form, fault)
            finished = True
        except ApiError as error:
            reply = _refusal(error, entry.request_id)
            finished = error.stored and not request.path.startswith("/v2/")  # whose failures are attempted again
        finally:
            with self.account.lock:
                if finished:
                    self._keys.finish(key, reply)
                else:
                    self._keys.abandon(key)
        return reply

    def _worked(self, request: Request, entry: Received, form: dict[str, Node], fault: Fault | None) -> Reply:
        """Find the endpoint, read the parameters, do the work."""
        route, identity = locate(ROUTES, request.method, request.path)
        call = Call(request.path, identity, route.read(form))
        with self.account.lock:
            slots = {meter_events.EVENTS.path: meter_events.slot, v2.EVENTS.path: v2.slot}
            slot = slots[route.path](self.account, call) if route.path in slots else None
        kind = None if fault is None else fault.kind
        with self._limiter.alone(slot, conflict=route is v2.EVENTS):
            if fault is not None and kind == "slow":
                fault.hold()
            if kind == "500":
                raise server_error()
            reply = json_reply(200, self._run(route, call, entry))
        if kind == "500_after":
            raise server_error()
        return reply

    def _run(self, route: Route, call: Call, entry: Received) -> Record:
        """Let the endpoint work, on an account that is up to date."""
        with self.account.lock:
            cycle.settle(self.account, self.account.now)
            if route not in _IN_THOUSANDS:  # those come in thousands, and none of them reads a draft
                cycle.follow(self.account)
            self.account.origin = {
                "id": entry.request_id,
                "idempotency_key": entry.headers.get("idempotency-key"),
            }
            try:
                return render(self.account, route.run(self.account, call), call.params.get("expand", ()))
            finally:
                self.account.origin = NOBODY

    def _framed(self, request: Request, reply: Reply, request_id: str) -> Reply:
        """The answer with the headers that all have."""
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


def _parameters(request: Request) -> tuple[dict[str, Any], Any]:
    """The parameters as endpoints read them, and as a person wants to."""
    if not request.path.startswith("/v2/") or not request.body:
        form = decode(request.form)
        return form, plain(form)
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise malformed("Invalid request: the body is no JSON object.")
    return body, body


def _check_frame(request: Request) -> None:
    version = request.headers.get("stripe-version", API_VERSION)
    if not _VERSION.fullmatch(version):
        raise malformed(f"Invalid Stripe API version: {version}")
    if request.path.startswith("/v2/"):
        if request.body and not request.headers.get("content-type", "").startswith("application/json"):
            raise malformed("Invalid request: v2 takes JSON. Set the Content-Type to application/json.")
        return
    if request.body and not request.headers.get("content-type", FORM).startswith(FORM):
        raise malformed(
            f"Invalid request (check that your POST content type is {FORM}). "
            "If you have questions, we can help at https://support.stripe.com/."
        )


def _refusal(error: ApiError, request_id: str) -> Reply:
    return json_reply(error.status, error.body(request_id), error.headers)
