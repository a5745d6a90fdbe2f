"""Fault injection: failures of the network, of proxies and of Stripe itself, on demand."""

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
    One scheduled fault; `Sandbox.fail` creates it and describes the kinds.

    Attributes:
        kind: Kind of fault.
        path: Path of the requests that are affected; None for all paths.
        times: Number of requests that are affected.
        after: Number of matching requests that still get through before.
        seconds: Real-time seconds for which a slow or timed-out request is held; None: until `release()`.
        reason: Rate limiter that a 429 names.
        hits: Number of requests affected so far.

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
        Check the values.

        Raises:
            ValueError: The kind or reason is unknown, or a number is out of range.

        """
        if self.kind not in get_args(Kind):
            raise ValueError(f"Unknown fault {self.kind!r}; choose from {', '.join(get_args(Kind))}.")
        if self.reason not in get_args(Reason):
            raise ValueError(f"Unknown reason {self.reason!r}; choose from {', '.join(get_args(Reason))}.")
        if self.times < 1 or self.after < 0 or (self.seconds is not None and self.seconds < 0):
            raise ValueError("times must be at least 1; after and seconds must not be negative.")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until a request is held; return False if none is within *timeout* seconds."""
        return self._held.wait(timeout)

    def release(self) -> None:
        """Release the held request, and do not hold later ones."""
        self._released.set()

    def hold(self) -> None:
        """Block the calling thread until `release()`, or for `seconds`."""
        self._held.set()
        self._released.wait(self.seconds)

    @property
    def holds(self) -> bool:
        """Whether this kind holds a request in flight."""
        return self.kind in ("slow", "timeout_before", "timeout_after")

    @property
    def breaks(self) -> bool:
        """Whether the client gets no response at all."""
        return self.kind.startswith(("reset", "timeout"))

    @property
    def early(self) -> bool:
        """Whether the request never reaches the API."""
        return self.kind in ("502", "reset_before", "timeout_before")

    def refusal(self, key: str) -> ApiError | None:
        """Return the error that the API responds with instead of the operation; None for other kinds."""
        if self.kind == "409":
            return key_in_use(key)
        if self.kind == "429":
            return rate_limited(self.reason)
        return lock_timeout() if self.kind == "lock_timeout" else None

    def spoil(self, reply: Reply) -> Reply:
        """Return the response that the client receives in place of a successful one."""
        if self.kind.startswith("502"):
            return html_reply(502, "502 Bad Gateway")
        if self.kind == "empty":
            return Reply(200, b"", reply.headers)
        if self.kind == "html":
            return html_reply(200, "Sign in to this network")
        return reply


class Faults:
    """The scheduled faults, in the order in which they were scheduled."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = threading.Lock()

    def plan(self, fault: Fault) -> Fault:
        """Schedule a fault."""
        with self._lock:
            self._planned.append(fault)
        return fault

    def take(self, path: str) -> Fault | None:
        """Return the fault that affects a request to this path, if any, and count the request."""
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
        """Cancel all faults, and release every held request."""
        with self._lock:
            planned, self._planned = self._planned, []
        for fault in planned:
            fault.release()
