"""A POST request that is retried for some seconds if that may help."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import tenacity

TRIES = 4

MAX_WAIT = 5.0
"""Longest delay between two tries, in seconds. After the last one, the dispatcher retries the notice later."""


class PostError(Exception):
    """The POST failed. The message never contains the URL, which may be a secret."""


def post(url: str, *, content: bytes, headers: Callable[[], Mapping[str, str]], timeout: float, to: str) -> None:
    """
    POST *content*, with retries.

    Args:
        url: URL to post to; redirects are not followed.
        content: Body, JSON.
        headers: Function that returns the headers; called for each try.
        timeout: Seconds to wait for each response.
        to: Name of the receiver in errors.

    Raises:
        PostError: The receiver did not accept it.
    """

    def once() -> httpx.Response | httpx.TransportError:
        try:
            return httpx.post(url, content=content, headers=dict(headers()), timeout=timeout, follow_redirects=False)
        except httpx.TransportError as error:
            return error

    result = tenacity.Retrying(
        retry=tenacity.retry_if_result(_is_retryable),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=_wait,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
    )(once)
    if isinstance(result, httpx.TransportError):
        raise PostError(f"{to} cannot be reached: {type(result).__name__}") from None
    if result.status_code == 410:
        raise PostError(f"{to} is gone (410): remove it from notify=")
    if not 200 <= result.status_code < 300:
        raise PostError(f"{to} responded with {result.status_code}: {result.text[:200]}")


def _is_retryable(result: httpx.Response | httpx.TransportError) -> bool:
    return isinstance(result, httpx.TransportError) or result.status_code in (408, 429) or result.status_code >= 500


def _wait(state: tenacity.RetryCallState) -> float:
    result = state.outcome.result() if state.outcome is not None else None
    retry_after = result.headers.get("retry-after", "") if isinstance(result, httpx.Response) else ""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), MAX_WAIT)
    return tenacity.wait_random_exponential(multiplier=0.2, max=MAX_WAIT)(state)
