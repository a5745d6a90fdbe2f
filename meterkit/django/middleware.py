"""The middleware, for WSGI and ASGI, and `govern`."""

from __future__ import annotations

from asyncio import CancelledError, get_running_loop
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver

from meterkit.adapters.bridges import crosses_bridge
from meterkit.adapters.django_body import AsyncDjangoBody, DjangoBody
from meterkit.adapters.django_routes import routes_in
from meterkit.adapters.file_length import rest_of_file
from meterkit.adapters.wsgi_headers import EnvironHeaders
from meterkit.adapters.wsgi_input import CountedInput, longest_body, read_input
from meterkit.core.responses import Response
from meterkit.core.threads import in_thread
from meterkit.core.validation import SubjectId
from meterkit.django.configuration import kit_of_settings
from meterkit.errors import WebhookError
from meterkit.holds.refusal import response_to
from meterkit.metering.exchange import UNREAD, Exchange, Identity
from meterkit.metering.identification import IdentifyInThread
from meterkit.metering.recorder import CLIENT_LEFT, MARK, recorder_of
from meterkit.webhooks.config import LARGEST_BYTES

__all__ = ["DjangoExchange", "MeterMiddleware", "agovern", "govern"]

T = TypeVar("T")

GetResponse: TypeAlias = "Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]"


class DjangoExchange(Exchange):
    """
    An exchange of a Django project; its ``native`` is the HttpRequest.

    ``route`` is a slash and the pattern that the URL resolver matched, as written in ``path()`` or ``re_path()``.
    """

    __slots__ = ()

    owner: MeterMiddleware
    retry_after: str | None = None

    @property
    def response_headers(self) -> Mapping[str, str]:
        """Response headers: read-only, case-insensitive names."""
        return MappingProxyType(self._response_headers or {})

    def known_routes(self) -> Iterable[str] | None:
        """Return the templates of the URLconf; None if they depend on the language."""
        return routes_in(get_resolver(getattr(self.native, "urlconf", None)), "")

    def start(self, response: HttpResponseBase) -> None:
        """Record the status and the headers, and allow the route to be looked up: the URL resolver has run by now."""
        self.status = response.status_code
        self._response_headers = response.headers
        self._route = UNREAD
        if self.native.method and self.native.method is not self.verb:
            self.override(self.native.method)

    def complete(self, function: Callable[[Exchange], Awaitable[T]]) -> T:
        """Call an async *function*, as Django calls async views in a sync project: its ORM has the same connection."""
        completed: T = async_to_sync(function)(self)
        return completed

    def _read_route(self) -> str | None:
        match = None if self.native is None else self.native.resolver_match
        return None if match is None else "/" + match.route.lstrip("/")


class MeterMiddleware:
    """
    Meters a Django project with the kit in ``settings.METERKIT``. Put it first in ``MIDDLEWARE``, to meter the most.

    Args:
        get_response: Next middleware or view, from Django.

    Raises:
        ImproperlyConfigured: ``METERKIT`` is missing, or is not a MeterKit.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response: Any = get_response
        kit = kit_of_settings()
        self.recorder = recorder_of(kit)
        self._endpoint = kit.endpoint
        self._governor = kit.governor
        self._page = kit.page
        self._asks = self.recorder.identity.asks
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        if self._governor is not None:  # otherwise, Django would call it for nothing
            self.process_view = self._before_async_view if self._is_async else self._before_view

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve one request."""
        if self._endpoint is not None and request.path == self._endpoint.path:
            return self._serve_webhook_async(request) if self._is_async else self._serve_webhook(request)
        exchange = self._open(request)
        if exchange is None:
            return self.get_response(request)  # type: ignore[no-any-return]
        if self._page is not None and self._is_page(exchange):
            return self._show_async(request, exchange) if self._is_async else self._show(request, exchange)
        if self._is_async:
            return self._serve(request, exchange)
        try:
            response = self.get_response(request)
        except BaseException:
            self._broke(exchange)
            raise
        self._responded(response, exchange)
        return response  # type: ignore[no-any-return]

    def _before_view(self, request: HttpRequest, *_view: object) -> HttpResponseBase | None:
        """Return a response that blocks the request, or None; the project's other middleware has run by now."""
        exchange = _exchange_of(request)
        if exchange is None:
            return None
        assert self._governor is not None
        return self._blocked(self._governor.check(exchange), request, exchange)

    @markcoroutinefunction
    def _before_async_view(
        self, request: HttpRequest, *_view: object
    ) -> HttpResponseBase | Awaitable[HttpResponseBase | None] | None:
        """
        Decide as `_before_view` does, in the event loop or in a thread.

        An agent that instruments every ``process_view``, as sentry-sdk did up to 2.64, may have put a plain function
        around this one. Django then takes it for a sync one, calls it in a thread, and awaits nothing.
        """
        return self._decide_in_loop(request) if _in_event_loop() else self._before_view(request)

    async def _decide_in_loop(self, request: HttpRequest) -> HttpResponseBase | None:
        exchange, governor = _exchange_of(request), self._governor
        if exchange is None:
            return None
        assert governor is not None
        if self._asks is not None and not governor.exempts(exchange):
            await self._asks.ask(exchange)
        if governor.waits_for(exchange):
            response = await in_thread(lambda: governor.check(exchange))
        else:
            response = await _deferring(governor.check, exchange)
        return self._blocked(response, request, exchange)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the response to a request in which too little was left to hold; None for any other error."""
        exchange = _exchange_of(request)
        if exchange is None or exchange.closed:
            return None
        response = response_to(error, exchange, recorder=self.recorder, governor=self._governor)
        return None if response is None else _response(response, request)

    def decide_for(self, who: Identity | None, request: HttpRequest, exchange: DjangoExchange) -> HttpResponse | None:
        """
        Return a response that blocks *who*; None if it is allowed, or if it was allowed before the view.

        If *who* is None, ``identify=`` says who it is now.
        """
        governor = self._governor
        if governor is None:
            return None
        blocked = self._blocked(governor.check_again(exchange, who), request, exchange)
        if blocked is not None:
            exchange.retry_after = blocked.get("Retry-After")
        return blocked

    async def ask_again(self, exchange: DjangoExchange) -> None:
        """Call an async ``identify=`` for *exchange* in this event loop, unless it has named a company already."""
        if self._asks is not None and exchange.identified is None:
            await self._asks.ask(exchange)

    def may_wait(self, exchange: DjangoExchange) -> bool:
        """Return whether a decision about *exchange* may wait for the ledger."""
        return self._governor is not None and self._governor.waits_for(exchange)

    def _blocked(self, response: Response | None, request: HttpRequest, exchange: Exchange) -> HttpResponse | None:
        if response is None:
            return None
        self.recorder.refuse(exchange)
        return _response(response, request)

    async def _serve(self, request: HttpRequest, exchange: DjangoExchange) -> HttpResponseBase:
        try:
            response = await self.get_response(request)
            if self._asks is not None and not exchange.closed:
                exchange.start(response)
                await self.recorder.ask(exchange)
        except CancelledError:
            if self._asks is not None and not exchange.closed:
                exchange.find_route()
                exchange.status = exchange.status or CLIENT_LEFT
                await self.recorder.ask(exchange, shielded=True)
            self._left(exchange)
            raise
        except BaseException:
            self._broke(exchange)
            raise
        exchange.may_defer = True
        try:
            self._responded(response, exchange)
        except IdentifyInThread:
            await self._respond_in_thread(response, request, exchange)
        exchange.may_defer = False
        if exchange.holds and exchange.closed:
            exchange.end_holds()
        return response  # type: ignore[no-any-return]

    async def _respond_in_thread(self, response: Any, request: HttpRequest, exchange: DjangoExchange) -> None:
        """Do again what `_responded` could not finish in the event loop."""
        exchange.may_defer = exchange.closed = False
        exchange.native, exchange.headers = request, _headers_of(request)
        await sync_to_async(self._responded)(response, exchange)

    def _serve_webhook(self, request: HttpRequest) -> HttpResponse:
        assert self._endpoint is not None
        signature = request.headers.get("Stripe-Signature")
        response = self._endpoint.respond(request.method or "", lambda: _body(request), signature)
        return _response(response, request)

    async def _serve_webhook_async(self, request: HttpRequest) -> HttpResponse:
        return await in_thread(lambda: self._serve_webhook(request))

    def _is_page(self, exchange: DjangoExchange) -> bool:
        page = self._page
        assert page is not None
        is_near = exchange.path.startswith(page.prefix) or type(exchange.target) is tuple
        return is_near and page.serves(exchange)

    def _show(self, request: HttpRequest, exchange: DjangoExchange) -> HttpResponse:
        assert self._page is not None
        response = self._page.respond(exchange, request.META.get("QUERY_STRING", ""))
        self.recorder.refuse(exchange)
        return _response(response, request)

    async def _show_async(self, request: HttpRequest, exchange: DjangoExchange) -> HttpResponse:
        if self._asks is not None:
            await self._asks.ask(exchange)
        return await in_thread(lambda: self._show(request, exchange))

    def _open(self, request: HttpRequest) -> DjangoExchange | None:
        # The scope under ASGI, the environ under WSGI: meterkit.asgi and meterkit.wsgi store their mark there, too.
        scope = getattr(request, "scope", None)
        carrier = scope or request.META
        if MARK in carrier and self.recorder.counts_already(carrier[MARK]):
            return None
        exchange = DjangoExchange()
        exchange.begin(request.method or "", request.path, request, _headers_of(request), self)
        if scope:
            exchange.is_asgi = True
        if request.path != request.path_info and request.path.endswith(request.path_info):
            exchange.target = request.path.removesuffix(request.path_info), request.path_info
        if exchange.outer is not None and crosses_bridge(exchange, carrier):
            return None
        carrier[MARK] = exchange
        if self.recorder.reads_requests:
            _count_input(request, exchange)
        return exchange

    def _responded(self, response: Any, exchange: DjangoExchange) -> None:
        if exchange.closed:
            if exchange.retry_after is not None:  # the view has made a response of its own of the one that blocks
                response.setdefault("Retry-After", exchange.retry_after)
            return
        try:
            exchange.start(response)
            for name, value in exchange.added_headers:
                response[name] = value
            if not response.streaming:
                self.recorder.whole(exchange, response.content)
            elif getattr(response, "file_to_stream", None) is not None:
                file = response.file_to_stream
                self.recorder.sendfile(
                    exchange, lambda: rest_of_file(file)
                )  # it must stay a file, for servers that send files themselves
            else:
                self.recorder.chunk(exchange, b"")
                if not exchange.closed:
                    if self._is_async:
                        self.recorder.settle_identity(exchange)
                        exchange.may_defer = False
                    kind = AsyncDjangoBody if response.is_async else DjangoBody
                    response.streaming_content = kind(response.streaming_content, exchange, self.recorder)
                    return
        except Exception as error:
            self.recorder.problems.internal(error)
            (self.recorder.close if exchange.status else self.recorder.broke)(exchange)
        exchange.retract()

    def _left(self, exchange: DjangoExchange) -> None:
        exchange.find_route()
        self.recorder.close(exchange)
        exchange.retract()

    def _broke(self, exchange: DjangoExchange) -> None:
        # Only a BaseException that is not an Exception gets here: Django turns the others into responses.
        exchange.find_route()
        self.recorder.broke(exchange)
        exchange.retract()


def _headers_of(request: HttpRequest) -> EnvironHeaders:
    headers = EnvironHeaders()  # Django's own would copy all headers into a dict first
    headers.environ = request.META
    return headers


async def _deferring(call: Callable[[DjangoExchange], T], exchange: DjangoExchange) -> T:
    """Call *call*; in a thread, if ``identify=`` uses the ORM, which Django refuses in an event loop."""
    exchange.may_defer = True
    try:
        return call(exchange)
    except IdentifyInThread:
        pass
    finally:
        exchange.may_defer = False
    return await sync_to_async(call)(exchange)


def _in_event_loop() -> bool:
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True


def govern(
    request: HttpRequest, company: SubjectId | None = None, user: SubjectId | None = None
) -> HttpResponse | None:
    """
    Decide again about *request*, now that it is known whose it is; for authentication inside the view.

    Django REST framework and django-ninja authenticate there, where the middleware's own decision has been made; see
    `meterkit.django.drf` and `meterkit.django.ninja`. If the company was known before the view, that decision stands.
    In an async view, use `agovern`. Never raises.

    Args:
        request: Django's request, or Django REST framework's.
        company: Company id that the view has authenticated, which then also pays, as with `meterkit.identify`; None to
            call the kit's ``identify=`` again.
        user: Id of the user within *company*; None if there is none.

    Returns:
        The response to send instead of the view's, which is not billed; None if the request is allowed.
    """
    exchange = _exchange_of(_django_request(request))
    if exchange is None or exchange.closed:
        return None
    if exchange.identified is None:
        exchange.answer = None  # so that an async ``identify=`` is called again
    return _decide(exchange, company, user)


async def agovern(
    request: HttpRequest, company: SubjectId | None = None, user: SubjectId | None = None
) -> HttpResponse | None:
    """Decide again about *request* as `govern` does, for async views: in a thread, if it waits for a database."""
    exchange = _exchange_of(_django_request(request))
    if exchange is None or exchange.closed:
        return None
    if company is None:
        await exchange.owner.ask_again(exchange)
    if exchange.owner.may_wait(exchange):
        return await sync_to_async(_decide)(exchange, company, user)
    return await _deferring(lambda exchange: _decide(exchange, company, user), exchange)


def _decide(exchange: DjangoExchange, company: SubjectId | None, user: SubjectId | None) -> HttpResponse | None:
    who = None
    if company is not None:
        exchange.touched = True
        who = exchange.identity = Identity(company, user)
    return exchange.owner.decide_for(who, exchange.native, exchange)


def _django_request(request: HttpRequest) -> HttpRequest:
    return getattr(request, "_request", request)  # Django REST framework has its own around it


def _exchange_of(request: HttpRequest) -> DjangoExchange | None:
    """
    Return the exchange of exactly this request, not of another middleware or of a view that calls a view.

    The URL resolver has run, so its route is known.
    """
    exchange = (getattr(request, "scope", None) or request.META).get(MARK)
    if not isinstance(exchange, DjangoExchange) or exchange.native is not request:
        return None
    exchange.find_route()
    return exchange


def _count_input(request: HttpRequest, exchange: DjangoExchange) -> None:
    """Count what is read of *request* from now on; what other middleware has read already, by its length."""
    if hasattr(request, "_body"):
        exchange.read_bytes = len(request.body)
    elif hasattr(request, "_stream") and not getattr(request, "_read_started", False):
        stream: Any = CountedInput(request._stream, exchange, longest_body(request.META))  # noqa: SLF001 - as Django reads it
        request._stream = stream  # noqa: SLF001


def _body(request: HttpRequest) -> bytes:
    environ = getattr(request, "environ", None)  # under WSGI
    if environ is not None and not request.META.get("CONTENT_LENGTH") and not hasattr(request, "_body"):
        return read_input(environ, LARGEST_BYTES + 1)  # in chunks, of which Django would read none
    try:
        # Not request.body, which has its own limit, meant for forms.
        return request.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise WebhookError(f"the body broke off: {type(error).__name__}", status=400) from error


def _response(response: Response, request: HttpRequest) -> HttpResponse:
    body = b"" if request.method == "HEAD" else response.body
    return HttpResponse(body, status=response.status, headers=dict(response.headers))
