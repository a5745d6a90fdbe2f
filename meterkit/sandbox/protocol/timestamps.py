"""Timestamps of v2: RFC 3339 strings; those in responses are in UTC, with milliseconds. v1 uses Unix seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from meterkit.sandbox.protocol.errors import malformed
from meterkit.sandbox.protocol.params import Object, Rule, Text

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def rfc3339(moment: datetime | int) -> str:
    """Return a datetime, or Unix seconds, as v2 writes it: `2026-03-01T00:00:00.000Z`."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Moment(Rule):
    """An RFC 3339 string with its offset from UTC."""

    def parse(self, value: object, name: str) -> datetime:
        """Return the time, in UTC."""
        text = Text().parse(value, name)
        match = _RFC_3339.fullmatch(text)
        try:
            if match is not None:
                date, time, fraction, zone = match.groups()
                zone = "+00:00" if zone in "Zz" else zone
                exact = f"{date}T{time}.{(fraction or '')[:6]:0<6}{zone}"
                return datetime.fromisoformat(exact).astimezone(timezone.utc)
        except (ValueError, OverflowError):  # 30 February, 25 o'clock, before the year 1
            pass
        raise malformed(f"Invalid timestamp: {text}; must be an RFC 3339 string, for example {rfc3339(0)}", param=name)


@dataclass(frozen=True)
class MomentSpan(Rule):
    """A filter on a time: any of `gt`, `gte`, `lt`, `lte`."""

    def parse(self, value: object, name: str) -> dict[str, datetime]:
        """Return the bounds."""
        bounds: dict[str, datetime] = Object(dict.fromkeys(("gt", "gte", "lt", "lte"), Moment())).parse(value, name)
        return bounds
