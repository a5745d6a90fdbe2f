"""A POST request that is retried for some seconds if that may help."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx
import tenacity

from meterkit.core.http_logging import Unlogged
from meterkit.core.threads import DaemonThread, Event

TRIES = 4

MAX_WAIT = 5.0
"""Longest delay between two tries, in seconds. After the last one, the dispatcher retries the notice later."""

LAST_TRY = 15.0
"""Seconds after which no further try begins: with the default time-out, all of it takes less than half a minute."""

LARGEST_BYTES = 4096
"""Bytes that are read of a response that says why something failed. The rest is dropped with the connection."""

_CODE = re.compile(r"[a-z_]{1,40}")
"""What Slack says when it does not take a message, such as ``channel_is_archived``."""


class PostError(Exception):
    """The POST failed. The message never contains the URL, which may be a secret, nor what the receiver made of it."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """
    What came of one try.

    Attributes:
        status: HTTP status; 0 if there was no response.
        text: What the receiver said; or, if there was no response, the kind of error.
        retry_after: Value of its header ``Retry-After``.
    """

    status: int
    text: str = ""
    retry_after: str = ""


def post(url: str, *, content: bytes, headers: Callable[[], Mapping[str, str]], timeout: float, to: str) -> None:
    """
    POST *content*, with retries.

    Args:
        url: URL to post to; redirects are not followed.
        content: Body, JSON.
        headers: Function that returns the headers; called for each try.
        timeout: Seconds to wait for each response, however slowly it arrives.
        to: Name of the receiver in errors.

    Raises:
        PostError: The receiver did not accept it.
    """
    result: _Answer = tenacity.Retrying(
        retry=tenacity.retry_if_result(_is_retryable),
        stop=tenacity.stop_any(tenacity.stop_after_attempt(TRIES), tenacity.stop_after_delay(LAST_TRY)),
        wait=_wait,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
    )(lambda: _once(url, content, headers(), timeout))
    if not result.status:
        raise PostError(f"{to} cannot be reached: {result.text}")
    if result.status == 410:
        raise PostError(f"{to} is gone (410): remove it from notify=")
    if not 200 <= result.status < 300:
        # A receiver may repeat the path, as many do in a 404; so only a single word is shown, which is not part of it.
        says = result.text.strip()
        cause = f": {says}" if _CODE.fullmatch(says) and says not in url else ""
        raise PostError(f"{to} responded with {result.status}{cause}")


def _once(url: str, content: bytes, headers: Mapping[str, str], timeout: float) -> _Answer:
    deadline = _Deadline(timeout)
    try:
        with Unlogged(), deadline, httpx.Client(timeout=timeout, follow_redirects=False) as client:
            sent = {"accept-encoding": "identity", **headers}
            tracing = {"trace": deadline.trace}
            with client.stream("POST", url, content=content, headers=sent, extensions=tracing) as response:
                text = "" if response.is_success else _read(response, deadline)
                return _Answer(response.status_code, text, response.headers.get("retry-after", ""))
    except Exception as error:  # not only httpx's own: an odd URL, or the socket that was shut down
        return _Answer(0, "it takes too long" if deadline.has_passed else type(error).__name__)


def _read(response: httpx.Response, deadline: _Deadline) -> str:
    """Return the first bytes of the body; fewer if it breaks off, or takes too long."""
    body = bytearray()
    with suppress(httpx.HTTPError):
        for part in response.iter_raw():
            body += part
            if len(body) >= LARGEST_BYTES or deadline.has_passed:
                break
    return body[:LARGEST_BYTES].decode("utf-8", "replace")


class _Deadline:
    """
    Ends a request that takes too long: httpx only limits the time between two parts of a response.

    Args:
        seconds: Seconds that the request may take.
    """

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds
        self._over = Event()
        self._socket: socket.socket | None = None

    @property
    def has_passed(self) -> bool:
        """Whether the request has taken too long."""
        return monotonic() >= self._end

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note the socket of the request; httpcore calls this at each step."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = info["return_value"].get_extra_info("socket")

    def __enter__(self) -> None:
        with suppress(RuntimeError):  # while the interpreter shuts down; then only the time between parts is limited
            DaemonThread(self._watch, name="meterkit-post")

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._end - monotonic())):
            if self.has_passed:
                connection = self._socket
                if connection is not None:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                return


def _is_retryable(result: _Answer) -> bool:
    return result.status in (0, 408, 429) or result.status >= 500


def _wait(state: tenacity.RetryCallState) -> float:
    retry_after = state.outcome.result().retry_after if state.outcome is not None else ""
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
        return min(float(retry_after), MAX_WAIT)
    return tenacity.wait_random_exponential(multiplier=0.2, max=MAX_WAIT)(state)
