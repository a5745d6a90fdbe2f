"""Resolve which company and user an exchange belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from meterkit.core.problems import Problems, shown
from meterkit.core.usage_key import NOBODY, Subject, both_of
from meterkit.core.validation import checked_id
from meterkit.errors import UsageError
from meterkit.metering.exchange import Exchange, Identity

Identify: TypeAlias = Callable[[Exchange], "str | Identity | None"]


class IdentityResolver:
    """
    Finds out whose an exchange is.

    Args:
        identify: Who pays, where the view has not said so.
        problems: Where mistakes go.
    """

    def __init__(self, identify: Identify | None, problems: Problems) -> None:
        self._identify = _nobody if identify is None else identify
        self._problems = problems

    def early(self, exchange: Exchange) -> str | None:
        """Ask ``identify=`` on the way in; the company, or None where it cannot tell yet. It is asked again then."""
        if exchange.identified is not None:
            return both_of(exchange.identified)[0] or None
        try:
            who = self._identify(exchange)
        except Exception as error:
            self._problems.note(
                "identify_early_raised",
                f"identify= raised {shown(error)} before the app ran, where governance= needs it; such requests pass. "
                "Read what is there on the way in, or install the middleware inside the one that authenticates",
            )
            return None
        if (who.company if isinstance(who, Identity) else who) is None:
            return None
        exchange.identified = self._checked(who)
        return both_of(exchange.identified)[0] or None

    def who(self, exchange: Exchange) -> Subject:
        """Company, and user if there is one, when *exchange* is answered; `NOBODY` where nobody has said."""
        if exchange.touched and exchange.identity is not None:
            return self._settled(exchange.identity, exchange)
        return self.sound(self.asked(exchange)) if exchange.identified is None else exchange.identified

    def asked(self, exchange: Exchange) -> Subject:
        """
        The same, where the view has not said so, and nobody has asked yet.

        A company alone may still be unsound. Whoever counts something new for it asks `sound`; what there is already
        is of sound ones only.
        """
        identify = self._identify
        try:
            who: Any = identify(exchange)
        except Exception as error:
            self._problems.note(
                "identify_raised", f"identify= raised {shown(error)}; its usage is kept under no company"
            )
            return NOBODY
        if type(who) is str and who:
            return who
        return self._settled(who, exchange)

    def sound(self, who: Subject) -> Subject:
        """What `asked` answered; `NOBODY`, and a note, where that is no id."""
        return self._checked(who) if isinstance(who, str) and who else who

    def _settled(self, who: Any, exchange: Exchange) -> Subject:
        if (who.company if isinstance(who, Identity) else who) is None:
            self._problems.note(
                "no_company",
                f"{exchange.method} {exchange.path!r:.100} matched a meter, but nobody said which company pays; "
                "its usage is kept under no company. Answer one from identify=, or call meterkit.skip()",
            )
            return NOBODY
        return self._checked(who)

    def _checked(self, who: Any) -> Subject:
        company, user = (who.company, who.user) if isinstance(who, Identity) else (who, None)
        try:
            company = checked_id(company, "company")
        except UsageError as error:
            self._problems.note(error.reason, f"identify: {error}; its usage is kept under no company")
            return NOBODY
        try:
            user = checked_user(user)
        except UsageError as error:
            self._problems.note(error.reason, f"identify: {error}; its usage is kept under no user")
            return company
        return (company, user) if user else company


def _nobody(_exchange: Exchange) -> None:
    """What stands for ``identify=`` where there is none."""


def checked_user(user: str | None) -> str:
    """
    The id of a user, or `NOBODY`.

    Raises:
        UsageError: It is no such id.
    """
    return NOBODY if user is None else checked_id(user, "user")
