"""
FastAPI: dependencies that identify the company, ask governance, require a feature of a plan, and charge.

`Billing` makes them. What they refuse, they raise as `Refused`, an HTTPException.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocketException
from fastapi.requests import HTTPConnection

from meterkit import asgi, starlette
from meterkit.asgi import ASGIExchange, MeterMiddleware
from meterkit.core import responses
from meterkit.core.threads import in_thread
from meterkit.core.validation import SubjectId, checked_quantity
from meterkit.errors import ConfigurationError, UsageError
from meterkit.governance.policy import Governance
from meterkit.governance.refusal import TITLES, Block, InsufficientBalanceError, Reason, Refusal
from meterkit.holds.hold import Hold
from meterkit.kit import MeterKit
from meterkit.metering.context import ExchangeUsage
from meterkit.metering.exchange import Identity
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import MARK, recorder_of
from meterkit.starlette import response_of
from meterkit.wallets.amounts import Amount
from meterkit.wallets.wallet import Wallet

__all__ = ["ASGIExchange", "Billing", "MeterMiddleware", "Refused", "send_refusal"]

Dependency: TypeAlias = "Callable[..., Awaitable[Any] | AsyncIterator[Any]]"

VIOLATION = 1008
"""WebSocket close code for what violates a policy."""


class Refused(HTTPException):
    """
    Raised by the dependencies of a `Billing` for a request that is blocked.

    `Billing.install` has it answered with the kit's `Refusal`, by default a problem document. A handler of your own for
    it, for ``HTTPException`` or for its status may answer otherwise: ``detail`` is a sentence.

    Attributes:
        block: Why the request is blocked.
        response: Response as the kit's `Refusal` has it: ``status``, ``headers`` and ``body``.
    """

    def __init__(self, block: Block, response: responses.Response) -> None:
        headers = {name: value for name, value in response.headers if not name.startswith("Content-")}
        super().__init__(response.status, block.detail, headers)
        self.block = block
        self.response = response


async def send_refusal(_request: Request, refused: Refused) -> Response:
    """Exception handler for `Refused`: respond as the kit's `Refusal` says."""
    return response_of(refused.response)


class Billing:
    """
    Dependencies of FastAPI for the companies of a kit.

    All of them work on routes, routers, apps and WebSockets. A request is decided about once, however many of them it
    meets; where the kit's own ``identify=`` has named the company before, that decision stands.

    Args:
        kit: Kit that counts the app's usage. With ``governance=``, pass it ``identify="view"``, or an ``identify=``
            that names the same companies before the app runs.
        company: Dependency that authenticates the request, and returns the id of the company that pays, an `Identity`,
            or None. By default, the kit's ``identify=`` says who it is.

    Attributes:
        identify: Dependency that names the company, which pays, and returns an `Identity`. Responds with 401 if there
            is none. Asks no governance: for where a blocked company can pay.
        govern: Dependency that does so, and asks the kit's ``governance=``. Responds with 402, 403 or 429 if the
            request is blocked; it is not billed then.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    identify: Dependency
    govern: Dependency

    def __init__(self, kit: MeterKit, company: Callable[..., Any] | None = None) -> None:
        self._recorder = recorder_of(kit)
        if company is not None and not callable(company):
            raise ConfigurationError(
                f"Billing(kit, company): company must be a dependency that returns a company id, not {company!r:.200}"
            )
        self._kit = kit
        self._plans_are_read = False
        of_request = Depends(_unnamed if company is None else company)

        async def identify(connection: HTTPConnection, who: Any = of_request) -> Identity:
            exchange = self._exchange_of(connection)
            found = await self._identified(connection, exchange, who)
            if exchange is not None:
                exchange.passed_unidentified = False  # it is meant to pass
            return found

        async def govern(connection: HTTPConnection, who: Any = of_request) -> Identity:
            exchange = self._exchange_of(connection)
            found = await self._identified(connection, exchange, who)
            if exchange is not None:
                response = await exchange.owner.decide_again(exchange, found)
                if response is not None:
                    raise _as_raised(connection, Refused(exchange.blocked, response))
            return found

        self.identify, self.govern = identify, govern

    def requires(self, feature: str) -> Dependency:
        """
        Return a dependency that does what `govern` does, and responds with 403 unless the company's plan has *feature*.

        It returns the `Identity`.

        Args:
            feature: Name of the feature, as in ``Plan(features=...)``.

        Raises:
            ConfigurationError: No plan of the kit has such a feature.
        """
        known = sorted({each for plan in self._kit.plans.values() for each in plan.features})
        if feature not in known:
            raise ConfigurationError(
                f"no plan has the feature {feature!r:.100}, only {', '.join(known) or 'none'}: add it to features= of "
                "a Plan"
            )

        governed = Depends(self.govern)

        async def require(connection: HTTPConnection, who: Identity = governed) -> Identity:
            if not await self._can(who.company, feature):
                detail = f"The plan of company {who.company} does not include {feature}."
                block = Block("feature", str(who.company), detail, feature=feature)
                raise _as_raised(connection, self._refused(connection, block))
            return who

        return require

    def charge(self, name: str, quantity: int = 1) -> Dependency:
        """
        Return a dependency that does what `govern` does, and adds usage to the request, as `meterkit.add_usage` does.

        It counts if the meter counts the response, so by default only if that is a success. The dependency returns the
        `ExchangeUsage`, to add more.

        Args:
            name: The ``value=`` of a meter.
            quantity: Units used, 0 to 999,999,999,999,999, in the meter's own unit.

        Raises:
            ConfigurationError: No meter of the kit has such a ``value=``, or the quantity is not valid.
        """
        known = sorted({each.added_name for each in self._kit.meters.values() if each.added_name is not None})
        if name not in known:
            raise ConfigurationError(
                f"charge({name!r:.100}): no meter has this value=, only {', '.join(known) or 'none'}: add a "
                f"Meter(..., value={name!r:.100})"
            )
        try:
            quantity = checked_quantity(quantity)
        except UsageError as error:
            raise ConfigurationError(f"charge({name!r:.100}): {error}") from error

        governed = Depends(self.govern)

        async def charge(connection: HTTPConnection, _who: Identity = governed) -> ExchangeUsage:
            usage = ExchangeUsage(self._exchange_of(connection))
            usage.add(name, quantity)
            return usage

        return charge

    def hold(
        self,
        meter: Meter | str | None = None,
        estimate: Amount | Callable[..., Any] | None = None,
        *,
        wallet: Wallet | str | None = None,
    ) -> Dependency:
        """
        Return a dependency that does what `govern` does, and then holds units for the request: see docs/holds.md.

        It returns the `Hold`, which ends with the last byte of the response: what was neither settled nor counted is
        given back then. It responds with 402 or 429 if the company has less left.

        Args:
            meter: Meter that an exact quota or a wallet limits, or its name; by default the only one.
            estimate: Units of the meter, or an amount of the wallet; or a dependency that returns that, such as one
                that takes the body; by default, what the company's requests have usually taken.
            wallet: Wallet of which to hold an amount, or its name, instead of a meter.

        Raises:
            ConfigurationError: Nothing limits the meter, or *estimate* is neither an amount nor a dependency.
        """
        try:
            self._kit.hold_terms("any", None if callable(estimate) else estimate, meter=meter, wallet=wallet)
        except UsageError as error:
            raise ConfigurationError(f"hold(): {error}") from error
        given = estimate

        def fixed() -> Any:
            return given

        governed, units = Depends(self.govern), Depends(estimate if callable(estimate) else fixed)

        async def hold(
            connection: HTTPConnection, who: Identity = governed, amount: Any = units
        ) -> AsyncIterator[Hold]:
            exchange = self._exchange_of(connection)
            user = None if wallet is not None else who.user
            terms = self._kit.hold_terms(who.company, amount, meter=meter, wallet=wallet, user=user)
            made = Hold(terms, exchange=exchange)
            try:
                await made.__aenter__()
            except InsufficientBalanceError as error:
                raise _as_raised(connection, self._refused(connection, error.block)) from error
            try:
                yield made
            finally:
                if exchange is None:  # FastAPI may get here before the response is sent
                    made.release()

        return hold

    def install(self, app: FastAPI) -> None:
        """
        Meter *app*: add the middleware, and an exception handler that answers `Refused` as the kit's `Refusal` says.

        Calling it again has no effect. For a mounted app, call it with that app, too.

        Args:
            app: FastAPI app.

        Raises:
            ConfigurationError: *app* is not a FastAPI app.
            RuntimeError: The app has served a request, or its lifespan has begun: Starlette adds no middleware then.
        """
        if not isinstance(app, FastAPI):
            raise ConfigurationError(f"install(app) needs a FastAPI app, not {app!r:.200}")
        installed: list[tuple[Any, Any]] = [(each.cls, each.kwargs.get("kit")) for each in app.user_middleware]
        if (MeterMiddleware, self._kit) not in installed:
            app.add_middleware(MeterMiddleware, kit=self._kit)
        app.exception_handlers.setdefault(Refused, send_refusal)
        app.exception_handlers.setdefault(InsufficientBalanceError, starlette.send_refusal)

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """
        Responses of the dependencies, for ``responses=`` of a route, a router or an app, so that OpenAPI has them.

        401, and those of 402, 403 and 429 that the kit's rules may cause, with the schema of their bodies.
        """
        governor = self._kit.governor
        governance = None if governor is None else governor.governance
        reasons = _reasons(governance)
        if any(plan.features for plan in self._kit.plans.values()):
            reasons.append("feature")
        refusals = {} if governance is None else governance.refusals
        found: dict[int | str, dict[str, Any]] = {401: {"description": UNIDENTIFIED, "content": _UNAUTHORIZED}}
        for reason in reasons:
            _document(found, reason, refusals.get(reason) or Refusal())
        return found

    async def _identified(self, connection: HTTPConnection, exchange: ASGIExchange | None, who: Any) -> Identity:
        """Return who pays for *exchange*, and note it there, unless the kit has done so itself."""
        if who is UNNAMED:
            found = None if exchange is None else await exchange.owner.asked(exchange)
        else:
            found = who if isinstance(who, Identity) else Identity(who)
        if found is None or found.company is None:
            raise _as_raised(connection, HTTPException(401, UNIDENTIFIED, {"WWW-Authenticate": "Bearer"}))
        if exchange is not None:
            with exchange.touch():
                exchange.identity = found
        return found

    def _exchange_of(self, connection: HTTPConnection) -> ASGIExchange | None:
        exchange = asgi.exchange_of(connection.scope)
        if exchange is None and MARK not in connection.scope:
            self._recorder.problems.note(
                "no_middleware",
                f"{connection.url.path!r:.100} has a dependency of meterkit.fastapi.Billing and no middleware, so it "
                "is neither counted nor blocked: call billing.install(app)",
            )
        return exchange

    def _refused(self, connection: HTTPConnection, block: Block) -> Refused:
        exchange, governor = asgi.exchange_of(connection.scope), self._kit.governor
        if exchange is None or governor is None:
            response = Refusal().respond(block)
        else:
            response = governor.refuse(exchange, block)
            block = exchange.blocked
        if exchange is not None:
            self._recorder.refuse(exchange)
        return Refused(block, response)

    async def _can(self, company: SubjectId, feature: str) -> bool:
        if self._plans_are_read:
            return self._kit.can(company, feature)
        found = await in_thread(lambda: self._kit.can(company, feature))  # the first call reads the ledger
        self._plans_are_read = True
        return found


def _reasons(governance: Governance | None) -> list[Reason]:
    """Return the reasons for which *governance* may block a request."""
    if governance is None or governance.mode == "warn":
        return []
    rules: dict[Reason, bool] = {
        "overdue": governance.overdue_days is not None,
        "no_subscription": governance.subscription,
        "spending_cap": governance.spending_cap is not None,
        "check": governance.check is not None,
        "unknown": governance.unknown == "block",
        "quota": any(quota.hard for quota in governance.quotas),
    }
    return [reason for reason, applies in rules.items() if applies]


def _document(found: dict[int | str, dict[str, Any]], reason: Reason, refusal: Refusal) -> None:
    """Add the response to a request that is blocked for *reason* to *found*, OpenAPI's responses by status."""
    documented = found.setdefault(refusal.status_for(reason), {"description": "", "content": {}})
    documented["description"] = "; ".join(filter(None, [documented["description"], TITLES[reason]]))
    if reason == "quota":
        seconds = {"description": "Seconds until the quota begins anew", "schema": {"type": "integer"}}
        documented["headers"] = {"Retry-After": seconds}
    content = documented["content"].setdefault(refusal.media_type, {"schema": refusal.schema})
    if content["schema"] != refusal.schema:
        content["schema"] = {}  # one of several


UNIDENTIFIED = "No company was identified for this request"

UNNAMED = object()
"""What stands for the company where the kit's ``identify=`` names it."""

_UNAUTHORIZED = {
    "application/json": {
        "schema": {
            "title": "Unauthorized",
            "type": "object",
            "required": ["detail"],
            "properties": {"detail": {"title": "Detail", "type": "string"}},
        }
    }
}


def _unnamed() -> object:
    return UNNAMED


def _as_raised(connection: HTTPConnection, error: HTTPException) -> Exception:
    """Return *error* for a request, and for a WebSocket whose server can deny it with a response; otherwise a close."""
    if connection.scope["type"] == "http" or "websocket.http.response" in connection.scope.get("extensions", {}):
        return error
    return WebSocketException(VIOLATION, str(error.detail)[:LONGEST_REASON])


LONGEST_REASON = 30
"""Characters of a sentence in a WebSocket's close frame, which holds 123 bytes."""
