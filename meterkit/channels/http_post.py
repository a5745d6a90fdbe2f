"""A POST that is tried again while that may help, for some seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import tenacity

TRIES = 4

MAX_WAIT = 5.0
"""Seconds between two tries; what fails then is tried again by whoever keeps the notice."""


class PostError(Exception):
    """It was not taken. The message never has the address, which may be a secret."""


def post(url: str, *, content: bytes, headers: Callable[[], Mapping[str, str]], timeout: float, to: str) -> None:
    """
    POST *content*, several times if need be.

    Args:
        url: Where to; redirects are not followed.
        content: JSON.
        headers: Made anew for each try.
        timeout: Seconds for each.
        to: What to call the other side in an error.

    Raises:
        PostError: It was not taken.
    """

    def once() -> httpx.Response | httpx.TransportError:
        try:
            return httpx.post(url, content=content, headers=dict(headers()), timeout=timeout, follow_redirects=False)
        except httpx.TransportError as error:
            return error

    answer = tenacity.Retrying(
        retry=tenacity.retry_if_result(_may_help),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=_wait,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
    )(once)
    if isinstance(answer, httpx.TransportError):
        raise PostError(f"{to} cannot be reached: {type(answer).__name__}") from None
    if answer.status_code == 410:
        raise PostError(f"{to} is gone (410): take it out of notify=")
    if not 200 <= answer.status_code < 300:
        raise PostError(f"{to} answers {answer.status_code}: {answer.text[:200]}")


def _may_help(answer: httpx.Response | httpx.TransportError) -> bool:
    return isinstance(answer, httpx.TransportError) or answer.status_code in (408, 429) or answer.status_code >= 500


def _wait(state: tenacity.RetryCallState) -> float:
    answer = state.outcome.result() if state.outcome is not None else None
    told = answer.headers.get("retry-after", "") if isinstance(answer, httpx.Response) else ""
    if told.isascii() and told.isdigit():
        return min(float(told), MAX_WAIT)
    return tenacity.wait_random_exponential(multiplier=0.2, max=MAX_WAIT)(state)
