"""Resolve which company and user an exchange belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from meterkit.core.problems import Problems, shown
from meterkit.core.usage_key import NOBODY, Subject, both_of
from meterkit.core.validation import SubjectId, checked_subject_id
from meterkit.errors import UsageError
from meterkit.metering.exchange import Exchange, Identity

Identify: TypeAlias = Callable[[Exchange], "SubjectId | Identity | None"]


class IdentifyInThread(BaseException):
    """
    Nothing was counted: ``identify=`` cannot run in an event loop. Raised only if the exchange `may_defer`.

    Not an Exception, because the recorder survives those, and this is not an error.
    """


class IdentityResolver:
    """
    Resolves the company and user of exchanges.

    Args:
        identify: The kit's ``identify=``, called unless the view has identified the company; None if there is none.
        problems: Collector of mistakes.
    """

    def __init__(self, identify: Identify | None, problems: Problems) -> None:
        self._identify = _unidentified if identify is None else identify
        self._problems = problems

    def early(self, exchange: Exchange, *, quiet: bool = False) -> str | None:
        """
        Return the company as known before the view runs; None if it is not yet, so ``identify=`` is called again.

        If *quiet*, an ``identify=`` that raises is no problem: a browser's preflight lacks what it reads.
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
            "the API key for example; or ask again once the view has authenticated, with meterkit.django.govern(); or "
            "add the path to Governance(exempt=...)",
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

    def checked(self, who: Any) -> Subject:
        """Return *who*, a company or an `Identity`, as a subject; without what is not a valid id, which is noted."""
        company, user = (who.company, who.user) if isinstance(who, Identity) else (who, None)
        try:
            company = checked_subject_id(company, "company")
        except UsageError as error:
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
