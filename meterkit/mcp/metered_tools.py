"""Count a call of a tool, or refuse it: what the middleware for both SDKs has in common."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from meterkit.core.problems import shown
from meterkit.core.threads import in_thread
from meterkit.core.usage_key import NOBODY
from meterkit.core.validation import SubjectId, checked_subject_id
from meterkit.errors import ConfigurationError, UsageError
from meterkit.mcp.tool_call import ToolCall
from meterkit.metering.exchange import NO_HEADERS, Exchange, Identity, current
from meterkit.metering.matching import TOOL
from meterkit.metering.recorder import CLIENT_LEFT, recorder_of

if TYPE_CHECKING:
    from meterkit.governance.refusal import Block
    from meterkit.kit import MeterKit

T = TypeVar("T")

Payer: TypeAlias = "SubjectId | Identity | None"
IdentifyCall: TypeAlias = "Callable[[ToolCall], Payer | Awaitable[Payer]]"


UNFINISHED = 102
"""Status of a call whose tool asks the client for input first: the client calls again with that, and pays then."""


class ToolExchange(Exchange):
    """A call of a tool, and its result; its ``native`` is the `ToolCall`. A result that is an error has status 500."""

    __slots__ = ()

    is_asgi = True

    @property
    def response_headers(self) -> Mapping[str, str]:
        """Return no headers: a result has none."""
        return NO_HEADERS


class Refused(Exception):  # noqa: N818 - nobody's mistake
    """
    The call is blocked; its text says why, and where to settle that.

    Args:
        block: Why it is blocked.
    """

    def __init__(self, block: Block) -> None:
        url = block.settle_url
        super().__init__(block.detail if url is None else f"{block.detail} See {url}")


class MeteredTools:
    """
    Runs calls of tools as exchanges of a kit.

    Args:
        kit: Kit that counts them.
        identify: Function that returns who pays for a call; None for the kit's ``identify=``.
        company: Who pays for all calls; None if that differs.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(self, kit: MeterKit, *, identify: IdentifyCall | None, company: SubjectId | Identity | None) -> None:
        self.recorder = recorder_of(kit)
        self._governor = kit.governor
        if identify is not None and (company is not None or not callable(identify)):
            raise ConfigurationError(
                "MeterMiddleware(identify=...) must be a function of a ToolCall, and company= is for servers without "
                f"it, which serve that company only; not {identify!r:.200}"
            )
        self._identify = identify
        self._company = _checked_company(company)

    async def run(self, call: ToolCall, work: Callable[[], Awaitable[T]], status_of: Callable[[T], int]) -> T:
        """
        Return what *work* returns, and count it.

        Args:
            call: Call that is served.
            work: Function that has the tool run.
            status_of: Function of the result that returns 200, 500 if it is an error, or `UNFINISHED`.

        Raises:
            Refused: The call is blocked, and *work* was not called.
        """
        outer = current.get()
        if isinstance(outer, ToolExchange) and not outer.closed and outer.owner.recorder is self.recorder:
            return await work()  # a tool that calls another one; or the middleware is installed twice
        exchange = ToolExchange()
        exchange.begin(TOOL, call.tool, call, call.headers, self)
        try:
            await self._check(exchange, call)
            exchange.status = 500
            try:
                result = await work()
            except Exception:
                raise
            except BaseException:
                exchange.status = CLIENT_LEFT  # cancelled
                raise
            exchange.status = status_of(result)
            exchange.skipped = exchange.skipped or exchange.status == UNFINISHED
            return result
        finally:
            self.recorder.close_call(exchange)
            exchange.retract()

    async def _check(self, exchange: ToolExchange, call: ToolCall) -> None:
        """Find out who pays, and ask governance. Raises only `Refused`."""
        response = None
        try:
            await self._name_payer(exchange, call)
            governor = self._governor
            if governor is None:
                return
            if governor.waits_for(exchange):
                response = await in_thread(lambda: governor.check(exchange, again=True))
            else:
                response = governor.check(exchange, again=True)
        except Exception as error:
            self.recorder.problems.internal(error)
        if response is not None:
            self.recorder.refuse(exchange)
            raise Refused(exchange.blocked)

    async def _name_payer(self, exchange: ToolExchange, call: ToolCall) -> None:
        identity = self._company
        if identity is None and self._identify is None:
            asks = self.recorder.identity.asks  # the kit's own, which finds the request's headers in the exchange
            if asks is not None:
                await asks.ask(exchange)
            return
        if identity is None:
            identity = await self._asked(call)
        if identity is None:
            exchange.identified = NOBODY
            return
        exchange.identified = self.recorder.check_subject(identity)

    async def _asked(self, call: ToolCall) -> Identity | None:
        assert self._identify is not None
        problems = self.recorder.problems
        try:
            who = self._identify(call)
            if inspect.isawaitable(who):
                who = await who
        except Exception as error:
            message = f"identify= raised {shown(error)} for {call.tool!r:.100}; the usage is kept under no company"
            problems.note("identify_raised", message, error=error)
            return None
        if who is None or (isinstance(who, Identity) and who.company is None):
            problems.note(
                "no_company",
                f"identify= returned None for a call of {call.tool!r:.100}; the usage is kept under no company",
            )
            return None
        return who if isinstance(who, Identity) else Identity(who)


def _checked_company(company: Any) -> Identity | None:
    if company is None:
        return None
    identity = company if isinstance(company, Identity) else Identity(company)
    try:
        checked_subject_id(identity.company, "company")
    except UsageError as error:
        raise ConfigurationError(f"MeterMiddleware(company=...): {error}") from None
    return identity
