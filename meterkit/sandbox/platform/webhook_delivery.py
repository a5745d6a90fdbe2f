"""The delivery of signed events over real HTTP, retried until they are accepted."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meterkit.sandbox.metering import thin_events
from meterkit.sandbox.platform import event_destinations, webhook_endpoints
from meterkit.sandbox.platform.endpoints import ACCOUNTS, SELF, Endpoint, endpoints_of
from meterkit.sandbox.protocol.errors import ApiError
from meterkit.sandbox.protocol.params import Url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterkit.sandbox.state.account import Account, Record

RETRIES = (3600, 3 * 3600)
"""Seconds between attempts. Stripe: three tries over a few hours in a sandbox, three days in live mode."""

LIVE_RETRIES = tuple(2**number * 3600 for number in range(6))

POLL = 0.1
"""Seconds between two checks for due deliveries, in real time."""

TIMEOUT = 10.0
"""Real-time seconds within which an endpoint must respond."""


@dataclass(frozen=True)
class Delivery:
    """
    One attempt to deliver an event.

    Attributes:
        endpoint: Id of the endpoint.
        event: Id of the event.
        type: Type of the event.
        attempt: Number of the attempt, from 1.
        status: Status of the response; None if there was none.

    """

    endpoint: str
    event: str
    type: str
    attempt: int
    status: int | None


@dataclass(eq=False)
class _Waiting:
    endpoint: Endpoint
    event: Record
    source: Account
    own: bool  # whether the endpoint belongs to the account that the event is from
    due: int
    attempt: int = 0


class Webhooks:
    """
    Delivers the events of an account, and of the accounts connected to it.

    Args:
        account: Account whose events are delivered.

    Attributes:
        delivered: Attempts so far, in order.

    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sending = threading.RLock()
        self._waiting: list[_Waiting] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.delivered: list[Delivery] = []
        account.on_event = self._enqueue

    @property
    def endpoints(self) -> list[Endpoint]:
        """Webhook endpoints and event destinations of the account, also those that a client has created."""
        with self._account.lock:
            return endpoints_of(self._account)

    def start(self) -> None:
        """Deliver events again after `stop`."""
        self._stop.clear()

    def stop(self) -> None:
        """Stop delivering events."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def send_to(
        self, url: str, *, secret: str | None = None, events: Iterable[str] = ("*",), thin: bool = False
    ) -> Endpoint:
        """
        Create an endpoint, which is sent events from now on.

        If time stands still, call `deliver()`; `Sandbox.advance()` also delivers events, each at its own time.

        Args:
            url: URL that events are sent to.
            secret: Signing secret, ``whsec_...``; by default a new one.
            events: Event types, such as ``invoice.paid``; by default all.
            thin: Whether to send thin events instead of snapshots.

        Returns:
            The endpoint, with its `secret`, which can be rolled.

        Raises:
            ValueError: The URL has no scheme or host, or there are no event types.

        """
        params: dict[str, Any] = {"enabled_events": list(events)}
        if thin:
            params |= {
                "event_payload": "thin",
                "name": url,
                "type": "webhook_endpoint",
                "webhook_endpoint": {"url": url},
            }
        else:
            params["url"] = url
        build = event_destinations.build if thin else webhook_endpoints.build
        with self._account.lock:
            try:
                Url().parse(url, "url")
                return Endpoint(build(self._account, params, secret=secret))
            except ApiError as error:
                raise ValueError(error.message) from None

    def next_due(self) -> int | None:
        """Return the Unix second at which the next delivery is due, or None."""
        with self._account.lock:
            return min((each.due for each in self._waiting), default=None)

    def deliver(self, *, times: int = 1, order: Any = None) -> list[Delivery]:
        """
        Deliver whatever is due, including events that the deliveries cause.

        Args:
            times: Number of times that each event is delivered: Stripe may repeat one.
            order: Function that reorders a list of events in place, such as ``random.Random(1).shuffle``: Stripe
                guarantees no order.

        Returns:
            The attempts, in order.

        """
        done: list[Delivery] = []
        with self._sending:
            while portion := self._take_due():
                if order is not None:
                    order(portion)
                for each in portion:
                    done += [self._attempt(each) for _ in range(times)]
                    self._settle(each, done[-1].status)
        self.delivered += done
        return done

    def replay(
        self, endpoint: Endpoint, event: str, *, secret: str | None = None, at: int | None = None, **changed: Any
    ) -> int | None:
        """
        Deliver a past event again, with a wrong or an old signature or with *changed* fields if necessary.

        Args:
            endpoint: Endpoint to deliver to.
            event: Id of the event.
            secret: Secret that signs it instead of the endpoint's own.
            at: Unix second of the signature; by default now.
            changed: Fields to change, such as ``livemode=True`` or ``account="acct_other"``.

        Returns:
            Status of the response; None if there was none.

        """
        with self._account.lock:
            tables = [each.tables[kind] for each in self._account.worlds for kind in ("event", thin_events.KIND)]
            record = {**next(table[event] for table in tables if event in table), **changed}
        return self._send(endpoint, record, secret=secret, at=at)

    def _send(
        self, endpoint: Endpoint, event: Record, *, secret: str | None = None, at: int | None = None
    ) -> int | None:
        with self._account.lock:
            shown = thin_events.body_of(event) if event["object"] == thin_events.KIND else event
            if endpoint.version is not None:
                shown = {**shown, "api_version": endpoint.version}
            url, secrets = endpoint.url, [secret] if secret is not None else list(endpoint.secrets)
            signed_at = self._account.now if at is None else at
        body = json.dumps(shown, indent=2).encode()
        return _post(url, body, signature(body, signed_at, secrets))

    def _run(self) -> None:
        while not self._stop.wait(POLL):
            self.deliver()

    def _enqueue(self, event: Record) -> None:
        source = self._source(event)
        listening = [(each, True) for each in endpoints_of(source) if each.hears(SELF)]
        if source is not self._account:
            listening += [(each, False) for each in endpoints_of(self._account) if each.hears(ACCOUNTS)]
        for endpoint, own in listening:
            if endpoint.wants(event):
                if event["object"] == "event":
                    event["pending_webhooks"] += 1
                self._waiting.append(_Waiting(endpoint, event, source, own, self._account.clock.unpinned))
        if self._waiting and self._account.clock.runs and self._thread is None and not self._stop.is_set():
            # If time stands still, the caller delivers.
            self._thread = threading.Thread(target=self._run, name="meterkit-sandbox-webhooks", daemon=True)
            self._thread.start()

    def _take_due(self) -> list[_Waiting]:
        with self._account.lock:
            now = self._account.now
            waiting = [each for each in self._waiting if each.endpoint.open]
            for each in self._waiting:
                if each not in waiting and each.event["type"] == "invoice.created":
                    _release(each.source, each.event["data"]["object"]["id"])
            self._waiting = [each for each in waiting if each.due > now]
        return [each for each in waiting if each.due <= now]

    def _attempt(self, each: _Waiting) -> Delivery:
        # Without the account's lock, because the receiver of a webhook event may call the API.
        event = dict(each.event)
        if event["object"] == "event":
            event["pending_webhooks"] = 1
        if each.own:  # only a platform is told which account an event is from
            event |= {name: None for name in ("account", "context") if name in event}
        status = self._send(each.endpoint, event)
        return Delivery(each.endpoint.id, each.event["id"], each.event["type"], each.attempt + 1, status)

    def _settle(self, each: _Waiting, status: int | None) -> None:
        retries = LIVE_RETRIES if self._account.switches.livemode else RETRIES
        taken = status is not None and 200 <= status < 300
        with self._account.lock:
            about = each.event.get("data", {}).get("object", {})
            is_draft = each.event["type"] == "invoice.created"
            if taken or each.attempt == len(retries):
                if is_draft:
                    _release(each.source, about["id"])
                return
            if is_draft:
                each.source.blocked.add(about["id"])  # not finalised until the endpoint accepts it
            each.due = self._account.now + retries[each.attempt]
            each.attempt += 1
            self._waiting.append(each)

    def _source(self, event: Record) -> Account:
        return self._account.connected.get(event["context"] or "", self._account)


def _release(source: Account, invoice: str) -> None:
    if invoice in source.blocked:
        source.blocked.remove(invoice)
        record = source.tables["invoice"].get(invoice)
        if record is not None and record["automatically_finalizes_at"] is not None:
            grace = source.now + source.switches.invoice_grace
            record["automatically_finalizes_at"] = max(record["automatically_finalizes_at"], grace)


def signature(body: bytes, at: int, secrets: list[str]) -> str:
    """Return the header ``Stripe-Signature``: a time, and one signature for each secret."""
    signed = f"{at}.".encode() + body
    digests = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])


def _post(url: str, body: bytes, signed: str) -> int | None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT)
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signed,
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    try:
        connection.request("POST", parts.path or "/", body, headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return response.status
