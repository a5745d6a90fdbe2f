"""Django's share of the contract: one project, configured once per process, with settings changed for each handler."""

from __future__ import annotations

from typing import Any

import django
from adapter_drivers import LOG
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"], DATABASES={}, LOGGING_CONFIG=None, MIDDLEWARE=[], ROOT_URLCONF=__name__, SECRET_KEY="x"
    )
    django.setup()

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import override_settings
from django.urls import path

METER = "meterkit.django.MeterMiddleware"


def django_handler(kit: Any, *, is_async: bool = False, **changed: Any) -> Any:
    """The project, as a WSGI or ASGI app; metered, if it is handed a kit."""
    changed = {"ROOT_URLCONF": __name__, "METERKIT": kit, "MIDDLEWARE": [] if kit is None else [METER], **changed}

    def with_settings(wrapped: Any) -> Any:
        # The handler reads some settings when it is built and others when it serves.
        with override_settings(**changed):
            handler = wrapped()

        if is_async:

            async def asgi(scope: Any, receive: Any, send: Any) -> None:
                with override_settings(**changed):
                    await handler(scope, receive, send)

            return asgi

        def wsgi(environ: Any, start_response: Any) -> Any:
            with override_settings(**changed):
                return handler(environ, start_response)

        return wsgi

    return with_settings(ASGIHandler if is_async else WSGIHandler)


def view(request: HttpRequest, what: str) -> HttpResponseBase:
    from adapter_stacks import BOOM, STATUS, TWICE, async_chunks, chunks, say_who

    import meterkit

    is_async = hasattr(request, "scope")
    log = request.scope[LOG] if is_async else request.META[LOG]
    if what == "boom":
        raise BOOM
    if what == "named":
        say_who()
    if what == "skipped":
        meterkit.skip()
    if what in ("stream", "sized", "break", "wait"):
        kinds = {"breaks": what == "break"}
        content = async_chunks(log, **kinds, waits=what == "wait") if is_async else chunks(log, **kinds)
        response = StreamingHttpResponse(content)
        response._resource_closers.append(lambda: log.append("response closed"))
        if what == "sized":
            response["Content-Length"] = "13"
        return response
    whole = HttpResponse(b"" if what in STATUS else b"whole", status=STATUS.get(what, 201))
    for name, value in TWICE:
        whole[name] = value
    whole.set_cookie("a", "1")
    whole.set_cookie("b", "2")
    whole._resource_closers.append(lambda: log.append("response closed"))
    return whole


urlpatterns = [path("<what>", view)]
