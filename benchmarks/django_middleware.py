"""Django finds middleware by dotted path; what they count with is set before Django creates them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

count: Callable[[str, str, int], None] = lambda _company, _path, _status: None  # noqa: E731 - a variable


class Passing:
    """Does nothing, in either kind of project."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request."""
        return self._serve(request) if self._is_async else self._done(request, self.get_response(request))

    async def _serve(self, request: Any) -> Any:
        return self._done(request, await self.get_response(request))

    def _done(self, _request: Any, response: Any) -> Any:
        return response


class Recorder(Passing):
    """Counts company, path and status."""

    def _done(self, request: Any, response: Any) -> Any:
        count(request.META.get("HTTP_X_COMPANY", ""), request.path, response.status_code)
        return response
