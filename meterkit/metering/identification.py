"""Resolve which company and user an exchange belongs to."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Container
from functools import partial
from typing import Any, TypeAlias

from meterkit.core.problems import Problems, shown
from meterkit.core.usage_key import NOBODY, Subject, both_of
from meterkit.core.validation import SubjectId, checked_subject_id
from meterkit.errors import UsageError
from meterkit.metering.exchange import Exchange, Identity

Answer: TypeAlias = "SubjectId | Identity | None"
Identify: TypeAlias = Callable[[Exchange], "Answer | Awaitable[Answer]"]


class IdentifyInThread(BaseException):
    """
    Nothing was counted: ``identify=`` cannot run in an event loop. Raised only if the exchange `may_defer`.

    Not an Exception, because the recorder survives those, and this is not an error.
    """


class AsyncIdentify:
    """
    An ``identify=`` that is async. Adapters with an event loop await `ask` before it is called.

    Args:
        function: The kit's ``identify=``.
    """

    def __init__(self, function: Callable[[Exchange], Any]) -> None:
        self._function = function

    def __call__(self, exchange: Exchange) -> Any:
        """Return what the function returned, or raise what it raised; without an event loop, wait for it here."""
        answer = exchange.answer
        if answer is None:
            return exchange.complete(self._answer)
        who, error = answer
        if error is not None:
            raise error
        return who

    async def ask(self, exchange: Exchange) -> None:
        """Call the function, and keep what it returns or raises for *exchange*. Raises only if it is cancelled."""
        try:
            exchange.answer = await self._answer(exchange), None
        except Exception as error:
            exchange.answer = None, error
        except BaseException as error:
            if not _is_stray(error):
                raise
            exchange.answer = None, RuntimeError("it was cancelled, but the request was not")

    async def ask_shielded(self, exchange: Exchange) -> None:
        """Call the function as `ask` does, although the request has been cancelled."""
        from anyio import move_on_after  # installed with httpx; only async apps get here

        with move_on_after(SHIELDED_SECONDS, shield=True):
            await self.ask(exchange)

    async def _answer(self, exchange: Exchange) -> Any:
        who = self._function(exchange)
        return await who if inspect.isawaitable(who) else who


SHIELDED_SECONDS = 5.0
"""How long an async ``identify=`` may take for a request that has been cancelled."""


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether *function* is async: also a partial, an object with a ``__call__``, or what a decorator made."""
    while isinstance(function, partial):
        function = function.func
    called: Any = type(function).__call__
    faces = (function, called, inspect.unwrap(function), inspect.unwrap(called))
    return any(map(inspect.iscoroutinefunction, faces)) or hasattr(function, "_is_coroutine")


class IdentityResolver:
    """
    Resolves the company and user of exchanges.

    Args:
        identify: The kit's ``identify=``, called unless the view has identified the company; None if there is none.
        problems: Collector of mistakes.

    Attributes:
        asks: The kit's ``identify=`` if it is async; None if it is not.
        is_set: Whether there is an ``identify=``.
    """

    def __init__(self, identify: Identify | None, problems: Problems) -> None:
        self.is_set = identify is not None
        self._identify: Callable[[Exchange], Any] = _unidentified if identify is None else identify
        self.asks = AsyncIdentify(self._identify) if is_async(self._identify) else None
        if self.asks is not None:
            self._identify = self.asks
        self._problems = problems

    def early(self, exchange: Exchange, *, quiet: bool = False, valid: Container[str] = ()) -> str | None:
        """
        Return the company as known before the view runs; None if it is not yet, so ``identify=`` is called again.

        Args:
            exchange: Exchange to identify.
            quiet: Whether an ``identify=`` that raises is no problem: a browser's preflight lacks what it reads.
            valid: Companies whose ids are known to be valid.
        """
        if exchange.identified is not None:
            return both_of(exchange.identified)[0] or None
        if exchange.identity is not None:  # named by other middleware, in Django
            return both_of(self.checked(exchange.identity))[0] or None
        try:
            who: Any = self._identify(exchange)
        except Exception as error:
            if exchange.may_defer and _needs_thread(error):
                raise IdentifyInThread from error
            if not quiet:
                self._problems.note(
                    "identify_early_raised",
                    f"identify= raised {shown(error)} before the app ran, when governance=, customer_page= or pages= "
                    "needs it; such requests are not blocked. Use only what is known before the app runs, or install "
                    "this middleware inside the one that authenticates",
                    error=error,
                )
            return None
        if type(who) is str and who in valid and not exchange.passed_unidentified:
            exchange.identified = who
            return who
        if (who.company if isinstance(who, Identity) else who) is None:
            return None
        return self.know(exchange, who)

    def know(self, exchange: Exchange, who: Any) -> str | None:
        """Set the company of *exchange*, and perhaps the user, before governance decides; return the company."""
        if exchange.passed_unidentified:
            exchange.passed_unidentified = False
        exchange.identified = subject = self.checked(who)
        return (subject if isinstance(subject, str) else subject[0]) or None

    def is_known(self, exchange: Exchange) -> bool:
        """Return whether the view or ``identify=`` names the company of an *exchange* with a response."""
        return (exchange.touched and exchange.identity is not None) or self.early(exchange, quiet=True) is not None

    def subject(self, exchange: Exchange, *, quiet: bool = False) -> Subject:
        """
        Return the company, and the user if there is one, of an *exchange* with a response; `NOBODY` if unknown.

        Args:
            exchange: Exchange to identify.
            quiet: Whether an unknown company is no problem, because nothing has been counted so far.
        """
        who: Subject
        if exchange.touched and exchange.identity is not None:
            who = self._checked_or_nobody(exchange.identity, exchange)
        elif exchange.identified is not None:
            return exchange.identified
        else:
            who = self.checked_subject(self.unchecked_subject(exchange, quiet=quiet))
        if exchange.passed_unidentified and who:
            self._note_late(exchange, both_of(who)[0])
        return who

    def settle(self, exchange: Exchange) -> None:
        """Call ``identify=`` before the body is streamed, if only a thread can do it; see `IdentifyInThread`."""
        if exchange.identified is not None or exchange.identity is not None:
            return
        try:
            who: Any = self._identify(exchange)
        except Exception as error:
            if exchange.may_defer and _needs_thread(error):
                raise IdentifyInThread from error
            return  # `subject` calls it again, and notes the problem
        if (who.company if isinstance(who, Identity) else who) is not None:
            exchange.identified = self.checked(who)
            if exchange.passed_unidentified:
                self._note_late(exchange, both_of(exchange.identified)[0])

    def _note_late(self, exchange: Exchange, company: str) -> None:
        self._problems.note(
            "identified_late",
            f"{exchange.method} {exchange.path!r:.100} belongs to {company!r:.100}, but identify= returned None before "
            "the view ran, so no quota, cap or overdue invoice could block it. Let identify= return the company, by "
            "the API key for example; or ask again once the view has authenticated, with meterkit.fastapi.Billing, "
            "meterkit.starlette.govern() or meterkit.django.govern(); or add the path to Governance(exempt=...)",
            company=company,
        )

    def unchecked_subject(self, exchange: Exchange, *, quiet: bool = False) -> Subject:
        """
        Call ``identify=``, for an exchange that neither the view nor `early` has identified, and return the subject.

        A company without a user is not validated yet: callers that create a usage key for it must call
        `checked_subject`. Existing usage keys have valid ids only.
        """
        identify = self._identify
        try:
            who: Any = identify(exchange)
        except Exception as error:
            if exchange.may_defer and _needs_thread(error):
                raise IdentifyInThread from error
            self._problems.note(
                "identify_raised",
                f"identify= raised {shown(error)}; the usage is kept under no company",
                error=error,
            )
            return NOBODY
        if type(who) is str and who:
            return who
        return NOBODY if quiet and who is None else self._checked_or_nobody(who, exchange)

    def checked_subject(self, who: Subject) -> Subject:
        """Return what `unchecked_subject` returned; `NOBODY`, and note a problem, if it is not a valid id."""
        return self.checked(who) if isinstance(who, str) and who else who

    def _checked_or_nobody(self, who: Any, exchange: Exchange) -> Subject:
        if (who.company if isinstance(who, Identity) else who) is None:
            self._problems.note(
                "no_company",
                f"{exchange.method} {exchange.path!r:.100} matched a meter, but no company was identified; the usage "
                "is kept under no company. Return a company from identify=, or call meterkit.skip()",
            )
            return NOBODY
        return self.checked(who)

    def _note_awaitable(self, found: Any) -> None:
        if inspect.iscoroutine(found):
            found.close()  # otherwise, Python would warn that nobody awaited it
        self._problems.note(
            "identify_not_awaited",
            "identify= is a plain function and returned something to await, so the usage is kept under no company, and "
            "no request is blocked: write it as an async function, which awaits that, instead of a lambda",
            level=logging.ERROR,
        )

    def checked(self, who: Any) -> Subject:
        """Return *who*, a company or an `Identity`, as a subject; without what is not a valid id, which is noted."""
        company, user = (who.company, who.user) if isinstance(who, Identity) else (who, None)
        try:
            company = checked_subject_id(company, "company")
        except UsageError as error:
            if inspect.isawaitable(company):
                self._note_awaitable(company)
            else:
                self._problems.note(error.reason, f"identify: {error}; the usage is kept under no company")
            return NOBODY
        if user is None:
            return company
        try:
            user = checked_user(user)
        except UsageError as error:
            self._problems.note(error.reason, f"identify: {error}; the usage is kept under no user", company=company)
            return company
        return (company, user)


def _is_stray(error: BaseException) -> bool:
    """Return whether *error* cancels something that an async ``identify=`` waited for, and not the request."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return False
    cancelling = getattr(asyncio.current_task(), "cancelling", None)  # since Python 3.11
    return cancelling is not None and not cancelling()


def _needs_thread(error: Exception) -> bool:
    """Return whether Django raised *error* because its ORM was used in an event loop. Django is not imported here."""
    return type(error).__name__ == "SynchronousOnlyOperation"


def _unidentified(_exchange: Exchange) -> None:
    """Stand in for ``identify=`` in a kit without one."""


def checked_user(user: SubjectId | None) -> str:
    """
    Return *user* as a valid user id, or `NOBODY` for None.

    Raises:
        UsageError: *user* is not a valid id.
    """
    return NOBODY if user is None else checked_subject_id(user, "user")
