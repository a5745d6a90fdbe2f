"""`Service`: the ASGI app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from meterkit.core.problems import shown
from meterkit.core.responses import Response, response
from meterkit.errors import ConfigurationError
from meterkit.metering import context
from meterkit.metering.exchange import current
from meterkit.metering.recorder import recorder_of
from meterkit.service.calls import Call, ClientLeftError
from meterkit.service.check import Check
from meterkit.service.events.route import event_routes
from meterkit.service.keys import Key, Keys, Source
from meterkit.service.probes import Probes
from meterkit.service.problems import RequestError
from meterkit.service.routes import DESCRIBED, Route, RouteTable, description

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"
Send: TypeAlias = "Callable[[MutableMapping[str, Any]], Awaitable[None]]"

MAX_BODY = 1 << 20


class Service:
    """
    Serves a kit over HTTP: an ASGI app, to run by itself (``meterkit serve``) or to mount in another.

    It takes no part in what the kit's middleware meters: a request to it is not counted.

    Args:
        kit: Kit to serve.
        keys: A `Key`, or only its secret, for each source that may call, by the name of the source.
        local: Whether requests from the loopback interface or a Unix socket need no key as long as there are no *keys*.
            Not behind a proxy on the same machine, which hands on the requests of others.
        max_body: Most bytes of a request body.
        company_header: Request header in which the gateway says to ``/v1/check`` which company it is that asks; it must
            set or remove it in each request. By default, the kit's ``identify=`` finds that out.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    def __init__(
        self,
        kit: MeterKit,
        *,
        keys: Mapping[str, str | Key] | None = None,
        local: bool = False,
        max_body: int = MAX_BODY,
        company_header: str | None = None,
    ) -> None:
        self._recorder = recorder_of(kit)
        self._kit = kit
        self._keys = Keys({} if keys is None else keys, local=local)
        if isinstance(max_body, bool) or not isinstance(max_body, int) or not 0 < max_body <= LARGEST_BODY:
            raise ConfigurationError(
                f"Service(max_body=...) must be 1 to {LARGEST_BODY:,} bytes, not {max_body!r:.100}"
            )
        self._max_body = max_body
        self._check = Check(kit, company_header=company_header)
        self._table = RouteTable(self._routes())

    def _routes(self) -> list[Route]:
        probes = Probes(self._kit)
        routes = [self._check.route, *event_routes(self._kit), *probes.routes]

        async def describe(_call: Call) -> Response:
            return response(200, document)

        routes.append(Route("/openapi.json", describe, methods=("GET",), operations=DESCRIBED))
        document = description(routes)
        return routes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        around = current.get()
        if around is not None and not around.closed:
            context.skip()  # what a middleware around the app that this is mounted in would count
        path = _below(scope)
        route = self._table.find(path)
        try:
            found = _nothing(path) if route is None else await self._respond(route, path, scope, receive)
        except RequestError as error:
            found = error.response()
        except ClientLeftError:
            return
        except Exception as error:
            self._recorder.problems.note("service_failed", f"{path!r:.100}: {shown(error)}", error=error)
            found = RequestError(500, FAILED, type="failed").response()
        if route is not None and route.copies_body:
            _copy_body(found)
        headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in found.headers]
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else found.body
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, route: Route, path: str, scope: MutableMapping[str, Any], receive: Receive) -> Response:
        method = str(scope["method"]).upper()
        if route.methods and ("GET" if method == "HEAD" else method) not in route.methods:
            allowed = ", ".join(sorted(route.methods))
            raise RequestError(
                405,
                f"{path} takes {allowed}, not {method:.20}.",
                type="method_wrong",
                headers={"Allow": allowed},
            )
        source = None if route.scope is None else self._source_of(scope, route.scope)
        if source is not None and route.rated:
            source.take()
        call = Call(self._kit, scope=scope, receive=receive, source=source, path=path, most=self._max_body)
        return await route.handler(call)

    def _source_of(self, scope: MutableMapping[str, Any], needed: str) -> Source:
        try:
            return self._keys.source_of(scope, needed)
        except RequestError as error:
            self._recorder.problems.note("service_key_refused", f"a request to the service was refused: {error}")
            raise

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._kit.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def start(self) -> None:
        """Start counting, and read the accounts, before the first request asks for them. Never raises."""
        try:
            self._kit.process(counting=True)
            if self._kit.governor is not None:
                self._kit.governor.begin()
        except Exception as error:
            self._recorder.problems.internal(error)


LARGEST_BODY = 1 << 30

FAILED = "The service failed, and its log says why. Nothing is known to be lost; send the request again."


def _nothing(path: str) -> Response:
    detail = f"There is no {path!r:.200}; /openapi.json lists what there is."
    return RequestError(404, detail, type="not_found").response()


COPIED_BODY = "X-Meterkit-Body"

LONGEST_COPY = 2000
"""Bytes of the longest body that is copied into a header: nginx reads 4,096 bytes of headers, all together."""


def _copy_body(found: Response) -> None:
    """Add a header with the body of *found*, if it is not a success: some gateways can only hand on headers."""
    if found.status >= 400 and len(found.body) <= LONGEST_COPY:
        body = found.body.decode("latin-1")
        if body.isascii() and body.isprintable():
            found.headers.append((COPIED_BODY, body))


def _below(scope: Mapping[str, Any]) -> str:
    """Return the path below the one at which the service is mounted; some servers and proxies have cut it off."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    rest = path.removeprefix(prefix)
    return rest if rest.startswith("/") else path
