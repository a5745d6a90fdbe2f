"""`Event`: one usage event, as meters see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Event:
    """
    One usage event.

    Attributes:
        id: Id, unique within *source*.
        source: Who sent it.
        type: What happened, such as ``"prompt"``.
        company: Company that pays: the attribute ``subject``.
        user: User within the company: the extension attribute ``user``; empty if there is none.
        moment: When it happened, Unix seconds.
        data: Its data: what JSON gives, a str or bytes for other media types, None if there are none.
        extensions: All other attributes, by name.
    """

    id: str
    source: str
    type: str
    company: str
    user: str
    moment: int
    data: Any
    extensions: dict[str, Any]

    @property
    def time(self) -> datetime:
        """When it happened, UTC."""
        return datetime.fromtimestamp(self.moment, timezone.utc)


class Attributes(NamedTuple):
    """
    What a request says of one event, not checked yet.

    Attributes:
        given: Attributes by name, without the data. Not a dict if what was sent is not an object.
        data: Its data.
        error: Why the data cannot be read; empty if they can.
    """

    given: Any
    data: Any
    error: str = ""
