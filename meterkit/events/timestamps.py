"""Read RFC 3339 timestamps, which `datetime.fromisoformat` does only since Python 3.11, and more loosely."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.\d{1,30})?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


@lru_cache(maxsize=1024)  # the events of a batch have few different ones
def unix_seconds(text: str) -> int | None:
    """Return the Unix second of the RFC 3339 *text*; None if it is none. A leap second is the second before."""
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, sign, hours, minutes = found.groups()
    zone = timezone.utc
    try:
        if sign is not None:
            if int(hours) > 23 or int(minutes) > 59:
                return None
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            zone = timezone(offset if sign == "+" else -offset)
        second = "59" if second == "60" else second
        at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=zone)
        return int(at.timestamp())
    except (ValueError, OverflowError):
        return None
