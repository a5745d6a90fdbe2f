"""
Governance for Django REST framework: ``DEFAULT_THROTTLE_CLASSES = ["meterkit.django.drf.UsageThrottle"]``.

Needs `meterkit.django.MeterMiddleware`, which counts the requests.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import APIException, ErrorDetail, Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from meterkit.core.validation import SubjectId
from meterkit.django.middleware import govern
from meterkit.django.refusals import problem_of

__all__ = ["UsageThrottle"]


class UsageThrottle(BaseThrottle):
    """
    Asks the kit's ``governance=`` about each request that a view of Django REST framework has authenticated.

    It runs after the view's authentication and permissions, and before its handler. If the company was known before the
    view, the middleware has decided, and no second unit of a quota is taken. A blocked request raises the
    framework's own exceptions, for its exception handler to respond to: ``Throttled`` for a 429, with ``Retry-After``,
    and otherwise an ``APIException`` with the status, such as 402. The code of its ``detail`` is the reason, such as
    ``overdue``. The ``body=`` of a `Refusal` is not used.
    """

    def allow_request(self, request: Request, view: APIView) -> bool:
        """
        Return True if *request* is allowed.

        Raises:
            APIException: It is blocked.
        """
        blocked = govern(request, self.get_company(request, view))
        if blocked is not None:
            raise _exception(blocked)
        return True

    def get_company(self, request: Request, view: APIView) -> SubjectId | None:  # noqa: ARG002 - for subclasses
        """
        Return the id of the company that *request* belongs to; None to call the kit's ``identify=`` again.

        A subclass may override it. As it is, it returns None: ``identify=`` sees the ``user`` and ``auth`` that the
        view has authenticated on ``exchange.native``, because the framework sets them on Django's request too.
        """
        return None


def _exception(blocked: HttpResponse) -> APIException:
    detail, reason = problem_of(blocked)
    error: Any = Throttled() if blocked.status_code == 429 else APIException()
    error.status_code = blocked.status_code
    error.detail = ErrorDetail(detail, reason)
    error.wait = int(blocked.get("Retry-After", "0")) or None
    return error  # type: ignore[no-any-return]
