"""`company_of`: an ``identify=`` that reads the request's user."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ObjectDoesNotExist

from meterkit.core.validation import SubjectId
from meterkit.errors import ConfigurationError
from meterkit.metering.exchange import Exchange, Identity
from meterkit.metering.identification import Identify


def company_of(path: str, *, of: str = "user", user: str | None = None) -> Identify:
    """
    Return a function for ``identify=`` that reads the company from the request's user.

    For WSGI and ASGI: under ASGI, it takes the user that ``request.auser()`` has loaded for the view; otherwise a user
    who is not loaded yet is loaded in a thread. Anonymous users, users without the relation, and None have no company.

    Args:
        path: Attributes that lead to the company's id, such as ``"membership.organisation_id"``.
        of: Attribute of the request at which *path* begins: ``user``; ``auth``, for the keys of Django REST framework
            and django-ninja; or one that a middleware of yours sets, such as ``tenant``.
        user: Attributes that lead to the id of the user within the company, from the same place, such as ``"pk"``;
            None to count no users.

    Raises:
        ConfigurationError: An argument is not a path of attributes.
    """
    company_path, user_path = _names(path, "company_of(path)"), None
    start = _names(of, "company_of(of=...)")
    if user is not None:
        user_path = _names(user, "company_of(user=...)")

    def identify(exchange: Exchange) -> SubjectId | Identity | None:
        found = _start(exchange.native, start)
        company: Any = _follow(found, company_path)
        if company is None or user_path is None:
            return company  # type: ignore[no-any-return]
        return Identity(company, _follow(found, user_path))

    return identify


def _names(path: Any, what: str) -> list[str]:
    names = path.split(".") if isinstance(path, str) else []
    if not names or not all(each.isidentifier() for each in names):
        raise ConfigurationError(
            f"{what} must be a path of attributes such as 'membership.organisation_id', not {path!r:.200}"
        )
    return names


def _start(request: Any, names: list[str]) -> Any:
    """Return the user, or what else the path begins at; None if there is none, or it is anonymous."""
    # What `request.auser()` has found: `request.user` would load the user a second time, and not in an event loop.
    found = getattr(request, "_acached_user", None) if names == ["user"] else None
    if found is None:
        found = request
        for name in names:
            found = getattr(found, name, None)
    return found if getattr(found, "is_authenticated", True) else None


def _follow(found: Any, names: list[str]) -> Any:
    for name in names:
        if found is None:
            return None
        try:
            found = getattr(found, name)
        except ObjectDoesNotExist:  # of a one-to-one relation
            return None
    return found
