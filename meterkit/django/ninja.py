"""
Governance for django-ninja: ``NinjaAPI(auth=GovernedAuth(ApiKey()))``.

Needs `meterkit.django.MeterMiddleware`, which counts the requests. Ninja's ``throttle=`` is not the place: it can only
respond with a 429, and it runs in the event loop, where an exact quota cannot wait for the ledger.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from ninja.errors import HttpError

from meterkit.django.middleware import agovern, govern
from meterkit.django.refusals import problem_of

__all__ = ["BlockedError", "GovernedAuth"]


class BlockedError(HttpError):
    """
    A request that governance blocks. Ninja responds to it as to any ``HttpError``; see ``api.exception_handler``.

    Attributes:
        status_code: HTTP status, such as 402 or 429.
        message: Sentence for the client.
        reason: Why it is blocked, such as ``overdue``; as `meterkit.Block` has it.
        response: The kit's own response, with its headers, such as ``Retry-After``.
    """

    def __init__(self, response: HttpResponse) -> None:
        message, self.reason = problem_of(response)
        super().__init__(response.status_code, message)
        self.response = response


class GovernedAuth:
    """
    Authenticates a request as *auth* does, and then asks the kit's ``governance=`` about it.

    For ``auth=`` of an API, a router or an operation; a list of several takes one for each. The kit's ``identify=``
    names the company, by ``exchange.native.auth``, which is what *auth* returned. If the company was known before the
    view, the middleware has decided, and no second unit of a quota is taken.

    Args:
        auth: What ninja would take: an ``APIKeyHeader``, ``HttpBearer``, or a plain or async function of the request.
    """

    def __init__(self, auth: Callable[[HttpRequest], Any]) -> None:
        self._auth = auth
        self.is_async = _is_async(auth)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # as proxies have it: ninja's OpenAPI document names the scheme by this
        return type(self._auth)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._auth, name)  # such as the security scheme

    def __call__(self, request: Any) -> Any:
        """
        Return what *auth* returns; awaitable if that is.

        Raises:
            BlockedError: The request is blocked.
        """
        found = self._auth(request)
        if inspect.isawaitable(found):
            return self._governed(found, request)
        if found:
            request.auth = found  # as ninja does, but afterwards
            _raise_if(govern(request))
        return found

    async def _governed(self, awaitable: Any, request: Any) -> Any:
        found = await awaitable
        if found:
            request.auth = found
            _raise_if(await agovern(request))
        return found


def _raise_if(blocked: HttpResponse | None) -> None:
    if blocked is not None:
        raise BlockedError(blocked)


def _is_async(auth: Any) -> bool:
    call = getattr(auth, "__call__", None)  # noqa: B004 - of an object; a function has been looked at
    return bool(iscoroutinefunction(auth) or iscoroutinefunction(call) or getattr(auth, "is_async", False))
