"""Fault injection: what networks, proxies and Stripe itself do on a bad day, on demand."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal, get_args

from meterkit.sandbox.protocol.errors import ApiError, key_in_use, lock_timeout, rate_limited
from meterkit.sandbox.protocol.frame import Reply, html_reply

Kind = Literal[
    "409",
    "429",
    "500",
    "500_after",
    "502",
    "502_after",
    "empty",
    "html",
    "lock_timeout",
    "reset_after",
    "reset_before",
    "slow",
    "timeout_after",
    "timeout_before",
]
Reason = Literal["global-concurrency", "global-rate", "endpoint-concurrency", "endpoint-rate", "resource-specific"]


@dataclass
class Fault:
    """
    One planned fault; `Sandbox.fail` makes it and describes the kinds.

    Attributes:
        kind: What goes wrong.
        path: Requests to this path are hit, or to any path where it is None.
        times: How many requests are hit.
        after: How many matching requests pass unharmed before.
        seconds: How long a slow request is held, or one that times out, in real time; None: until `release()`.
        reason: The limiter that a 429 names.
        hits: How many requests have been hit so far.

    """

    kind: Kind
    path: str | None
    times: int = 1
    after: int = 0
    seconds: float | None = None
    reason: Reason = "endpoint-rate"
    hits: int = 0
    _held: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """
        Check what was asked for.

        Raises:
            ValueError: An unknown kind or reason, or a number that makes no sense.

        """
        if self.kind not in get_args(Kind):
            raise ValueError(f"There is no fault {self.kind!r}; there are: {', '.join(get_args(Kind))}.")
        if self.reason not in get_args(Reason):
            raise ValueError(f"There is no reason {self.reason!r}; there are: {', '.join(get_args(Reason))}.")
        if self.times < 1 or self.after < 0 or (self.seconds is not None and self.seconds < 0):
            raise ValueError("times must be at least 1; after and seconds must not be negative.")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until a request is being held; False if none is after `timeout` seconds."""
        return self._held.wait(timeout)

    def release(self) -> None:
        """Let the held request go on, and those still to come pass without being held."""
        self._released.set()

    def hold(self) -> None:
        """Keep the calling thread until released or until the seconds are over."""
        self._held.set()
        self._released.wait(self.seconds)

    @property
    def holds(self) -> bool:
        """Whether it keeps a request in flight for a while."""
        return self.kind in ("slow", "timeout_before", "timeout_after")

    @property
    def breaks(self) -> bool:
        """Whether the client gets no answer at all."""
        return self.kind.startswith(("reset", "timeout"))

    @property
    def early(self) -> bool:
        """Whether the API never sees the request."""
        return self.kind in ("502", "reset_before", "timeout_before")

    def refusal(self, key: str) -> ApiError | None:
        """The error that the API answers instead of working; None for a fault of another sort."""
        if self.kind == "409":
            return key_in_use(key)
        if self.kind == "429":
            return rate_limited(self.reason)
        return lock_timeout() if self.kind == "lock_timeout" else None

    def spoil(self, reply: Reply) -> Reply:
        """What the client gets to see of an answer that was good."""
        if self.kind.startswith("502"):
            return html_reply(502, "502 Bad Gateway")
        if self.kind == "empty":
            return Reply(200, b"", reply.headers)
        if self.kind == "html":
            return html_reply(200, "Sign in to this network")
        return reply


class Faults:
    """The planned faults, in the order in which they were planned."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = threading.Lock()

    def plan(self, fault: Fault) -> Fault:
        """Add one."""
        with self._lock:
            self._planned.append(fault)
        return fault

    def strike(self, path: str) -> Fault | None:
        """The fault that hits a request to this path, if one does."""
        with self._lock:
            for fault in self._planned:
                if fault.path not in (None, path) or fault.hits >= fault.times:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.hits += 1
                return fault
        return None

    def clear(self) -> None:
        """Forget all of them and let every held request go."""
        with self._lock:
            planned, self._planned = self._planned, []
        for fault in planned:
            fault.release()
