"""
Starlette, and what is built on it: ask governance in an endpoint, which has authenticated the request.

`meterkit.asgi.MeterMiddleware` counts. For FastAPI's dependencies, see `meterkit.fastapi`.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

from meterkit import asgi
from meterkit.asgi import ASGIExchange, MeterMiddleware
from meterkit.core import responses
from meterkit.core.validation import SubjectId
from meterkit.governance.refusal import InsufficientBalanceError
from meterkit.metering.exchange import Identity

__all__ = ["ASGIExchange", "MeterMiddleware", "govern", "send_refusal"]


async def govern(
    connection: HTTPConnection, company: SubjectId | None = None, user: SubjectId | None = None
) -> Response | None:
    """
    Decide about a request or a WebSocket, now that it is known whose it is. Never raises.

    If the company was known before the app ran, that decision stands.

    Args:
        connection: Request; or WebSocket that has not been accepted.
        company: Company id that the app has authenticated, which then also pays, as with `meterkit.identify`; None to
            call the kit's ``identify=`` again.
        user: Id of the user within *company*; None if there is none.

    Returns:
        The response to send instead of the app's, which is not billed; None if the request is allowed. Send it to a
        WebSocket with ``websocket.send_denial_response(response)``, or close the WebSocket with code 1008.
    """
    exchange = asgi.exchange_of(connection.scope)
    if exchange is None:
        return None
    who = None
    if company is not None:
        with exchange.touch():
            who = exchange.identity = Identity(company, user)
    blocked = await exchange.owner.decide_again(exchange, who)
    return None if blocked is None else response_of(blocked)


async def send_refusal(connection: HTTPConnection, error: InsufficientBalanceError) -> Response:
    """
    Exception handler: respond as to a blocked request where too little was left to hold.

    For ``app.add_exception_handler(InsufficientBalanceError, send_refusal)``, which an app needs if the middleware is
    around it, and not added to it.

    Args:
        connection: Request in which it was raised.
        error: What was raised.

    Raises:
        InsufficientBalanceError: *error* itself, if no middleware of meterkit meters the request.
    """
    exchange = asgi.exchange_of(connection.scope)
    if exchange is None:
        raise error
    response = exchange.owner.refusal_of(error, exchange)
    assert response is not None
    return response_of(response)


def response_of(response: responses.Response) -> Response:
    """Return *response* as one of Starlette's."""
    return Response(response.body, response.status, dict(response.headers))
